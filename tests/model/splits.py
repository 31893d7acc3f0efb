"""Scenarios of split accounts, DESIGN §8: maps of any age, buckets that are short, a rebalancer that works against."""

from engine.core.records import AccountFlag, Flag
from engine.core.split.buckets import Placed, side_of
from tests.model.chains import Layout, Leg, Request, plan, request
from tests.model.ledger import FROZEN, Account
from tests.model.scenarios import COMMIT, FREE, INSUFFICIENT, MISSING, POSTED, RESERVE, REVERSE, A, B, C, funded
from tests.model.setup import Scenario

SIDES = ((A, B), (A, A), (B, B))


def maps(splits: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Where a transfer from s1 (home A) to s2 (home B) runs, by the map of each epoch, as the engine lays it out."""
    found = []
    for epoch in range(len(splits) + 1):
        known = {home: number for number, home in reversed(list(enumerate(splits[:epoch], 1)))}
        found.append(side_of(Placed(A, known.get(A)), Placed(B, known.get(B))))
    return tuple((side.debit, side.credit) for side in found)


def pair(splits: tuple[int, ...], frozen: int | None = None) -> Scenario:
    """A transfer from s1 (home A) to s2 (home B), tried by routers with every map; a group may refuse it."""
    leg = (Leg("s1", "s2", 5),)
    layouts = tuple(Layout(leg, plan((side,)), epoch=epoch) for epoch, side in enumerate(maps(splits)))
    flags = {at: FROZEN if at == frozen else AccountFlag.NONE for at in (A, B)}
    accounts = {(at, name): Account(flags=flags[at]) for at in (A, B) for name in ("s1", "s2")}
    order = ", then ".join(f"s{home + 1}" for home in splits)
    title = f"a transfer while {order} is split" + ("" if frozen is None else f", {'AB'[frozen]} refuses")
    return Scenario(title, accounts, (Request("id", layouts),), splits=splits)


def merged_route() -> Scenario:
    """s1 split, then merged, then s2 split, and every map obeyed: three routes in one life."""
    leg = (Leg("s1", "s2", 5),)
    routes = ((B, B), (A, B), (A, A))
    layouts = tuple(Layout(leg, plan((side,)), epoch=epoch) for epoch, side in enumerate(routes))
    accounts = {(at, name): FREE for at in (A, B) for name in ("s1", "s2")}
    return Scenario("split, merged, the other split", accounts, (Request("id", layouts),), splits=(A, B))


def home_first() -> Scenario:
    """A deposit on s's bucket in A is answered; then s (home B) pays v (C) through a router with the map before."""
    deposit = Request("deposit", (Layout((Leg("u", "s", 5),), plan(((A, A),)), epoch=1),))
    leg = (Leg("s", "v", 5),)
    layouts = (Layout(leg, plan(((B, C),))), Layout(leg, plan(((C, C),)), epoch=1))
    debit = Request("debit", layouts, after=(("deposit", POSTED),))
    accounts = {(A, "u"): funded(9), (C, "v"): FREE, (A, "s"): funded(0), (B, "s"): funded(1), (C, "s"): funded(0)}
    return Scenario(
        "money on a new bucket is spent by an old map",
        accounts,
        (deposit, debit, move("pull", "s", 5, (A, C), 1)),
        groups=3,
        must_not=(("debit", INSUFFICIENT),),
        splits=(B,),
        buckets=(("s", 1),),
        may_wait=("debit",),
    )


def move(name: str, account: str, amount: int, side: tuple[int, int], epoch: int = 0) -> Request:
    """The rebalancer's own chain: up to this much from one bucket to another."""
    leg = Leg(account, account, amount, flags=Flag.BALANCING_DEBIT)
    return Request(name, (Layout((leg,), plan((side,)), epoch=epoch),))


def pulls() -> Scenario:
    """Eight are there, four in each bucket; a router pulls, the rebalancer moves money away."""
    debit = request("debit", Leg("s", "u", 8), sides=((A, A),))
    moves = (move("away", "s", 2, (A, B)), move("pull1", "s", 8, (B, A)), move("pull2", "s", 8, (B, A)))
    return Scenario(
        "a short bucket pulls while the rebalancer moves away",
        {(A, "s"): funded(4), (B, "s"): funded(4), (A, "u"): FREE},
        (debit, *moves),
        must_not=(("debit", INSUFFICIENT),),
        buckets=(("s", 0),),
        may_wait=("debit",),
    )


def fees(decider: int = B) -> Scenario:
    """s3 (home C) pays u (A), which pays s (home B); then s3 and s are split, and every leg runs in A."""
    legs = (Leg("s3", "u", 5), Leg("u", "s", 2))
    layouts = (Layout(legs, plan(((C, A), (A, B)))), Layout(legs, plan(((A, A), (A, A)), decider), epoch=1))
    accounts = {(A, "u"): FREE, (A, "s3"): FREE, (A, "s"): FREE, (B, "s"): FREE, (C, "s3"): FREE}
    return Scenario(
        "a chain of split accounts keeps its decider", accounts, (Request("chain", layouts),), groups=3, splits=(C,)
    )


def reversed_after_split(alone: int | None = None) -> Scenario:
    """Posted over A and B; then s2 is split. REVERSE goes as its original went (a fault: as a transfer would now)."""
    t = request("t", Leg("s1", "s2", 5), sides=((A, B),))
    sides = (A, B) if alone is None else (alone, alone)
    leg = (Leg("s1", "s2", 5, REVERSE, follows="t"),)
    back = Request("back", (Layout(leg, plan((sides,)), "t", 1),), after=(("t", POSTED),))
    accounts = {(at, name): Account(debits=9, credits=9) for at in (A, B) for name in ("s1", "s2")}
    return Scenario(
        "REVERSE of what was posted before a split", accounts, (t, back), splits=(B,), must_not=(("back", MISSING),)
    )


def held_while_split() -> Scenario:
    """A hold under either map, and a commit under either: only the hold's own plan ends it."""
    sides = maps((B,))
    hold_leg, leg = (Leg("s1", "s2", 5, RESERVE),), (Leg("s1", "s2", 5, COMMIT, follows="hold"),)
    hold = Request("hold", tuple(Layout(hold_leg, plan((side,)), epoch=at) for at, side in enumerate(sides)))
    commits = tuple(Layout(leg, plan((side,)), "hold", at) for at, side in enumerate(sides))
    commit = Request("commit", commits, after=(("hold", POSTED),))
    accounts = {(at, name): FREE for at in (A, B) for name in ("s1", "s2")}
    return Scenario(
        "a hold and its commit while an account is split",
        accounts,
        (hold, commit),
        splits=(B,),
        must_not=(("commit", MISSING),),
    )


def holding() -> tuple[Scenario, ...]:
    """Every scenario of split accounts that must hold."""
    orders = ((A,), (B,), (A, B), (B, A))
    return (
        *(pair(splits, frozen) for splits in orders for frozen in (None, A, B)),
        home_first(),
        pulls(),
        fees(),
        reversed_after_split(),
        held_while_split(),
    )
