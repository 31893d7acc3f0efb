"""A stand-in for the store, for tests of core: remembers every journal row in dicts and builds `Known` from them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.step_record import decode_steps
from engine.core.chains.word import State, Step
from engine.core.known import Applied, AppliedSteps, Ended, Known
from engine.core.outcomes import took_effect
from engine.core.records import FOLLOWERS, Flag, Kind, Words

UNINDEXED = (Kind.CREATE_ACCOUNT, Kind.BUCKET, Kind.EXPIRE, Kind.SETTINGS)
AMOUNT = slice(6, 8)
FIRST_WORDS = {Step.RESERVE: State.RESERVED, Step.DECIDE: State.POSTED, Step.ABORT: State.TOMBSTONE}
LATER_WORDS = {
    Step.COMMIT: State.COMMITTED,
    Step.HOLD: State.HELD,
    Step.RELEASE: State.RELEASED,
    Step.EXPIRE: State.HELD,
}
Indexes = npt.NDArray[np.int64]


@dataclass
class Chain:
    """One cross-group chain on record."""

    digest: bytes
    decider: int
    word: int


class Row(NamedTuple):
    """One stored journal row."""

    words: Words
    requested: Words
    chain_last: bool
    chain: "Chain | None"
    sides: tuple[int, int]


def meta(words: Words) -> tuple[int, int, int, int]:
    """Return (kind, flags, outcome, step) of a row."""
    word = int(words[15])
    return word >> 16 & 0xFF, word >> 24 & 0xFF, word >> 32 & 0xFFFF, word >> 61


def id_at(words: Words, first: int) -> tuple[int, int]:
    return int(words[first]), int(words[first + 1])


def number(words: Words) -> int:
    return int(words[0]) | int(words[1]) << 64


class KnownIds:
    """Every row ever stored, and what follows from them."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.by_id: dict[tuple[int, int], int] = {}
        self.creations: dict[tuple[int, int], int] = {}
        self.ended: dict[int, int] = {}
        self.reversed: dict[int, int] = {}
        self.left: dict[int, int] = {}
        self.by_digest: dict[bytes, Chain] = {}

    def add(self, applied: Applied | AppliedSteps) -> None:
        """Remember what one log record stored."""
        requested = applied.rows[:, AMOUNT].copy()
        requested[applied.requested_index] = applied.requested_amount
        chains, sides = self._chains(applied)
        legs = [*(applied.rows[:, 15] >> np.uint64(48)).tolist(), 0]
        for at, words in enumerate(applied.rows):
            last = legs[at + 1] != legs[at] + 1
            self._add(Row(words.copy(), requested[at], last, chains[at], sides[at]))

    def _chains(self, applied: Applied | AppliedSteps) -> tuple[list[Chain | None], list[tuple[int, int]]]:
        """Return the chain and the sides of each row."""
        count = len(applied.rows)
        if not isinstance(applied, AppliedSteps) or not applied.extra:
            return [None] * count, [(0, 0)] * count
        expired = count - int.from_bytes(applied.extra[8:12], "little")
        record = decode_steps(applied.rows[expired:], applied.extra)
        chains: list[Chain | None] = [None] * expired
        for entry in record.steps:
            chains += [self._chain(entry, applied.rows[int(entry["first_row"]) + expired])] * int(entry["rows"])
        return chains, [(0, 0)] * expired + [(int(debit), int(credit)) for debit, credit in record.sides]

    def _chain(self, entry: np.void, row: Words) -> Chain:
        """Return the chain that a step is for, with its word as it is now."""
        step, digest, outcome = Step(int(entry["step"])), bytes(entry["digest"]), meta(row)[2]
        if step in FIRST_WORDS:
            refused = step is not Step.ABORT and not took_effect(outcome)
            state = State.REFUSED if refused else FIRST_WORDS[step]
            self.by_digest[digest] = Chain(digest, int(entry["decider"]), state)
        chain = self.by_digest[digest]
        chain.word = LATER_WORDS.get(step, chain.word)
        return chain

    def _add(self, row: Row) -> None:
        position, (kind, flags, outcome, step) = len(self.rows), meta(row.words)
        self.rows.append(row)
        if kind == Kind.CREATE_ACCOUNT:
            self.creations[id_at(row.words, 0)] = position
        if kind not in UNINDEXED and step not in LATER_WORDS:
            self.by_id.setdefault(id_at(row.words, 0), position)
        if row.chain is not None and kind == Kind.RESERVE and row.chain.word == State.POSTED:
            row.chain.word = State.HELD
        if took_effect(outcome) and step != Step.RESERVE:
            self._follow(kind, flags, step, row.words)

    def _follow(self, kind: int, flags: int, step: int, words: Words) -> None:
        if kind == Kind.RESERVE:
            self.left[self.by_id[id_at(words, 0)]] = number(words[AMOUNT])
        original = self.by_id.get(id_at(words, 8)) if kind in FOLLOWERS or kind == Kind.EXPIRE else None
        if original is None:
            return
        if kind == Kind.REVERSE:
            if step not in LATER_WORDS:
                self.reversed[original] = self.reversed.get(original, 0) + number(words[AMOUNT])
        elif kind == Kind.COMMIT:
            self.left[original] -= number(words[AMOUNT])
            if not (flags & Flag.KEEP_REST and self.left[original]):
                self.ended.setdefault(original, Ended.COMMITTED)
        else:
            self.ended.setdefault(original, Ended.RELEASED if kind == Kind.RELEASE else Ended.EXPIRED)

    def known(self, batch: Words) -> Known:
        """Build what the kernel asks for, each stored row once."""
        used: dict[int, int] = {}

        def row_of(position: int | None) -> int:
            return -1 if position is None else used.setdefault(position, len(used))

        id_row, followed_row = np.full(len(batch), -1, np.int64), np.full(len(batch), -1, np.int64)
        for at, words in enumerate(batch):
            kind = meta(words)[0]
            ids = self.creations if kind == Kind.CREATE_ACCOUNT else self.by_id
            id_row[at] = row_of(ids.get(id_at(words, 0)) if kind != Kind.BUCKET else None)
            if kind in FOLLOWERS:
                followed_row[at] = row_of(self.by_id.get(id_at(words, 8)))
        return self._known(id_row, followed_row, list(used))

    def _known(self, id_row: Indexes, followed_row: Indexes, positions: list[int]) -> Known:
        rows = [self.rows[position] for position in positions]
        sums = [self.reversed.get(position, 0) for position in positions]
        return Known(
            id_row,
            followed_row,
            np.array([row.words for row in rows], np.uint64).reshape(-1, 16),
            np.array(positions, np.uint64),
            np.array([row.requested for row in rows], np.uint64).reshape(-1, 2),
            np.array([row.chain_last for row in rows], np.bool_),
            np.array([self.ended.get(position, 0) for position in positions], np.uint8),
            np.array([(part & (1 << 64) - 1, part >> 64) for part in sums], np.uint64).reshape(-1, 2),
            np.array([row.chain.word if row.chain else 0 for row in rows], np.uint8),
            np.array([np.frombuffer(row.chain.digest if row.chain else bytes(16), np.uint64) for row in rows])
            .reshape(-1, 2)
            .astype(np.uint64),
            np.array([row.sides for row in rows], np.uint16).reshape(-1, 2),
            np.array([row.chain.decider if row.chain else 0 for row in rows], np.uint16),
        )
