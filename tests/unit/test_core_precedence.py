"""One order of reasons, pinned by golden tables, in the plain model and in the kernel (DESIGN §4)."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.core.model.model import CONFLICTS
from engine.core.model.state import NO_ID, Event
from engine.core.outcomes import PRECEDENCE, Outcome, is_conflict, took_effect
from engine.core.records import AccountFlag, Flag, Kind
from tests.core_histories import name
from tests.core_story import Story

GOLDEN = Path(__file__).parent.parent / "golden"
FULL = (1 << 127) - 1


class Case(NamedTuple):
    """One line of the table."""

    kind: Kind
    ledger: int
    debit: str
    credit: str
    followed: str
    amount: int
    outcome: Outcome


def cases() -> list[Case]:
    found = []
    for line in (GOLDEN / "core_precedence.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            kind, ledger, debit, credit, followed, amount, outcome = line.split()
            found.append(Case(Kind[kind], int(ledger), debit, credit, followed, int(amount), Outcome[outcome]))
    return found


class Scene:
    """Brings about what a line describes."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.story = Story()
        self.debit, self.credit = self.account(case.debit), self.account(case.credit)
        self.followed = self.original(case.followed)
        for account, words in ((self.debit, case.debit), (self.credit, case.credit)):
            self.bring_about(account, set(words.split("+")))

    def account(self, words: str) -> bytes:
        traits = set(words.split("+"))
        account = self.story.new_account(
            elsewhere="elsewhere" in traits, prefix=b"\xff" * 8 if "reserved" in traits else b""
        )
        if words == "-" or traits & {"unknown", "elsewhere", "reserved"}:
            return account
        flags = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS if traits & {"limited", "indebted"} else 0
        flags |= AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS if "capped" in traits else 0
        self.story.create(account, flags=flags, ledger=2 if "ledger2" in traits else 1, amount=5)
        self.story.update(account, amount=5 if "indebted" in traits else 0)
        return account

    def original(self, what: str) -> bytes:
        """Make what the case follows, while the accounts are still free; return its id."""
        if what == "-":
            return NO_ID
        event = self.story.event(
            Kind.POST if what == "post" else Kind.RESERVE, self.debit, self.credit, 10, flags=Flag.FORCE
        )
        if what == "expired":
            event = event._replace(timeout_or_version=1)
        if what == "refused":
            event = event._replace(amount=1 << 127)
        if what == "wrong-kind":
            event = event._replace(kind=Kind.RESERVE if self.case.kind == Kind.REVERSE else Kind.POST)
        if what.startswith("other-"):
            event = self.other(event, what)
        if what != "missing":
            assert took_effect(self.story.tell(event)[0]) == (what != "refused")
        self.end(event, what)
        return event.id

    def other(self, event: Event, what: str) -> Event:
        ledger = 2 if what == "other-ledger" else 1
        others = [self.story.new_account(), self.story.new_account()]
        self.story.create(*others, ledger=ledger)
        kind = Kind.POST if self.case.kind == Kind.REVERSE else Kind.RESERVE
        debit = self.debit if what == "other-credit" else others[0]
        return event._replace(kind=kind, debit=debit, credit=others[1], ledger=ledger)

    def end(self, event: Event, what: str) -> None:
        if what in ("committed", "released"):
            ending = Kind.COMMIT if what == "committed" else Kind.RELEASE
            amount = 10 if what == "committed" else 0
            follower = event._replace(id=self.story.new_id(), kind=ending, amount=amount, followed=event.id, flags=0)
            assert self.story.tell(follower) == [Outcome.POSTED]
        if what in ("committed", "post"):
            self.story.take(self.credit, 10)
            self.story.give(self.debit, 10)
        self.story.wait(2 if what == "expired" else 0)

    def bring_about(self, account: bytes, traits: set[str]) -> None:
        if "full" in traits:
            debits, credits, _, _ = self.story.balances(account)
            self.story.give(account, FULL - credits)
            self.story.take(account, FULL - debits)
        if "indebted" in traits:
            self.story.take(account, 3)
        flags = AccountFlag.FROZEN if "frozen" in traits else 0
        flags |= AccountFlag.CLOSED if "closed" in traits else 0
        if flags:
            assert self.story.update(account, flags=flags) == Outcome.ACCOUNT_UPDATED

    def answer(self) -> Outcome:
        case, traits = self.case, set(self.case.debit.split("+"))
        if case.kind == Kind.CREATE_ACCOUNT:
            return self.story.create(self.debit, ledger=case.ledger)[0]
        if case.kind == Kind.UPDATE_ACCOUNT:
            changes: dict[str, Any] = {"timeout_or_version": 77} if "stale" in traits else {}
            changes["flags"] = AccountFlag.CLOSED if "closing" in traits else 0
            return self.story.update(self.debit, ledger=case.ledger, amount=case.amount, **changes)
        event = self.story.event(case.kind, self.debit, self.credit, case.amount, ledger=case.ledger)
        if case.kind == Kind.BUCKET:
            return Outcome(self.story.twins.apply_unchecked([event._replace(credit=NO_ID)], self.story.now)[0])
        return self.story.tell(event._replace(followed=self.followed))[0]


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.kind.name}-{case.outcome.name}-{case.followed}")
def test_the_reason_told_is_the_one_the_golden_table_pins(case: Case) -> None:
    assert Scene(case).answer() == case.outcome


def test_each_kind_is_told_reasons_in_the_order_of_the_precedence() -> None:
    told: dict[Kind, list[int]] = {}
    for case in cases():
        if case.outcome in PRECEDENCE:
            places = told.setdefault(case.kind, [])
            places += [PRECEDENCE.index(case.outcome)]
    assert all(places == sorted(places) for places in told.values())


def test_the_precedence_and_the_golden_table_hold_every_refusal_once() -> None:
    refusals = {o for o in Outcome if o and not took_effect(o) and not is_conflict(o)}
    assert len(set(PRECEDENCE)) == len(PRECEDENCE)
    assert refusals - set(PRECEDENCE) == {Outcome.CHAIN_FAILED, Outcome.CHAIN_ABORTED}
    assert set(PRECEDENCE) - {case.outcome for case in cases()} == {Outcome.DAY_CLOSED}


CHANGES: dict[str, Any] = {
    "kind": Kind.RESERVE,
    "ledger": 2,
    "debit": name(7),
    "credit": name(8),
    "amount": 4,
    "followed": name(9),
    "own_flags": Flag.KEEP_REST,
    "timeout_s": 9,
    "code": 9,
    "reference": name(9),
    "effective_at": 9,
    "is_linked": Flag.LINKED,
}


def different_from(field: str, event: Event) -> Event:
    """Change this field and all that come after it in the table."""
    names = [listed for listed, _ in CONFLICTS]
    for listed in names[names.index(field) :]:
        if listed in ("own_flags", "is_linked"):
            event = event._replace(flags=event.flags | CHANGES[listed])
        elif listed in ("timeout_s", "expected_version"):
            event = event._replace(timeout_or_version=9)
        else:
            event = event._replace(**{listed: CHANGES[listed]})
    return event


def test_the_golden_table_pins_the_order_of_conflicts() -> None:
    golden = (GOLDEN / "core_conflicts.txt").read_text().split()
    assert [outcome.name for _, outcome in CONFLICTS] == golden


def test_every_conflict_tells_the_first_field_that_differs() -> None:
    for field, outcome in CONFLICTS:
        story = Story()
        debit, credit = story.new_account(), story.new_account()
        story.create(debit, credit)
        kind = Kind.UPDATE_ACCOUNT if field == "expected_version" else Kind.COMMIT
        event = story.event(kind, debit, NO_ID if kind == Kind.UPDATE_ACCOUNT else credit, 3)
        event = event._replace(timeout_or_version=1 if kind == Kind.UPDATE_ACCOUNT else 0)
        event = event._replace(followed=name(3)) if kind == Kind.COMMIT else event
        story.tell(event)
        again = event._replace(timeout_or_version=2) if kind == Kind.UPDATE_ACCOUNT else different_from(field, event)
        assert story.twins.apply_unchecked([again], story.now) == [outcome], field
