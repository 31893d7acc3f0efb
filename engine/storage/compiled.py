"""How the storage room's loops are compiled: as the kernel's (`engine.core.compiled`), kept in a folder of their
own."""

from pathlib import Path
from typing import Final

from engine.core.compiled import KERNEL, cache_folder, entries_kept_in, helper, outlined
from engine.core.records import Words

__all__ = ["copy_row", "entry", "helper", "outlined"]

_HERE: Final = Path(__file__).parent
_SOURCES: Final = [path for path in sorted(_HERE.rglob("*.py")) if "import entry" in path.read_text()]

entry: Final = entries_kept_in(cache_folder(_HERE, [*KERNEL, *_SOURCES, _HERE / "ids" / "mapped.py", Path(__file__)]))


@helper
def copy_row(into: Words, at: int, source: Words, number: int) -> None:
    """Copy row `number` of `source` to row `at` of `into`, word by word: assigning it would need Numba's run-time."""
    for word in range(into.shape[1]):
        into[at, word] = source[number, word]
