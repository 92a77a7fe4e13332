"""Metrics of ranked lists, for many users at once.

All take `hits` and `n_relevant`. `hits` is bool, shape (u, k) with k at least 1, true at [row, r] where the item at
rank r + 1 of that user's list is relevant; a list that is shorter than k is filled with false. `n_relevant`, int,
shape (u,), at least 1, is how many items are relevant to the user in all. Relevance is binary. Each returns
float64, shape (u,), from 0 to 1.
"""

import numpy as np
from numpy.typing import NDArray

Hits = NDArray[np.bool_]
Counts = NDArray[np.integer]
PerUser = NDArray[np.float64]


def precision(hits: Hits, n_relevant: Counts) -> PerUser:  # noqa: ARG001 - the metrics share one signature
    """P@k = (relevant among the first k) / k. A list shorter than k is still divided by k.

    Manning, Raghavan and Schütze 2008, "Introduction to Information Retrieval", section 8.4.
    """
    per_user: PerUser = hits.mean(axis=1)
    return per_user


def recall(hits: Hits, n_relevant: Counts) -> PerUser:
    """R@k = (relevant among the first k) / (relevant in all). Below 1 by construction where more than k are.

    Manning, Raghavan and Schütze 2008, section 8.3.
    """
    per_user: PerUser = hits.sum(axis=1) / n_relevant
    return per_user


def hit_rate(hits: Hits, n_relevant: Counts) -> PerUser:  # noqa: ARG001 - the metrics share one signature
    """1 where anything among the first k is relevant, else 0. Deshpande and Karypis 2004, section 6.1.2."""
    per_user: PerUser = np.asarray(hits.any(axis=1), dtype=np.float64)
    return per_user


def ndcg(hits: Hits, n_relevant: Counts) -> PerUser:
    """NDCG@k = DCG@k / IDCG@k, DCG@k = Σ_{r=1..k} hit_r / log₂(r + 1).

    IDCG@k is the DCG of a list that starts with all relevant items: Σ_{r=1..min(k, n_relevant)} 1 / log₂(r + 1).
    Järvelin and Kekäläinen 2002, with the discount of Burges et al. 2005; gains are 0 or 1.
    """
    k = hits.shape[1]
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal: PerUser = np.cumsum(discount)[np.minimum(n_relevant, k) - 1]
    gained: PerUser = np.cumsum(hits * discount, axis=1)[:, -1]  # in the same order, so that no rounding exceeds 1
    return gained / ideal


def average_precision(hits: Hits, n_relevant: Counts) -> PerUser:
    """AP@k = Σ_{r=1..k} P@r · hit_r / min(k, n_relevant); its mean over users is MAP@k.

    The divisor lets a perfect list reach 1 where more than k items are relevant. Manning, Raghavan and Schütze
    2008, section 8.4, cut off at k.
    """
    ranks = np.arange(1, hits.shape[1] + 1)
    precisions = np.cumsum(hits, axis=1) / ranks
    per_user: PerUser = (precisions * hits).sum(axis=1) / np.minimum(hits.shape[1], n_relevant)
    return per_user


METRICS = {
    "precision": precision,
    "recall": recall,
    "ndcg": ndcg,
    "map": average_precision,
    "hit_rate": hit_rate,
}
"""Every per-user metric by the name that reports and manifests use."""


def coverage(recommended: NDArray[np.int32], n_items: int) -> float:
    """The share of the catalogue that is recommended to anybody: |∪ lists| / n_items. Entries of -1 are no items.

    Herlocker, Konstan, Terveen and Riedl 2004, section 5.1 (catalog coverage). 0 for an empty catalogue.
    """
    found = np.unique(recommended)
    return int((found >= 0).sum()) / n_items if n_items else 0.0
