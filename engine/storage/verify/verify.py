"""Verify a data folder offline: one pass over the journal, everything else held against it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmdb.verify import VerifyError
from lmdb.verify import verify as verify_pages

from engine.core.book import Book
from engine.core.chains.word import Word
from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.audit import reserved_totals, secured_totals, transit_balances, trial_balances
from engine.storage.chain_words import WordReader
from engine.storage.checkpoint import Checkpoints
from engine.storage.environment import DATA_FILE
from engine.storage.folder import DataFolder, open_existing
from engine.storage.ids.known_ids import KnownIds
from engine.storage.open_chains import open_chains
from engine.storage.recovery import replay_block
from engine.storage.store import MAP_BYTES_MAX, Store
from engine.storage.verify.chain import checked_blocks
from engine.storage.verify.derived import IdCheck, check_checkpoint, check_views
from engine.storage.verify.outcomes import Outcomes
from engine.storage.verify.report import Noted, Report, damaged, expect
from engine.storage.views.run_store import ViewStore


def verify(path: Path, *, noted: Noted | None = None, outcomes: bool = True) -> Report:
    """Verify the data folder at `path`, which no process may have open; nothing is changed.

    Checks: the pages of LMDB's files; the chain of hashes from genesis, which must contain `noted`; with `outcomes`,
    that the plain model gives every row, balance and reservation (slow: some 50 µs and 1 KB of memory a transfer);
    that all ids, the checkpoint and the views are what the journal gives; that every ledger's book is even, and open
    reservations and chains explain what is held. Raises `EngineStopped`: DATA_DAMAGED for bytes that are not what they
    were, CHECK_FAILED for a difference; one sentence that names the place.
    """
    started = time.monotonic()
    with open_existing(path) as folder:
        if not (folder.store / DATA_FILE).exists():
            raise EngineStopped(ExitCode.DATA_MISSING, f"{path} holds no store: check the path")
        _check_pages(folder.store)
        with Store(folder.store, map_bytes_max=_map_bytes(folder.store), readonly=True) as store:
            report = _verify(store, folder, noted, outcomes)
    return report._replace(elapsed_s=time.monotonic() - started)


def _check_pages(environment: Path) -> None:
    """Check LMDB's own structure first, in plain Python: LMDB itself would follow a damaged page anywhere."""
    try:
        problems: list[str] = verify_pages(str(environment), subdir=True)  # type: ignore[no-untyped-call]
    except VerifyError as error:
        raise damaged(f"{environment / DATA_FILE} is no LMDB file ({error})") from error
    if problems:
        raise damaged(f"{environment / DATA_FILE} is damaged ({problems[0]}; {len(problems) - 1} more)")


def _map_bytes(environment: Path) -> int:
    return max(MAP_BYTES_MAX, (environment / DATA_FILE).stat().st_size)


def _verify(store: Store, folder: DataFolder, noted: Noted | None, outcomes: bool) -> Report:
    group = folder.identity.group if folder.identity else 0
    book, judge, head = Book(group), Outcomes(group), store.head()
    checkpoints = Checkpoints(store)
    saved, blocks = checkpoints.manifest, 0
    with _known_ids(store) as ids:
        check = IdCheck(ids, store.journal)
        for block in checked_blocks(store.journal, head, noted):
            blocks += 1
            if outcomes:
                judge.judge(block)
            replay_block(book, block)
            check.check(block)
            if block.header.log_index == saved.log_index:
                expect(block.header.hash == saved.hash, "the checkpoint notes another hash than the journal has there")
                check_checkpoint(checkpoints, group, book)
        check.finish()
        reader = WordReader(book, ids, store.journal)
        chains = open_chains(book, reader, -1, book.open_chain_count)
    expect(saved.log_index <= head.log_index, f"the checkpoint stands at log index {saved.log_index}, past the end")
    if outcomes:
        judge.compare(book)
    _check_sums(book, [chain.word for chain in chains])
    return Report(
        head=head,
        blocks=blocks,
        accounts=book.account_count,
        open_reservations=book.open_reservation_count,
        open_chains=len(chains),
        transits=tuple(transit_balances(book)),
        ledgers=tuple(trial_balances(book)),
        outcomes_judged=outcomes,
        checkpoint_position=saved.next_position,
        id_runs_position=check.covered_position,
        views_position=_check_views(folder, store, book),
        elapsed_s=0,
    )


@contextmanager
def _known_ids(store: Store) -> Iterator[KnownIds]:
    ids = KnownIds(store.runs)
    try:
        yield ids
    finally:
        ids.close()


def _check_sums(book: Book, secured: list[Word]) -> None:
    """I1 and I7."""
    held, chains = reserved_totals(book), secured_totals(book.group, secured)
    for balance in trial_balances(book):
        ledger = f"ledger {balance.ledger}"
        expect(balance.is_even, f"the book of {ledger} is not even: {balance}")
        explained = held.get(balance.ledger, 0) + chains.get(balance.ledger, 0)
        expect(
            balance.debits_reserved == explained,
            f"{ledger} holds {balance.debits_reserved} as reserved, its open reservations and chains explain "
            f"{explained}",
        )


def _check_views(folder: DataFolder, store: Store, book: Book) -> int | None:
    if not (folder.views / DATA_FILE).exists():
        return None
    _check_pages(folder.views)
    views = ViewStore(folder.views, map_bytes_max=_map_bytes(folder.views), readonly=True)
    try:
        return check_views(views, store.journal, book)
    finally:
        views.close()
