"""Outcomes: the plain model judges every stored row again and must say the same, bit for bit (I11)."""

from typing import Final

import numpy as np

from engine.core.book import Book
from engine.core.chains.step_record import StepRecord
from engine.core.chains.word import WHOLE, State
from engine.core.log_record import RecordKind, kind_of
from engine.core.model.model import Answer
from engine.core.model.state import Account, Event, unpack
from engine.core.model.steps import StepAnswer, StepModel
from engine.core.outcomes import Outcome
from engine.core.records import ACCOUNT, RECORD_BYTES, AccountFlag, Kind
from engine.core.settings import decode_settings
from engine.storage.block import Block
from engine.storage.step_rows import LEG_MASK, LEG_SHIFT, steps_of_block
from engine.storage.verify.report import differs, expect

_AMOUNT_BITS: Final = 64
_SENT: Final = np.uint64(0xFFFFFFFF)
"""Of a row's last word: code, kind and flags."""


class Outcomes:
    """Judges block after block; at the end, compares all state with a book that was rolled forward."""

    def __init__(self, group: int) -> None:
        """Begin before genesis."""
        self._model = StepModel(group)

    def judge(self, block: Block) -> None:
        """Judge one block again. Raises CHECK_FAILED, naming the first row that differs."""
        answer, extra = self._answer(block)
        header = block.header
        if answer.timestamp_ns != header.timestamp_ns:
            raise differs(
                f"the block at position {header.first_position} was applied at another time than its rows say"
            )
        packed = block.rows.tobytes()
        if b"".join(answer.rows) != packed:
            _explain(block, answer, packed)
        asked = dict(zip(block.requested_index.tolist(), _amounts(block), strict=True))
        expect(asked == answer.asked, f"the block at position {header.first_position} keeps other requested amounts")
        expect(extra == block.extra, f"the block at position {header.first_position} keeps other steps than the rules")

    def compare(self, book: Book) -> None:
        """Compare all accounts and open reservations with the book's."""
        model = self._model
        expect(len(model.accounts) == book.account_count, "the book has another number of accounts than the rules give")
        rows = book.account_rows().reshape(-1).view(ACCOUNT)
        numbers = {name: number for number, name in enumerate(model.accounts)}
        for number, (row, (name, account)) in enumerate(zip(rows, model.accounts.items(), strict=True)):
            partner = numbers[account.partner] + 1 if account.partner else 0
            expect(
                _account_fields(row) == _model_fields(name, account, partner),
                f"account {name.hex()}, row {number}, differs",
            )
        held = {stored.event.id: stored.remaining for stored in model.history.values() if stored.is_open}
        found = {row[0:2].tobytes(): _amount(row[6], row[7]) for row in book.open_reservations()}
        expect(held == found, "the open reservations differ from those that the rules give")
        secured = {name: word for name, word in model.words.items() if word.state is State.RESERVED}
        opened = {row[0:2].tobytes(): row[2:4].tobytes() for row in book.open_chains()}
        digests = {name: word.chain.digest for name, word in secured.items()}
        expect(digests == opened, "the open chains differ from those that the rules give")

    def _answer(self, block: Block) -> tuple[Answer | StepAnswer, bytes]:
        """Return what the rules make of a block, and the extra that they keep."""
        time_ns = block.header.timestamp_ns
        if block.extra and kind_of(block.preamble) == RecordKind.SETTINGS:
            return self._model.apply_settings(decode_settings(block.extra), time_ns), block.extra
        steps = steps_of_block(block)
        if steps is not None:
            told = self._model.apply_steps(_as_sent(block, steps), time_ns)
            _check_digests(block, steps, told)
            return told, told.extra
        units, burned = _units(block)
        return self._model.apply_units(units, time_ns, burned), b""


def _check_digests(block: Block, steps: StepRecord, told: StepAnswer) -> None:
    """A chain's digest must be that of its bodies and plan: whoever obeys a decider trusts it."""
    for step, answered in zip(steps.steps, told.answers, strict=True):
        digest = b"" if answered.word is None else answered.word.chain.digest
        name = step["chain_id"].tobytes().hex()
        place = f"the block at position {block.header.first_position}"
        expect(step["digest"].tobytes() == digest, f"{place} has another digest, or another life, of chain {name}")


def _as_sent(block: Block, steps: StepRecord) -> StepRecord:
    """Return the steps as they were logged: rows without what apply gave them, and with the amounts asked for."""
    rows = steps.rows.copy()
    rows[:, 6:8] = block.requested()[len(block.rows) - len(rows) :]
    rows[:, 13] = 0
    whole = np.repeat(np.isin(steps.steps["step"], [int(step) for step in WHOLE]), steps.steps["rows"])
    leg = np.where(whole, np.uint64(0), (rows[:, 15] >> LEG_SHIFT) & LEG_MASK)
    rows[:, 15] = (rows[:, 15] & _SENT) | leg << LEG_SHIFT
    return steps._replace(rows=rows)


def _units(block: Block) -> tuple[list[list[Event]], set[int]]:
    """Return what was asked, cut as it was stored, and which units met a known id: those of CHAIN_FAILED legs alone."""
    units: list[list[Event]] = []
    burned: set[int] = set()
    for row, asked in zip(unpack(block.rows.tobytes()), block.requested().tolist(), strict=True):
        if row.kind == Kind.EXPIRE:
            continue
        if row.leg == 0:
            burned.add(len(units))
            units.append([])
        if row.outcome != Outcome.CHAIN_FAILED:
            burned.discard(len(units) - 1)
        event = row._replace(amount=asked[0] | asked[1] << _AMOUNT_BITS, timestamp=0, outcome=0, leg=0)
        units[-1].append(event)
    return units, burned


def _explain(block: Block, answer: Answer | StepAnswer, packed: bytes) -> None:
    """Raise for the first row that differs."""
    stored = [packed[at : at + RECORD_BYTES] for at in range(0, len(packed), RECORD_BYTES)]
    for number, (found, given) in enumerate(zip(stored, answer.rows, strict=False)):
        if found != given:
            position = block.header.first_position + number
            ((row), (rule)) = (*unpack(found), *unpack(given))
            field = next(name for name in Event._fields if getattr(row, name) != getattr(rule, name))
            raise differs(
                f"the journal row at position {position} has {field} {getattr(row, field)!r}, the rules give "
                f"{getattr(rule, field)!r}"
            )
    raise differs(
        f"the block at position {block.header.first_position} has {len(stored)} rows, the rules give {len(answer.rows)}"
    )


def _amounts(block: Block) -> list[int]:
    return [low | high << _AMOUNT_BITS for low, high in block.requested_amount.tolist()]


def _amount(low: np.uint64, high: np.uint64) -> int:
    return int(low) | int(high) << _AMOUNT_BITS


def _account_fields(row: np.void) -> tuple[object, ...]:
    """Return an account row in the order of `_model_fields`."""
    sides = ("debits_posted", "credits_posted", "debits_reserved", "credits_reserved", "overdraft")
    amounts = (_amount(row[f"{side}_low"], row[f"{side}_high"]) for side in sides)
    names = ("created_at", "ledger", "version", "code", "flags", "partner", "position")
    numbers = (int(row[name]) for name in names)
    return (row["id"].tobytes(), *amounts, *numbers)


def _model_fields(name: bytes, account: Account, partner: int) -> tuple[object, ...]:
    debits, credits_ = account.debits, account.credits
    limit = account.given_back if account.flags & AccountFlag.SHARE else account.overdraft
    created = account.created
    return (
        name,
        *(debits.posted, credits_.posted, debits.reserved, credits_.reserved, limit),
        *(created.timestamp, account.ledger, account.version, account.code, account.flags, partner, created.position),
    )
