"""Judging one event, and letting it take effect: the rules of the ledger in plain Python (DESIGN §4).

`Rules` is the state of one group and what a single event may do to it; `engine.core.model` makes of that log records,
chains, and answers to known ids.
"""

import heapq
from collections.abc import Callable, Sequence
from typing import Final

from engine.core.model_state import Account, Event, Stored
from engine.core.outcomes import Outcome, took_effect
from engine.core.placement import slot_of
from engine.core.records import AMOUNT_ALL, BALANCE_BITS, FOLLOWERS, AccountFlag, Flag, Kind
from engine.core.settings import Settings

BALANCE_BOUND: Final = 1 << BALANCE_BITS
LIFE_FLAGS: Final = AccountFlag.FROZEN | AccountFlag.CLOSED
_DEBIT_REFUSALS: Final = (Outcome.DEBIT_ACCOUNT_UNKNOWN, Outcome.DEBIT_ACCOUNT_OF_ANOTHER_LEDGER)
_CREDIT_REFUSALS: Final = (Outcome.CREDIT_ACCOUNT_UNKNOWN, Outcome.CREDIT_ACCOUNT_OF_ANOTHER_LEDGER)


def is_own_account(account_id: bytes) -> bool:
    """Whether this is the engine's own account, as those of transit are; callers' requests never reach them."""
    return account_id[:8] == b"\xff" * 8


class Rules:
    """One group's accounts, stored records and settings."""

    def __init__(self, group: int) -> None:
        """Start an empty group without settings."""
        self.group = group
        self.settings: Settings | None = None
        self.owners: list[int] = []
        self.ledgers: set[int] = set()
        self.accounts: dict[bytes, Account] = {}
        self.history: dict[bytes, Stored] = {}
        self.deadlines: list[tuple[int, int, Stored]] = []
        self.time = 0
        """Of the log record that is being applied."""

    # Judging ----------------------------------------------------------------------------------------------------------

    def refusal(self, event: Event) -> Outcome | None:
        """Return the first reason to refuse, in the precedence of `outcomes.PRECEDENCE`; None to accept."""
        if event.kind == Kind.UPDATE_ACCOUNT:
            return self._refuse_update(event)
        refusal = self._refuse_places(event)
        if refusal is None and event.kind in FOLLOWERS:
            refusal = self._refuse_followed(event)
        if refusal is None and event.kind != Kind.RELEASE:
            refusal = self._refuse_state(event)
        if refusal is None and event.kind not in (Kind.COMMIT, Kind.RELEASE):
            refusal = self._refuse_amount(event)
        return refusal

    def is_elsewhere(self, account_id: bytes) -> bool:
        """Whether the slot map gives this account to another group."""
        settings = self.settings
        return settings is None or self.owners[slot_of(account_id, settings.hash_seed)] != self.group

    def _refuse_places(self, event: Event) -> Outcome | None:
        if event.ledger not in self.ledgers:
            return Outcome.LEDGER_UNKNOWN
        if event.kind in FOLLOWERS and self._is_missing(event):
            return Outcome.FOLLOWED_MISSING
        return self._refuse_accounts(event, (True, True))

    def _refuse_accounts(self, event: Event, own: Sequence[bool]) -> Outcome | None:
        """Judge where the accounts are, of those sides that this group runs."""
        both = ((event.debit, *_DEBIT_REFUSALS), (event.credit, *_CREDIT_REFUSALS))
        sides = [side for side, here in zip(both, own, strict=True) if here]
        if any(self.is_elsewhere(name) for name, _, _ in sides):
            return Outcome.ACCOUNT_IN_ANOTHER_GROUP
        if any(is_own_account(name) for name, _, _ in sides):
            return Outcome.ACCOUNT_ID_RESERVED
        for name, unknown, _ in sides:
            if name not in self.accounts:
                return unknown
        for name, _, other_ledger in sides:
            if self.accounts[name].ledger != event.ledger:
                return other_ledger
        return None

    def _is_missing(self, event: Event) -> bool:
        """Whether what it follows never took effect. Told before the map is asked: a follower goes where its original
        is, and if that is nowhere it may be laid out on any group."""
        original = self.history.get(event.followed)
        return original is None or not self.can_follow(event, original)

    def can_follow(self, event: Event, original: Stored) -> bool:
        """Whether there is something to follow."""
        return took_effect(original.outcome)

    def _refuse_followed(self, event: Event) -> Outcome | None:
        original = self.history[event.followed]
        refusal = self._refuse_unlike(event, original)
        if refusal is not None or event.kind != Kind.REVERSE:
            return refusal or self._refuse_ending(event, original)
        exceeds = event.amount > original.moved - original.reversed
        return Outcome.AMOUNT_EXCEEDS_ORIGINAL if exceeds else None

    def _refuse_unlike(self, event: Event, original: Stored) -> Outcome | None:
        """Judge whether the original is of the right kind, and its places those of its follower."""
        wanted = (Kind.POST, Kind.COMMIT) if event.kind == Kind.REVERSE else (Kind.RESERVE,)
        if original.event.kind not in wanted:
            return Outcome.FOLLOWED_OF_WRONG_KIND
        if original.event.ledger != event.ledger:
            return Outcome.FOLLOWED_OF_ANOTHER_LEDGER
        if original.event.debit != event.debit:
            return Outcome.FOLLOWED_DEBIT_ACCOUNT_DIFFERS
        return Outcome.FOLLOWED_CREDIT_ACCOUNT_DIFFERS if original.event.credit != event.credit else None

    def _refuse_ending(self, event: Event, original: Stored) -> Outcome | None:
        if original.ended is not None:
            return original.ended
        decided_here = original.place is None or original.place.decider == self.group
        if decided_here and original.deadline is not None and original.deadline <= self.time:
            return Outcome.RESERVATION_EXPIRED
        if event.amount != AMOUNT_ALL and event.amount > original.remaining:
            return Outcome.AMOUNT_EXCEEDS_RESERVATION
        return None

    def _refuse_state(self, event: Event) -> Outcome | None:
        debit, credit = self.accounts[event.debit], self.accounts[event.credit]
        if debit.flags & AccountFlag.CLOSED:
            return Outcome.DEBIT_ACCOUNT_CLOSED
        if credit.flags & AccountFlag.CLOSED:
            return Outcome.CREDIT_ACCOUNT_CLOSED
        if debit.flags & AccountFlag.FROZEN:
            return Outcome.DEBIT_ACCOUNT_FROZEN
        return Outcome.CREDIT_ACCOUNT_FROZEN if credit.flags & AccountFlag.FROZEN else None

    def _refuse_amount(self, event: Event) -> Outcome | None:
        """Bounds are told by the field; limits by what is debited and credited, which REVERSE turns round."""
        debit, credit, amount = self.accounts[event.debit], self.accounts[event.credit], self.amount_to_move(event)
        backwards = event.kind == Kind.REVERSE
        if (debit.credits if backwards else debit.debits).used + amount >= BALANCE_BOUND:
            return Outcome.DEBIT_ACCOUNT_OVERFLOW
        if (credit.debits if backwards else credit.credits).used + amount >= BALANCE_BOUND:
            return Outcome.CREDIT_ACCOUNT_OVERFLOW
        if event.flags & Flag.FORCE:
            return None
        debited, credited = (credit, debit) if backwards else (debit, credit)
        if debited.flags & AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS and amount > debited.available_to_debit():
            return Outcome.INSUFFICIENT_FUNDS
        if credited.flags & AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS and amount > credited.available_to_credit():
            return Outcome.CREDIT_LIMIT_EXCEEDED
        return None

    def amount_to_move(self, event: Event) -> int:
        """BALANCING moves what is available, up to the amount; COMMIT of AMOUNT_ALL what is left."""
        if event.kind == Kind.COMMIT and event.amount == AMOUNT_ALL:
            return self.history[event.followed].remaining
        if event.flags & Flag.BALANCING_DEBIT and event.kind == Kind.POST:
            return self._balanced(event.amount, self.accounts[event.debit], Account.available_to_debit)
        if event.flags & Flag.BALANCING_CREDIT and event.kind == Kind.POST:
            return self._balanced(event.amount, self.accounts[event.credit], Account.available_to_credit)
        return event.amount

    def _balanced(self, amount: int, account: Account, available: Callable[[Account], int]) -> int:
        """A transit account is balanced by nothing: that account's own group does it."""
        return amount if account.flags & AccountFlag.TRANSIT else min(amount, max(0, available(account)))

    # Taking effect ----------------------------------------------------------------------------------------------------

    def execute(self, record: Stored) -> None:
        """Let an accepted record take effect."""
        event = record.event
        if event.kind == Kind.POST:
            self._post(event.debit, event.credit, record.moved)
        elif event.kind == Kind.REVERSE:
            self._post(event.credit, event.debit, record.moved)
            self.history[event.followed].reversed += record.moved
        elif event.kind == Kind.RESERVE:
            self._reserve(record)
        elif event.kind == Kind.COMMIT:
            self._commit(record, self.history[event.followed])
        elif event.kind == Kind.RELEASE:
            self.end(self.history[event.followed], Outcome.RESERVATION_ALREADY_RELEASED)
        else:
            self._update_account(event)

    def _post(self, debit: bytes, credit: bytes, amount: int) -> None:
        self.accounts[debit].debits.posted += amount
        self.accounts[credit].credits.posted += amount

    def _hold(self, record: Stored, amount: int) -> None:
        if record.accounts is not None:
            debit, credit = record.accounts
            self.accounts[debit].debits.reserved += amount
            self.accounts[credit].credits.reserved += amount
        record.remaining += amount

    def _reserve(self, record: Stored) -> None:
        self._hold(record, record.moved)
        if record.deadline is not None:
            heapq.heappush(self.deadlines, (record.deadline, record.position, record))

    def _commit(self, record: Stored, original: Stored) -> None:
        """Post a part; the rest is given back unless it is to be kept. With nothing left a reservation is done."""
        self._hold(original, -record.moved)
        self._post(record.event.debit, record.event.credit, record.moved)
        if not (record.event.flags & Flag.KEEP_REST and original.remaining):
            self.end(original, Outcome.RESERVATION_ALREADY_COMMITTED)

    def end(self, original: Stored, told: Outcome) -> None:
        """Give back what is left of a reservation; `told` is what its followers hear from now on."""
        self._hold(original, -original.remaining)
        original.ended = told

    def _refuse_update(self, event: Event) -> Outcome | None:
        if event.ledger not in self.ledgers:
            return Outcome.LEDGER_UNKNOWN
        if self.is_elsewhere(event.debit):
            return Outcome.ACCOUNT_IN_ANOTHER_GROUP
        account = self.accounts.get(event.debit)
        if is_own_account(event.debit):
            return Outcome.ACCOUNT_ID_RESERVED
        if account is None:
            return Outcome.ACCOUNT_UNKNOWN
        if account.ledger != event.ledger:
            return Outcome.DEBIT_ACCOUNT_OF_ANOTHER_LEDGER
        if account.version != event.expected_version:
            return Outcome.ACCOUNT_VERSION_DIFFERS
        if account.flags & AccountFlag.CLOSED:
            return Outcome.ACCOUNT_CLOSED
        if event.flags & AccountFlag.CLOSED and not account.is_empty():
            return Outcome.ACCOUNT_NOT_EMPTY
        lowered_by = account.overdraft - event.amount
        headroom = account.headroom()
        return Outcome.LIMIT_BELOW_USE if headroom is not None and headroom < lowered_by > 0 else None

    def _update_account(self, event: Event) -> None:
        account = self.accounts[event.debit]
        account.overdraft = event.amount
        account.flags = account.flags & ~LIFE_FLAGS | event.flags & LIFE_FLAGS
        account.version += 1
