"""The rules of the ledger in plain Python: the specification that the compiled kernel is held equal to (DESIGN §4, §6).

`Model` keeps everything in dicts of Python values, and its whole history inside. It shares no code with the kernel:
only the record format and the names. It answers as `kernel.apply_events` does: results, and packed journal rows.
"""

import heapq
from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

from engine.core.known import NO_POSITION
from engine.core.limits import EXPIRIES_PER_RECORD_MAX
from engine.core.model.rules import Rules, Short, is_own_account
from engine.core.model.state import Account, Chain, Event, Stored, pack, unpack
from engine.core.outcomes import Outcome, ResultFlag
from engine.core.records import Kind
from engine.core.settings import Settings, check_change, group_of_slots

CONFLICTS: Final = (
    ("kind", Outcome.ID_REUSED_WITH_DIFFERENT_KIND),
    ("ledger", Outcome.ID_REUSED_WITH_DIFFERENT_LEDGER),
    ("debit", Outcome.ID_REUSED_WITH_DIFFERENT_DEBIT_ACCOUNT),
    ("credit", Outcome.ID_REUSED_WITH_DIFFERENT_CREDIT_ACCOUNT),
    ("amount", Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT),
    ("followed", Outcome.ID_REUSED_WITH_DIFFERENT_FOLLOWED_ID),
    ("own_flags", Outcome.ID_REUSED_WITH_DIFFERENT_FLAGS),
    ("timeout_s", Outcome.ID_REUSED_WITH_DIFFERENT_TIMEOUT),
    ("expected_version", Outcome.ID_REUSED_WITH_DIFFERENT_EXPECTED_VERSION),
    ("code", Outcome.ID_REUSED_WITH_DIFFERENT_CODE),
    ("reference", Outcome.ID_REUSED_WITH_DIFFERENT_REFERENCE),
    ("effective_at", Outcome.ID_REUSED_WITH_DIFFERENT_EFFECTIVE_AT),
    ("is_linked", Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN),
)
"""The fields of a body, in the order in which a difference is told."""


class Result(NamedTuple):
    """One answer, as `known.RESULT`."""

    position: int
    timestamp: int
    outcome: int
    flags: int
    group: int


class Answer(NamedTuple):
    """What a log record did, as `known.Applied`; `asked` maps rows to the amount asked for, where another one moved."""

    rows: list[bytes]
    asked: dict[int, int]
    results: list[Result]
    timestamp_ns: int


class Model(Rules):
    """One group's state by the rules, log record by log record."""

    def __init__(self, group: int, *, expiries_per_record_max: int = EXPIRIES_PER_RECORD_MAX) -> None:
        """Start an empty group without settings."""
        super().__init__(group)
        self.expiries_per_record_max = expiries_per_record_max
        self.last_timestamp = 0
        self.next_position = 0
        self._rows: list[bytes] = []
        self._asked: dict[int, int] = {}

    # One log record ---------------------------------------------------------------------------------------------------

    def apply(self, packed: bytes, timestamp_ns: int) -> Answer:
        """Apply the packed records of one log record whose header bears `timestamp_ns`."""
        return self.apply_units(units(unpack(packed)), timestamp_ns)

    def apply_units(
        self, parts: Iterable[list[Event]], timestamp_ns: int, burned: Collection[int] = frozenset()
    ) -> Answer:
        """As `apply`, already cut into units; those whose number is in `burned` met a known id that is not at hand."""
        self._begin(timestamp_ns)
        self._expire_due()
        results: list[Result] = []
        for number, unit in enumerate(parts):
            results += self._burn(unit) if number in burned else self._apply_unit(unit)
        return self._finish(results)

    def apply_settings(self, settings: Settings, timestamp_ns: int) -> Answer:
        """Replace the replicated settings; a journal row marks where."""
        if check_change(self.settings, settings) is not None:
            raise ValueError("such settings are never proposed")
        self._begin(timestamp_ns)
        self.settings = settings
        self.owners = group_of_slots(settings)
        self.ledgers = {ledger.ledger for ledger in settings.ledgers}
        self._rows.append(pack(Event(kind=Kind.SETTINGS, timestamp=self.time, outcome=Outcome.POSTED)))
        return self._finish([])

    def _begin(self, timestamp_ns: int) -> None:
        """Time is the leader's, but always after every row before."""
        self.time = max(timestamp_ns, self.last_timestamp + 1)
        self._rows, self._asked = [], {}

    def _finish(self, results: list[Result]) -> Answer:
        """A record that stored nothing changes nothing."""
        if self._rows:
            self.last_timestamp = self.time + len(self._rows) - 1
            self.next_position += len(self._rows)
        return Answer(self._rows, self._asked, results, self.time)

    def _expire_due(self) -> None:
        """Expire what is due at the record's time, before its own records: by deadline, then by age."""
        while self.deadlines and len(self._rows) < self.expiries_per_record_max:
            deadline, _, record = self.deadlines[0]
            if record.is_open and deadline > self.time:
                return
            heapq.heappop(self.deadlines)
            if record.is_open:
                self._expire(record)

    def _expire(self, record: Stored) -> None:
        event = record.event
        row = Event(
            id=event.id,
            kind=Kind.EXPIRE,
            debit=event.debit,
            credit=event.credit,
            amount=record.remaining,
            followed=event.id,
            timestamp=self.time + len(self._rows),
            ledger=event.ledger,
            outcome=Outcome.POSTED,
        )
        self._rows.append(pack(row))
        self.end(record, Outcome.RESERVATION_EXPIRED)

    # One unit: a chain, or a record that stands alone -----------------------------------------------------------------

    def _apply_unit(self, unit: list[Event]) -> list[Result]:
        if unit[0].kind == Kind.CREATE_ACCOUNT:
            return [self._create_account(unit[0])]
        if unit[0].kind == Kind.BUCKET:
            return [self._give_bucket(unit[0])]
        known = [self.history.get(event.id) for event in unit]
        return self._answer_known(unit, known) if any(known) else self._judge_unit(unit)

    def _judge_unit(self, unit: list[Event]) -> list[Result]:
        """All legs take effect, or none: then the failing leg tells why, and every id is burned; but not if a bucket is
        short, since those of other groups may suffice."""
        accounts, followed = self._before(unit)
        chain, failed = Chain(), False
        for event in unit:
            refusal = Outcome.CHAIN_FAILED if failed else self.refusal(event)
            if isinstance(refusal, Short):
                self._restore(accounts, followed)
                self._forget(chain)
                return [Result(len(chain.legs), refusal.reason, 0, ResultFlag.SHORT, self.group)] * len(unit)
            record = self._store(event, chain, refusal)
            if refusal is None:
                self.execute(record)
            elif not failed:
                failed = True
                self._restore(accounts, followed)
                for leg in chain.legs[:-1]:
                    leg.undo(Outcome.CHAIN_FAILED)
        return self._write(chain)

    def _before(self, unit: list[Event]) -> tuple[dict[bytes, Account], list[tuple[Stored, Stored]]]:
        """Copy what the unit may change."""
        names = {name for event in unit for name in (event.debit, event.credit) if name in self.accounts}
        followed = {event.followed for event in unit if event.followed in self.history}
        originals = [self.history[name] for name in sorted(followed)]
        return self.copies(names), [(old, old.copy()) for old in originals]

    def _restore(self, accounts: dict[bytes, Account], followed: list[tuple[Stored, Stored]]) -> None:
        self.accounts.update(accounts)
        for original, copy in followed:
            vars(original).update(vars(copy))

    def _forget(self, chain: Chain) -> None:
        """Let a unit that is short leave no trace: its ids are free."""
        for leg in chain.legs:
            leg.undo(Outcome.CHAIN_FAILED)
            del self.history[leg.event.id]
        self.deadlines = [one for one in self.deadlines if one[2].chain is not chain]
        heapq.heapify(self.deadlines)

    def _store(self, event: Event, chain: Chain, refusal: Outcome | None) -> Stored:
        """Take the next row for an outcome that is final for this id."""
        outcome = Outcome.ACCOUNT_UPDATED if event.kind == Kind.UPDATE_ACCOUNT else Outcome.POSTED
        row = len(self._rows) + len(chain.legs)
        moved = self.amount_to_move(event) if refusal is None else event.amount
        record = Stored(event, refusal or outcome, self.next_position + row, self.time + row, chain, moved)
        chain.legs.append(record)
        self.history[event.id] = record
        return record

    def _write(self, chain: Chain) -> list[Result]:
        """Append the rows of what was stored together."""
        for leg, record in enumerate(chain.legs):
            if record.moved != record.event.amount:
                self._asked[len(self._rows)] = record.event.amount
            self._rows.append(pack(record.row(leg)))
        return [self._result(record) for record in chain.legs]

    def _result(self, record: Stored, flags: ResultFlag = ResultFlag.NONE) -> Result:
        return Result(record.position, record.timestamp, record.outcome, flags, self.group)

    def _not_stored(self, outcome: Outcome) -> Result:
        return Result(NO_POSITION, 0, outcome, ResultFlag.NONE, self.group)

    # Known ids --------------------------------------------------------------------------------------------------------

    def _answer_known(self, unit: list[Event], known: list[Stored | None]) -> list[Result]:
        """A unit that is on record is answered as it was; else its known ids are conflicts, and its new ids burned."""
        recorded = self._recorded(unit, known)
        burned = iter(self._burn([event for event, old in zip(unit, known, strict=True) if old is None]))
        results = []
        for event, old in zip(unit, known, strict=True):
            if old is None:
                results.append(next(burned))
            elif recorded is not None and old.chain is recorded:
                results.append(self._result(old, ResultFlag.REPLAYED))
            else:
                results.append(self._not_stored(conflict(event, old) or Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN))
        return results

    def _recorded(self, unit: list[Event], known: list[Stored | None]) -> Chain | None:
        """Return the chain on record that is this very unit, if there is one.

        What a unit stored is younger than what it met, so that only the youngest chain can be its own. It is, if its
        legs are in the unit, in order, body by body: all of them, or, if it met a known id then, all that were new.
        """
        found = [old for old in known if old is not None]
        if len(found) < len(unit):
            return None
        chain = max(found, key=lambda old: old.position).chain
        own = [(event, old) for event, old in zip(unit, found, strict=True) if old.chain is chain]
        same = [old for _, old in own] == chain.legs and not any(conflict(event, old) for event, old in own)
        return chain if same and chain.burned == (len(own) < len(unit)) else None

    def _burn(self, unit: list[Event]) -> list[Result]:
        """Store new ids of a chain that met a known id."""
        chain = Chain(burned=True)
        for event in unit:
            self._store(event, chain, Outcome.CHAIN_FAILED)
        return self._write(chain)

    # Accounts ---------------------------------------------------------------------------------------------------------

    def _give_bucket(self, event: Event) -> Result:
        """The bucket is its own idempotency key: a refusal stores nothing, nor does what changes nothing."""
        refusal = self.refuse_bucket(event)
        if refusal is not None:
            return self._not_stored(refusal)
        account = self.accounts.get(event.debit)
        newer = account is None or (self.is_away(event.debit) and account.version < event.timeout_or_version)
        if account is not None and account.is_head and not newer:
            made = self.accounts[account.partner].created
            return self._result(made, ResultFlag.REPLAYED)
        row, chain = len(self._rows), Chain()
        made = Stored(event, Outcome.BUCKET_MADE, self.next_position + row, self.time + row, chain, event.amount)
        chain.legs.append(made)
        self.execute(made)
        return self._write(chain)[0]

    def _create_account(self, event: Event) -> Result:
        """The account's id is its own idempotency key; a refusal stores nothing."""
        if event.id in self.accounts and not self.is_away(event.id) and not is_own_account(event.id):
            created = self.accounts[event.id].created
            different = conflict(event, created)
            return self._not_stored(different) if different else self._result(created, ResultFlag.REPLAYED)
        if event.ledger not in self.ledgers:
            return self._not_stored(Outcome.LEDGER_UNKNOWN)
        if self.is_away(event.id):
            return self._not_stored(Outcome.ACCOUNT_IN_ANOTHER_GROUP)
        if is_own_account(event.id):
            return self._not_stored(Outcome.ACCOUNT_ID_RESERVED)
        row = len(self._rows)
        chain = Chain()
        created = Stored(event, Outcome.ACCOUNT_CREATED, self.next_position + row, self.time + row, chain, event.amount)
        chain.legs.append(created)
        self.accounts[event.id] = Account(event.ledger, event.code, event.flags, event.amount, created)
        return self._write(chain)[0]


def conflict(event: Event, old: Stored) -> Outcome | None:
    """Return the first field in which a body differs from the one on record, as an outcome."""
    for name, outcome in CONFLICTS:
        if getattr(event, name) != getattr(old.event, name):
            return outcome
    return None


def units(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Cut a batch into chains and records that stand alone."""
    unit: list[Event] = []
    for event in events:
        if unit and event.is_account_command:
            yield unit
            unit = []
        unit.append(event)
        if not event.is_linked:
            yield unit
            unit = []
    if unit:
        yield unit
