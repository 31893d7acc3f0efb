"""The state machine of one replica: `load → apply → save` over the log's committed records (DESIGN §6).

Every method belongs to one thread at a time, which has the machine; the state needs no locks. `apply` changes memory
only and `save` makes it durable: everything applied since the last `save`, its blocks, log index and running hash, in
one synced transaction. What fails in either ends the process: a committed record is never skipped, and a half-applied
one is not built upon.

Where somebody waits for one small record, `prepare` may load it before it is committed, and `apply` be called in its
two halves: `judge`, which has the answers, and `pack`, before anything else.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.core.book import Book
from engine.core.chains.outline import outline_of
from engine.core.chains.step_answers import StepAnswers
from engine.core.chains.step_record import StepRecord, StepsDamaged, decode_steps
from engine.core.events import apply_ready, apply_settings
from engine.core.known import RESULT, Applied, AppliedSteps
from engine.core.log_record import LogRecord, LogRecordDamaged, RecordKind, decode_log_record, kind_of
from engine.core.records import Words
from engine.core.settings import decode_settings
from engine.core.steps import apply_steps
from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.ahead import Ahead, Loaded, load_events
from engine.storage.answering import Answering
from engine.storage.block import Room, encode_block, room_for
from engine.storage.checkpoint import Checkpoints
from engine.storage.environment import forget_pages, writing
from engine.storage.head import Head, write_head
from engine.storage.ids.known_ids import KnownIds, Later, Named, is_whole, later_of
from engine.storage.loading import Loader
from engine.storage.open_chains import OpenChain, ages_of, open_chains, overdue_holds
from engine.storage.recent import PackedBlock
from engine.storage.step_rows import LATER_STEPS
from engine.storage.store import Space, Store

UNSAVED_BYTES_MAX: Final = 16 << 20
"""Blocks that wait for `save`; with more, `apply` saves by itself."""
Results: TypeAlias = npt.NDArray[np.void] | StepAnswers


class Parts(NamedTuple):
    """What a state machine is put together from (`engine.storage.recovery` does it)."""

    store: Store
    book: Book
    ids: KnownIds
    checkpoints: Checkpoints
    head: Head


class Unpacked(NamedTuple):
    """What a record did to the book, that the journal does not know yet."""

    log_index: int
    term: int
    record: LogRecord
    applied: Applied | AppliedSteps
    room: Room | None = None
    """Where it was applied, for its block."""
    later: Later | None = None
    met: Named | None = None
    was_ahead: bool = False
    """It was loaded ahead: its ids are not in the filter yet."""


class StateMachine:
    """One group's state on this replica. See the module's docstring."""

    def __init__(self, parts: Parts) -> None:
        """Go on from the state that was recovered."""
        self._store, self.book, self._ids, self._checkpoints, self._head = parts
        self._saved = self._head
        self._recent = self._store.journal.recent
        self._unsaved_bytes = 0
        self._failed = False
        """Or half done: nothing but what ends that may go on from here."""
        self._ahead: Ahead | None = None
        self._unpacked: Unpacked | None = None
        self.loader = Loader(self.book, self._ids, self._store.journal)
        self.watch: Callable[[Words], None] = _nobody
        """Told the journal rows of each record as it is applied; changes nothing, and never raises."""
        self.answering = Answering(self.loader.words, self._store.journal)

    @property
    def store(self) -> Store:
        """The store: other threads may read its journal, and copy it."""
        return self._store

    @property
    def head(self) -> Head:
        """Where memory stands: log index, next position, running hash."""
        return self._head

    @property
    def state_hash(self) -> bytes:
        """The running hash at `applied_index`: equal on all replicas at an equal index, or one of them is wrong."""
        return self._head.hash

    @property
    def applied_index(self) -> int:
        """The log index of the last record applied."""
        return self._head.log_index

    @property
    def synced_log_index(self) -> int:
        """All records up to here are durable in the store: the log may forget them."""
        return self._saved.log_index

    def apply(self, log_index: int, term: int, record: bytes | memoryview) -> Results:
        """Apply one committed record in memory; return one `RESULT` per row, in its order, or the answers to its steps.

        A record that was applied before, in this run or an earlier one, changes nothing and has no results. Raises
        `EngineStopped`, after which nothing works any more.
        """
        results = self.judge(log_index, term, record)
        self.pack()
        return results

    def prepare(self, record: bytes | memoryview) -> None:
        """Load a record that will be applied next, if it is committed. Nothing changes, but that `judge` has less to
        do if it gets this very object, and nothing was applied in between. Raises `EngineStopped`."""
        self._require_sound()
        if kind_of(record) == RecordKind.EVENTS:
            decoded = self._decode(self._head.log_index + 1, record)
            self._ahead = Ahead(record, self._head, load_events(self.loader, self._ids, decoded, ahead=True))

    def judge(self, log_index: int, term: int, record: bytes | memoryview) -> Results:
        """The first half of `apply`: everything that the answers need. `pack` must be called next, before anything is
        asked of this machine or of its book; what is done to it otherwise raises `EngineStopped`."""
        if log_index <= self._head.log_index:
            return np.empty(0, RESULT)
        self._require_sound()
        self._failed = True
        results = self._judge(log_index, term, record)
        self._failed = self._unpacked is not None
        return results

    def pack(self) -> None:
        """The second half of `apply`: the journal's next block. Nothing to do if that is done."""
        done, self._unpacked = self._unpacked, None
        if done is not None:
            self._append(done)
            self._failed = False
        if self._unsaved_bytes > UNSAVED_BYTES_MAX:
            self.save()

    def asked(self, steps: StepRecord) -> StepAnswers:
        """Answer steps, of whatever sort, with the words that are on record under their chains' ids; logs nothing."""
        return self.answering.asked(steps.steps)

    def open_ages(self) -> Words:
        """Return position and time of each open chain (`engine.storage.open_chains.ages_of`)."""
        return ages_of(self.book)

    def open_chains(self, after_position: int, count: int) -> list[OpenChain]:
        """Return the chains secured here that wait for their decider's word, in order of position, at most `count`
        behind `after_position` (-1: from the first)."""
        return open_chains(self.book, self.loader.words, after_position, count)

    def overdue_holds(self, now_ns: int, after_position: int, count: int) -> list[OpenChain]:
        """Return chains of which this group still reserves holds that another group decides and whose deadline is past,
        in order of position, at most `count` behind `after_position`."""
        return overdue_holds(self.book, self.loader.words, now_ns, after_position, count)

    def save(self) -> None:
        """Make everything applied so far durable, in one synced transaction; carry a bounded share of what the
        background has ready. Raises `EngineStopped`, after which nothing works any more."""
        self._require_sound()
        self._failed = True
        if self._checkpoints.due(self.book) and not self._store.is_map_short:
            self._checkpoints.begin(self.book, self._head)
        if self._is_unsaved or not self._at_rest:
            self._save()
        self._failed = False

    def rest(self) -> None:
        """While there is nothing else to do: bring merges and checkpoints on, a bounded step."""
        if self._is_unsaved or not self._at_rest:
            self.save()

    def checkpoint(self) -> None:
        """Save, and let a checkpoint of this very moment count, so that the next start has nothing to roll forward."""
        while self._checkpoints.in_progress or self._is_unsaved:
            self.save()
        if self._checkpoints.manifest.log_index != self._head.log_index and not self._store.is_map_short:
            self._checkpoints.begin(self.book, self._head)
            while self._checkpoints.in_progress:
                self.save()

    def close(self) -> None:
        """A clean stop: checkpoint, end the background, close the store. After a failure: only close."""
        if not self._failed:
            self.checkpoint()
        self.abandon()

    def abandon(self) -> None:
        """Close the store as it is, without a checkpoint: another one is about to take its place."""
        self._failed = True
        self._ids.close()
        self._store.close()

    def become(self, other: "StateMachine") -> None:
        """Go on as another, freshly opened state machine, which must not be used any more: whoever holds this one sees
        the new state from now on, and whoever watches goes on watching."""
        self.__dict__.update({**other.__dict__, "watch": self.watch})

    def space(self, disk_bytes_spare: int) -> Space:
        """Tell what room the store has (`Store.space`); any thread may ask."""
        return self._store.space(disk_bytes_spare)

    @property
    def _is_unsaved(self) -> bool:
        return self._saved.log_index < self._head.log_index

    @property
    def _at_rest(self) -> bool:
        return self._ids.stored.idle and not self._checkpoints.in_progress

    def _decode(self, log_index: int, record: bytes | memoryview) -> LogRecord:
        try:
            return decode_log_record(record)
        except LogRecordDamaged as error:
            raise EngineStopped(
                ExitCode.DATA_DAMAGED, f"log record {log_index}: {error}; restore or replace this replica"
            ) from error

    def _judge(self, log_index: int, term: int, data: bytes | memoryview) -> Results:
        ahead = self._ahead
        if ahead is not None and ahead.is_of(data, self._head):
            self._ahead = None
            return self._judge_events(log_index, term, ahead.loaded, was_ahead=True)
        record = self._decode(log_index, data)
        if record.kind == RecordKind.STEPS:
            return self._apply_steps(log_index, term, record)
        if record.kind == RecordKind.SETTINGS:
            applied = apply_settings(self.book, decode_settings(record.extra), record.timestamp_ns)
            self._append(Unpacked(log_index, term, record, applied))
            return applied.results
        return self._judge_events(log_index, term, load_events(self.loader, self._ids, record))

    def _judge_events(self, log_index: int, term: int, loaded: Loaded, *, was_ahead: bool = False) -> Results:
        record, room, met, ready = loaded
        applied = apply_ready(self.book, ready, record.timestamp_ns)
        self._unpacked = Unpacked(log_index, term, record, applied, room, None, met, was_ahead)
        return applied.results

    def _apply_steps(self, log_index: int, term: int, record: LogRecord) -> StepAnswers:
        room = room_for(len(record.preamble), len(record.rows), len(record.extra))
        room.rows[:] = record.rows
        steps = self._decode_steps(log_index, record, room.rows)
        outline = outline_of(steps, record.extra)
        known, met = self.loader.load_steps(steps, outline.kinds)
        applied = apply_steps(self.book, steps, known, record.timestamp_ns, outline)
        later = None
        if not outline.kinds.isdisjoint(LATER_STEPS) and (met is None or not is_whole(applied.rows, met)):
            later = later_of(steps.steps[applied.changed], self.book.next_position)
        self._append(Unpacked(log_index, term, record._replace(extra=applied.extra), applied, room, later, met))
        return self.answering.complete(steps.steps, applied.answers, applied.changed, outline.kinds)

    def _decode_steps(self, log_index: int, record: LogRecord, rows: Words) -> StepRecord:
        try:
            return decode_steps(rows, record.extra)
        except StepsDamaged as error:
            raise EngineStopped(
                ExitCode.DATA_DAMAGED, f"log record {log_index}: {error}; restore or replace this replica"
            ) from error

    def _append(self, done: Unpacked) -> None:
        """Make the journal's next block of what was applied, in the room where it was, and know its ids."""
        log_index, term, record, applied, room, later, met, was_ahead = done
        rows, end = len(applied.rows), self.book.next_position
        position = end - rows
        data, digest = encode_block(
            applied,
            preamble=record.preamble,
            extra=record.extra,
            log_index=log_index,
            term=term,
            first_position=position,
            previous=self._head.hash,
            room=room,
        )
        if was_ahead and met is not None:
            self._ids.met(met)
        self._ids.add(applied.rows, position, later, met)
        self.watch(applied.rows)
        self._recent.append(PackedBlock(position, log_index, data), rows)
        self._unsaved_bytes += len(data)
        self._head = Head(log_index, term, end, digest)

    def _save(self) -> None:
        short = self._store.is_map_short  # what must be saved goes first
        checkpoint = self._checkpoints.manifest
        with writing(self._store.environment, self._store.folder) as transaction:
            self._store.journal.append(transaction, self._recent.unsaved())
            write_head(transaction, self._store.state, self._head)
            runs_changed = self._ids.stored.write(transaction, merge=not short)
            self._checkpoints.write(transaction)
        if runs_changed:
            self._ids.stored.written()
        self._checkpoints.note(self._unsaved_bytes)
        self._saved, self._unsaved_bytes = self._head, 0
        self._recent.saved(self._head.log_index)
        if self._checkpoints.manifest is not checkpoint:
            forget_pages(self._store.folder)  # now and then: merges read all that they merge through the map

    def _require_sound(self) -> None:
        if self._failed:
            raise EngineStopped(ExitCode.APPLY_FAILED, "an earlier record could not be applied: restart this replica")


def _nobody(_: Words) -> None:
    """Nobody watches."""
