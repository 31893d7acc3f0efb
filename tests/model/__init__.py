"""An explicit-state model of the cross-group protocol, DESIGN §7 and §8, around the engine's own driver and lifecycles.

How it stays small, and still covers what a network and dying processes do:

* A group is a linearizable log: one delivered order is one log record is one atomic step. A crash is invisible, except
  that an answer is lost; replication is checked elsewhere.
* Every word that a group ever said stays known for ever. A driver may know, of every group, any one of them or none,
  and acts on that at any time: loss, delay, repetition, reordering, groups that are down, routers that die at any step,
  and any number of them at one id, are all interleavings of one successor relation. An order without effect is no step.
* There is no clock. A deadline may be met at any moment, or never.
* Healing: from every reachable state all messages are dropped and all routers die. The couriers alone, each starting
  from its own group's record, drive on until nothing is logged any more, once patiently and once with every deadline
  past.

What is the engine's own: the plan and its digest (`engine.core.chains.plan`), the lifecycles
(`engine.core.chains.word`), the driver (`engine.core.chains.driver`) and the routes of split accounts
(`engine.core.split.buckets`). What is modelled: a group's accounts, limits and judgement (`ledger.py`, `judge.py`,
`group.py`). Each rule is a switch (`rules.py`): with all of them on, the scenarios hold; with one off, a planted fault,
the shortest trace to the harm is printed.

    python -m tests.model [part of a title]
"""
