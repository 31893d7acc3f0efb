"""The scenarios that must hold: small worlds, each with little money and something to go wrong."""

from engine.core.records import AccountFlag, Flag, Kind
from tests.model.chains import ALL, Layout, Leg, Request, plan, request
from tests.model.ledger import CREDITS_LIMITED, DEBITS_LIMITED, FROZEN, Account
from tests.model.setup import Scenario

A, B, C = 0, 1, 2
POSTED, INSUFFICIENT, MISSING = "POSTED", "INSUFFICIENT_FUNDS", "FOLLOWED_MISSING"
RESERVE, COMMIT, RELEASE, REVERSE = Kind.RESERVE, Kind.COMMIT, Kind.RELEASE, Kind.REVERSE


def funded(amount: int) -> Account:
    """An account that may spend this and no more."""
    return Account(credits=amount, flags=DEBITS_LIMITED)


def owing(amount: int) -> Account:
    """An account that may be credited this and no more."""
    return Account(debits=amount, flags=CREDITS_LIMITED)


FREE = Account()


def plain(name: str, debit: str, credit: str, amount: int, side: tuple[int, int] = (A, B)) -> Request:
    return request(name, Leg(debit, credit, amount), sides=(side,))


def two_groups() -> Scenario:
    return Scenario(
        "plain transfers both ways, limits on both sides",
        {(A, "a"): funded(10), (B, "b"): owing(12), (B, "d"): funded(5)},
        (plain("t1", "a", "b", 7), plain("t2", "a", "b", 6), plain("t3", "d", "a", 5, (B, A))),
    )


def three_legs(funds: int = 10, more: tuple[Request, ...] = ()) -> Scenario:
    """Every group is another's debtor; C's own legs go both ways."""
    legs = (Leg("a", "c", 6), Leg("c2", "b", 4), Leg("a", "b", 2))
    chain = request("chain", *legs, sides=((A, C), (C, B), (A, B)))
    accounts = {
        (A, "a"): funded(funds),
        (B, "b"): FREE,
        (C, "c"): funded(0),
        (C, "c2"): funded(4),
        (C, "d"): FREE,
    }
    return Scenario(f"three legs over three groups, {funds} where 8 are needed", accounts, (chain, *more), groups=3)


def three_legs_contended() -> Scenario:
    return three_legs(10, (plain("t", "a", "c", 5, (A, C)),))._replace(title="three legs, and a transfer that competes")


def spend_what_was_announced() -> Scenario:
    spend = request("spend", Leg("c", "d", 6), sides=((C, C),), after=(("chain", POSTED),))
    return three_legs(10, (spend,))._replace(
        title="money of a chain is spent as soon as the chain is answered", must_not=(("spend", INSUFFICIENT),)
    )


def same_decider_other_body() -> Scenario:
    legs = (Leg("a", "b", 5),), (Leg("c", "b", 5),)
    layouts = (Layout(legs[0], plan(((A, B),))), Layout(legs[1], plan(((C, B),))))
    accounts = {(A, "a"): funded(9), (B, "b"): FREE, (C, "c"): funded(9)}
    return Scenario("one id for two bodies, one decider", accounts, (Request("id", layouts),), groups=3)


def other_decider_other_body() -> Scenario:
    legs = (Leg("a", "b", 5),), (Leg("a", "c", 5),)
    layouts = (Layout(legs[0], plan(((A, B),))), Layout(legs[1], plan(((A, C),))))
    accounts = {(A, "a"): funded(9), (B, "b"): FREE, (C, "c"): FREE}
    return Scenario("one id for two bodies, two deciders", accounts, (Request("id", layouts),), groups=3)


def wide_bodies_cross() -> Scenario:
    """Two bodies over the same three groups, which can each hold one group and wait for the other."""
    one, other = (Leg("a", "c", 5), Leg("c", "b", 2)), (Leg("a", "c", 4), Leg("a", "b", 2))
    layouts = (Layout(one, plan(((A, C), (C, B)))), Layout(other, plan(((A, C), (A, B)))))
    accounts = {(A, "a"): funded(9), (B, "b"): FREE, (C, "c"): funded(0)}
    return Scenario("one id for two bodies over three groups", accounts, (Request("id", layouts),), groups=3)


def wide_body_meets_plain_one() -> Scenario:
    """The first body's decider is none of the second's groups; its debtors are the second's debtor and decider."""
    one, other = (Leg("a", "c", 5), Leg("c", "b", 2)), (Leg("a", "c", 5),)
    layouts = (Layout(one, plan(((A, C), (C, B)))), Layout(other, plan(((A, C),))))
    accounts = {(A, "a"): funded(9), (B, "b"): FREE, (C, "c"): funded(0)}
    return Scenario("one id for a chain and for a transfer", accounts, (Request("id", layouts),), groups=3)


def bodies_swap_roles() -> Scenario:
    """The decider of either body is a debtor of the other."""
    one, other = (Leg("a", "b", 5),), (Leg("b", "a", 5),)
    layouts = (Layout(one, plan(((A, B),))), Layout(other, plan(((B, A),))))
    return Scenario(
        "one id for two bodies that swap decider and debtor",
        {(A, "a"): funded(9), (B, "b"): funded(9)},
        (Request("id", layouts),),
    )


def two_plans() -> Scenario:
    """One body laid out by two maps: account s is served by B, or by A and by C."""
    legs = (Leg("u1", "s", 5), Leg("u2", "s", 2))
    layouts = (Layout(legs, plan(((A, B), (C, B)))), Layout(legs, plan(((A, A), (C, C)), B)))
    accounts = {(A, "u1"): funded(9), (C, "u2"): funded(9), (A, "s"): FREE, (B, "s"): FREE, (C, "s"): FREE}
    return Scenario("one body under two plans, which hold a group each", accounts, (Request("id", layouts),), groups=3)


def crossing_deciders(*frozen: int) -> Scenario:
    """One body laid out twice over A and B, as what it follows was in two chains: each plan's decider is the other's
    only reserving group, so that each may have the plan on record that the other decides."""
    leg, sides = (Leg("a", "b", 5),), ((A, B),)
    layouts = (Layout(leg, plan(sides)), Layout(leg, plan(sides, A)))
    accounts = {
        (at, name): Account(flags=FROZEN if at in frozen else AccountFlag.NONE) for at, name in ((A, "a"), (B, "b"))
    }
    refusing = "".join(f", {'AB'[at]} refuses" for at in frozen)
    return Scenario(f"one body under two plans, each other's deciders{refusing}", accounts, (Request("id", layouts),))


def served_by_one_group(alone: int, frozen: int | None = None) -> Scenario:
    """One body laid out over A and B, or, by another map, on one of the two alone; either may refuse what the other
    would not."""
    leg = (Leg("s1", "s2", 5),)
    layouts = (Layout(leg, plan(((A, B),))), Layout(leg, plan(((alone, alone),))))
    flags = {at: FROZEN if at == frozen else AccountFlag.NONE for at in (A, B)}
    accounts = {(at, name): Account(flags=flags[at]) for at in (A, B) for name in ("s1", "s2")}
    refusing = "" if frozen is None else f", {'AB'[frozen]} refuses"
    title = f"one body over A and B, or on {'AB'[alone]} alone{refusing}"
    return Scenario(title, accounts, (Request("id", layouts),))


def leg_tried_alone() -> Scenario:
    legs = (Leg("a", "b", 3), Leg("a", "b", 4))
    chain = request("chain", *legs, sides=((A, B), (A, B)), leg_ids=("chain", "leg"))
    alone = request("leg", legs[1], sides=((A, B),))
    return Scenario("a leg tried again alone", {(A, "a"): funded(20), (B, "b"): FREE}, (chain, alone))


def passing_through() -> Scenario:
    chain = request("chain", Leg("a", "b", 5), Leg("b", "c", 5), sides=((A, B), (B, C)))
    accounts = {(A, "a"): funded(5), (B, "b"): funded(0), (C, "c"): FREE}
    return Scenario(
        "legs that pass through an empty account", accounts, (chain,), groups=3, must_not=(("chain", INSUFFICIENT),)
    )


# ---- holds ----


def hold_ends() -> Scenario:
    hold = request("hold", Leg("a", "b", 8, RESERVE, timeout_s=9), sides=((A, B),))
    commit = request("commit", Leg("a", "b", 5, COMMIT, follows="hold"), sides=((A, B),))
    release = request("release", Leg("a", "b", 0, RELEASE, follows="hold"), sides=((A, B),))
    accounts = {(A, "a"): funded(10), (B, "b"): owing(9)}
    return Scenario("a hold: COMMIT, RELEASE and expiry race", accounts, (hold, commit, release))


def hold_contended() -> Scenario:
    hold = request("hold", Leg("a", "b", 8, RESERVE, timeout_s=9), sides=((A, B),))
    commit = request("commit", Leg("a", "b", ALL, COMMIT, follows="hold"), sides=((A, B),), after=(("hold", POSTED),))
    accounts = {(A, "a"): funded(10), (B, "b"): owing(9)}
    return Scenario(
        "a hold, all of it committed, and a transfer that competes",
        accounts,
        (hold, commit, plain("t", "a", "b", 6)),
        must_not=(("commit", MISSING),),
    )


def hold_in_parts() -> Scenario:
    """The far group may hear of the last COMMIT before the first: what it gives back is the decider's to say."""
    hold = request("hold", Leg("a", "b", 8, RESERVE, timeout_s=9), sides=((A, B),))
    part = Leg("a", "b", 3, COMMIT, Flag.KEEP_REST, follows="hold")
    commits = (
        request("part", part, sides=((A, B),), after=(("hold", POSTED),)),
        request("last", part._replace(amount=2, flags=Flag.NONE), sides=((A, B),), after=(("hold", POSTED),)),
    )
    accounts = {(A, "a"): funded(8), (B, "b"): FREE}
    return Scenario("a hold committed in parts, heard of in any order", accounts, (hold, *commits))


def hold_rest_is_spendable() -> Scenario:
    hold = request("hold", Leg("a", "b", 8, RESERVE), sides=((A, B),))
    commit = request("commit", Leg("a", "b", 5, COMMIT, follows="hold"), sides=((A, B),), after=(("hold", POSTED),))
    spend = request("spend", Leg("b", "x", 5), sides=((B, B),), after=(("commit", POSTED),))
    accounts = {(A, "a"): funded(8), (B, "b"): funded(0), (B, "x"): FREE}
    return Scenario(
        "a hold's commit is spent as soon as it is answered",
        accounts,
        (hold, commit, spend),
        must_not=(("spend", INSUFFICIENT), ("commit", MISSING)),
    )


def hold_of_a_middle_leg() -> Scenario:
    """The COMMIT's accounts are in A and C; what it follows was decided in B. Today's map says: decider C."""
    hold = request("hold", Leg("a", "c", 6, RESERVE), Leg("a", "b", 2, RESERVE), sides=((A, C), (A, B)))
    leg = (Leg("a", "c", 6, COMMIT, follows="hold"),)
    layouts = (Layout(leg, plan(((C, C),))), Layout(leg, plan(((A, C),), B), "hold", first=C))
    accounts = {(A, "a"): funded(8), (B, "b"): FREE, (C, "c"): FREE, (C, "a"): FREE}
    commit = Request("commit", layouts)
    return Scenario("COMMIT of a leg that another group decided", accounts, (hold, commit), groups=3)


def hold_guessed_to_be_plain() -> Scenario:
    """A router need not ask first: it lays a COMMIT out as if its original had been alone, and is told otherwise."""
    world = hold_of_a_middle_leg()
    hold, commit = world.requests
    alone, right = commit.layouts
    guessed = alone._replace(plan=plan(((A, C),)))
    title = "COMMIT of a leg that another group decided, guessed"
    return world._replace(title=title, requests=(hold, commit._replace(layouts=(alone, guessed, right))))


def hold_ended_in_a_chain() -> Scenario:
    """Group C, where the last leg credits, never heard of the hold."""
    hold = request("hold", Leg("a", "b", 6, RESERVE), sides=((A, B),))
    legs = (Leg("a", "b", 6, COMMIT, follows="hold"), Leg("a", "c", 2))
    layouts = (Layout(legs, plan(((C, C), (C, C)))), Layout(legs, plan(((A, B), (A, C)), B), "hold", first=C))
    accounts = {(A, "a"): funded(8), (B, "b"): FREE, (C, "a"): FREE, (C, "b"): FREE, (C, "c"): FREE}
    return Scenario("COMMIT in a chain with a transfer", accounts, (hold, Request("chain", layouts)), groups=3)


def hold_of_two_legs() -> Scenario:
    hold = request("hold", Leg("a", "b", 5, RESERVE, timeout_s=9), Leg("c", "b", 3, RESERVE), sides=((A, B), (C, B)))
    legs = (Leg("a", "b", 5, COMMIT, follows="hold"), Leg("c", "b", 2, COMMIT, follows="hold.1"))
    commit = request("commit", *legs, sides=((A, B), (C, B)), after=(("hold", POSTED),))
    accounts = {(A, "a"): funded(5), (B, "b"): FREE, (C, "c"): funded(3)}
    return Scenario("a linked hold committed as a whole", accounts, (hold, commit), groups=3)


def hold_beside_a_post() -> Scenario:
    """The hold spends what the chain's first leg brings."""
    legs = (Leg("b", "a", 5), Leg("a", "b", 5, RESERVE, timeout_s=9))
    chain = request("chain", *legs, sides=((B, A), (A, B)))
    commit = request("commit", Leg("a", "b", 4, COMMIT, follows="chain.1"), sides=((A, B),), after=(("chain", POSTED),))
    accounts = {(A, "a"): funded(0), (B, "b"): funded(5)}
    return Scenario(
        "a chain of a transfer and a hold of the same money",
        accounts,
        (chain, commit),
        must_not=(("chain", INSUFFICIENT), ("commit", MISSING)),
    )


def frozen_before_commit() -> Scenario:
    hold = request("hold", Leg("a", "b", 8, RESERVE), sides=((A, B),))
    after = (("hold", POSTED), ("frozen", "a"))
    commit = request("commit", Leg("a", "b", 8, COMMIT, follows="hold"), sides=((A, B),), after=after)
    release = request("release", Leg("a", "b", 0, RELEASE, follows="hold"), sides=((A, B),), after=after)
    return Scenario(
        "the debit account is frozen while a hold is open",
        {(A, "a"): funded(8), (B, "b"): FREE},
        (hold, commit, release),
        freezes=((A, "a"),),
        must_not=(("commit", POSTED), ("release", "DEBIT_ACCOUNT_FROZEN")),
    )


# ---- reversals and balancing ----


def reversals() -> Scenario:
    def back(name: str, amount: int) -> Request:
        return request(name, Leg("a", "b", amount, REVERSE, follows="t"), sides=((A, B),))

    accounts = {(A, "a"): funded(8), (B, "b"): funded(3)}
    parts = (back("whole", 8), back("part1", 5), back("part2", 3))
    return Scenario("REVERSE, whole and in parts, race", accounts, (plain("t", "a", "b", 8), *parts))


def reversal_of_a_middle_leg() -> Scenario:
    chain = request("t", Leg("a", "c", 6), Leg("a", "b", 2), sides=((A, C), (A, B)))

    def back(name: str, amount: int) -> Request:
        leg = Leg("a", "c", amount, REVERSE, follows="t")
        return Request(name, (Layout((leg,), plan(((A, C),), B), "t", first=C),), after=(("t", POSTED),))

    accounts = {(A, "a"): funded(8), (B, "b"): FREE, (C, "c"): funded(3)}
    requests = (chain, back("part1", 4), back("part2", 3))
    return Scenario("REVERSE of a leg, at its chain's decider", accounts, requests, groups=3)


def reversed_and_spent() -> Scenario:
    back = request("back", Leg("a", "b", 8, REVERSE, follows="t"), sides=((A, B),), after=(("t", POSTED),))
    spend = request("spend", Leg("a", "x", 8), sides=((A, A),), after=(("back", POSTED),))
    return Scenario(
        "REVERSE, then its money is spent",
        {(A, "a"): funded(8), (B, "b"): funded(0), (A, "x"): FREE},
        (plain("t", "a", "b", 8), back, spend),
        must_not=(("spend", INSUFFICIENT), ("back", MISSING)),
    )


def balancing() -> Scenario:
    leg = Leg("a", "b", 9, flags=Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT)
    t1 = request("t1", leg, sides=((A, B),))
    accounts = {(A, "a"): funded(7), (B, "b"): owing(5), (A, "e"): funded(2)}
    requests = (t1, plain("t2", "a", "b", 3), plain("t3", "e", "a", 2, (A, A)))
    return Scenario("balancing on both sides", accounts, requests)


# ---- several at once ----


def rings(more: tuple[Request, ...] = ()) -> Scenario:
    one = request("one", Leg("a", "b", 5), Leg("b", "c", 5), Leg("c", "a", 4), sides=((A, B), (B, C), (C, A)))
    two = request("two", Leg("c", "b", 5), Leg("b", "a", 5), Leg("a", "c", 4), sides=((C, B), (B, A), (A, C)))
    accounts = {(A, "a"): funded(6), (B, "b"): funded(0), (C, "c"): funded(5)}
    return Scenario("two rings in opposite directions", accounts, (one, two, *more), groups=3)


def soup() -> Scenario:
    chain = request("chain", Leg("a", "c", 6), Leg("c", "b", 6), sides=((A, C), (C, B)))
    hold = request("hold", Leg("a", "c", 5, RESERVE), sides=((A, C),))
    commit = request("commit", Leg("a", "c", 5, COMMIT, follows="hold"), sides=((A, C),), after=(("hold", POSTED),))
    back = plain("back", "b", "a", 6, (B, A))
    undo = request("undo", Leg("b", "a", 6, REVERSE, follows="back"), sides=((B, A),), after=(("back", POSTED),))
    accounts = {(A, "a"): funded(10), (B, "b"): funded(0), (C, "c"): funded(0)}
    return Scenario(
        "a chain, a hold and its commit, a transfer and its reversal", accounts, (chain, hold, commit, back, undo), 3
    )


def storm() -> Scenario:
    hold = request("hold", Leg("a", "c", 3, RESERVE, timeout_s=9), sides=((A, C),))
    commit = request("commit", Leg("a", "c", 2, COMMIT, follows="hold"), sides=((A, C),), after=(("hold", POSTED),))
    return rings((hold, commit))._replace(title="two rings, a hold, its commit and its expiry, little money")


def long_storm() -> Scenario:
    """Storm with a RELEASE besides: too long for every run."""
    release = request("release", Leg("a", "c", 0, RELEASE, follows="hold"), sides=((A, C),), after=(("hold", POSTED),))
    world = storm()
    return world._replace(title=f"{world.title}, and a release", requests=(*world.requests, release))


def holding() -> tuple[Scenario, ...]:
    """Every scenario that must hold."""
    return (
        two_groups(),
        three_legs(7),
        three_legs(10),
        three_legs_contended(),
        spend_what_was_announced(),
        same_decider_other_body(),
        other_decider_other_body(),
        wide_bodies_cross(),
        wide_body_meets_plain_one(),
        bodies_swap_roles(),
        two_plans(),
        *(crossing_deciders(*frozen) for frozen in ((), (A,), (B,), (A, B))),
        *(served_by_one_group(alone, frozen) for alone in (A, B) for frozen in (None, A, B)),
        leg_tried_alone(),
        passing_through(),
        hold_ends(),
        hold_contended(),
        hold_in_parts(),
        hold_rest_is_spendable(),
        hold_of_a_middle_leg(),
        hold_guessed_to_be_plain(),
        hold_ended_in_a_chain(),
        hold_of_two_legs(),
        hold_beside_a_post(),
        frozen_before_commit(),
        reversals(),
        reversal_of_a_middle_leg(),
        reversed_and_spent(),
        balancing(),
        rings(),
        soup(),
        storm(),
    )
