"""A replicated log whose every step the test decides: nothing commits until it says so."""

from engine.core.log_record import LogRecord, decode_log_record
from engine.replication.interface import ApplyRecord, LogStatus, NotProposed, Proposed, Role


class ScriptedLog:
    """Keeps what is proposed; the test commits, loses or refuses it."""

    def __init__(self) -> None:
        self.proposed: list[tuple[bytes, Proposed]] = []
        self.refuse: NotProposed | None = None
        self.last_index = 0

    def propose(self, record: bytes, proposed: Proposed) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.proposed.append((record, proposed))

    def commit_next(self) -> tuple[int, LogRecord]:
        """Commit the oldest proposal; its log index and the record."""
        record, proposed = self.proposed.pop(0)
        self.last_index += 1
        proposed(self.last_index)
        return self.last_index, decode_log_record(record)

    def lose_next(self) -> None:
        """Tell the oldest proposal's fate as unknown."""
        _, proposed = self.proposed.pop(0)
        proposed(None)

    def records(self) -> list[LogRecord]:
        """What waits to be committed."""
        return [decode_log_record(record) for record, _ in self.proposed]

    async def start(self, apply: ApplyRecord, applied_index: int) -> None:
        """Part of the interface that the batcher never uses."""

    async def stop(self) -> None:
        """Likewise."""

    def barrier(self, done: Proposed) -> None:
        """Likewise."""

    def truncate_below(self, log_index: int) -> None:
        """Likewise."""

    def transfer_leadership(self, to: str | None = None) -> None:
        """Likewise."""

    def on_role_change(self, changed: object) -> None:
        """Likewise."""

    def status(self) -> LogStatus:
        return LogStatus("a", Role.LEADER, "a", 1, 1, *[self.last_index] * 4, 0, ())
