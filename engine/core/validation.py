"""Request-only validation: the fault of each record of a batch, before anything is logged (DESIGN §4)."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.faults import FAULT_TEXTS, Fault
from engine.core.kernel.faults import find_faults
from engine.core.records import Words

__all__ = ["Fault", "FaultText", "fault_text", "faults_of"]


class FaultText(NamedTuple):
    """How a fault is told."""

    reason: str
    """Its name: `ErrorInfo.reason`."""
    field: str
    """The field of the item, as in the typed messages; "" for the whole item."""
    message: str
    """One sentence."""


def faults_of(batch: Words, hash_seed: int = 0) -> npt.NDArray[np.uint16]:
    """Return the `Fault` of each record, shape (n,): 0 for the valid ones, which can be logged without the others.

    `batch`, shape (n, 16), is C-contiguous, and may be read-only. A fault spreads over its whole chain: the faulty leg
    keeps its reason, the others get CHAIN_INVALID. `hash_seed` keeps crafted ids from making one slow chain.
    """
    rows = len(batch)
    faults = np.empty(rows, np.uint16)
    slots = np.zeros(1 << (2 * rows + 1).bit_length(), np.uint32)
    find_faults(batch, slots, np.uint64(hash_seed), faults)
    return faults


def fault_text(fault: int) -> FaultText:
    """Return the reason, field and sentence of a fault."""
    field, message = FAULT_TEXTS[Fault(fault)]
    return FaultText(Fault(fault).name, field, message)
