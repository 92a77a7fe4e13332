"""Exploration: a share of a list's slots goes to items of which too little is known, with exact propensities.

Without it a model learns only from what it chose to show. With it, and with the propensity of what was shown, what
would have come of another choice can be estimated without bias: Horvitz and Thompson 1952; Schnabel, Swaminathan,
Singh, Chandak and Joachims 2016, "Recommendations as treatments".
"""

from functools import lru_cache
from math import comb, floor

import numpy as np
from numpy.typing import NDArray

UNCERTAIN_BELOW = 25
"""Users who must have met an item for its place to be known: of a count c the relative standard error is 1/√c."""


def uncertain(interactions: NDArray[np.integer], allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The allowed items of which too little is known: what to explore. Ascending.

    Those whom fewer than `UNCERTAIN_BELOW` users met, or nobody yet. Nothing where no item was met by anybody: then
    nothing is known of the whole catalogue, which is what a bundle that keeps no counts looks like.

    Args:
        interactions: shape (n_items,); how many users met each item.
        allowed: bool, shape (n_items,); what may be shown to the user.
    """
    if not interactions.any():
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero((interactions < UNCERTAIN_BELOW) & allowed)


def explored(
    index: NDArray[np.integer], candidates: NDArray[np.integer], n: int, share: float, rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """A list of which a share of the slots goes to candidates for exploration, and the propensity of each item.

    Of the N = min(n, items there are) slots, e are explored: ⌊share · N⌋, or one more with the probability of what
    was rounded off, so that the share is met on average; never more than there are candidates, and as many as the
    ranking is too short by. Which slots these are, and which candidates stand there in which order, is drawn
    uniformly. The others show the ranking from its top, in order. The candidates are those that the ranking's
    first n do not hold.

    The propensity of an item is the probability, over these draws, that it stands at the slot where it stands. With
    c candidates, slots and ranks counted from 0, and given e,

        (e / N) / c                                                     for a candidate, at any slot,
        C(k, r) · C(N − 1 − k, N − e − 1 − r) / C(N, N − e)             for rank r at slot k:

    slot k shows the ranking, and just r of the k slots before it do. Both are averaged over the two values of e.

    Args:
        index: shape (m,); the ranking, best first.
        candidates: shape (c,), distinct; from `uncertain`.
        n: slots.
        share: 0 to 1; what lies beyond is taken as the nearer end.
        rng: for the draws. Seeded by the request's id, an answer can be made again.

    Returns:
        (items int32, propensities float64), both (N,). Without exploration every propensity is 1.
    """
    ranked = index[: max(n, 0)]
    pool = candidates[~np.isin(candidates, ranked)] if share > 0 and n > 0 else candidates[:0]
    slots = min(max(n, 0), ranked.size + pool.size)
    if not pool.size:
        return ranked.astype(np.int32), np.ones(slots)
    counts = _explored_slots(slots, ranked.size, pool.size, min(share, 1.0))
    e = int(rng.choice(list(counts), p=list(counts.values())))
    explores = np.zeros(slots, dtype=np.bool_)
    explores[rng.choice(slots, e, replace=False)] = True
    shown = np.empty(slots, dtype=np.int32)
    shown[explores] = rng.choice(pool, e, replace=False)
    shown[~explores] = ranked[: slots - e]
    slot, rank = np.arange(slots), np.cumsum(~explores) - 1
    propensity = np.zeros(slots)
    for some, probability in counts.items():
        of_rank = _rank_at_slot(slots, some)[rank, slot]
        propensity += probability * np.where(explores, some / slots / pool.size, of_rank)
    return shown, propensity


def _explored_slots(slots: int, ranked: int, pool: int, share: float) -> dict[int, float]:
    """How many slots may be explored, each with its probability: one number or two."""
    wanted = share * slots
    low = floor(wanted + 1e-9)
    left = max(wanted - low, 0.0)
    counts: dict[int, float] = {}
    for number, probability in ((low, 1 - left), (low + 1, left)):
        within = max(min(number, pool), slots - ranked)
        if probability > 1e-9:
            counts[within] = counts.get(within, 0.0) + probability
    return counts


@lru_cache(maxsize=256)
def _rank_at_slot(slots: int, e: int) -> NDArray[np.float64]:
    """The probability that a rank of the ranking stands at a slot, shape (slots, slots); see `explored`."""
    shown = slots - e
    table = np.zeros((slots, slots))
    for rank in range(shown):
        for slot in range(slots):
            ways = comb(slot, rank) * comb(slots - 1 - slot, shown - 1 - rank)
            table[rank, slot] = ways / comb(slots, shown)
    return table
