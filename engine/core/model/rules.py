"""Judging one event, and letting it take effect: the rules of the ledger in plain Python (DESIGN §4).

`Rules` is the state of one group and what a single event may do to it; `engine.core.model.model` makes of that log
records, chains, and answers to known ids.
"""

import heapq
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from engine.core.model.state import Account, Event, Stored
from engine.core.outcomes import Outcome, took_effect
from engine.core.placement import slot_of
from engine.core.records import AMOUNT_ALL, BALANCE_BITS, FOLLOWERS, AccountFlag, Flag, Kind
from engine.core.settings import Settings

BALANCE_BOUND: Final = 1 << BALANCE_BITS
LIMIT_FLAGS: Final = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS | AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS
_U128: Final = 1 << 128
LIFE_FLAGS: Final = AccountFlag.FROZEN | AccountFlag.CLOSED
_DEBIT_REFUSALS: Final = (Outcome.DEBIT_ACCOUNT_UNKNOWN, Outcome.DEBIT_ACCOUNT_OF_ANOTHER_LEDGER)
_CREDIT_REFUSALS: Final = (Outcome.CREDIT_ACCOUNT_UNKNOWN, Outcome.CREDIT_ACCOUNT_OF_ANOTHER_LEDGER)


def is_own_account(account_id: bytes) -> bool:
    """Whether this is the engine's own account, as those of transit are; callers' requests never reach them."""
    return account_id[:8] == b"\xff" * 8


def share_id(group: int, row: int) -> bytes:
    """Return the id of the share account at this row of a group's account table."""
    return b"\xff" * 8 + (2).to_bytes(2, "little") + group.to_bytes(2, "little") + row.to_bytes(4, "little")


class Short(NamedTuple):
    """Not refused: this group's bucket does not suffice, but those of other groups may."""

    reason: Outcome
    """Why to refuse it once that is proven."""


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

    def refusal(self, event: Event) -> Outcome | Short | None:
        """Return the first reason to refuse, in the precedence of `outcomes.PRECEDENCE`; None to accept."""
        if event.kind == Kind.UPDATE_ACCOUNT:
            return self._refuse_update(event)
        refusal: Outcome | Short | None = self._refuse_places(event)
        if refusal is None and event.kind in FOLLOWERS:
            refusal = self._refuse_followed(event)
        if refusal is None and event.kind != Kind.RELEASE:
            refusal = self._refuse_state(event)
        if refusal is None and event.kind not in (Kind.COMMIT, Kind.RELEASE):
            refusal = self._refuse_amount(event)
        return refusal

    def is_away(self, account_id: bytes) -> bool:
        """Whether the slot map gives this account to another group; the engine's own have no home by their hash."""
        settings = self.settings
        if is_own_account(account_id):
            return False
        return settings is None or self.owners[slot_of(account_id, settings.hash_seed)] != self.group

    def is_elsewhere(self, account_id: bytes) -> bool:
        """Whether another group has this account, and this one has no bucket of it."""
        account = self.accounts.get(account_id)
        return self.is_away(account_id) and not (account is not None and account.is_head)

    def _refuse_places(self, event: Event) -> Outcome | None:
        if event.ledger not in self.ledgers:
            return Outcome.LEDGER_UNKNOWN
        if event.kind in FOLLOWERS and self._is_missing(event):
            return Outcome.FOLLOWED_MISSING
        return self._refuse_accounts(event, (True, True))

    def _refuse_accounts(self, event: Event, own: Sequence[bool], *, moves: bool = False) -> Outcome | None:
        """Judge where the accounts are, of those sides that this group runs. moves: between share accounts."""
        both = ((event.debit, *_DEBIT_REFUSALS), (event.credit, *_CREDIT_REFUSALS))
        sides = [side for side, here in zip(both, own, strict=True) if here]
        if any(is_own_account(name) and not (moves and name in self.accounts) for name, _, _ in sides):
            return Outcome.ACCOUNT_ID_RESERVED
        if any(self.is_elsewhere(name) for name, _, _ in sides):
            return Outcome.ACCOUNT_IN_ANOTHER_GROUP
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

    def _refuse_amount(self, event: Event) -> Outcome | Short | None:
        """Bounds are told by the field; limits by what is debited and credited, which REVERSE turns round."""
        if event.kind == Kind.POST and self.amount_to_move(event) < event.amount:
            name, reason = event.debit, Outcome.INSUFFICIENT_FUNDS
            if event.flags & Flag.BALANCING_CREDIT:
                name, reason = event.credit, Outcome.CREDIT_LIMIT_EXCEEDED
            if self.accounts[name].is_head:
                return Short(reason)  # other buckets may have the rest
        debit, credit, amount = self.accounts[event.debit], self.accounts[event.credit], self.amount_to_move(event)
        backwards = event.kind == Kind.REVERSE
        if (debit.credits if backwards else debit.debits).used + amount >= BALANCE_BOUND:
            return Outcome.DEBIT_ACCOUNT_OVERFLOW
        if (credit.debits if backwards else credit.credits).used + amount >= BALANCE_BOUND:
            return Outcome.CREDIT_ACCOUNT_OVERFLOW
        if event.flags & Flag.FORCE:
            return None
        debited, credited = (credit, debit) if backwards else (debit, credit)
        if debited.flags & AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS and amount > self.available_to_debit(debited):
            return _short_if(debited, Outcome.INSUFFICIENT_FUNDS)
        if credited.flags & AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS and amount > self.available_to_credit(credited):
            return _short_if(credited, Outcome.CREDIT_LIMIT_EXCEEDED)
        return None

    def _pool(self, account: Account) -> list[Account]:
        """Return the accounts that a limit looks at together: of a bucket, its head and its share account."""
        return [account, self.accounts[account.partner]] if account.partner else [account]

    def copies(self, names: Iterable[bytes]) -> dict[bytes, Account]:
        """Copy accounts, and the other rows of their buckets: what a chain may change."""
        pool = {row for name in names for row in (name, self.accounts[name].partner) if row}
        return {name: self.accounts[name].copy() for name in pool}

    def available_to_debit(self, account: Account) -> int:
        """Signed; of a bucket, what both its rows have."""
        return sum(one.available_to_debit() for one in self._pool(account))

    def available_to_credit(self, account: Account) -> int:
        """Signed; the mirror image."""
        return sum(one.available_to_credit() for one in self._pool(account))

    def amount_to_move(self, event: Event) -> int:
        """BALANCING moves what is available, up to the amount; COMMIT of AMOUNT_ALL what is left."""
        if event.kind == Kind.COMMIT and event.amount == AMOUNT_ALL:
            return self.history[event.followed].remaining
        if event.flags & Flag.BALANCING_DEBIT and event.kind == Kind.POST:
            debit = self.accounts[event.debit]
            return _balanced(event.amount, debit, self.available_to_debit(debit))
        if event.flags & Flag.BALANCING_CREDIT and event.kind == Kind.POST:
            credit = self.accounts[event.credit]
            return _balanced(event.amount, credit, self.available_to_credit(credit))
        return event.amount

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
        elif event.kind == Kind.BUCKET:
            self._make_bucket(record)
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
        self.give_back(original.accounts, original.remaining)
        self._hold(original, -original.remaining)
        original.ended = told

    def give_back(self, names: Iterable[bytes] | None, amount: int) -> None:
        """Count, of buckets, what was reserved and is not posted: it only grows, so that a sum over groups that read
        their logs at different moments can be proven too small."""
        for name in names or ():
            account = self.accounts[name]
            if account.is_head:
                share = self.accounts[account.partner]
                share.given_back = (share.given_back + amount) % _U128

    # Accounts ---------------------------------------------------------------------------------------------------------

    def _refuse_update(self, event: Event) -> Outcome | None:
        if event.ledger not in self.ledgers:
            return Outcome.LEDGER_UNKNOWN
        if self.is_away(event.debit):
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
        if event.flags & AccountFlag.CLOSED and not self._is_empty(account):
            return Outcome.ACCOUNT_NOT_EMPTY
        lowered_by = account.overdraft - event.amount
        headroom = self.headroom(account)
        return Outcome.LIMIT_BELOW_USE if headroom is not None and headroom < lowered_by > 0 else None

    def headroom(self, account: Account) -> int | None:
        """Return what is available on the limited side; None if there is none."""
        if account.flags & AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS:
            return self.available_to_debit(account)
        if account.flags & AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS:
            return self.available_to_credit(account)
        return None

    def _is_empty(self, account: Account) -> bool:
        """Whether it may be closed."""
        pool = self._pool(account)
        balance = sum(one.debits.posted - one.credits.posted for one in pool)
        return not balance and not any(one.debits.reserved or one.credits.reserved for one in pool)

    def _update_account(self, event: Event) -> None:
        account = self.accounts[event.debit]
        account.overdraft = event.amount
        account.flags = account.flags & ~LIFE_FLAGS | event.flags & LIFE_FLAGS
        account.version += 1

    def refuse_bucket(self, event: Event) -> Outcome | None:
        """Judge a BUCKET, which routers send: at home the account must be there, elsewhere its head is made."""
        account = self.accounts.get(event.debit)
        if event.ledger not in self.ledgers:
            return Outcome.LEDGER_UNKNOWN
        if is_own_account(event.debit):
            return Outcome.ACCOUNT_IS_INTERNAL
        if account is None or (self.is_elsewhere(event.debit) and not account.is_head):
            return None if self.is_away(event.debit) else Outcome.ACCOUNT_UNKNOWN
        if account.ledger != event.ledger:
            return Outcome.DEBIT_ACCOUNT_OF_ANOTHER_LEDGER
        return Outcome.ACCOUNT_CLOSED if account.flags & AccountFlag.CLOSED and not account.is_head else None

    def _make_bucket(self, record: Stored) -> None:
        """Give the account its share account, and elsewhere than at home its head; or bring its flags up to date."""
        event = record.event
        account = self.accounts.get(event.debit)
        if account is not None and account.is_head:
            account.flags, account.version = event.flags | AccountFlag.BUCKET, event.timeout_or_version
            return
        if account is None:
            account = Account(event.ledger, event.code, event.flags, 0, record, event.timeout_or_version)
            self.accounts[event.debit] = account
        name = share_id(self.group, len(self.accounts))
        flags = account.flags & LIMIT_FLAGS | AccountFlag.SHARE
        self.accounts[name] = Account(account.ledger, account.code, flags, 0, record, partner=event.debit)
        account.flags, account.partner = account.flags | AccountFlag.BUCKET, name


def _balanced(amount: int, account: Account, available: int) -> int:
    """A transit account is balanced by nothing: that account's own group does it."""
    return amount if account.flags & AccountFlag.TRANSIT else min(amount, max(0, available))


def _short_if(account: Account, reason: Outcome) -> Outcome | Short:
    """Refuse, unless other groups may have what this account lacks here."""
    return Short(reason) if account.is_head else reason
