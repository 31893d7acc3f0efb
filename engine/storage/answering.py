"""Answers to steps from what is on record: nothing is logged, nothing changes (DESIGN §7).

Words of plain chains that are not holds are made for whole batches as arrays; all others one by one.
"""

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.core.chains.step_answers import (
    ANSWER,
    ON_RECORD,
    SHORT,
    STEP_HOLD,
    AnsweredWord,
    StepAnswers,
    answers_of,
    blank_answers,
)
from engine.core.chains.step_record import sparse_amounts
from engine.core.chains.word import State, Step
from engine.core.known import NO_POSITION
from engine.core.outcomes import Outcome
from engine.core.records import Words
from engine.storage.chain_words import WordReader
from engine.storage.journal import Journal
from engine.storage.step_rows import StepRows, words_of_ids
from engine.storage.stored_rows import StoredRows

_OUTCOME_SHIFT: Final = np.uint64(32)
_OUTCOME_MASK: Final = np.uint64(0xFFFF)
_FIRST_STEPS: Final = np.array([Step.RESERVE, Step.DECIDE, Step.ABORT], np.uint8)
_REFUSED: Final = np.array([State.REFUSED, State.TOMBSTONE], np.uint8)
_NOWHERE: Final = np.uint64(NO_POSITION)
Entries: TypeAlias = npt.NDArray[Any]


class Answering:
    """Answers from the record. Used on the apply thread only."""

    def __init__(self, words: WordReader, journal: Journal) -> None:
        """Read words with `words`, rows of `journal`."""
        self._words, self._journal = words, journal

    def asked(self, steps: npt.NDArray[np.void]) -> StepAnswers:
        """Answer each of `steps`, shape (s,), dtype `STEP`, with the word on record under its chain's id."""
        return self.on_record(steps, self._first(steps))

    def _first(self, steps: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
        """Return where the first row under each step's chain id is."""
        return self._words.first_positions(words_of_ids(steps["chain_id"])).astype(np.uint64)  # -1: nowhere

    def complete(
        self,
        steps: npt.NDArray[np.void],
        answers: StepAnswers,
        changed: npt.NDArray[np.bool_],
        kinds: frozenset[int],
    ) -> StepAnswers:
        """Answer from the record those of `steps` that have not `changed`, shape (s,), and EXPIREs; the others keep
        their answers.

        The answers of those name the position of a row whose chain's word is to be told. kinds: the steps that occur.
        """
        if Step.EXPIRE not in kinds and changed.all():
            return answers
        short = (answers.answers["flags"] & SHORT) != 0  # says so itself, whatever is on record
        rest = np.flatnonzero(~(changed | short) | (steps["step"] == Step.EXPIRE))
        if not len(rest):
            return answers
        positions = answers.answers["position"][rest].copy()
        nowhere = np.flatnonzero(positions == _NOWHERE)  # it may have been closed by a step of the same record
        if len(nowhere):
            positions[nowhere] = self._first(steps[rest[nowhere]])
        told = self.on_record(steps[rest], positions)
        told.answers["flags"] &= ~np.where(changed[rest], np.uint8(ON_RECORD), np.uint8(0))
        return merge_answers(answers, rest, told)

    def on_record(self, steps: npt.NDArray[np.void], positions: npt.NDArray[np.uint64]) -> StepAnswers:
        """Answer each of `steps`, shape (s,), with the word for the chain of the row at its position, shape (s,)."""
        blank = blank_answers(len(steps))
        blank.answers["flags"] = ON_RECORD
        known = np.flatnonzero(positions != _NOWHERE)
        if not len(known):
            return blank
        places, index = np.unique(positions[known], return_inverse=True)
        stored = self._journal.stored_at(places)
        found = self._words.step_rows(stored.rows, places)
        plain = np.isin(found.step, _FIRST_STEPS) & (found.legs == 1)
        states = self._words.states(stored.rows, found)
        plain &= states != State.HELD
        same = (found.digest[index] == words_of_ids(steps["digest"][known])).all(axis=1)
        quick = plain[index] & same
        answers = merge_answers(
            blank, known[quick], self._plain(stored, found, states, places, index[quick]) if quick.any() else blank
        )
        slow = [
            AnsweredWord(self._words.word_at(int(positions[number])), ON_RECORD, steps["digest"][number].tobytes())
            for number in known[~quick]
        ]
        return merge_answers(answers, known[~quick], answers_of(slow)) if slow else answers

    def _plain(
        self,
        stored: StoredRows,
        found: StepRows,
        states: npt.NDArray[np.uint8],
        places: npt.NDArray[np.uint64],
        which: npt.NDArray[np.int64],
    ) -> StepAnswers:
        """Answer with the words of plain chains: `which`, shape (k,), of the rows."""
        state = states[which]
        answers = np.zeros(len(which), ANSWER)
        answers["state"], answers["flags"] = state, ON_RECORD
        refused = np.isin(state, _REFUSED)
        outcomes = (stored.rows[which, 15] >> _OUTCOME_SHIFT) & _OUTCOME_MASK
        answers["reason"] = np.where(refused, outcomes, int(Outcome.UNSPECIFIED))
        answers["position"], answers["timestamp"] = places[which], stored.rows[which, 13]
        answers["digest"] = np.ascontiguousarray(found.digest[which]).view("V16").reshape(-1)
        moved, back = stored.rows[which, 6:8].copy(), found.given_back[which].copy()
        self._overlay(found.chain_id[which], np.flatnonzero(state == State.COMMITTED), moved, back)
        asked = stored.requested[which]
        nothing = refused | (state == State.RELEASED)
        moved[nothing], back[nothing] = asked[nothing], np.uint64(0)
        amounts = sparse_amounts(asked, moved, back)
        np.add.at(answers["amounts"], amounts["row"], 1)
        amounts["row"] = 0
        return StepAnswers(answers, amounts, np.empty(0, STEP_HOLD), b"")

    def _overlay(self, chain_ids: Words, committed: npt.NDArray[np.int64], moved: Words, back: Words) -> None:
        """Put what was decided over what was secured."""
        if not len(committed):
            return
        later = self._words.later_positions(chain_ids[committed])
        places, index = np.unique(later.astype(np.uint64), return_inverse=True)
        rows = self._journal.stored_at(places).rows
        found = self._words.step_rows(rows, places)
        moved[committed], back[committed] = rows[index, 6:8], found.given_back[index]


def merge_answers(answers: StepAnswers, which: npt.NDArray[np.int64], others: StepAnswers) -> StepAnswers:
    """Return `answers` with those `which`, shape (k,), ascending, replaced by `others`, k of them, in their order."""
    if not len(which):
        return answers
    merged = answers.answers.copy()
    merged[which] = others.answers
    theirs = np.zeros(len(merged), np.bool_)
    theirs[which] = True

    def interleaved(field: str, mine: Entries, other: Entries) -> Entries:
        owner = np.repeat(theirs, merged[field])
        entries = np.empty(len(owner), mine.dtype)
        entries[owner] = other
        entries[~owner] = mine[np.repeat(~theirs, answers.answers[field])]
        return entries

    chains = interleaved("chain_bytes", *(np.frombuffer(one.chains, np.uint8) for one in (answers, others)))
    return StepAnswers(
        merged,
        interleaved("amounts", answers.amounts, others.amounts),
        interleaved("holds", answers.holds, others.holds),
        chains.tobytes(),
    )
