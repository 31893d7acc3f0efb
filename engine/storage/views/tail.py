"""The newest movements of money, in memory, as the journal has them: searched by scanning, until a run is made of them.

A *movement* is a journal row that posted money: a POST, COMMIT or REVERSE that took effect. It has two entries, one
for the account debited and one for the account credited; a REVERSE names the accounts as its original does and moves
the other way. Accounts are named by their row in the account table, which is for ever.

Of a cross-group chain, the rows of its DECIDE, COMMIT and HOLD are movements, where this group runs a side of the leg;
the side that another group runs is the transit account with that group."""

from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from numba import types

from engine.core.book import Book
from engine.core.chains.step_record import Sides
from engine.core.chains.word import Step
from engine.core.kernel.tables import find_hashed
from engine.core.kernel.transit import transit_high
from engine.core.kernel.u128 import FULL
from engine.core.placement import hash_id
from engine.core.records import Kind, Words
from engine.storage.block import Block
from engine.storage.compiled import entry, helper
from engine.storage.step_rows import sides_of_block

RUN_ROWS: Final = 1 << 18
"""Journal rows of one run; the tail takes 10 MiB when full."""

_BYTE: Final = np.uint64(0xFF)
_KIND_SHIFT: Final = np.uint64(16)
_OUTCOME_SHIFT: Final = np.uint64(32)
_OUTCOME_MASK: Final = np.uint64(0xFFFF)
_EFFECT_MAX: Final = np.uint64(9)
_ZERO: Final = np.uint64(0)
_POST: Final = np.uint64(Kind.POST)
_COMMIT: Final = np.uint64(Kind.COMMIT)
_REVERSE: Final = np.uint64(Kind.REVERSE)
_STEP_SHIFT: Final = np.uint64(61)
_STEP_RESERVE: Final = np.uint64(Step.RESERVE)
_LEDGER_MASK: Final = np.uint64(0xFFFFFFFF)


class Movements(NamedTuple):
    """n movements in the order of the journal."""

    offsets: npt.NDArray[np.uint32]
    """Shape (n,): journal positions, less the first position of the tail or run."""
    debited: npt.NDArray[np.uint32]
    """Shape (n,): account rows."""
    credited: npt.NDArray[np.uint32]
    amounts: Words
    """Shape (n, 2), minor units."""
    value_ns: npt.NDArray[np.uint64]
    """Shape (n,): `effective_at`, or `timestamp` where that is none."""
    dated: npt.NDArray[np.bool_]
    """Shape (n,): whether the caller gave an `effective_at`."""

    def first(self, count: int) -> "Movements":
        """Return the first `count` of them, as views."""
        return Movements._make(values[:count] for values in self)


def room_for(rows: int) -> Movements:
    """Return unfilled arrays for the movements of so many journal rows."""
    return Movements(
        np.empty(rows, np.uint32),
        np.empty(rows, np.uint32),
        np.empty(rows, np.uint32),
        np.empty((rows, 2), np.uint64),
        np.empty(rows, np.uint64),
        np.empty(rows, np.bool_),
    )


@helper
def _account(
    slots: npt.NDArray[np.uint64],
    accounts: Words,
    seed: np.uint64,
    row: npt.NDArray[np.uint64],
    word: int,
    side: np.uint64,
    group: np.uint64,
) -> int:
    """Return the row of the account at `word`, or of the transit account with the group that has it."""
    low, high = row[word], row[word + 1]
    if side != group:
        low, high = FULL, transit_high(side, row[14] & _LEDGER_MASK)
    return int(find_hashed(slots, accounts, hash_id(low, high, seed), low, high))


@entry(
    types.int64(
        types.Array(types.uint64, 2, "C", readonly=True),
        *(types.uint16[:, ::1], types.uint64, types.uint64),
        *(types.uint64[::1], types.uint64[:, ::1], types.uint64),
        *(types.uint32[::1], types.uint32[::1], types.uint32[::1]),
        *(types.uint64[:, ::1], types.uint64[::1], types.boolean[::1], types.int64),
    )
)
def _collect(
    rows: Words,
    sides: Sides,
    group: np.uint64,
    first_offset: np.uint64,
    slots: npt.NDArray[np.uint64],
    accounts: Words,
    seed: np.uint64,
    offsets: npt.NDArray[np.uint32],
    debited: npt.NDArray[np.uint32],
    credited: npt.NDArray[np.uint32],
    amounts: Words,
    value_ns: npt.NDArray[np.uint64],
    dated: npt.NDArray[np.bool_],
    count: int,
) -> int:
    """Append the movements among a block's rows behind `count` others; return the new count, -1 if an account is
    unknown. `sides` are those of the last rows; the ones before are local."""
    local = len(rows) - len(sides)
    for at in range(len(rows)):
        kind = (rows[at, 15] >> _KIND_SHIFT) & _BYTE
        outcome = (rows[at, 15] >> _OUTCOME_SHIFT) & _OUTCOME_MASK
        moves = kind in (_POST, _COMMIT, _REVERSE) and rows[at, 15] >> _STEP_SHIFT != _STEP_RESERVE
        if not moves or outcome == _ZERO or outcome > _EFFECT_MAX:
            continue
        debit_side = np.uint64(sides[at - local, 0]) if at >= local else group
        credit_side = np.uint64(sides[at - local, 1]) if at >= local else group
        if group not in (debit_side, credit_side):
            continue
        debit = _account(slots, accounts, seed, rows[at], 2, debit_side, group)
        credit = _account(slots, accounts, seed, rows[at], 4, credit_side, group)
        if debit < 0 or credit < 0:
            return -1
        if kind == _REVERSE:
            debit, credit = credit, debit
        offsets[count] = first_offset + np.uint64(at)
        debited[count], credited[count] = debit, credit
        amounts[count, 0], amounts[count, 1] = rows[at, 6], rows[at, 7]
        dated[count] = rows[at, 12] != _ZERO
        value_ns[count] = rows[at, 12] if dated[count] else rows[at, 13]
        count += 1
    return count


_NO_SIDES: Final[Sides] = np.empty((0, 2), np.uint16)


class Tail:
    """Movements from `first_position` on. Appended to by one thread; others read what `seen` gave them."""

    def __init__(self, first_position: int, rows: int = RUN_ROWS) -> None:
        """Have room for the movements of `rows` journal rows, and of one block more."""
        self.first_position = first_position
        self.end_position = first_position
        self._movements = room_for(rows)
        self._count = 0

    def append(self, block: Block, book: Book) -> bool:
        """Append one block's movements; False if an account is not in the book yet, and then nothing is appended."""
        rows, sides = block.rows, sides_of_block(block)
        self._ensure_room(len(rows))
        tables = book.tables  # once: the apply thread replaces it as a whole when tables grow
        count = _collect(
            rows if rows.flags.aligned else np.array(rows),
            _NO_SIDES if sides is None else sides,
            np.uint64(book.group),
            np.uint64(self.end_position - self.first_position),
            tables.account_slots,
            tables.accounts,
            np.uint64(book.hash_seed),
            *self._movements,
            self._count,
        )
        if count < 0:
            return False
        self._count = count
        self.end_position += len(rows)
        return True

    def seen(self) -> Movements:
        """Return what is there now; what is appended later does not change it."""
        return self._movements.first(self._count)

    def _ensure_room(self, rows: int) -> None:
        have = len(self._movements.offsets)
        if self._count + rows <= have:
            return
        grown = room_for(max(2 * have, self._count + rows))
        columns = cast("tuple[npt.NDArray[Any], ...]", self.seen()), cast("tuple[npt.NDArray[Any], ...]", grown)
        for old, new in zip(*columns, strict=True):
            np.copyto(new[: self._count], old)
        self._movements = grown
