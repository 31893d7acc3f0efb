"""Known ids: where in the journal each id is, and what became of the transfers that others follow.

Three tiers answer: a filter in memory says "surely new" for almost every new id; the newest entries are in hash tables
in memory; older ones in sorted runs in LMDB, merged in the background. Everything derives from the journal: the runs
say how far they reach (`covered_position`), and a start adds the rows behind it again. Used on the apply thread only.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.step_record import step_words
from engine.core.chains.word import Step
from engine.core.events import plain
from engine.core.known import Ended
from engine.core.records import Kind, Words
from engine.storage.block import Block
from engine.storage.compiled import entry
from engine.storage.ids.entries import (
    ENDED_MASK,
    WIDTH,
    Family,
    fingerprints,
    fingerprints_of,
    followed_entries,
    id_entries,
)
from engine.storage.ids.filter import FIRST_SEGMENT_KEYS, IdFilter
from engine.storage.ids.newest import NEWEST_ENTRIES, NewestEntries, combine
from engine.storage.ids.run_store import RunStore
from engine.storage.ids.runs import PART_BYTES, find_entries, keys_of
from engine.storage.ids.stored_runs import UNMERGED_RUNS_MAX, StoredRuns
from engine.storage.step_rows import steps_of_block

_ROOM: Final = 64
_NO_KEY: Final = np.uint64(0)
_SIXTEEN_BITS: Final = np.uint64(0xFFFF)
_BYTE: Final = np.uint64(0xFF)
_SHIFT_32: Final = np.uint64(32)
_SHIFT_48: Final = np.uint64(48)
_COMMIT: Final = np.uint64(Step.COMMIT)
_RELEASE: Final = np.uint64(Step.RELEASE)
_HOLD: Final = np.uint64(Step.HOLD)


class IdLimits(NamedTuple):
    """Sizes; tests make them tiny to force runs and merges."""

    newest_entries: int = NEWEST_ENTRIES
    part_bytes: int = PART_BYTES
    filter_keys: int = FIRST_SEGMENT_KEYS
    unmerged_runs_max: int = UNMERGED_RUNS_MAX


class Found(NamedTuple):
    """Entries found for some keys, r of them."""

    numbers: npt.NDArray[np.int64]
    """Shape (r,): which key."""
    entries: Words
    """Shape (r, width)."""


class Named(NamedTuple):
    """What a batch's records name; `numbers` are rows of the batch, the entries are of `IDS`."""

    own: Found
    """By their own ids."""
    followed: Found
    """By the ids that they follow."""
    creates: int
    """CREATE_ACCOUNTs in the batch: their ids are not transfers'."""
    keys: npt.NDArray[np.uint64]
    """Shape (n,): fingerprints of the records' own ids; 0 for kinds that have none."""
    followers: int
    """Records that follow another."""


class Later(NamedTuple):
    """Steps of chains that are on record already, s of them: COMMIT, HOLD and RELEASE."""

    chain_ids: Words
    """Shape (s, 2)."""
    positions: npt.NDArray[np.uint64]
    """Shape (s,): of the first row of each."""


class Followed(NamedTuple):
    """What became of some transfers, n of them."""

    reversed: Words
    """Shape (n, 2): the sum of what was reversed; zero for reservations."""
    expired: Words
    """Shape (n, 2): what a reservation's expiry gave back; zero for all else."""
    ended: npt.NDArray[np.uint8]
    """Shape (n,): `Ended` as its COMMITs, RELEASE or EXPIRE leave it, 0 without one."""


_NOTHING: Final = Found(np.empty(0, np.int64), np.empty((0, WIDTH[Family.IDS]), np.uint64))


class KnownIds:
    """All ids of one journal. See the module's docstring."""

    def __init__(self, store: RunStore, limits: IdLimits | None = None) -> None:
        """Open the runs as last saved; `add_blocks` must bring the rows from `covered_position` on."""
        limits = limits or IdLimits()
        self.stored = StoredRuns(store, limits.part_bytes, limits.unmerged_runs_max)
        self._seed = np.uint64(self.stored.seed)
        self._newest = {family: NewestEntries(family, limits.newest_entries) for family in Family}
        self._entries_max = limits.newest_entries
        self._end_position = self.stored.covered_position
        runs = self.stored.runs[Family.IDS]
        self._filter = IdFilter(sum(run.entries for run in runs), limits.filter_keys)
        for keys in keys_of(runs):
            self._filter.insert(keys)
        self._scratch = {family: np.empty((0, width), np.uint64) for family, width in WIDTH.items()}

    @property
    def covered_position(self) -> int:
        """All rows below are in saved runs."""
        return self.stored.covered_position

    def close(self) -> None:
        """End the background thread."""
        self.stored.close()

    def add(self, rows: Words, first_position: int, later: Later | None = None, met: Named | None = None) -> None:
        """Add the rows of one block, shape (k, 16), and its later steps; blocks come in order.

        met: what `meet` said of the batch that became the rows, behind any that expired. later: not needed where the
        rows are all of that batch.
        """
        most = max(newest.count for newest in self._newest.values())
        if most and most + len(rows) > self._entries_max:
            self.stored.queue({family: newest.take() for family, newest in self._newest.items()}, first_position)
        self._end_position = first_position + len(rows)
        if met is not None and is_whole(rows, met):
            self._newest[Family.IDS].insert_ids(met.keys, first_position)
            if not met.followers:
                return
        else:
            self._add_ids(rows, first_position, met)
            self._add_later(later)
        followed = self._room(Family.FOLLOWED, len(rows))
        count = followed_entries(rows, np.uint64(first_position), self._seed, followed)
        if count:
            self._newest[Family.FOLLOWED].insert(followed, count)

    def add_blocks(self, blocks: Iterable[Block]) -> None:
        """Add the rows from `covered_position` on, at a start."""
        for block in blocks:
            if block.header.end_position > self._end_position:
                self.add(np.array(block.rows), block.header.first_position, later_of_block(block))

    def find(self, batch: Words, spared: npt.NDArray[np.bool_] | None = None) -> Named:
        """Find what a batch, shape (n, 16), names. Ids may share a fingerprint: compare those of the rows found.

        spared: rows, shape (n,), whose own ids are of no interest, unless some row follows another.
        """
        own, followed = np.empty(len(batch), np.uint64), np.empty(len(batch), np.uint64)
        followers, creates = fingerprints(batch, self._seed, own, followed)
        if spared is not None and not followers:
            own[spared] = 0  # as of a kind that has no id
        return self._named(own, followed if followers else None, self._filter.maybe(own), creates, followers)

    def meet(self, batch: Words, spared: npt.NDArray[np.bool_] | None = None) -> Named:
        """As `find`, for a batch that is applied next: its ids are in the filter from now on. Those that are spared
        have to be there; `Named.keys` has them too.

        Of steps, all must have one row each, with the id of its chain, and be RESERVEs, DECIDEs, ABORTs, or later ones.
        """
        own, followed = np.empty(len(batch), np.uint64), np.empty(len(batch), np.uint64)
        followers, creates = fingerprints(batch, self._seed, own, followed)
        asked = own if spared is None or followers else np.where(spared, _NO_KEY, own)
        return self._named(own, followed if followers else None, self._filter.meet(asked), creates, followers)

    def met(self, found: Named) -> None:
        """Make what `find` said of a batch, without sparing any, what `meet` would have: put its ids into the filter,
        before they are added."""
        self._filter.meet(found.keys)

    def find_ids(self, ids: Words) -> Found:
        """Find transfers by ids of shape (n, 2), as `find` does."""
        keys = self._keys_of(ids)
        return self._find_known(keys, self._filter.maybe(keys))

    def followed(self, ids: Words) -> Followed:
        """Tell what became of the transfers with `ids`, shape (n, 2)."""
        found = self._find_in(Family.FOLLOWED, self._keys_of(ids))
        totals = np.zeros((len(ids), WIDTH[Family.FOLLOWED]), np.uint64)
        _add_up(ids, found.numbers, found.entries, totals)
        ended = (totals[:, 5] & ENDED_MASK).astype(np.uint8)
        held, amounts = (ended != Ended.OPEN)[:, None], totals[:, 3:5]
        none = np.uint64(0)
        return Followed(np.where(held, none, amounts), np.where(held, amounts, none), ended)

    def _keys_of(self, ids: Words) -> npt.NDArray[np.uint64]:
        keys = np.empty(len(ids), np.uint64)
        fingerprints_of(ids, self._seed, keys)
        return keys

    def _named(
        self,
        own: npt.NDArray[np.uint64],
        followed: npt.NDArray[np.uint64] | None,
        maybe: npt.NDArray[np.int64],
        creates: int,
        followers: int,
    ) -> Named:
        found = _NOTHING if followed is None else self._find_known(followed, self._filter.maybe(followed))
        return Named(self._find_known(own, maybe), found, creates, own, followers)

    def _add_ids(self, rows: Words, first_position: int, met: Named | None) -> None:
        ids = self._room(Family.IDS, len(rows))
        count = id_entries(rows, np.uint64(first_position), self._seed, ids)
        if met is None:
            self._filter.insert(np.ascontiguousarray(ids[:count, 0]))
        self._newest[Family.IDS].insert(ids, count)

    def _add_later(self, later: Later | None) -> None:
        """Their keys are in the filter: chains are known by these ids since they were secured."""
        if later is not None and len(later.positions):
            entries = np.stack((self._keys_of(later.chain_ids), later.positions), axis=1)
            self._newest[Family.IDS].insert(entries, len(entries))

    def _find_known(self, keys: npt.NDArray[np.uint64], maybe: npt.NDArray[np.int64]) -> Found:
        """Find those of the keys that the filter lets pass, `maybe`."""
        if not len(maybe):
            return _NOTHING
        found = self._find_in(Family.IDS, keys[maybe])
        return Found(maybe[found.numbers], found.entries)

    def _find_in(self, family: Family, keys: npt.NDArray[np.uint64]) -> Found:
        room = len(keys) + _ROOM
        while True:
            numbers, entries = np.empty(room, np.int64), np.empty((room, WIDTH[family]), np.uint64)
            end = self._newest[family].find(keys, numbers, entries, 0)
            end = find_entries(self.stored.directory(family), keys, numbers, entries, end)
            if end <= room:
                return Found(numbers[:end], entries[:end])
            room = end

    def _room(self, family: Family, rows: int) -> Words:
        if len(self._scratch[family]) < rows:
            self._scratch[family] = np.empty((2 * rows, WIDTH[family]), np.uint64)
        return self._scratch[family]


def is_whole(rows: Words, met: Named) -> bool:
    """Whether the rows are all records of the batch that was met, in their order: none expired, all stored."""
    return len(rows) == len(met.keys) > 0 and (int(rows[0, 15]) >> 16) & 0xFF != Kind.EXPIRE


def later_of_block(block: Block) -> Later | None:
    """Return the later steps of a block; None if it has none."""
    record = steps_of_block(block)
    return None if record is None else later_of(record.steps, block.header.end_position)


def later_of(changed: npt.NDArray[np.void], end_position: int) -> Later:
    """Return the later ones of the steps that changed something, dtype `STEP`, whose rows end at `end_position`."""
    steps = plain(step_words(changed), np.uint64)
    chain_ids, positions = np.empty((len(steps), 2), np.uint64), np.empty(len(steps), np.uint64)
    found = _list_later(steps, np.uint64(end_position), chain_ids, positions)
    return Later(chain_ids[:found], positions[:found])


@entry("i8(u8[:, ::1], u8, u8[:, ::1], u8[::1])")
def _list_later(steps: Words, end_position: np.uint64, chain_ids: Words, positions: npt.NDArray[np.uint64]) -> int:
    """Fill in chain id and first position of the later ones of `steps`, shape (s, 8), whose rows end at `end_position`;
    return how many there are."""
    count, position = 0, end_position
    for number in range(len(steps)):
        position -= (steps[number, 5] >> _SHIFT_32) & _SIXTEEN_BITS
    for number in range(len(steps)):
        step = (steps[number, 6] >> _SHIFT_48) & _BYTE
        if step in (_COMMIT, _RELEASE, _HOLD):
            chain_ids[count, 0], chain_ids[count, 1] = steps[number, 0], steps[number, 1]
            positions[count] = position
            count += 1
        position += (steps[number, 5] >> _SHIFT_32) & _SIXTEEN_BITS
    return count


@entry("void(u8[:, ::1], i8[::1], u8[:, ::1], u8[:, ::1])")
def _add_up(ids: Words, numbers: npt.NDArray[np.int64], entries: Words, totals: Words) -> None:
    """Add each `FOLLOWED` entry to the total of its id; entries of other ids with the same fingerprint are skipped."""
    for at in range(len(numbers)):
        number = numbers[at]
        if entries[at, 1] == ids[number, 0] and entries[at, 2] == ids[number, 1]:
            combine(totals[number], entries[at])
