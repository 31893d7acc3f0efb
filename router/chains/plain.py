"""Plain chains between two groups, driven together as arrays: a request per step and group, no object per transfer.

What is sent next, and when callers may be told, comes from `engine.core.chains.plain.plain_table`, which is derived
from the one driver. A row whose groups answer with another chain than its own leaves the array: it is for
`router.chains.driven`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.core.chains.plain import PlainTable, plain_digests, plain_families
from engine.core.chains.step_answers import ON_RECORD as ANSWERED_BEFORE
from engine.core.chains.step_answers import OTHER_CHAIN, SHORT, plain_amounts
from engine.core.chains.step_record import StepRecord, plain_steps
from engine.core.chains.word import State, Step
from engine.core.outcomes import Outcome, ResultFlag
from engine.core.records import Words
from engine.rpc.faults import CallFailed, Fault, Logged, Reason, fate_unknown
from engine.rpc.steps import ON_RECORD
from router.chains.batch import Rows
from router.chains.sending import Lane, Replies, SentAs

OTHER: Final = 0
DECIDER: Final = 1
HOLDS: Final = 1
"""The family of RESERVEs (`plain_families`)."""
STUCK_PAUSE_S: Final = 0.02
_TO_DECIDER: Final = np.zeros(len(Step), np.bool_)
_TO_DECIDER[[Step.DECIDE, Step.ABORT, Step.ASK]] = True
_NONE, _RESERVE, _HOLD, _ABORT = (np.uint8(step) for step in (Step.NONE, Step.RESERVE, Step.HOLD, Step.ABORT))
_REFUSED: Final = np.uint8(State.REFUSED)
_MISSING: Final = np.uint16(Outcome.FOLLOWED_MISSING)
_UNSAID: Final = np.uint8(State.NONE)
_NO_REASON: Final = np.uint16(0)
_CARRIES: Final = np.zeros(len(Step), np.bool_)
_CARRIES[[Step.DECIDE, Step.COMMIT, Step.HOLD]] = True
"""Steps that tell a group what the other one secured or decided."""
_ALL: Final = slice(None)
_Chosen: TypeAlias = Rows | slice
"""Rows of a run; `_ALL` where it is all of them, because then nothing has to be copied."""
_TOOK_EFFECT: Final = np.zeros(len(State), np.bool_)
_TOOK_EFFECT[[State.POSTED, State.HELD]] = True
_OBEYED: Final = np.zeros(len(State), np.bool_)
_OBEYED[[State.COMMITTED, State.HELD, State.RELEASED, State.REFUSED]] = True


class Ways(NamedTuple):
    """How a run reaches its two groups."""

    other: Lane
    decider: Lane


Reroutes = Callable[[Words], Awaitable[npt.NDArray[np.bool_]]]
"""Says which rows, shape (n, 16), run otherwise by the newest map of split accounts."""


class PlainRun:
    """Plain chains between one pair of groups, n of them.

    All arrays are by row. After `until_answered`, each row has an outcome, or a fault, or is for others: `driven`,
    `stale`.
    """

    def __init__(
        self,
        words: Words,
        ways: Ways,
        table: PlainTable,
        sent_as: SentAs,
        deadline_ns: int,
        reroutes: "Reroutes | None" = None,
    ) -> None:
        """words: shape (n, 16). deadline_ns: UTC, after which couriers of three groups or more may abort."""
        self._reroutes = reroutes
        count = len(words)
        self.words, self._ways, self._table, self._sent_as = words, ways, table, sent_as
        self._sides = np.empty((count, 2), np.uint16)
        self._sides[:] = ways.other.group, ways.decider.group
        self._digests = plain_digests(words, self._sides)
        self._families = plain_families(words)
        self._deadline_ns = deadline_ns
        self._states = np.zeros((2, count), np.uint8)
        self._reasons = np.zeros((2, count), np.uint16)
        self._amounts = np.repeat(words[None, :, 6:8], 2, axis=0)
        self._given_back = np.zeros((2, count, 2), np.uint64)
        self._moves_as_asked = True
        """No group has named an amount other than the one asked for."""
        self._asked = np.zeros(count, np.bool_)
        self._live = np.ones(count, np.bool_)
        self.replayed = np.zeros(count, np.bool_)
        """The first step that was sent was answered from the record."""
        self.positions = np.zeros(count, np.uint64)
        self.timestamps = np.zeros(count, np.uint64)
        self.driven: list[int] = []
        """Rows that met another chain, or a bucket that is short."""
        self.short: set[int] = set()
        """Of these, the ones that met a bucket that is short: a group may have secured them."""
        self._missing: list[int] = []
        self.stale: list[int] = []
        """Rows that were placed by an old placement: nothing of them is logged."""
        self.faults: dict[int, Fault] = {}
        self.log_indexes: dict[int, int] = {}

    async def until_answered(self, deadline_s: float) -> None:
        """Drive until every caller can be told; `deadline_s` is on the loop's clock."""
        loop = asyncio.get_running_loop()
        while (waiting := self._waiting()).any():
            before = self._states.copy()
            await self._round(deadline_s)
            if self._missing:
                await self._reroute()
            if loop.time() + STUCK_PAUSE_S >= deadline_s:
                self._give_up(self._waiting())
            elif (self._states == before).all() and (self._waiting() == waiting).all():
                await asyncio.sleep(STUCK_PAUSE_S)

    async def to_the_end(self, deadline_s: float) -> None:
        """Send what is left to send once callers have been told; what fails is the couriers'."""
        while self._steps().any():
            before = self._states.copy()
            await self._round(deadline_s)
            if not (self._states != before).any():
                return

    @property
    def has_holds(self) -> bool:
        """Whether callers may soon commit or release something of this."""
        return bool((self._families == HOLDS).any())

    def rows_left(self) -> int:
        """Return how many rows `to_the_end` has something to send for."""
        return int(np.count_nonzero(self._steps()))

    def outcomes(self) -> npt.NDArray[np.uint16]:
        """Return the outcome of each row; without meaning where it has a fault or is for others."""
        took_effect = _TOOK_EFFECT[self._states[DECIDER]]
        outcomes: npt.NDArray[np.uint16] = np.where(took_effect, np.uint16(Outcome.POSTED), self._reasons[DECIDER])
        return outcomes

    def flags(self) -> npt.NDArray[np.uint16]:
        """Return each row's `ResultFlag`s."""
        took_effect = _TOOK_EFFECT[self._states[DECIDER]]
        flags: npt.NDArray[np.uint16] = np.zeros(len(self.words), np.uint16)
        flags[self.replayed] |= np.uint16(ResultFlag.REPLAYED)
        flags[took_effect & ~_OBEYED[self._states[OTHER]]] |= np.uint16(ResultFlag.IN_FLIGHT)
        return flags

    # ---- a round ----

    def _waiting(self) -> npt.NDArray[np.bool_]:
        answered: npt.NDArray[np.bool_] = self._table.answered[
            self._families, self._states[OTHER], self._states[DECIDER]
        ]
        return self._live & ~answered

    def _steps(self) -> npt.NDArray[np.uint8]:
        steps: npt.NDArray[np.uint8] = self._table.step[self._families, self._states[OTHER], self._states[DECIDER]]
        return np.where(self._live, steps, _NONE)

    async def _round(self, deadline_s: float) -> None:
        steps = self._steps()
        to_decider = _TO_DECIDER[steps]
        if steps.all() and (to_decider == to_decider[0]).all():
            await self._send(DECIDER if to_decider[0] else OTHER, _ALL, steps, deadline_s)
            return
        sent = steps != _NONE
        parts = [(OTHER, np.flatnonzero(sent & ~to_decider)), (DECIDER, np.flatnonzero(sent & to_decider))]
        await asyncio.gather(*(self._send(at, rows, steps[rows], deadline_s) for at, rows in parts if len(rows)))

    async def _send(self, at: int, rows: _Chosen, steps: npt.NDArray[np.uint8], deadline_s: float) -> None:
        lane, fresh = self._ways[at], not self._asked[rows].any()
        record = self._record(at, rows, steps)
        try:
            if fresh:
                replies = await lane.ask(record, self._sent_as, deadline_s)
            else:
                replies = await lane.insist(record, self._sent_as._replace(placement_epoch=ON_RECORD), deadline_s)
        except CallFailed as failed:
            self._failed(rows, failed.fault)
        else:
            self._learn(at, lane, rows, replies)

    async def _reroute(self) -> None:
        """Where the other group does not know what a transfer follows, its accounts may have been split since this
        router read its map, and the original lie in the decider alone: that must not be told to refuse."""
        rows, self._missing = np.array(self._missing), []
        if self._reroutes is None:
            return
        moved = rows[await self._reroutes(self.words[rows])]
        self.stale += moved.tolist()
        self._live[moved] = False

    def _record(self, at: int, rows: _Chosen, steps: npt.NDArray[np.uint8]) -> StepRecord:
        """The amounts and reasons that a group is told are the other one's."""
        source, words = OTHER if at == DECIDER else DECIDER, self.words[rows]
        amounts = back = None
        if not self._moves_as_asked:
            carries = _CARRIES[steps][:, None]
            amounts = np.where(carries, self._amounts[source, rows], words[:, 6:8])
            back = np.where(carries, self._given_back[source, rows], np.uint64(0))
        return plain_steps(
            words,
            self._sides[rows],
            self._digests[rows],
            steps,
            time_ns=self._times(rows, steps),
            reasons=np.where(steps == _ABORT, self._reasons[source, rows], _NO_REASON),
            amounts=amounts,
            given_back=back,
        )

    def _times(self, rows: _Chosen, steps: npt.NDArray[np.uint8]) -> int | npt.NDArray[np.uint64]:
        reserves = steps == _RESERVE
        if reserves.all():
            return self._deadline_ns
        times = np.where(steps == _HOLD, self.timestamps[rows], np.uint64(0))
        times[reserves] = self._deadline_ns
        return times

    # ---- what comes back ----

    def _learn(self, at: int, lane: Lane, rows: _Chosen, replies: Replies) -> None:
        answers = replies.answers.answers
        states, flags = answers["state"], answers["flags"]
        if replies.log_index:
            self.log_indexes[lane.group] = max(replies.log_index, self.log_indexes.get(lane.group, 0))
        known = ((flags & ANSWERED_BEFORE) != 0) & (states != _UNSAID)
        self.replayed[rows] |= known & ~self._asked[rows]
        self._asked[rows] = True
        self._states[at, rows] = states
        self._reasons[at, rows] = answers["reason"]
        if len(replies.answers.amounts) or not self._moves_as_asked:
            moved = plain_amounts(replies.answers, self.words[rows, 6:8])
            self._amounts[at, rows], self._given_back[at, rows] = moved
            self._moves_as_asked = False
        if at == DECIDER:
            self.positions[rows], self.timestamps[rows] = answers["position"], answers["timestamp"]
        other = (flags & (OTHER_CHAIN | SHORT)) != 0
        if at == OTHER:
            missing = (answers["state"] == _REFUSED) & (answers["reason"] == _MISSING)
            self._missing += self._numbers(rows)[missing].tolist()
        if other.any():
            met = self._numbers(rows)[other]
            self.driven += met.tolist()
            self._live[met] = False
            self.short.update(self._numbers(rows)[(flags & SHORT) != 0].tolist())

    def _numbers(self, rows: _Chosen) -> Rows:
        return np.arange(len(self.words)) if isinstance(rows, slice) else rows

    def _failed(self, rows: _Chosen, fault: Fault) -> None:
        """Once a step may have been logged, no fault of a later one can say that nothing was."""
        for row in self._numbers(rows).tolist():
            if self._is_answered(row):
                continue
            if not self._asked[row] and fault.reason == Reason.PLACEMENT_STALE:
                self.stale.append(row)
            elif self._asked[row] and fault.logged is Logged.NO:
                self.faults[row] = fate_unknown(f"{fault.message} (the transfer is on its way; ask again with its id)")
            else:
                self.faults[row] = fault
        self._live[rows] = False

    def _is_answered(self, row: int) -> bool:
        return bool(self._table.answered[self._families[row], self._states[OTHER, row], self._states[DECIDER, row]])

    def _give_up(self, waiting: npt.NDArray[np.bool_]) -> None:
        fault = fate_unknown("the groups of this transfer gave no outcome within the deadline; ask again with its id")
        self.faults.update((row, fault) for row in np.flatnonzero(waiting).tolist())
        self._live[waiting] = False
