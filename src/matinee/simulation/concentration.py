"""How unevenly something is spread."""

import numpy as np
from numpy.typing import NDArray


def gini(counts: "NDArray[np.integer] | NDArray[np.floating]") -> float:
    """The Gini coefficient: 0 where all are equal, towards 1 where one has everything; 0 of nothing.

    G = Σ_k (2k − n − 1)·x_(k) / (n·Σx) over the counts in ascending order, k from 1.
    """
    ordered = np.sort(counts)
    total = float(ordered.sum())
    if total == 0:
        return 0.0
    n = ordered.size
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))


def top_share(counts: "NDArray[np.integer] | NDArray[np.floating]", share: float) -> float:
    """The part of the total that the greatest counts have, `share` of all of them, at least one; 0 of nothing."""
    ordered = np.sort(counts)
    total = float(ordered.sum())
    n = max(1, round(share * ordered.size))
    return float(ordered[-n:].sum() / total) if total else 0.0
