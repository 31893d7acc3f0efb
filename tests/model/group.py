"""A group's rules: what one log record does to its accounts and words. The lifecycles are `chains.word`'s own."""

from engine.core.chains.plan import Chain
from engine.core.chains.word import JUDGED, REFUSALS, Judged, Order, State, Step, Word, is_heard, next_word
from engine.core.records import Kind
from tests.model.chains import ALL
from tests.model.judge import SHORT, Draft, judge, run_leg
from tests.model.ledger import FROZEN, hold, reserve
from tests.model.setup import Group, Setup, transit


def apply(setup: Setup, at: int, group: Group, request: int, order: Order) -> Group:
    """One log record of group `at`; the very same object if there is nothing to log."""
    word = setup.says(group, request)
    if word and setup.request_of[word.chain] != request:
        return group  # the id is a leg of another chain here
    order = _misread(setup, word, order)
    if _commits_again(setup, word, order):
        draft = Draft(list(group.accounts), list(group.words), group.epoch)
        _run_legs(setup, at, draft, order.chain, order.amounts, order.given_back)
        return group._replace(accounts=tuple(draft.accounts))
    before = None if _forgets(setup, word, order) else word
    if not is_heard(before, order) or not _serves_its_map(setup, group, order):
        return group
    if order.step in JUDGED and not _knows_its_plan(setup, group, order.chain):
        return group
    return _log(setup, at, group, request, order, before)


def _log(setup: Setup, at: int, group: Group, request: int, order: Order, before: Word | None) -> Group:
    draft, judged = Draft(list(group.accounts), list(group.words), group.epoch), Judged()
    if order.step in JUDGED:
        judged = judge(setup, at, draft, request, order)
        if judged.reason == SHORT:
            return group
        if judged.reason or order.step is Step.RESERVE:  # what was tried is not what is logged
            draft = Draft(list(group.accounts), list(group.words), group.epoch)
    after = next_word(before, order, judged)
    draft.words[request] = after
    _book(setup, at, draft, before, after, order)
    return group._replace(accounts=tuple(draft.accounts), words=tuple(draft.words))


def _misread(setup: Setup, word: Word | None, order: Order) -> Order:
    """A planted fault: the plan that an order names is not compared with the one on record."""
    if setup.rules.plan_checked or word is None or order.step in JUDGED or order.step is Step.ABORT:
        return order
    return order._replace(chain=word.chain)


def _forgets(setup: Setup, word: Word | None, order: Order) -> bool:
    """Planted faults: a step is done as if there were no word, which should be the answer."""
    if word is None:
        return False
    late = order.step is Step.RESERVE and word.state is State.RELEASED and not setup.rules.late_reserve_ignored
    return late or (order.step is Step.DECIDE and word.state is State.POSTED and not setup.rules.first_word_final)


def _commits_again(setup: Setup, word: Word | None, order: Order) -> bool:
    """A planted fault: a repeated COMMIT is done again."""
    if setup.rules.committed_once or word is None or order.step is not Step.COMMIT:
        return False
    return word.state is State.COMMITTED


def _serves_its_map(setup: Setup, group: Group, order: Order) -> bool:
    """A first step waits until the group has opened the bucket; nothing is ever too old."""
    epoch = setup.epoch_of[order.chain]
    if order.step in JUDGED:
        return epoch <= group.epoch or not setup.rules.bucket_must_exist
    return epoch >= group.epoch or setup.rules.old_maps_finish


def _knows_its_plan(setup: Setup, group: Group, chain: Chain) -> bool:
    """A group that knows a follower's original, laid out otherwise, answers with that plan and logs nothing."""
    for leg in range(chain.legs if setup.rules.originals_plan_asked else 0):
        original = setup.original(chain, leg)
        word = group.words[original.request] if original else None
        if original and word and word.state not in REFUSALS and word.state is not State.RELEASED:
            laid_out = (word.chain.plan.sides[original.leg], word.chain.decider)
            if laid_out != (chain.plan.sides[leg], chain.decider):
                return False
    return True


def _book(setup: Setup, at: int, draft: Draft, before: Word | None, after: Word, order: Order) -> None:
    """Let the accounts follow the word. (A decision's own legs were booked while they were judged.)"""
    if order.step is Step.EXPIRE:
        if at in order.chain.plan.sides[order.leg]:
            hold(draft.accounts, *setup.slots_of(at, order.chain, order.leg), -order.given_back[0])
    elif after.state is State.RESERVED:
        secure(setup, at, draft, after.chain, after.amounts, +1)
    elif before is not None:
        secure(setup, at, draft, before.chain, before.amounts, -1)
        if order.step is not Step.RELEASE:
            _run_legs(setup, at, draft, after.chain, after.amounts, after.given_back)


def _run_legs(
    setup: Setup, at: int, draft: Draft, chain: Chain, amounts: tuple[int, ...], given_back: tuple[int, ...]
) -> None:
    for leg in setup.own_legs(at, chain):
        run_leg(setup, at, draft, chain, leg, amounts[leg], given_back[leg] if given_back else 0)


def secure(setup: Setup, at: int, draft: Draft, chain: Chain, amounts: tuple[int, ...], sign: int) -> None:
    """Reserve (+1) or free (-1) what the chain takes from each account of this group, net of what it brings."""
    if not setup.rules.legs_in_order:
        for leg in setup.own_legs(at, chain):
            hold(draft.accounts, *setup.slots_of(at, chain, leg), sign * amounts[leg])
        return
    unbalanced = 0
    for slot, (debits, credits) in net(setup, at, chain, amounts).items():
        reserve(draft.accounts, slot, sign * debits, sign * credits)
        unbalanced += debits - credits
    if unbalanced:  # a hold that spends what an earlier leg brings; the transit account keeps the book balanced
        slot = setup.slots[at][transit(chain.decider)]
        reserve(draft.accounts, slot, sign * max(-unbalanced, 0), sign * max(unbalanced, 0))


def net(setup: Setup, at: int, chain: Chain, amounts: tuple[int, ...]) -> dict[int, tuple[int, int]]:
    """Per slot, the debits and the credits to reserve; what a COMMIT moves is reserved by its hold already."""
    takes: dict[int, int] = {}
    brings: dict[int, int] = {}
    for leg in setup.own_legs(at, chain):
        kind, amount = setup.legs[chain][leg].kind, amounts[leg]
        debit, credit = setup.slots_of(at, chain, leg)
        for slot, side in ((debit, +1), (credit, -1)):
            takes.setdefault(slot, 0)
            brings.setdefault(slot, 0)
            if kind in (Kind.POST, Kind.REVERSE):
                takes[slot] += side * amount
                brings[slot] -= side * amount
            elif kind is Kind.RESERVE:
                (takes if side > 0 else brings)[slot] += amount
            elif kind is Kind.COMMIT and amount != ALL:
                (brings if side > 0 else takes)[slot] -= amount
    return {slot: (max(takes[slot], 0), max(brings[slot], 0)) for slot in takes}


def freeze(group: Group, slot: int) -> Group:
    """An operator's UPDATE_ACCOUNT."""
    frozen = group.accounts[slot]._replace(flags=group.accounts[slot].flags | FROZEN)
    return group._replace(accounts=(*group.accounts[:slot], frozen, *group.accounts[slot + 1 :]))


def split(group: Group, epoch: int) -> Group:
    """A group logs the next split of the directory, and opens its bucket."""
    return group._replace(epoch=epoch) if epoch == group.epoch + 1 else group


def due(setup: Setup, at: int, group: Group) -> list[tuple[int, Order]]:
    """The holds that this group, being their decider, may expire with its next record: (request, order)."""
    return [
        (request, Order(Step.EXPIRE, at, word.chain, given_back=(one.rest,), leg=leg))
        for request, word in enumerate(group.words)
        if word and word.state is State.HELD and word.chain.decider == at
        for leg, one in zip(word.chain.holds, word.holds, strict=True)
        if one.state is State.HELD and setup.legs[word.chain][leg].timeout_s
    ]
