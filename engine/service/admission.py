"""Admission: a bounded queue of two lanes in front of the log (DESIGN §10).

What is admitted is bounded by bytes and by measured age: once the oldest submission of a lane has waited too long, the
lane admits no more, however short it is. Whoever is refused here is told before anything of it is logged.
"""

from collections import deque
from typing import Final

from engine.core.records import RECORD_BYTES
from engine.rpc.faults import CallFailed, overloaded
from engine.service.submission import Lane, Submission

LIVE_RECORDS_PER_BULK_RECORD: Final = 3
"""At most so many log records start with the live lane while bulk waits, so that bulk is slow, not starved."""


class AdmissionQueue:
    """Submissions that wait to be logged, in order within each lane."""

    def __init__(self, *, bytes_max: int, age_s_max: float, live_rows_max: int) -> None:
        self.live: deque[Submission] = deque()
        self.bulk: deque[Submission] = deque()
        self._bytes_max = bytes_max
        self._age_s_max = age_s_max
        self._live_rows_max = live_rows_max
        self._live_firsts = 0
        self.waiting_rows = 0
        self.refused_rows = 0
        """Of submissions that were not admitted."""

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self.live or self.bulk)

    def admit(self, submission: Submission, now_s: float) -> None:
        """Put a submission at the end of its lane; raises `CallFailed` (RESOURCE_EXHAUSTED) where that is full."""
        lane = self.live if self.lane_of(submission) is Lane.LIVE else self.bulk
        self.refused_rows += submission.count  # until it is admitted
        if (self.waiting_rows + submission.count) * RECORD_BYTES > self._bytes_max:
            raise CallFailed(overloaded(f"{self.waiting_rows} transfers wait to be logged, as many as may; slow down"))
        if lane and now_s - lane[0].arrived_s > self._age_s_max:
            age_ms = int((now_s - lane[0].arrived_s) * 1000)
            raise CallFailed(overloaded(f"transfers wait {age_ms} ms to be logged, longer than allowed; slow down"))
        lane.append(submission)
        self.refused_rows -= submission.count
        self.waiting_rows += submission.count

    def lane_of(self, submission: Submission) -> Lane:
        """Return the lane that a submission takes: its caller's, or by its size."""
        if submission.caller.lane is not None:
            return submission.caller.lane
        return Lane.LIVE if submission.count <= self._live_rows_max else Lane.BULK

    def age_s(self, now_s: float) -> float:
        """Return how long the oldest submission has waited, seconds."""
        return max((now_s - lane[0].arrived_s for lane in (self.live, self.bulk) if lane), default=0.0)

    def lanes_in_turn(self) -> "tuple[deque[Submission], deque[Submission]]":
        """Return the lanes in the order in which the next log record is filled from them."""
        if self.live and self.bulk:
            if self._live_firsts >= LIVE_RECORDS_PER_BULK_RECORD:
                self._live_firsts = 0
                return self.bulk, self.live
            self._live_firsts += 1
        return self.live, self.bulk

    def drain(self) -> list[Submission]:
        """Remove and return everything that waits."""
        drained = [*self.live, *self.bulk]
        self.live.clear()
        self.bulk.clear()
        self.waiting_rows = 0
        return drained
