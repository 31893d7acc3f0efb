"""Deterministic simulation of several shard groups: the engine's own nodes and routers, in virtual time.

What runs is the product's code from the router's `Posting` down to the kernel: batches, lanes, the gRPC handlers of a
node (without gRPC), batcher, courier, state machine, journal in LMDB (in memory, where the system has a folder for
that). Simulated are time, the network between clients, routers and nodes, the apply thread, crashes, and the log:

* most seeds stand on `shared_log`, which commits, loses leaders and what they proposed, and lets an old leader believe
  in itself for a while, with two replicas to apply it: real ones tick, vote and send heartbeats, and a third applies
  everything once more, which halves the number of seeds a minute;
* every tenth seed stands on real `RaftLog`s over the network and the disks of the replication's own simulation.

Not simulated: snapshots of the store, clean stops, accounts that are frozen or closed, days that are closed.
"""
