"""The durable journal of a replicated log: append-only segments, group fdatasync, bounded memory (DESIGN §6, §14).

Everything here is called on the event loop's thread and returns at once, but for the calls that say that they block.
Writing goes group by group: `start_sync` hands everything appended so far to the worker, unless a group is under way;
then it goes with the next, by itself. A record may be acknowledged once `durable_index` has reached it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from crc32c import crc32c

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.journal.disk import Bytes, Disk
from engine.replication.journal.entry_index import EntryIndex
from engine.replication.journal.record_cache import RecordCache
from engine.replication.journal.recovery import RecoveredLog, recover
from engine.replication.journal.segment_format import (
    RECORD_HEADER_BYTES,
    Identity,
    RecordKind,
    decode_record,
    encode_vote,
    place_of,
)
from engine.replication.journal.segments import SEGMENT_BYTES_DEFAULT, SegmentFiles
from engine.replication.journal.tail import Group, Opening, Tail
from engine.replication.worker import ImmediateWorker, Worker

CACHE_BYTES_DEFAULT: Final = 16 << 20
"""Durable records kept in memory; older ones are read back from the disk on demand."""
_LOCK: Final = "lock"


class Entry(NamedTuple):
    """One record of the log."""

    log_index: int
    term: int
    record: Bytes
    crc: int
    """CRC-32C of the record."""


class SegmentedLog:
    """One replica's journal of one group. Make it with `SegmentedLog.open`.

    Raises `EngineStopped` (DISK_FULL, SYNC_FAILED, DATA_DAMAGED) from any method that touches the disk or comes after a
    failure; a failure in the worker also goes to `on_failure`, once. The process must end then.
    """

    def __init__(
        self, files: SegmentFiles, recovered: RecoveredLog, worker: Worker, lock: int, cache_bytes: int
    ) -> None:
        """Use `open`."""
        self._files, self._worker, self._lock = files, worker, lock
        self.recovered = recovered
        self.index: EntryIndex = recovered.index
        """What the log holds: places, lengths and terms."""
        self._cache = RecordCache(cache_bytes)
        self.term, self.voted_for = recovered.term, recovered.voted_for
        self._tail = Tail(files, recovered.end, self._opening)
        self._oldest_number = min(recovered.numbers, default=self._tail.number)
        self._in_flight: Group | None = None
        self.durable_index = self.index.last_index
        """Entries up to here are on the disk for certain; falls when the log is truncated below it."""
        self._marked = 0
        self._spare_wanted, self._spare_failed = False, False
        self._blocking, self._closed = False, False
        self.failure: EngineStopped | None = None
        self.on_durable: Callable[[], None] = lambda: None
        """Called on the loop after each group; `durable_index` and `durable_serial` have moved."""
        self.on_failure: Callable[[EngineStopped], None] = lambda _: None
        self.durable_serial = 0

    @classmethod
    def open(
        cls,
        folder: Path,
        identity: Identity,
        *,
        worker: Worker | None = None,
        disk: Disk | None = None,
        segment_bytes: int = SEGMENT_BYTES_DEFAULT,
        cache_bytes: int = CACHE_BYTES_DEFAULT,
    ) -> "SegmentedLog":
        """Lock the folder and recover what it holds, or begin a log in it. Blocks; may run in any thread.

        Raises FOLDER_IN_USE, CLUSTER_MISMATCH, DATA_DAMAGED, DATA_MISSING, DISK_FULL or SYNC_FAILED.
        """
        disk = disk or Disk()
        disk.make_folder(folder)
        lock = disk.lock(folder / _LOCK)
        files = SegmentFiles(disk, folder, identity, segment_bytes)
        try:
            recovered = recover(files)
            log = cls(files, recovered, worker or ImmediateWorker(), lock, cache_bytes)
            log._begin()
        except EngineStopped:
            files.close()
            disk.close(lock)
            raise
        return log

    # -- what the log holds

    @property
    def base_index(self) -> int:
        """The index just before the first entry; its term is `term_at(base_index)`."""
        return self.index.base_index

    @property
    def first_index(self) -> int:
        """The lowest index held; `last_index + 1` if none is."""
        return self.index.first_index

    @property
    def last_index(self) -> int:
        """The highest index, durable or not; `base_index` if none is held."""
        return self.index.last_index

    @property
    def last_term(self) -> int:
        """Term at `last_index`."""
        return self.index.last_term

    @property
    def appended_serial(self) -> int:
        """Number of the group that the last append went to: durable once `durable_serial` reaches it."""
        return self._tail.group.serial if self._tail.group.writes else self._tail.group.serial - 1

    @property
    def payload_bytes(self) -> int:
        """Bytes of all entries held: what compaction by bytes looks at."""
        return self.index.payload_bytes

    @property
    def cached_bytes(self) -> int:
        """Bytes of the entries in memory."""
        return self._cache.bytes

    @property
    def disk_full(self) -> bool:
        """True while no segment could be made ahead: refuse new work; about one segment is left for what must be."""
        return self._spare_failed

    def term_at(self, index: int) -> int:
        """Term of an entry or of the base; raises IndexError elsewhere."""
        return self.index.term_at(index)

    def length_at(self, index: int) -> int:
        """Bytes of an entry's record; raises IndexError if it is not held."""
        return self.index.place(index)[1]

    def entry_at(self, index: int) -> Entry:
        """Return one entry, from memory or from the disk (then it blocks, and its checksums are verified)."""
        cached = self._cache.get(index)
        record, crc = cached if cached is not None else self._read(index)
        return Entry(index, self.index.term_at(index), record, crc)

    # -- changing it

    def append(self, term: int, record: Bytes, crc: int | None = None) -> int:
        """Append one entry, not yet durable; return its index. `crc`, if known, is the CRC-32C of `record`.

        The buffer must not change afterwards. Raises ValueError if it does not fit into a segment.
        """
        if crc is None:
            crc = crc32c(record)
        index = self.index.last_index + 1
        position = self._write(RecordKind.ENTRY, index, term, record, crc)
        self.index.append(term, position, len(record))
        self._cache.put(index, record, crc)
        return index

    def truncate_from(self, index: int) -> None:
        """Drop the entries from `index` on (another leader overwrites them); raises ValueError at or below the base."""
        if index <= self.base_index:
            raise ValueError(f"cannot truncate from {index}: records up to {self.base_index} are forgotten")
        if index > self.last_index:
            return
        self._write(RecordKind.TRUNCATE, index, 0)
        self.index.truncate_from(index)
        self._cache.truncate_from(index)
        self.durable_index = min(self.durable_index, index - 1)
        if self._in_flight is not None:  # what it writes of the dropped entries must not count as durable
            self._in_flight.last_index = min(self._in_flight.last_index, index - 1)

    def forget_to(self, index: int) -> None:
        """Drop the entries up to `index`, which becomes the base. Segments that hold nothing else go once that is
        durable.

        No effect at or below the base; raises ValueError above the last index.
        """
        if index <= self.base_index:
            return
        if index > self.last_index:
            raise ValueError(f"cannot forget up to {index}: the log ends at {self.last_index}")
        self._write(RecordKind.BASE, index, self.term_at(index))
        self.index.forget_to(index)
        self._cache.forget_to(index)
        self._tail.group.drop_below = self._needed_above(index)
        self.start_sync()

    def frees_segments(self, index: int) -> bool:
        """True if `forget_to(index)` would let at least one segment go; below that it only costs a record."""
        return self.base_index < index <= self.last_index and self._needed_above(index) > self._oldest_number

    def reset(self, index: int, term: int) -> None:
        """Drop everything and go on after `index`: a snapshot, or a restored store, took the log's place. Blocks."""
        self._write(RecordKind.RESET, index, term)
        self.index.reset(index, term)
        self._cache.clear()
        self._tail.group.drop_below = self._tail.number
        if self._in_flight is not None:
            self._in_flight.last_index = 0
        self.durable_index = 0
        self.sync_now()

    def save_vote(self, term: int, voted_for: str | None) -> None:
        """Make term and vote durable, before any message that depends on them leaves. Blocks."""
        payload = encode_vote(voted_for)
        self.term, self.voted_for = term, voted_for
        self._write(RecordKind.META, 0, term, payload, crc32c(payload))
        self.sync_now()

    # -- durability

    def start_sync(self) -> None:
        """Hand everything appended so far to the worker; if a group is under way, it goes with the next by itself.

        The worker may write a small group at once: `on_durable` is then called from inside."""
        if self._in_flight is not None or not self._tail.group.writes:
            return
        group = self._in_flight = self._tail.hand_over(self.index.last_index)
        self._worker.submit(
            lambda: self._files.write(group.writes), self._group_over, brief=self._files.writes_briefly(group.writes)
        )

    def sync_now(self) -> None:
        """Return once everything appended is durable. Blocks; `on_durable` is called later, not from inside."""
        self._blocking = True
        try:
            while self._in_flight is not None or self._tail.group.writes:
                self.start_sync()
                self._worker.wait()
                self._check_failure()
        finally:
            self._blocking = False

    def rest(self) -> None:
        """Call about once a second: marks the end of a log that rests, and tries again for a spare segment."""
        if self._in_flight is None and not self._tail.group.writes and self._marked != self._tail.position:
            self._write(RecordKind.MARK, 0, 0)
            self._marked = self._tail.position
            self.start_sync()
        if self._spare_failed:
            self._want_spare()

    def close(self) -> None:
        """Sync, mark the end, release the folder. Blocks; idempotent; after a failure it only releases."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.failure is None:
                self.sync_now()
                self.rest()
                self.sync_now()
            self._worker.stop()
        finally:
            self._files.close()
            self._files.disk.close(self._lock)

    # -- inside

    def _begin(self) -> None:
        """Get ready to append: in place, or in a new segment if what stands behind the end could pass for records."""
        recovered, files = self.recovered, self._files
        numbers = list(files.descriptors)
        if not numbers:
            files.salt = files.disk.random_u32()
        if recovered.torn:
            self._tail.begin_segment(max(numbers) + 1, recovered.end)
        elif not recovered.began:
            self._tail.begin_segment(self._tail.number, 0)
        begun = self._tail.hand_over(self.last_index)
        files.write(begun.writes)
        self.durable_serial = begun.serial
        files.recycle([n for n in numbers if n not in recovered.numbers and n != self._tail.number])

    def _opening(self) -> Opening:
        base, base_term = self.index.base_index, self.index.base_term
        return Opening(base, base_term, self.index.last_index, self.term, self.voted_for)

    def _write(self, kind: RecordKind, index: int, term: int, payload: Bytes = b"", payload_crc: int = 0) -> int:
        self._check_failure()
        return self._tail.put(kind, index, term, payload, payload_crc)

    def _read(self, index: int) -> tuple[bytes, int]:
        position, length = self.index.place(index)
        number, offset = place_of(position)
        data = self._files.read(number, offset, RECORD_HEADER_BYTES + length)
        header = decode_record(data, 0, self._files.seed_of(number))
        if header is None or header.log_index != index or header.length != length:
            raise EngineStopped(
                ExitCode.DATA_DAMAGED,
                f"{self._files.path_of(number)} is damaged at byte {offset}; replace this replica, or, if its group"
                " has no other, restore it from a backup",
            )
        return data[RECORD_HEADER_BYTES:], header.payload_crc

    def _needed_above(self, index: int) -> int:
        """The lowest segment that holds an entry above `index`."""
        if index == self.last_index:
            return self._tail.number
        return place_of(self.index.place(index + 1)[0])[0]

    def _group_over(self, failure: EngineStopped | None) -> None:
        group = self._in_flight
        if failure is not None or group is None:
            self._fail(failure)
            return
        self._in_flight = None
        self.durable_index, self.durable_serial = group.last_index, group.serial
        self._cache.evict(self.durable_index)
        self._drop(group.drop_below)
        self.start_sync()
        if not self._spare_failed:
            self._want_spare()
        if self._blocking:
            self._worker.call_soon(self.on_durable)
        else:
            self.on_durable()

    def _drop(self, below: int) -> None:
        if below > self._oldest_number:
            numbers = range(self._oldest_number, below)
            self._oldest_number = below
            self._worker.submit(lambda: self._files.recycle(numbers), self._recycled)

    def _recycled(self, failure: EngineStopped | None) -> None:
        if failure is not None:
            self._fail(failure)
        else:
            self._want_spare()

    def _want_spare(self) -> None:
        """Have the next segment made ahead of need, so that no group waits for it."""
        number = self._tail.number + 1
        if not self._spare_wanted and number not in self._files.descriptors:
            self._spare_wanted = True
            self._worker.submit(lambda: self._files.ensure(number), self._spare_over)

    def _spare_over(self, failure: EngineStopped | None) -> None:
        self._spare_wanted = False
        self._spare_failed = failure is not None
        if failure is not None and failure.code is not ExitCode.DISK_FULL:
            self._fail(failure)

    def _fail(self, failure: EngineStopped | None) -> None:
        """Nothing is retried: what the disk holds is no longer known."""
        if self.failure is None and failure is not None:
            self.failure = failure
            self._worker.call_soon(lambda: self.on_failure(failure))

    def _check_failure(self) -> None:
        if self.failure is not None:
            raise self.failure
