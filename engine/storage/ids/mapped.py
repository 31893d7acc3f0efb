"""Arrays of u64 words by address, for compiled loops that search many values of LMDB in one call.

A large LMDB value lies in overflow pages of its own. LMDB writes to fresh pages only and never moves a value: its
address stands until its key is deleted or overwritten, whatever other transactions do meanwhile. The owner of the keys
(the apply thread) is the only one that deletes them, and drops the addresses when it does. Small values share a page
with others and do move: they are copied.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from engine.core.records import Words

COPIED_BYTES_MAX: Final = 64 << 10
"""Values up to this are copied; LMDB gives overflow pages to all above half a page, and pages have up to 64 KiB."""


class MappedWords(NamedTuple):
    """An array that stays where it is."""

    address: int
    entries: int
    first_key: int
    """The first word of the first entry."""
    owner: object
    """Keeps copied words alive; None for words in LMDB's map."""


def mapped(value: "memoryview | bytes | Words", width: int) -> MappedWords:
    """Note the address of a value's words, of `width` words an entry, or of a copy of them where the value may move."""
    words: npt.NDArray[np.uint64] = np.frombuffer(value, np.uint64).reshape(-1, width)
    owner = None
    if isinstance(value, np.ndarray):
        owner = value
    elif words.nbytes <= COPIED_BYTES_MAX:
        owner = words = words.copy()
    return MappedWords(words.__array_interface__["data"][0], len(words), int(words[0, 0]), owner)


@intrinsic
def _load(typing_context: Any, address: Any, number: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load(builder.gep(pointer, [arguments[1]]))

    return types.uint64(types.uint64, types.int64), generate


word_at: Final[Callable[[np.uint64, int], np.uint64]] = cast(Any, _load)
"""Load the u64 word with this number behind an address; for compiled callers only."""
