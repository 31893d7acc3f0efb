"""What an audit says is on its way is what the model's groups have reserved, and what they move once it is posted."""

import random
from typing import Any

import pytest

from engine.core.chains.plan import Chain, Plan, Side
from engine.core.chains.word import Order, State, Step
from engine.core.records import Kind
from engine.service.transit import OnTheWay, own_legs, sum_up
from tests.fake_groups import FakeGroups
from tests.fake_network import names_in
from tests.model.ledger import Account
from tests.protocol_rows import linked, row

GROUPS = 3
NAMES = [names_in(at, GROUPS, 2, "account") for at in range(GROUPS)]
HOME = {name: at for at in range(GROUPS) for name in NAMES[at]}


def audited(groups: FakeGroups, at: int) -> OnTheWay:
    """What an audit of one group of the model adds up, chain by chain."""
    words = [word for group, word in groups.open_words() if group == at and word.state is State.RESERVED]
    return sum_up(len(words), [list(own_legs(word.chain, word.amounts, at)) for word in words])


def world() -> FakeGroups:
    return FakeGroups(GROUPS, {(HOME[name], name): Account(credits=10_000) for name in HOME})


def reserved(groups: FakeGroups, at: int) -> list[int]:
    accounts = groups.groups[at].accounts
    return [sum(one.debits_reserved for one in accounts), sum(one.credits_reserved for one in accounts)]


def transit(groups: FakeGroups, at: int, peer: int) -> int:
    account = groups.account(at, f"transit {'ABCDEFGH'[peer]}")
    return int(account.credits - account.debits)


def random_chain(groups: FakeGroups, source: random.Random, number: int) -> Chain:
    legs, sides = [], []
    for leg in range(source.choice((1, 1, 2, 3, 4))):
        debit, credit = source.sample(sorted(HOME), 2)
        kind = source.choice((Kind.POST, Kind.POST, Kind.RESERVE))
        fields: dict[str, Any] = {"debit": debit, "credit": credit, "amount": source.randint(1, 50), "kind": kind}
        legs.append(row(f"c{number}-{leg}", **fields))
        sides.append(Side(HOME[debit], HOME[credit]))
    return groups.chain(linked(*legs), Plan(tuple(sides), sides[-1].credit))


@pytest.mark.parametrize("seed", range(20))
def test_what_open_chains_secure_is_what_is_reserved_for_them(seed: int) -> None:
    groups, source = world(), random.Random(seed)
    for number in range(12):
        chain = random_chain(groups, source, number)
        for at in chain.others:
            groups.run(at, Order(Step.RESERVE, at, chain))
    for at in range(GROUPS):
        found = audited(groups, at)
        assert [found.secured.get(1, 0)] * 2 == reserved(groups, at)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_pending_is_what_the_transit_balances_move_by(seed: int) -> None:
    groups, source = world(), random.Random(seed)
    chains = [random_chain(groups, source, number) for number in range(12)]
    for chain in chains:
        for at in chain.others:
            groups.run(at, Order(Step.RESERVE, at, chain))
    found = [audited(groups, at) for at in range(GROUPS)]
    before = {(at, peer): transit(groups, at, peer) for at in range(GROUPS) for peer in range(GROUPS) if at != peer}
    for chain in chains:
        for at in chain.others:
            word, _ = groups.run(at, Order(Step.ASK, at, chain))
            assert word is not None
            step = Step.HOLD if chain.holds else Step.COMMIT
            groups.run(at, Order(step, at, chain, word.amounts))
    for (at, peer), balance in before.items():
        assert transit(groups, at, peer) - balance == found[at].pending.get((peer, 1), 0)


def test_at_rest_nothing_is_on_its_way() -> None:
    assert audited(world(), 0) == (0, {}, {})
