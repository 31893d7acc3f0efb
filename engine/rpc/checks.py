"""Checking the items of a batch from the request alone: `engine.core.validation`, told as faults."""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import Kind, Words
from engine.core.validation import fault_text, faults_of
from engine.rpc.faults import Fault, invalid

_COMMAND_KINDS = np.uint64((0x100 - Kind.CREATE_ACCOUNT) << 16)
"""The bits that tell kinds from CREATE_ACCOUNT (64) on from those of transfers, below."""
_WITHOUT_KIND = ~np.uint64(0xFF << 16)
_KIND_WORD: Final = 15


def faults_in(words: Words, unreadable: list[Fault]) -> list[Fault]:
    """Return the fault of each invalid item, by ascending item, for rows of shape (n, 16).

    `unreadable` are the faults of items that could not become rows; they stand, and spread over their chains.
    """
    codes = faults_of(words)
    items = np.flatnonzero(codes)
    if not len(items):
        return unreadable
    known = {fault.item: fault for fault in unreadable}
    return [known.get(int(item)) or _told(codes, int(item)) for item in items]


def refuse_commands(words: Words) -> None:
    """Take the kind from rows that are no transfers, in place: account commands have calls, and roles, of their own."""
    commands = words[:, _KIND_WORD] & _COMMAND_KINDS
    if commands.any():
        words[commands != 0, _KIND_WORD] &= _WITHOUT_KIND


def _told(codes: npt.NDArray[np.uint16], item: int) -> Fault:
    reason, field, message = fault_text(int(codes[item]))
    return invalid(reason, message, field=field, item=item)
