"""Checking the items of a batch from the request alone: `engine.core.validation`, told as faults."""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import Flag, Kind, Words
from engine.core.validation import fault_text, faults_of
from engine.rpc.faults import Fault, invalid

_COMMAND_KINDS = np.uint64((0x100 - Kind.CREATE_ACCOUNT) << 16)
"""The bits that tell kinds from CREATE_ACCOUNT (64) on from those of transfers, below."""
_WITHOUT_KIND = ~np.uint64(0xFF << 16)
_KIND_WORD: Final = 15
_LINKED: Final = np.uint64(Flag.LINKED << 24)


def faults_in(words: Words, unreadable: list[Fault]) -> list[Fault]:
    """Return the fault of each invalid item, by ascending item, for rows of shape (n, 16).

    `unreadable` are the faults of items that could not become rows, or that this group cannot take; they stand. The
    former spread over their chains.
    """
    codes = faults_of(words)
    (items,) = codes.nonzero()
    if not items.size:
        return unreadable
    found = {int(item): _told(codes, int(item)) for item in items} | {fault.item or 0: fault for fault in unreadable}
    return [found[item] for item in sorted(found)]


def spread_over_chains(words: Words, marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Mark, with each row that is, all legs of its chain: shape (n,) both, for rows of shape (n, 16)."""
    if not marked.any():
        return marked
    meta = words[:, _KIND_WORD]
    links_on = ((meta & _LINKED) != 0) & ((meta & _COMMAND_KINDS) == 0)
    unit = np.concatenate(([0], np.cumsum(~links_on[:-1])))
    found: npt.NDArray[np.bool_] = np.isin(unit, unit[marked])
    return found


def refuse_commands(words: Words) -> None:
    """Take the kind from rows that are no transfers, in place: account commands have calls, and roles, of their own."""
    meta = words[:, _KIND_WORD]
    if np.bitwise_or.reduce(meta) & _COMMAND_KINDS:
        words[meta & _COMMAND_KINDS != 0, _KIND_WORD] &= _WITHOUT_KIND


def _told(codes: npt.NDArray[np.uint16], item: int) -> Fault:
    reason, field, message = fault_text(int(codes[item]))
    return invalid(reason, message, field=field, item=item)
