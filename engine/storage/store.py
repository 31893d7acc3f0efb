"""The store of one replica: one LMDB environment, and what it holds.

==============  =======================================================================================================
database        contents
==============  =======================================================================================================
`journal`       blocks, the truth (`journal.py`)
`runs`          parts of the sorted runs of known ids (`ids/run_store.py`)
`checkpoint`    chunks of the account table, open reservations (`checkpoint.py`)
`state`         head, manifest of the runs, manifest of the checkpoint
==============  =======================================================================================================
"""

from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from engine.exit_codes import ExitCode, require
from engine.storage.environment import disk_bytes_free, explained, open_environment, writing
from engine.storage.head import Head, read_head
from engine.storage.ids.run_store import RunStore
from engine.storage.journal import Journal

MAP_BYTES_MAX: Final = 64 << 30
"""Address space, not disk."""
MAP_BYTES_SPARE: Final = 256 << 20
"""A store refuses writes early while this much of its map is left: what is logged must still be saved, merges and
checkpoints too. A sixteenth of a smaller map."""
DISK_BYTES_SPARE: Final = 256 << 20
_SPARE_SHARE: Final = 16
STATE: Final = b"state"


class Space(NamedTuple):
    """What room there is."""

    map_bytes_used: int
    map_bytes_max: int
    disk_bytes_free: int
    nearly_full: str | None
    """Why writes should be refused, one sentence; None if there is room."""


class Store:
    """An open store. Its methods may be called on any thread; writes belong to one."""

    def __init__(self, folder: Path, *, map_bytes_max: int = MAP_BYTES_MAX, readonly: bool = False) -> None:
        """Open or create it; an offline tool opens it read-only. Raises `EngineStopped`."""
        require(not readonly or folder.is_dir(), ExitCode.DATA_MISSING, f"there is no store {folder}: check the path")
        self.folder = folder
        self.map_bytes_max = map_bytes_max
        self.environment = open_environment(folder, map_bytes_max=map_bytes_max, readonly=readonly)
        self._map_bytes_spare = min(MAP_BYTES_SPARE, map_bytes_max // _SPARE_SHARE)
        self._page_bytes = self.environment.stat()["psize"]
        with explained(folder):
            self.state = self.environment.open_db(STATE, create=not readonly)
            self.journal = Journal(self.environment, folder)
            self.runs = RunStore(self.environment, self.state, folder)

    def head(self) -> Head:
        """Return the head as last saved."""
        with self.environment.begin() as transaction:
            return read_head(transaction, self.state)

    def sweep(self) -> None:
        """Delete what a process that ended left half-written and nothing refers to."""
        with writing(self.environment, self.folder) as transaction:
            self.runs.sweep(transaction, self.runs.manifest())

    def space(self, disk_bytes_spare: int = DISK_BYTES_SPARE) -> Space:
        """Tell what room is left, so that writes are refused while what is logged can still be saved.

        Pages that LMDB will use again count as used: this errs on the safe side.
        """
        used, free = self._map_bytes_used(), disk_bytes_free(self.folder)
        return Space(used, self.map_bytes_max, free, self._shortage(used, free, disk_bytes_spare))

    @property
    def is_map_short(self) -> bool:
        """Whether the rest of the map is kept for what is logged: nothing that may wait is written any more."""
        return self.map_bytes_max - self._map_bytes_used() < self._map_bytes_spare

    def close(self) -> None:
        """Close the environment; nothing read from it may be used any more."""
        self.environment.close()

    def __enter__(self) -> "Store":
        """Open already; to be closed behind the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _map_bytes_used(self) -> int:
        return (self.environment.info()["last_pgno"] + 1) * self._page_bytes

    def _shortage(self, used: int, free: int, disk_bytes_spare: int) -> str | None:
        if self.map_bytes_max - used < self._map_bytes_spare:
            return f"the map of {self.folder} is nearly full: raise `store_map_bytes_max` and restart"
        if free < disk_bytes_spare:
            return f"the disk of {self.folder} is nearly full: free some space"
        return None
