"""Handing records to the service: in order, each once it is committed by a quorum and durable here."""

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.interface import ApplyRecord
from engine.replication.raft.core import NO_OP
from engine.replication.raft.freshness import Freshness
from engine.replication.raft.parts import Parts
from engine.replication.raft.pending import Pending


class Applying:
    """One per replica. While `paused`, or a snapshot is being installed, records wait in the log, on disk."""

    def __init__(self, parts: Parts, pending: Pending, freshness: Freshness, apply: ApplyRecord) -> None:
        """`apply` is the service's; `pending` is told what was settled, `freshness` how far it is."""
        self._core, self._journal, self._installer = parts.core, parts.journal, parts.installer
        self._pending, self._freshness, self._apply = pending, freshness, apply
        self.paused = False

    def advance(self) -> None:
        """Hand over what can be handed over now."""
        core, journal = self._core, self._journal
        log_index, limit = core.applied_index, min(core.commit_index, journal.durable_index)
        while log_index < limit and not (self.paused or self._installer.active):
            log_index, term, record, _ = journal.entry_at(log_index + 1)
            if len(record) > len(NO_OP):
                self._hand_over(log_index, term, record)
            core.applied_index = log_index
            self._pending.settle(log_index, term)
        self._freshness.applied(log_index)

    def _hand_over(self, log_index: int, term: int, data: bytes | bytearray | memoryview) -> None:
        try:
            self._apply(log_index, term, data if not isinstance(data, bytearray) else memoryview(data))
        except EngineStopped:
            raise
        except Exception as error:
            raise EngineStopped(
                ExitCode.APPLY_FAILED,
                f"record {log_index} is committed but could not be applied ({error!r}): skipping it would fork the "
                "state, so report this, and start again once it is mended",
            ) from error
