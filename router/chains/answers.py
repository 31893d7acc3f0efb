"""What a batch's rows got: outcomes, faults, or a placement that was too old."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.driver import Answer, outcomes
from engine.core.known import RESULT
from engine.core.outcomes import ResultFlag
from engine.rpc.answers import no_results
from engine.rpc.faults import CallFailed, Fault, Reason, at_item
from router.chains.batch import Rows
from router.chains.driven import DrivenChain
from router.chains.network import LocalAnswers
from router.chains.plain import PlainRun


class BatchAnswers:
    """The answers of one batch, filled in by whoever posts a part of it."""

    def __init__(self, count: int) -> None:
        """Nothing is answered yet."""
        self.results = no_results(count)
        """Dtype `RESULT`, shape (n,)."""
        self.faults: dict[int, Fault] = {}
        """By row: where there is a fault instead of an outcome."""
        self.stale: list[int] = []
        """Rows that were placed by an old placement, and are to be posted again under a new one."""
        self.log_indexes: dict[int, int] = {}
        """By group, the log index at which these outcomes are applied."""

    def take_over(self, rows: Rows, again: "BatchAnswers") -> None:
        """Take over what a later run did for some of these rows."""
        self.results[rows] = again.results
        self.faults.update((int(rows[at]), at_item(fault, int(rows[at]))) for at, fault in again.faults.items())
        self.stale = rows[again.stale].tolist()
        for group, log_index in again.log_indexes.items():
            self.note_log_index(group, log_index)

    def give_up(self, rows: Rows, fault: Fault) -> None:
        """Let some stale rows have a fault after all."""
        self.faults.update((row, at_item(fault, row)) for row in rows.tolist())
        self.stale = []

    def take_local(self, group: int, rows: Rows, found: LocalAnswers) -> "ToldLocally":
        """Take a group's answers over."""
        self.results[rows] = found.results
        for row in rows.tolist() if self.faults else ():
            self.faults.pop(row, None)
        self.faults.update((int(rows[fault.item or 0]), fault) for fault in found.faults)
        self.note_log_index(group, found.log_index)
        flags = found.results["flags"]
        missing = [fault.item or 0 for fault in found.faults if fault.reason == Reason.BUCKET_MISSING]
        elsewhere, short = (flags & ResultFlag.DECIDED_ELSEWHERE) != 0, (flags & ResultFlag.SHORT) != 0
        return ToldLocally(elsewhere, short, rows[missing])

    def take_plain(self, rows: Rows, run: PlainRun, decider: int) -> None:
        """Take the answers of a run of plain chains over."""
        results = np.empty(len(rows), RESULT)
        results["position"], results["timestamp"] = run.positions, run.timestamps
        results["outcome"], results["flags"], results["group"] = run.outcomes(), run.flags(), decider
        self.results[rows] = results
        for at, fault in run.faults.items():
            self.fail(rows[at : at + 1], fault)
        self.stale += rows[run.stale].tolist()
        for group, log_index in run.log_indexes.items():
            self.note_log_index(group, log_index)

    def take_driven(self, rows: Rows, driven: DrivenChain, told: Answer, *, replayed: bool) -> None:
        """Take the answer of one chain over; `replayed`: whatever its own steps say."""
        own, word = driven.own, told.word
        results = no_results(len(rows))
        results["outcome"], results["group"] = outcomes(own, told), word.chain.decider
        if word.chain.rows == own.rows:
            legs = np.arange(len(rows), dtype=np.uint64)
            results["position"], results["timestamp"] = word.position + legs, word.timestamp_ns + legs
            results["flags"] = (ResultFlag.REPLAYED if replayed or driven.replayed else 0) | (
                ResultFlag.IN_FLIGHT if told.in_flight else 0
            )
        self.results[rows] = results
        for group, log_index in driven.log_indexes.items():
            self.note_log_index(group, log_index)

    def fail(self, rows: Rows, fault: Fault) -> None:
        """Let rows have a fault, or be stale if that is what it says."""
        if fault.reason == Reason.PLACEMENT_STALE:
            self.stale += rows.tolist()
            return
        self.results[rows] = no_results(len(rows))
        self.faults.update((row, at_item(fault, row)) for row in rows.tolist())

    def fail_all(self, rows: Rows, failed: CallFailed) -> None:
        """Let rows have the fault of a call."""
        self.fail(rows, failed.fault)

    def note_log_index(self, group: int, log_index: int) -> None:
        """Note that a group's outcomes are applied at this log index, or earlier; 0: none was told."""
        if log_index:
            self.log_indexes[group] = max(log_index, self.log_indexes.get(group, 0))


class ToldLocally(NamedTuple):
    """What a group said beside outcomes."""

    elsewhere: npt.NDArray[np.bool_]
    """Shape (n,): rows that another group decides."""
    short: npt.NDArray[np.bool_]
    """Shape (n,): rows of units that a bucket was short for."""
    missing: Rows
    """Rows for which it lacks a bucket; they have that fault."""
