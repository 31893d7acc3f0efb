"""What must hold in every state, I1 to I9 of DESIGN §13 as far as the protocol has a part in them."""

from engine.core.chains.plan import Chain
from engine.core.chains.word import State, Word, took_effect
from engine.core.outcomes import Outcome, is_conflict
from engine.core.records import Kind
from tests.model.group import net
from tests.model.ledger import CREDITS_LIMITED, DEBITS_LIMITED, Account
from tests.model.setup import Group, Setup, transit
from tests.model.world import Groups, World
from tests.model.world import State as WorldState

LETTERS = "ABCDEFGH"
EFFECTIVE = (State.POSTED, State.COMMITTED, State.HELD)


class Violation(Exception):
    """An invariant does not hold; the text says which, and of what."""


def require(condition: bool, text: str) -> None:
    if not condition:
        raise Violation(text)


def check(world: World, state: WorldState) -> None:
    """Raise `Violation` for the first invariant that this state breaks."""
    for at, group in enumerate(state.groups):
        if (at, group) not in world.checked:  # met before, beside other groups
            _check_group(world.setup, at, group)
            world.checked.add((at, group))
    for request in range(len(world.setup.requests)):
        _check_decision(world.setup, state.groups, request)
        _check_answers(world, state, request)
    _check_transits(world.setup, state.groups)
    _check_reversals(world.setup, state.groups)


def _check_group(setup: Setup, at: int, group: Group) -> None:
    _check_book(at, group)
    _check_limits(setup, at, group)
    _check_balances(setup, at, group)
    _check_ids(setup, at, group)


def _check_book(at: int, group: Group) -> None:
    accounts = group.accounts
    require(sum(a.debits for a in accounts) == sum(a.credits for a in accounts), f"I1 book of group {LETTERS[at]}")
    reserved = sum(a.debits_reserved - a.credits_reserved for a in accounts)
    require(reserved == 0, f"I1 reserved book of group {LETTERS[at]}")


def _check_limits(setup: Setup, at: int, group: Group) -> None:
    for name, slot in setup.slots[at].items():
        account = group.accounts[slot]
        require(min(account[:4]) >= 0, f"I7 negative counter of {name} in group {LETTERS[at]}")
        debits, credits = account.debits + account.debits_reserved, account.credits + account.credits_reserved
        if account.flags & DEBITS_LIMITED:
            require(account.credits >= debits, f"I5 {name} overdrawn in group {LETTERS[at]}")
        if account.flags & CREDITS_LIMITED:
            require(account.debits >= credits, f"I5 {name} credited beyond its debits in group {LETTERS[at]}")


def _check_ids(setup: Setup, at: int, group: Group) -> None:
    """I4: within a group, an id is of one chain only that takes effect or may do so."""
    live = [word for word in group.words if word and word.state in (State.RESERVED, *EFFECTIVE)]
    ids = [name for word in live for name in setup.ids[word.chain]]
    twice = next((name for name in ids if ids.count(name) > 1), "")
    require(not twice, f"I4 {twice} is of two chains in group {LETTERS[at]}")


def _check_balances(setup: Setup, at: int, group: Group) -> None:
    """I7: balances are the sum of the entries, and reserved the sum of what is open, both told by the words alone."""
    counters = [list(account[:4]) for account in setup.start[at].accounts]
    for word in group.words:
        if word and word.state is State.RESERVED:
            _count_secured(setup, at, word, counters)
        elif word and word.state in EFFECTIVE:
            _count_effective(setup, at, word, counters)
    for name, slot in setup.slots[at].items():
        expected, found = tuple(counters[slot]), tuple(group.accounts[slot][:4])
        require(expected == found, f"I7 {name} in group {LETTERS[at]} has {found}, its entries say {expected}")


def _count_secured(setup: Setup, at: int, word: Word, counters: list[list[int]]) -> None:
    unbalanced = 0
    for slot, (debits, credits) in net(setup, at, word.chain, word.amounts).items():
        counters[slot][2] += debits
        counters[slot][3] += credits
        unbalanced += debits - credits
    slot = setup.slots[at][transit(word.chain.decider)]
    counters[slot][2] += max(-unbalanced, 0)
    counters[slot][3] += max(unbalanced, 0)


def _count_effective(setup: Setup, at: int, word: Word, counters: list[list[int]]) -> None:
    for leg in setup.own_legs(at, word.chain):
        debit, credit = setup.slots_of(at, word.chain, leg)
        kind = setup.legs[word.chain][leg].kind
        if kind in (Kind.POST, Kind.REVERSE, Kind.COMMIT):
            counters[debit][0] += word.amounts[leg]
            counters[credit][1] += word.amounts[leg]
        elif kind is Kind.RESERVE:
            rest = word.holds[word.chain.holds.index(leg)].rest
            counters[debit][2] += rest
            counters[credit][3] += rest


# ---- the decider's word ----


def _words(groups: Groups, request: int) -> list[tuple[int, Word]]:
    return [(at, word) for at, group in enumerate(groups) if (word := group.words[request]) is not None]


def _check_decision(setup: Setup, groups: Groups, request: int) -> None:
    name, words = setup.requests[request].name, _words(groups, request)
    decided = [word for at, word in words if at == word.chain.decider and took_effect(word)]
    require(len(decided) <= 1, f"I2 {name} took effect twice")
    for at, word in words:
        if at == word.chain.decider:
            continue
        ours = decided[0] if decided and decided[0].chain is word.chain else None
        if word.state in (State.COMMITTED, State.HELD):
            require(
                ours is not None and ours.amounts == word.amounts, f"I9 {name} in group {LETTERS[at]}: not so decided"
            )
        if word.state is State.RELEASED:
            require(ours is None, f"I9 {name} released in group {LETTERS[at]}, yet it took effect")


def _check_answers(world: World, state: WorldState, request: int) -> None:
    name, chains = world.setup.requests[request].name, world.setup.chains[request]
    said: dict[bytes, tuple[Outcome, ...]] = {}
    for layout, outcomes in sorted(world.answers(state, request)):
        for outcome in outcomes:
            require((name, outcome.name) not in world.scenario.must_not, f"I6/I10 {name} was answered {outcome.name}")
        body = chains[layout].rows
        require(said.setdefault(body, outcomes) == outcomes, f"I3 {name} has two answers: {said[body]} and {outcomes}")
    posted = [body for body, outcomes in said.items() if outcomes[0] is Outcome.POSTED]
    others = [outcomes for body, outcomes in said.items() if outcomes[0] is not Outcome.POSTED]
    require(len(posted) <= 1, f"I4 {name} was posted with two bodies")
    conflicting = all(any(is_conflict(outcome) for outcome in outcomes) for outcomes in others)
    require(not posted or conflicting, f"I4 {name} was posted, and another body of it refused without a conflict")
    if posted:
        present = [w for at, w in _words(state.groups, request) if at == w.chain.decider and w.chain.rows == posted[0]]
        require(any(took_effect(word) for word in present), f"I2 {name} was acknowledged, and is not there")


# ---- between groups ----


def _check_transits(setup: Setup, groups: Groups) -> None:
    """I9: what the transit accounts of a pair differ by is on its way in a chain that one of the two lists as open."""
    for one in range(len(groups)):
        for other in range(one):
            gap = transit_gap(setup, groups, one, other)
            on_its_way = sum(_on_its_way(setup, groups, request, one, other) for request in range(len(setup.requests)))
            pair = f"{LETTERS[other]} and {LETTERS[one]}"
            require(gap == on_its_way, f"I9 transit between {pair} differs by {gap}, open chains explain {on_its_way}")


def transit_gap(setup: Setup, groups: Groups, one: int, other: int) -> int:
    there = groups[one].accounts[setup.slots[one][transit(other)]]
    back = groups[other].accounts[setup.slots[other][transit(one)]]
    return _net(there) + _net(back)


def _net(account: Account) -> int:
    return account.debits - account.credits


def _on_its_way(setup: Setup, groups: Groups, request: int, one: int, other: int) -> int:
    """What the chain has posted in one of the two groups and lists as open in the other."""
    total = 0
    for posted_at, open_at in ((one, other), (other, one)):
        posted, waiting = groups[posted_at].words[request], groups[open_at].words[request]
        if posted and waiting and posted.state in EFFECTIVE and waiting.state is State.RESERVED:
            moved = (_moved(setup, posted, leg, posted_at, open_at) for leg in range(posted.chain.legs))
            total += sum(moved)
    return total


def _moved(setup: Setup, word: Word, leg: int, posted_at: int, open_at: int) -> int:
    kind, side = setup.legs[word.chain][leg].kind, word.chain.plan.sides[leg]
    if set(side) != {posted_at, open_at} or kind not in (Kind.POST, Kind.REVERSE, Kind.COMMIT):
        return 0
    debited_here = (side.debit == posted_at) != (kind is Kind.REVERSE)
    return -word.amounts[leg] if debited_here else word.amounts[leg]


def _check_reversals(setup: Setup, groups: Groups) -> None:
    """I2: the reversals of an original stay within it."""
    for chain in setup.legs:
        decided = groups[chain.decider].words[setup.request_of[chain]]
        if decided is None or decided.chain is not chain or not took_effect(decided):
            continue
        for leg in range(chain.legs):
            parts = sum(_reversed_by(setup, word, chain, leg) for word in groups[chain.decider].words if word)
            require(parts <= decided.amounts[leg], f"I2 {setup.ids[chain][leg]} was reversed by more than it moved")


def _reversed_by(setup: Setup, word: Word, chain: Chain, leg: int) -> int:
    if not took_effect(word):
        return 0
    return sum(
        word.amounts[at]
        for at, one in enumerate(setup.legs[word.chain])
        if one.kind is Kind.REVERSE and one.follows == setup.ids[chain][leg]
    )


# ---- at rest ----


def check_rest(setup: Setup, groups: Groups) -> None:
    """I7, I8, I9 when couriers have nothing left to do: only holds that never expire are open, alike everywhere."""
    for request in range(len(setup.requests)):
        name = setup.requests[request].name
        for at, word in _words(groups, request):
            require(word.state is not State.RESERVED, f"I8 {name} is stuck in group {LETTERS[at]}")
            if word.state is State.HELD:
                _check_holds(setup, groups, request, at, word)
    for one in range(len(groups)):
        for other in range(one):
            require(transit_gap(setup, groups, one, other) == 0, "I9 transit accounts differ at rest")


def _check_holds(setup: Setup, groups: Groups, request: int, at: int, word: Word) -> None:
    decided = groups[word.chain.decider].words[request]
    for leg, here, there in zip(word.chain.holds, word.holds, decided.holds if decided else (), strict=True):
        name = setup.ids[word.chain][leg]
        if here.state is State.NONE:
            continue
        require(here.state == there.state, f"I9 the hold {name} is {here.state.name} in {LETTERS[at]}, not as decided")
        require(here.rest == (there.rest if there.state is State.HELD else 0), f"I7 {name} still holds {here.rest}")
        forever = not setup.legs[word.chain][leg].timeout_s
        require(forever or here.state is not State.HELD, f"I8 the hold {name} never ends in {LETTERS[at]}")
