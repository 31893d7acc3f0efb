"""Opening a store: load the checkpoint, roll the journal forward, and say what was recovered in how long."""

import time
from typing import Final, NamedTuple

from engine.core.book import Book
from engine.core.events import apply_settings, replay_rows
from engine.core.log_record import RecordKind, kind_of
from engine.core.settings import decode_settings
from engine.core.steps import replay_steps
from engine.exit_codes import EngineStopped, ExitCode, require
from engine.storage.block import Block, BlockDamaged, check_block, decode_block
from engine.storage.checkpoint import JOURNAL_BYTES, Checkpoints, Manifest
from engine.storage.folder import DataFolder
from engine.storage.head import Head
from engine.storage.ids.known_ids import IdLimits, KnownIds
from engine.storage.journal import KEY, Journal
from engine.storage.recent import RECENT_ROWS, RecentBlocks
from engine.storage.state_machine import Parts, StateMachine
from engine.storage.store import MAP_BYTES_MAX, Store


class StoreLimits(NamedTuple):
    """Sizes of a store; tests make them tiny."""

    map_bytes_max: int = MAP_BYTES_MAX
    checkpoint_journal_bytes: int = JOURNAL_BYTES
    recent_rows: int = RECENT_ROWS
    ids: IdLimits = IdLimits()


DEFAULT_LIMITS: Final = StoreLimits()


class Recovered(NamedTuple):
    """What a start found, for the operator's log."""

    log_index: int
    position: int
    """Rows in the journal."""
    accounts: int
    reservations: int
    chains: int
    """Cross-group chains that wait for their decider's word."""
    checkpoint_position: int
    blocks_replayed: int
    rows_replayed: int
    ids_replayed_from: int
    """Known ids of rows from here on were read from the journal; the ones before from runs."""
    elapsed_s: float

    def sentence(self) -> str:
        """Say it in one sentence."""
        return (
            f"recovered {self.position} journal rows up to log index {self.log_index}, {self.accounts} accounts, "
            f"{self.reservations} open reservations and {self.chains} open chains: checkpoint at position "
            f"{self.checkpoint_position}, {self.rows_replayed} rows in {self.blocks_replayed} blocks rolled "
            f"forward, in {self.elapsed_s:.2f} s"
        )


def open_state_machine(
    folder: DataFolder, group: int, limits: StoreLimits = DEFAULT_LIMITS
) -> tuple[StateMachine, Recovered]:
    """Open, or create, the store in a data folder and bring its state to the journal's end.

    Raises `EngineStopped`, DATA_DAMAGED in particular if a block since the checkpoint does not fit the chain of hashes.
    """
    started = time.monotonic()
    store = Store(folder.store, map_bytes_max=limits.map_bytes_max)
    try:
        machine, recovered = _recover(store, group, limits)
    except BaseException:
        store.close()
        raise
    return machine, recovered._replace(elapsed_s=time.monotonic() - started)


def _recover(store: Store, group: int, limits: StoreLimits) -> tuple[StateMachine, Recovered]:
    store.sweep()
    checkpoints = Checkpoints(store, journal_bytes=limits.checkpoint_journal_bytes)
    checkpoints.sweep()
    head, saved = store.head(), checkpoints.manifest
    book = checkpoints.load(group)
    blocks, journal_bytes = roll_forward(book, store.journal, saved, head)
    checkpoints.note(journal_bytes)
    ids = KnownIds(store.runs, limits.ids)
    covered = ids.covered_position
    ids.add_blocks(store.journal.blocks_from(covered))
    store.journal.recent = RecentBlocks(head.next_position, head.log_index, limits.recent_rows)
    machine = StateMachine(Parts(store, book, ids, checkpoints, head))
    return machine, Recovered(
        log_index=head.log_index,
        position=head.next_position,
        accounts=book.account_count,
        reservations=book.open_reservation_count,
        chains=book.open_chain_count,
        checkpoint_position=saved.next_position,
        blocks_replayed=blocks,
        rows_replayed=head.next_position - saved.next_position,
        ids_replayed_from=covered,
        elapsed_s=0,
    )


def roll_forward(book: Book, journal: Journal, since: Manifest, head: Head) -> tuple[int, int]:
    """Bring a book that stands at checkpoint `since` to the journal's end, which must be `head`; return the numbers of
    blocks and of their bytes. The chain of hashes is checked on the way."""
    blocks, journal_bytes, previous = 0, 0, since.hash
    first = KEY.pack(since.next_position, since.log_index + 1)
    for _, data in journal.raw_blocks(lambda cursor: bool(cursor.set_range(first))):
        block = _checked(data, previous, blocks)
        replay_block(book, block)
        previous = block.header.hash
        blocks, journal_bytes = blocks + 1, journal_bytes + len(data)
    require(
        (previous, book.next_position) == (head.hash, head.next_position),
        ExitCode.DATA_DAMAGED,
        f"the journal ends at position {book.next_position}, the store says {head.next_position}: restore or replace "
        "this replica",
    )
    return blocks, journal_bytes


def replay_block(book: Book, block: Block) -> None:
    """Roll a book forward over one block. Raises DATA_DAMAGED."""
    if not block.extra:
        replay_rows(book, block.rows, block.header.timestamp_ns)
    elif kind_of(block.preamble) == RecordKind.STEPS:
        replay_steps(book, block.rows, block.extra, block.header.timestamp_ns)
    else:
        apply_settings(book, decode_settings(block.extra), block.header.timestamp_ns)


def _checked(data: memoryview, previous: bytes, number: int) -> Block:
    try:
        check_block(data, previous)
        return decode_block(data)
    except BlockDamaged as error:
        raise EngineStopped(
            ExitCode.DATA_DAMAGED,
            f"journal block {number + 1} behind the checkpoint is damaged ({error}): restore or replace this replica",
        ) from error
