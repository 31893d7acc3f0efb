"""Installing a snapshot: noted durably before it begins, so that a crash in its midst is finished at the next start."""

from collections.abc import Callable

from engine.replication.raft.core import RaftCore
from engine.replication.raft.hashes import StateHashes
from engine.replication.raft.identity import Installation, Membership
from engine.replication.raft.journal import RaftJournal


class Installer:
    """While `active`, nothing is applied, appended, or voted for."""

    def __init__(
        self,
        core: RaftCore,
        journal: RaftJournal,
        membership: Membership,
        hashes: StateHashes,
        turn_soon: Callable[[], None],
    ) -> None:
        """One per replica."""
        self._core = core
        self._journal = journal
        self._membership = membership
        self._hashes = hashes
        self._turn_soon = turn_soon
        self.active = False

    def holds(self, log_index: int, term: int) -> bool:
        """Whether a snapshot at this record would bring nothing new: the record is here, or lies below the base."""
        journal = self._journal
        if log_index <= max(journal.base_index, self._core.applied_index):
            return True
        return log_index <= journal.last_index and journal.term_at(log_index) == term

    def begin(self, log_index: int, term: int) -> bool:
        """Note the installation, unless the log has caught up meanwhile."""
        if self.holds(log_index, term):
            return False
        self._membership.note_installation(Installation(log_index, term))
        self.active = True
        return True

    def finish(self, log_index: int, term: int) -> None:
        """The store is the snapshot now, durably: let the log begin behind it."""
        self._journal.restart_at(log_index, term)
        self._core.restarted_at(log_index)
        self._hashes.forget()
        self._membership.note_installation(None)
        self.active = False
        self._turn_soon()
