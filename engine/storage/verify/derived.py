"""What derives from the journal: known ids, the checkpoint and the views must say what the journal says."""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.book import Book
from engine.core.chains.word import Step
from engine.core.kernel.open_chains import BODY
from engine.core.known import Ended
from engine.core.outcomes import took_effect
from engine.core.records import FOLLOWERS, Kind, Words, as_records
from engine.storage.block import Block
from engine.storage.checkpoint import Checkpoints
from engine.storage.ids.entries import Family
from engine.storage.ids.known_ids import KnownIds, later_of_block
from engine.storage.journal import Journal
from engine.storage.step_rows import IS_LATER, steps_of_rows
from engine.storage.verify.report import differs, expect
from engine.storage.views.run import Section
from engine.storage.views.run_store import Manifest, RunInfo, RunReader, ViewStore
from engine.storage.views.tail import Tail
from engine.storage.views.views import make_run

_WITH_ID: Final = np.array([*range(Kind.POST, Kind.REVERSE + 1), Kind.UPDATE_ACCOUNT])
_ENDINGS: Final = {
    Kind.COMMIT: Ended.COMMITTED,
    Kind.RELEASE: Ended.RELEASED,
    Kind.EXPIRE: Ended.EXPIRED,
    Kind.REVERSE: Ended.OPEN,
}
_IDS_PER_LOOK: Final = 1 << 16
_NOT_FIRST: Final = np.array([*np.flatnonzero(IS_LATER), Step.EXPIRE], np.uint8)


class IdCheck:
    """Every stored id leads to its row, and to no other; what followers did is known."""

    def __init__(self, ids: KnownIds, journal: Journal) -> None:
        """`ids` over the runs as saved."""
        self._ids = ids
        self._covered = ids.covered_position
        ids.add_blocks(journal.blocks_from(self._covered))
        self._in_runs = 0
        self._followed: dict[bytes, tuple[int, int]] = {}

    @property
    def covered_position(self) -> int:
        """How far the saved runs reach."""
        return self._covered

    def check(self, block: Block) -> None:
        """Look up every id of one block. Raises CHECK_FAILED, naming the position."""
        records, steps = as_records(block.rows), steps_of_rows(block.rows)
        own = np.flatnonzero(np.isin(records["kind"], _WITH_ID) & ~np.isin(steps, _NOT_FIRST))
        if block.header.end_position <= self._covered:
            self._in_runs += len(own)
        self._look_up(block.rows[own, 0:2], own + block.header.first_position)
        later = later_of_block(block)
        if later is not None:
            self._in_runs += len(later.positions) if block.header.end_position <= self._covered else 0
            self._look_up(later.chain_ids, later.positions.astype(np.int64))
        elsewhere = (records["kind"] == Kind.REVERSE) & np.isin(steps, _NOT_FIRST)
        followers = np.isin(records["kind"], [*FOLLOWERS, Kind.EXPIRE]) & (steps != Step.RESERVE) & ~elsewhere
        for row in records[followers]:
            if took_effect(int(row["outcome"])):
                self._note(row)

    def finish(self) -> None:
        """Compare what followers did, and count: the runs hold nothing else."""
        stored = sum(run.entries for run in self._ids.stored.runs[Family.IDS])
        expect(stored == self._in_runs, f"the id runs hold {stored} ids, the journal has {self._in_runs} there")
        items = list(self._followed.items())
        for first in range(0, len(items), _IDS_PER_LOOK):
            part = items[first : first + _IDS_PER_LOOK]
            names = np.frombuffer(b"".join(name for name, _ in part), np.uint64).reshape(-1, 2)
            found = self._ids.followed(np.array(names))
            for number, (name, (reversed_sum, ended)) in enumerate(part):
                low, high = (found.reversed[number] | found.expired[number]).tolist()
                same = (low | high << 64, int(found.ended[number])) == (reversed_sum, ended)
                expect(same, f"what became of transfer {name.hex()} is not what its followers in the journal did")

    def _look_up(self, ids: Words, positions: npt.NDArray[np.int64]) -> None:
        found = self._ids.find_ids(np.ascontiguousarray(ids))
        hits = found.numbers[found.entries[:, 1] == positions[found.numbers].astype(np.uint64)]
        times = np.bincount(hits, minlength=len(ids))
        if (times != 1).any():
            position = int(positions[np.flatnonzero(times != 1)[0]])
            raise differs(f"the id of the journal row at position {position} is not found where it stands")

    def _note(self, row: np.void) -> None:
        followed = row["id" if row["kind"] == Kind.EXPIRE else "followed"].tobytes()
        amount, ended = self._followed.get(followed, (0, 0))
        if row["kind"] in (Kind.REVERSE, Kind.EXPIRE):
            amount += int(row["amount_low"]) | int(row["amount_high"]) << 64
        self._followed[followed] = (amount, max(ended, _ENDINGS[Kind(row["kind"])]))


def check_checkpoint(checkpoints: Checkpoints, group: int, book: Book) -> None:
    """Compare the saved checkpoint with a book rolled forward to its position."""
    saved, place = checkpoints.load(group), f"the checkpoint at position {checkpoints.manifest.next_position}"
    expect(saved.scalars() == book.scalars(), f"{place} has {saved.scalars()}, the journal gives {book.scalars()}")
    expect(saved.settings == book.settings, f"{place} has other settings than the journal")
    differing = np.flatnonzero((saved.account_rows() != book.account_rows()).any(axis=1))
    if len(differing):
        name = book.account_rows()[differing[0], 0:2].tobytes().hex()
        raise differs(f"{place} has another account {name} than the journal gives, and {len(differing) - 1} others")
    same = np.array_equal(_by_word(saved.open_reservations(), 12), _by_word(book.open_reservations(), 12))
    expect(same, f"{place} has other open reservations than the journal gives")
    kept, given = _by_word(saved.open_chains(), 6), _by_word(book.open_chains(), 6)
    if len(kept) == len(given):  # an engine that saved chains without their bodies was right too
        given[kept[:, BODY] == 0, BODY] = 0
    expect(np.array_equal(kept, given), f"{place} has other open chains than the journal gives")


def _by_word(rows: Words, position_word: int) -> Words:
    ordered: Words = rows[np.argsort(rows[:, position_word])]
    return ordered


def check_views(views: ViewStore, journal: Journal, book: Book) -> int:
    """Make every run of the views again and compare; return the position they reach."""
    manifest = views.manifest()
    _check_origin(manifest, journal)
    expected_first = 0
    with views.reading() as reader:
        for run in manifest.runs:
            expect(run.first_position == expected_first, f"the views have a gap at position {expected_first}")
            _check_run(reader, run, journal, book)
            expected_first = run.end_position
    return manifest.end_position


def _check_origin(manifest: Manifest, journal: Journal) -> None:
    if manifest.runs:
        block = journal.block_of(manifest.log_index)
        same = block is not None and block.header.hash == manifest.hash
        expect(same, "the views were made of another journal (delete them: they are built anew)")


def _check_run(reader: RunReader, run: RunInfo, journal: Journal, book: Book) -> None:
    place = f"the views of positions {run.first_position} to {run.end_position - 1}"
    tail, last_ns = Tail(run.first_position), 0
    for block in journal.blocks_from(run.first_position):
        if block.header.first_position >= run.end_position:
            break
        if block.header.rows:
            expect(tail.append(block, book), f"{place} name an account that is not there")
            last_ns = int(block.rows[-1, 13])
    info, sections = make_run(tail.seen(), run.first_position, tail.end_position, last_ns)
    expect(info == run, f"{place} are noted as {run}, the journal gives {info}")
    stored = reader.sections(run)
    for section in Section:
        expect(np.array_equal(stored[section], sections[section]), f"{place} differ in {section.name.lower()}")
