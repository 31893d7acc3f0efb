"""What the balances must be after a run, summed from the batches themselves: nothing of the engine takes part."""

import numpy as np
import numpy.typing as npt

from engine.core.records import Words


def expected_balances(batches: list[Words], ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Sum each account's credits less debits, shape (n,), minor units; `ids` are the accounts, shape (n, 2)."""
    order = np.argsort(_joined(ids))
    ascending = _joined(ids)[order]
    total = np.zeros(len(ids), np.int64)
    for batch in batches:
        amounts = batch[:, 6].astype(np.int64)
        np.subtract.at(total, order[np.searchsorted(ascending, _joined(batch[:, 2:4]))], amounts)
        np.add.at(total, order[np.searchsorted(ascending, _joined(batch[:, 4:6]))], amounts)
    return total


def _joined(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.void]:
    """View pairs of words as one comparable value each, shape (n,)."""
    return np.ascontiguousarray(words).view([("low", "<u8"), ("high", "<u8")]).ravel()
