"""Exit codes of every process of the engine: each failure that ends one has a name, a number and one sentence."""

from enum import IntEnum


class ExitCode(IntEnum):
    """For ever: append members, never renumber. 0 is a clean stop; 1 and 2 are left to the shell's habits."""

    OK = 0
    """A clean stop."""
    FAILED = 1
    """Anything unforeseen; a bug. The message says where."""
    USAGE = 2
    """The command line is not understood."""
    CONFIG_INVALID = 64
    """cluster.yml is missing, unreadable, or lacks a key."""
    ADDRESS_IN_USE = 65
    """Another process holds the port."""
    CLUSTER_MISMATCH = 66
    """The data folder belongs to another cluster, group or replica."""
    DATA_DAMAGED = 67
    """A checksum, a hash or an index does not fit: restore or replace this replica."""
    DISK_FULL = 68
    """No space is left for the log or the store."""
    SYNC_FAILED = 69
    """The disk refused an fsync; what was written may be gone, so nothing is retried."""
    APPLY_FAILED = 70
    """A committed record could not be applied; skipping it would fork the state."""
    HASH_DIVERGED = 71
    """This replica's state differs from its leader's at the same log index."""
    FOLDER_IN_USE = 72
    """Another process has the data folder open."""
    DATA_MISSING = 73
    """A log or snapshot that the data folder refers to is not there (a wiped replica, say)."""
    UNREACHABLE = 74
    """No server answered within the deadline."""
    CHECK_FAILED = 75
    """`verify`, `audit` or `reconcile` found a difference."""
    REFUSED = 76
    """The command was answered with a refusal or a fault."""
    MAP_FULL = 77
    """The store's map is full: raise `store_map_bytes_max` and start again."""


class EngineStopped(Exception):
    """Ends the process: `code` is its exit status, the text one sentence that says what happened and what to do."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def require(condition: bool, code: ExitCode, message: str) -> None:
    """Check what must hold even under `python -O`; raise `EngineStopped(code, message)` where it does not."""
    if not condition:
        raise EngineStopped(code, message)
