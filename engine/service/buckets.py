"""Buckets of split accounts in one group: making them, reading them, looking whether they are there (decision 12)."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.book import Book
from engine.core.limits import BATCH_TRANSFERS_MAX
from engine.core.records import RECORD, RECORD_BYTES, AccountFlag, Words
from engine.core.records import Kind as RecordKind
from engine.core.split.buckets import BUCKET_STATE, CARRIED_FLAGS, Presence
from engine.peer.v1.peer_service_pb2 import ReadBucketsRequest, ReadBucketsResponse
from engine.rpc.batch import require_count
from engine.rpc.checks import spread_over_chains
from engine.rpc.faults import FAILED_PRECONDITION, CallFailed, Fault, Reason, at_item, invalid
from engine.rpc.typed import ID_BYTES
from engine.service.replica import Replica
from engine.service.submission import Caller, Submission
from postingengine.v1.types_pb2 import Consistency

BUCKETS_PAGE_MAX: Final = 4096
"""Buckets of one page of the directory."""
_STATE_WORDS: Final = BUCKET_STATE.itemsize // 8
_FLAGS_SHIFT: Final = np.uint64(16)
_PARTNER_SHIFT: Final = np.uint64(32)
_GROUP_SHIFT: Final = np.uint64(48)
_LOW_HALF: Final = np.uint64(0xFFFFFFFF)
_BUCKET: Final = np.uint64(AccountFlag.BUCKET << 16)
_SHARE: Final = np.uint64(AccountFlag.SHARE << 16)
_FULL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_LIMITS: Final = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS | AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS
_UNUSED: Final = ("amount_low", "amount_high", "effective_at", "timestamp", "outcome", "leg")
_MISSING: Final = Fault(
    FAILED_PRECONDITION,
    Reason.BUCKET_MISSING,
    "this group has no bucket of a split account yet; make it, then send this again",
)


class Page(NamedTuple):
    """Buckets, by epoch."""

    states: npt.NDArray[np.void]
    """Dtype `BUCKET_STATE`."""
    next_epoch: int
    """Of the first one behind; 0 if there is none."""


class Directory:
    """Finds the share accounts of a book without looking at every account each time. On the apply thread."""

    def __init__(self) -> None:
        self._book: Book | None = None
        self._seen = 0
        self._shares: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def shares(self, book: Book) -> npt.NDArray[np.int64]:
        """Return the rows of all share accounts, ascending, which is in the order of their epochs."""
        if book is not self._book or book.account_count < self._seen:
            self._book, self._seen, self._shares = book, 0, np.empty(0, np.int64)
        fresh = book.account_rows()[self._seen :, 14] & _SHARE
        self._shares = np.concatenate((self._shares, np.flatnonzero(fresh) + self._seen))
        self._seen = book.account_count
        return self._shares

    def page(self, book: Book, from_epoch: int, size: int) -> Page:
        """Return buckets from an epoch on."""
        rows, shares = book.account_rows(), self.shares(book)
        epochs = rows[shares, 15]
        first = int(np.searchsorted(epochs, np.uint64(from_epoch)))
        heads = (rows[shares[first : first + size], 14] >> _PARTNER_SHIFT).astype(np.int64) - 1
        behind = first + size
        return Page(_states_at(book, heads), int(epochs[behind]) if behind < len(epochs) else 0)


async def make_buckets(replica: Replica, packed: bytes, caller: Caller, deadline_s: float) -> Submission:
    """Have BUCKET records logged and applied; raises `CallFailed` unless every one of them is answered."""
    submission = await replica.post(_checked(packed), caller, deadline_s)
    if submission.missing:
        raise CallFailed(submission.missing[0].fault)
    return submission


async def read_buckets(
    replica: Replica, directory: Directory, request: ReadBucketsRequest, deadline_s: float
) -> ReadBucketsResponse:
    """Read buckets, linearizable; raises `CallFailed`."""
    if len(request.ids) % ID_BYTES:
        raise CallFailed(invalid(Reason.ID_LENGTH_INVALID, "the ids are not n x 16 bytes", field="ids"))
    if not request.ids:
        size = min(request.page_size or BUCKETS_PAGE_MAX, BUCKETS_PAGE_MAX)
        return await replica.read(
            Consistency(),
            deadline_s,
            lambda: _response(replica, directory.page(replica.machine.book, request.from_epoch, size)),
        )
    ids: Words = np.frombuffer(request.ids, "<u8").reshape(-1, 2)
    require_count(len(ids), "ids")
    return await replica.read(
        Consistency(), deadline_s, lambda: _response(replica, Page(states_of(replica.machine.book, ids), 0))
    )


def states_of(book: Book, ids: Words) -> npt.NDArray[np.void]:
    """Say what a group has of accounts, ids of shape (n, 2): shape (n,), dtype `BUCKET_STATE`."""
    placed = book.place_accounts(ids)
    words = np.zeros((len(ids), _STATE_WORDS), np.uint64)
    words[:, 0:2] = ids
    words[:, 5] = np.uint64(book.group) << _GROUP_SHIFT
    words[ids[:, 0] == _FULL, 5] |= np.uint64(Presence.INTERNAL) << _PARTNER_SHIFT
    here = np.flatnonzero(placed >= 0)
    words[here] = _states_at(book, placed[here]).view(np.uint64).reshape(-1, _STATE_WORDS)
    return words.view(BUCKET_STATE).reshape(-1)


def _states_at(book: Book, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    """Describe the accounts, split or not, at some rows."""
    accounts = book.account_rows()
    heads = accounts[rows]
    words = np.zeros((len(rows), _STATE_WORDS), np.uint64)
    split = (heads[:, 14] & _BUCKET) != 0
    presence = np.where(split, np.uint64(Presence.BUCKET), np.uint64(Presence.ACCOUNT))
    words[:, 0:2], words[:, 4] = heads[:, 0:2], heads[:, 13]
    words[:, 5] = heads[:, 14] & _LOW_HALF | presence << _PARTNER_SHIFT | np.uint64(book.group) << _GROUP_SHIFT
    words[:, 7:9], words[:, 11:19] = heads[:, 10:12], heads[:, 2:10]
    shares = accounts[(heads[split, 14] >> _PARTNER_SHIFT).astype(np.int64) - 1]
    words[split, 2:4], words[split, 6], words[split, 9:11] = shares[:, 0:2], shares[:, 15], shares[:, 10:12]
    words[split, 19:27] = shares[:, 2:10]
    return words.view(BUCKET_STATE).reshape(-1)


def missing_buckets(book: Book, words: Words) -> list[Fault]:
    """Return a fault for each transfer, rows of shape (n, 16), one of whose accounts this group lacks: it is another's
    by its hash, and has no bucket here. With a chain's leg, all of that chain.

    Any thread may look: what an apply thread makes meanwhile may be missed, and is then asked for again.
    """
    away = np.zeros(len(words), np.bool_)
    for first in (2, 4):
        away |= book.place_accounts(words[:, first : first + 2]) < -1
    return [at_item(_MISSING, int(item)) for item in np.flatnonzero(spread_over_chains(words, away))]


def _checked(packed: bytes) -> Words:
    if len(packed) % RECORD_BYTES or not 0 < len(packed) <= BATCH_TRANSFERS_MAX * RECORD_BYTES:
        message = f"the buckets to make are 1 to {BATCH_TRANSFERS_MAX} records of {RECORD_BYTES} bytes"
        raise CallFailed(invalid(Reason.BATCH_UNREADABLE, message, field="rows"))
    rows = np.frombuffer(packed, RECORD)
    fits = (rows["kind"] == RecordKind.BUCKET) & (rows["timeout_s"] > 0)
    fits &= (rows["flags"] & ~np.uint8(CARRIED_FLAGS)) == 0
    fits &= (rows["flags"] & np.uint8(_LIMITS)) != np.uint8(_LIMITS)
    for name in _UNUSED:
        fits &= rows[name] == 0
    words: Words = np.frombuffer(packed, "<u8").reshape(-1, 16)
    fits &= (words[:, 2] | words[:, 3]) != 0
    fits &= (words[:, 4] | words[:, 5] | words[:, 8] | words[:, 9] | words[:, 10] | words[:, 11]) == 0
    if not fits.all():
        item = int(np.flatnonzero(~fits)[0])
        message = f"record {item} is no BUCKET as routers of this version make it"
        raise CallFailed(invalid(Reason.BATCH_UNREADABLE, message, field="rows", item=item))
    return words.copy()


def _response(replica: Replica, page: Page) -> ReadBucketsResponse:
    at = replica.read_point()
    return ReadBucketsResponse(
        buckets=page.states.tobytes(), log_index=at.log_index, as_of=at.as_of, next_epoch=page.next_epoch
    )
