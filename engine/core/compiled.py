"""How the kernel is compiled: one decorator for its entry points, one for the helpers inside them.

Numba's cache looks only at the file in which a function stands, so a change in a helper's file would leave stale
machine code behind. The cache folder is therefore named after a digest of every source that goes into the kernel.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba
from numba.core import config

Function = TypeVar("Function", bound=Callable[..., Any])

_HERE: Final = Path(__file__).parent
_CONFIG: Any = config  # its attributes are made when it is imported
# Nothing in the kernel makes an array, and the arrays belong to the caller for as long as the call lasts. So Numba's
# run-time is off: it would count references, which takes nine tenths of the time.
_ALL: Final[dict[str, Any]] = {"error_model": "numpy", "_nrt": False}
# Helpers are never called from Python: without wrappers for that they compile in a fraction of the time.
_INNER: Final[dict[str, Any]] = {**_ALL, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def cache_folder(here: Path, sources: Iterable[Path]) -> Path:
    """Return where machine code made of `sources`, and of the constants compiled into it, is kept: below
    `NUMBA_CACHE_DIR` if the environment names one; else beside the byte code in `here`, or in the user's cache."""
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in [*sources, *CONSTANTS])).hexdigest()[:16]
    if _CONFIG.CACHE_DIR:
        return Path(_CONFIG.CACHE_DIR) / f"kernel-{digest}"
    beside = here / "__pycache__" / f"kernel-{digest}"
    try:
        beside.mkdir(parents=True, exist_ok=True)
        probe = beside / ".writable"
        probe.touch()
    except OSError:
        return Path.home() / ".cache" / "posting-engine" / beside.name
    return beside


def _forbid_floats(compiled: Any) -> None:
    """Look through freshly made code: where Numba made a float of mixed integers, money would become inexact."""
    for code in compiled.inspect_llvm().values():
        if " double " in code:
            compiled._cache.flush()  # or the next process would load what this one rejects
            raise TypeError(f"{compiled.__name__} computes with floats: wrap its constants in np.uint64")


def entries_kept_in(folder: Path) -> Callable[[Any], Callable[[Function], Function]]:
    """Return the decorator of entry points whose machine code is kept in `folder`."""

    def entry(signature: Any) -> Callable[[Function], Function]:
        """Compile an entry point for `signature` when its module is imported, or load it from the cache."""

        def compile_now(function: Function) -> Function:
            before = _CONFIG.CACHE_DIR
            _CONFIG.CACHE_DIR = str(folder)
            try:
                compiled = numba.njit(signature, cache=True, nogil=True, **_ALL)(function)
            finally:
                _CONFIG.CACHE_DIR = before
            if compiled.stats.cache_misses:
                _forbid_floats(compiled)
            return cast(Function, compiled)

        return compile_now

    return entry


_CONSTANTS: Final = (
    "compiled faults known limits outcomes placement records chains/plan chains/step_answers chains/word"
)
CONSTANTS: Final = [_HERE / f"{name}.py" for name in _CONSTANTS.split()]
KERNEL: Final = sorted((_HERE / "kernel").glob("*.py"))
entry: Final = entries_kept_in(cache_folder(_HERE, KERNEL))


def helper(function: Function) -> Function:
    """A function that only entry points call: compiled as part of them, inlined by LLVM, never loaded by itself."""
    return cast(Function, numba.njit(forceinline=True, **_INNER)(function))


def outlined(function: Function) -> Function:
    """As `helper`, for the rare paths: kept out of line, so that the hot loop stays small."""
    return cast(Function, numba.njit(**_INNER)(function))
