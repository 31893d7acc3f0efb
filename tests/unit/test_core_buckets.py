"""What a bucket of a split account does in one group, told to model and kernel at once (decision 12)."""

import hashlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from engine.core.chains.plan import Chain
from engine.core.chains.step_answers import SHORT
from engine.core.chains.word import Order, State, Step
from engine.core.model import rules as model_rules
from engine.core.model.rules import Rules
from engine.core.model.state import Account, Event, unpack
from engine.core.model.steps import StepModel
from engine.core.outcomes import Outcome, ResultFlag
from engine.core.records import AccountFlag, Flag, Kind
from engine.core.split.buckets import (
    BUCKET_STATE,
    Presence,
    bucket_request_id,
    bucket_row,
    group_of_share,
    is_internal_id,
    is_share_id,
    share_id,
)
from tests.core_histories import ELSEWHERE, RESERVED_ACCOUNT
from tests.core_step_histories import run_step_history
from tests.core_story import ALICE, BOB, CAROL, Story
from tests.core_story import chain as linked
from tests.core_twins import Given, Twins, run_history
from tests.unit.test_core_steps import FAR, OURS, FarStory

GOLDEN = Path(__file__).parent.parent / "golden"
LIMITED = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
CAPPED = AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS
SHOP = ELSEWHERE[0]
"""An account whose home is another group."""
FAR_SHARE = share_id(FAR, 7)
HUGE = 1 << 126


class Buckets(FarStory):
    """Group 0 with Bob's ordinary account, and buckets of Alice's, at home here, and of the shop's, elsewhere."""

    def __init__(self, flags: int = LIMITED) -> None:
        Story.__init__(self)
        self.create(ALICE, flags=flags)
        self.create(BOB, CAROL)
        assert self.split(ALICE, flags) == self.split(SHOP, flags) == (Outcome.BUCKET_MADE, ResultFlag.NONE)

    def split(self, account: bytes, flags: int = 0, version: int = 1, ledger: int = 1) -> tuple[int, int]:
        (event,) = unpack(bucket_row(account, ledger=ledger, code=0, flags=flags, version=version))
        (result,) = self.twins.apply([event], self.now).results
        return result.outcome, result.flags

    def share(self, account: bytes) -> Account:
        found: Account = self.model.accounts[self.model.accounts[account].partner]
        return found

    def short(self, *events: Event) -> tuple[int, Outcome] | None:
        """Return the leg and the reason for which all of a unit is SHORT."""
        found = {
            (r.outcome, r.flags, r.position, r.timestamp) for r in self.twins.apply(list(events), self.now).results
        }
        ((outcome, flags, leg, reason),) = found
        return (leg, Outcome(reason)) if (outcome, flags) == (0, ResultFlag.SHORT) else None

    def move(self, amount: int, *, to: bytes | None = None, out_of: bytes | None = None) -> Chain:
        """Return a pull between an own share account and another group's."""
        if to is not None:
            event = self.event(Kind.POST, FAR_SHARE, self.model.accounts[to].partner, amount)
            return self.chain(event, sides=((FAR, OURS),))
        event = self.event(Kind.POST, self.model.accounts[out_of].partner, FAR_SHARE, amount)
        return self.chain(event, sides=((OURS, FAR),))

    def bring(self, account: bytes, amount: int) -> None:
        """Let money come from another group's share account."""
        chain = self.move(amount, to=account)
        assert self.states(Order(Step.DECIDE, OURS, chain, (amount,))) == [State.POSTED]


def test_ids_of_the_engines_own_accounts_say_what_they_are() -> None:
    assert share_id(3, 70_000) == b"\xff" * 8 + bytes.fromhex("0200 0300 70110100")
    assert is_share_id(share_id(3, 70_000))
    assert group_of_share(share_id(1023, 1)) == 1023
    assert is_internal_id(RESERVED_ACCOUNT)
    assert not is_share_id(RESERVED_ACCOUNT)
    assert not is_internal_id(SHOP)


def test_a_bucket_record_carries_the_flags_that_matter_and_an_id_of_its_version() -> None:
    (event,) = unpack(
        bucket_row(SHOP, ledger=4, code=5, flags=LIMITED | AccountFlag.BUCKET | AccountFlag.FROZEN, version=6)
    )
    assert (event.debit, event.ledger, event.code, event.timeout_or_version) == (SHOP, 4, 5, 6)
    assert event.flags == LIMITED | AccountFlag.FROZEN
    assert event.id == bucket_request_id(SHOP, 6) != bucket_request_id(SHOP, 7)


def test_a_bucket_is_a_head_and_a_share_account_that_name_each_other() -> None:
    story = Buckets()
    for account in (ALICE, SHOP):
        head, share = story.model.accounts[account], story.share(account)
        assert head.flags == LIMITED | AccountFlag.BUCKET
        assert share.flags == LIMITED | AccountFlag.SHARE
        assert share.partner == account
        assert head.partner == share_id(OURS, list(story.model.accounts).index(head.partner))


def test_a_bucket_made_again_is_a_replay_and_a_newer_version_brings_its_flags() -> None:
    story = Buckets()
    assert story.split(SHOP, LIMITED) == (Outcome.BUCKET_MADE, ResultFlag.REPLAYED)
    assert story.split(SHOP, LIMITED | AccountFlag.FROZEN, 3) == (Outcome.BUCKET_MADE, ResultFlag.NONE)
    assert story.split(SHOP, LIMITED, 2) == (Outcome.BUCKET_MADE, ResultFlag.REPLAYED)
    assert story.post(SHOP, BOB, 1) == Outcome.DEBIT_ACCOUNT_FROZEN
    assert story.split(ALICE, LIMITED | AccountFlag.FROZEN, 9) == (Outcome.BUCKET_MADE, ResultFlag.REPLAYED)
    assert not story.model.accounts[ALICE].flags & AccountFlag.FROZEN, "at home it is UPDATE_ACCOUNT that says so"


def test_no_caller_can_burn_the_id_of_a_bucket_record() -> None:
    story = Buckets()
    taken = story.event(Kind.POST, BOB, CAROL, 1, id=bucket_request_id(ELSEWHERE[1], 1))
    assert story.tell(taken) == [Outcome.POSTED]
    assert story.split(ELSEWHERE[1]) == (Outcome.BUCKET_MADE, ResultFlag.NONE)


def test_transfers_run_on_a_bucket_of_an_account_that_lives_elsewhere() -> None:
    story = Buckets()
    assert story.post(BOB, ELSEWHERE[1], 5) == Outcome.ACCOUNT_IN_ANOTHER_GROUP
    assert story.post(BOB, SHOP, 5) == Outcome.POSTED
    assert story.post(SHOP, CAROL, 3) == Outcome.POSTED
    assert story.balances(SHOP) == (3, 5, 0, 0)


def test_commands_about_a_split_account_go_to_its_home() -> None:
    story = Buckets()
    assert story.update(SHOP) == Outcome.ACCOUNT_IN_ANOTHER_GROUP
    assert story.create(SHOP) == [Outcome.ACCOUNT_IN_ANOTHER_GROUP]
    assert story.update(ALICE, flags=AccountFlag.FROZEN) == Outcome.ACCOUNT_UPDATED


def test_a_bucket_made_in_a_record_serves_the_transfers_behind_it() -> None:
    story = Buckets()
    (event,) = unpack(bucket_row(ELSEWHERE[1], ledger=1, code=0, flags=0, version=1))
    post = story.event(Kind.POST, BOB, ELSEWHERE[1], 1)
    assert story.tell(event, post) == [Outcome.BUCKET_MADE, Outcome.POSTED]


@pytest.mark.parametrize(
    ("flags", "reason"), [(LIMITED, Outcome.INSUFFICIENT_FUNDS), (CAPPED, Outcome.CREDIT_LIMIT_EXCEEDED)]
)
def test_a_bucket_that_does_not_suffice_is_short_and_stores_nothing(flags: int, reason: Outcome) -> None:
    story = Buckets(flags)
    sides = (SHOP, BOB) if flags == LIMITED else (BOB, SHOP)
    event, before = story.event(Kind.POST, *sides, 5), story.model.next_position
    assert story.short(event) == (0, reason)
    assert story.model.next_position == before
    story.bring(SHOP, 5) if flags == LIMITED else story.take(SHOP, 5)
    assert story.tell(event) == [Outcome.POSTED], "its id was free"


def test_a_chain_that_is_short_leaves_no_trace() -> None:
    story = Buckets()
    story.give(BOB, 9)
    first = story.event(Kind.RESERVE, BOB, CAROL, 4, timeout_or_version=1)
    legs = linked(first, story.event(Kind.POST, BOB, CAROL, 1), story.event(Kind.POST, SHOP, BOB, 5))
    before = story.balances(BOB), story.model.next_position
    assert story.short(*legs) == (2, Outcome.INSUFFICIENT_FUNDS)
    assert (story.balances(BOB), story.model.next_position) == before
    alone = first._replace(flags=0, timeout_or_version=0)
    assert story.tell(alone) == [Outcome.POSTED], "the same row, position and reservation, but without a deadline"
    story.wait(2)
    assert story.tell(story.event(Kind.COMMIT, BOB, CAROL, 4, followed=first.id)) == [Outcome.POSTED]


def test_ids_of_a_unit_that_is_short_are_free_within_its_record() -> None:
    story = Buckets()
    event, other = story.event(Kind.POST, SHOP, BOB, 5), story.event(Kind.POST, BOB, SHOP, 5)
    results = story.twins.apply([event, event, other, event], story.now).results
    assert [result.flags for result in results] == [ResultFlag.SHORT, ResultFlag.SHORT, 0, 0]
    assert [result.outcome for result in results] == [0, 0, Outcome.POSTED, Outcome.POSTED]


def test_a_refusal_that_no_money_would_mend_is_told_as_ever() -> None:
    story = Buckets()
    assert story.tell(*linked(story.event(Kind.POST, BOB, ELSEWHERE[1], 1), story.event(Kind.POST, SHOP, BOB, 5))) == [
        Outcome.ACCOUNT_IN_ANOTHER_GROUP,
        Outcome.CHAIN_FAILED,
    ]
    assert story.post(SHOP, BOB, 5, flags=Flag.FORCE) == Outcome.POSTED


def test_the_overdraft_limit_is_spent_at_home() -> None:
    story = Buckets()
    assert story.update(ALICE, amount=10) == Outcome.ACCOUNT_UPDATED
    assert story.post(ALICE, BOB, 10) == Outcome.POSTED
    assert story.short(story.event(Kind.POST, ALICE, BOB, 1)) == (0, Outcome.INSUFFICIENT_FUNDS)
    assert story.update(ALICE, amount=9) == Outcome.LIMIT_BELOW_USE
    story.bring(ALICE, 1)
    assert story.update(ALICE, amount=9) == Outcome.ACCOUNT_UPDATED


def test_a_balancing_transfer_moves_what_it_asks_for_or_is_short() -> None:
    story = Buckets()
    story.give(SHOP, 7)
    assert story.post(SHOP, BOB, 6, flags=Flag.BALANCING_DEBIT) == Outcome.POSTED
    over = story.event(Kind.POST, SHOP, BOB, 2, flags=Flag.BALANCING_DEBIT)
    assert story.short(over) == (0, Outcome.INSUFFICIENT_FUNDS)
    alone = story.chain(over, sides=((OURS, OURS),))
    assert story.states(Order(Step.DECIDE, OURS, alone, (1,))) == [State.POSTED], "what all buckets were proven to have"
    assert story.balances(SHOP) == (7, 7, 0, 0)


def test_head_and_share_account_are_one_pool() -> None:
    story = Buckets()
    story.bring(SHOP, 10)
    assert story.post(SHOP, BOB, 8) == Outcome.POSTED
    assert story.states(Order(Step.RESERVE, OURS, story.move(3, out_of=SHOP))) == [State.REFUSED]
    out = story.move(2, out_of=SHOP)
    assert story.states(Order(Step.RESERVE, OURS, out)) == [State.RESERVED]
    assert story.short(story.event(Kind.POST, SHOP, BOB, 1)) == (0, Outcome.INSUFFICIENT_FUNDS), "what moves is gone"
    assert story.balances(SHOP) == (8, 0, 0, 0)


def test_a_pool_counts_differences_however_much_moved_to_and_fro() -> None:
    story = Buckets()
    story.bring(SHOP, HUGE)
    assert story.post(SHOP, BOB, HUGE) == Outcome.POSTED
    assert story.post(BOB, SHOP, HUGE) == Outcome.POSTED
    out = story.move(HUGE, out_of=SHOP)
    assert story.states(Order(Step.RESERVE, OURS, out)) == [State.RESERVED]
    assert story.short(story.event(Kind.POST, SHOP, BOB, 1)) == (0, Outcome.INSUFFICIENT_FUNDS)


def test_only_a_share_account_moves_money_to_a_share_account_each_in_its_own_group() -> None:
    story = Buckets()
    story.bring(SHOP, 10)
    own = story.model.accounts[SHOP].partner
    assert story.post(own, BOB, 1) == Outcome.ACCOUNT_ID_RESERVED
    assert story.post(BOB, own, 1) == Outcome.ACCOUNT_ID_RESERVED
    assert story.post(own, story.model.accounts[ALICE].partner, 1) == Outcome.ACCOUNT_ID_RESERVED
    assert story.split(own) == (Outcome.ACCOUNT_IS_INTERNAL, ResultFlag.NONE)
    wrong = [
        story.chain(story.event(Kind.POST, own, b"somebody far off", 1), sides=((OURS, FAR),)),
        story.chain(story.event(Kind.POST, own, RESERVED_ACCOUNT, 1), sides=((OURS, FAR),)),
        story.chain(story.event(Kind.POST, own, share_id(2, 7), 1), sides=((OURS, FAR),)),
        story.chain(story.event(Kind.POST, share_id(2, 7), own, 1), sides=((OURS, FAR),)),
    ]
    for chain in wrong:
        (answered,) = story.hear(Order(Step.RESERVE, OURS, chain)).answers
        assert answered.word is not None
        assert answered.word.reason == Outcome.ACCOUNT_ID_RESERVED


def test_a_step_that_is_short_stores_nothing_and_says_for_which_leg() -> None:
    story = Buckets()
    out = story.chain(story.event(Kind.POST, SHOP, b"somebody far off", 5), sides=((OURS, FAR),))
    accounts = list(story.model.accounts)
    (answered,) = story.hear(Order(Step.RESERVE, OURS, out)).answers
    assert (answered.word, answered.flags, answered.reason, answered.leg) == (
        None,
        SHORT,
        Outcome.INSUFFICIENT_FUNDS,
        0,
    )
    assert list(story.model.accounts) == accounts, "no transit account that rolling forward would not make"
    story.bring(SHOP, 5)
    assert story.states(Order(Step.RESERVE, OURS, out)) == [State.RESERVED]


def test_what_reservations_give_back_is_counted_and_what_they_post_is_not() -> None:
    story = Buckets()
    story.give(SHOP, 100)

    def hold(amount: int, timeout_s: int = 0) -> Event:
        event = story.event(Kind.RESERVE, SHOP, BOB, amount, timeout_or_version=timeout_s)
        assert story.tell(event) == [Outcome.POSTED]
        return event

    def follow(kind: Kind, held: Event, amount: int = 0, **fields: Any) -> int:
        assert story.tell(story.event(kind, SHOP, BOB, amount, followed=held.id, **fields)) == [Outcome.POSTED]
        return story.share(SHOP).given_back

    assert follow(Kind.COMMIT, hold(10), 10) == 0
    assert follow(Kind.COMMIT, hold(10), 7) == 3
    kept = hold(10)
    assert follow(Kind.COMMIT, kept, 6, flags=Flag.KEEP_REST) == 3
    assert follow(Kind.RELEASE, kept) == 3 + 4
    hold(10, timeout_s=1)
    story.wait(2)
    story.tell()
    assert story.share(SHOP).given_back == 3 + 4 + 10
    again = hold(10)
    failing = linked(
        story.event(Kind.RELEASE, SHOP, BOB, followed=again.id), story.event(Kind.POST, BOB, ELSEWHERE[1], 1)
    )
    assert story.tell(*failing) == [Outcome.CHAIN_FAILED, Outcome.ACCOUNT_IN_ANOTHER_GROUP]
    assert story.share(SHOP).given_back == 17, "a chain that failed gave nothing back"


def test_what_a_chain_had_secured_and_did_not_come_to_is_counted() -> None:
    story = Buckets()
    story.give(ALICE, 100)

    def secure(amount: int, **fields: Any) -> Chain:
        chain = story.out(amount, **fields)
        assert story.states(Order(Step.RESERVE, OURS, chain)) == [State.RESERVED]
        return chain

    story.states(Order(Step.COMMIT, OURS, secure(10), (10,)))
    assert story.share(ALICE).given_back == 0
    story.states(Order(Step.COMMIT, OURS, secure(10, flags=Flag.BALANCING_CREDIT), (4,)))
    assert story.share(ALICE).given_back == 6
    story.states(Order(Step.RELEASE, OURS, secure(10)))
    assert story.share(ALICE).given_back == 16


def test_a_split_account_is_closed_once_its_pool_is_empty() -> None:
    story = Buckets()
    story.bring(ALICE, 5)
    assert story.update(ALICE, flags=AccountFlag.CLOSED) == Outcome.ACCOUNT_NOT_EMPTY
    assert story.post(ALICE, BOB, 5) == Outcome.POSTED
    assert story.balances(ALICE) == (5, 0, 0, 0)
    assert story.update(ALICE, flags=AccountFlag.CLOSED) == Outcome.ACCOUNT_UPDATED
    assert story.split(ALICE, LIMITED) == (Outcome.BUCKET_MADE, ResultFlag.REPLAYED)


# ---- planted faults ----


def nothing_is_given_back(self: Rules, names: object, amount: int) -> None:
    """Forgets the counter."""


def heads_alone(self: Rules, account: Account) -> list[Account]:
    """Forgets what moved."""
    return [account]


def posted_alone(self: Account) -> int:
    """Forgets what is reserved."""
    limited = self.flags & LIMITED
    return self.credits.posted + (self.overdraft if limited else 0) - self.debits.posted


def refused_at_once(account: Account, reason: Outcome) -> Outcome:
    """Refuses without a proof."""
    return reason


def secured_is_not_counted(self: StepModel, received: object, word: object) -> None:
    """Forgets what chains had secured."""


FAULTS = {
    "give_back": (Rules, nothing_is_given_back),
    "_pool": (Rules, heads_alone),
    "available_to_debit": (Account, posted_alone),
    "_short_if": (model_rules, refused_at_once),
    "_count_freed": (StepModel, secured_is_not_counted),
}
SEEDS = 60


def is_found() -> bool:
    """Whether histories tell a model with a fault from the kernel, or it breaks an invariant."""
    try:
        for seed in range(SEEDS):
            run_history(Random(seed), 10)
            run_step_history(Random(seed), 16)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("name", FAULTS)
def test_histories_find_a_fault_in_what_a_bucket_may_spend(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, fault = FAULTS[name]
    monkeypatch.setattr(where, name, fault)
    assert is_found()


@pytest.mark.parametrize("name", ["give_back", "_count_freed"])
def test_what_a_proof_rests_on_would_shrink_if_nothing_counted_what_was_given_back(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Twins, "_compare_rows", lambda *_: None)  # or the kernel would tell first
    given_back_twice()
    monkeypatch.setattr(*FAULTS[name][:1], name, FAULTS[name][1])
    with pytest.raises(AssertionError, match="only grows"):
        given_back_twice()


def given_back_twice() -> None:
    """A hold is released, and a chain that had secured something."""
    story, given = Buckets(), Given()
    story.give(ALICE, 20)
    held, chain = story.event(Kind.RESERVE, ALICE, BOB, 10), story.out(10)
    assert story.tell(held) == [Outcome.POSTED]
    assert story.states(Order(Step.RESERVE, OURS, chain)) == [State.RESERVED]
    given.check(story.model)
    assert story.tell(story.event(Kind.RELEASE, ALICE, BOB, followed=held.id)) == [Outcome.POSTED]
    given.check(story.model)
    assert story.states(Order(Step.RELEASE, OURS, chain)) == [State.RELEASED]
    given.check(story.model)


def test_formats_of_buckets_are_for_ever() -> None:
    """A BUCKET record and what ReadBuckets tells of a bucket, as their first version had them."""
    record, state = (GOLDEN / "bucket_1.hex").read_text().split()
    account, flags = bytes(range(16)), LIMITED | AccountFlag.CLOSED
    assert bucket_row(account, ledger=0x01020304, code=0x0506, flags=flags, version=0x0708090A).hex() == record
    fields = np.arange(1, BUCKET_STATE.itemsize // 8 + 1, dtype=np.uint64).view(BUCKET_STATE)[0]
    told = " ".join(f"{name}={fields[name].tobytes().hex()}" for name in BUCKET_STATE.names or ())
    assert hashlib.sha256(told.encode()).hexdigest() == state
    assert (Kind.BUCKET, AccountFlag.BUCKET, AccountFlag.SHARE, ResultFlag.SHORT, SHORT) == (66, 32, 64, 8, 4)
    assert (Outcome.BUCKET_MADE, Outcome.ACCOUNT_IS_INTERNAL) == (5, 156)
    assert [presence.value for presence in Presence] == [0, 1, 2, 3]
