"""The order of a list, for more than the scores: unlike items, the user's own mix of genres, no genre too often.

All take a list of m candidates and return int64 positions in it, distinct, min(n, m) of them, best first. Nothing
here raises: a candidate whose score is no number counts as the worst, and n may exceed m.
"""

from itertools import compress
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]

SMOOTHING = 0.01
"""α of the calibrated order: how much of the wanted distribution is mixed into the list's own."""


def diversified(
    index: NDArray[np.integer], scores: NDArray[np.floating], vectors: NDArray[np.floating], n: int, strength: float
) -> Positions:
    """Maximal marginal relevance: one after the other, the candidate that is good and unlike those chosen before.

    Chosen next is the i that maximises

        λ · r_i − (1 − λ) · max_{j chosen} cos(v_i, v_j),        λ = 1 − strength,

    the maximum being 0 while nothing is chosen. Scores and cosines differ in scale, so relevance is the score
    between the worst and the best of the candidates: r_i = (s_i − min s) / (max s − min s), 1 for all where they
    are equal. Of equals the one of the higher score is chosen, then the first. So strength 0 is the order of the
    scores, and at strength 1 only likeness counts once the best has been chosen. An item without a vector (zeros)
    is like none. Carbonell and Goldstein 1998, "The use of MMR, diversity-based reranking for reordering documents
    and producing summaries". O(n m d).

    Args:
        index: shape (m,); the candidates' item indices.
        scores: shape (m,), aligned.
        vectors: shape (n_items, d); factors of the items, or their genres as numbers.
        n: positions wanted.
        strength: 0 to 1; what lies beyond is taken as the nearer end.
    """
    order = _by_score(scores)
    n, strength = min(n, order.size), min(max(strength, 0.0), 1.0)
    if strength == 0 or n <= 1:
        return order[: max(n, 0)]
    unit = _unit(vectors[index[order]]) * np.float32(sqrt(strength))  # a product of two is strength · cosine
    relevance = np.float32(1 - strength) * _scaled(scores[order])
    chosen = np.empty(n, dtype=np.int64)
    nearest = np.full(order.size, -np.inf, dtype=np.float32)
    best = 0  # of the highest score, whatever the strength
    for place in range(n):
        chosen[place] = best
        relevance[best] = -np.inf  # it is not chosen again
        np.maximum(nearest, unit.dot(unit[best]), out=nearest)
        best = int((relevance - nearest).argmax())
    return order[chosen]


def calibrated(
    index: NDArray[np.integer],
    scores: NDArray[np.floating],
    genre_mask: NDArray[np.bool_],
    history_share: NDArray[np.floating],
    n: int,
    strength: float,
) -> Positions:
    """The list whose mix of genres follows the user's own, built greedily.

    Added next is the candidate that makes the most of the list L:

        (1 − λ) · Σ_{i ∈ L} r_i − λ · KL(p ‖ q̃_L),      KL(p ‖ q̃) = Σ_g p_g · ln(p_g / q̃_g),      λ = strength,

    where p is the distribution of genres in what the user liked (`genre_share`), q_L that of the list, the mean of
    p(g|i) over its items, and q̃ = (1 − α) q + α p, which keeps the divergence finite (α = `SMOOTHING`). An item's
    genres share it evenly, p(g|i) = 1/|genres of i|; one without a genre counts in neither, and q of a list of such
    items alone is 0. r_i is the score between the worst and the best of the candidates, as for `diversified`. Of
    equals the one of the higher score is chosen, then the first. A user of whom nothing is known (p all zeros) gets
    the order of the scores. Steck 2018, "Calibrated Recommendations". O(n · m · genres of the user).

    Args:
        index: shape (m,); the candidates' item indices.
        scores: shape (m,), aligned.
        genre_mask: bool, shape (n_items, n_genres).
        history_share: p, shape (n_genres,), 0 or more; it is scaled to sum to 1.
        n: positions wanted.
        strength: 0 to 1; what lies beyond is taken as the nearer end.
    """
    order = _by_score(scores)
    n, strength = min(n, order.size), min(max(strength, 0.0), 1.0)
    liked = np.flatnonzero(history_share > 0)
    if strength == 0 or n <= 0 or not liked.size:
        return order[: max(n, 0)]
    of_item, has_genre = _genres_of(genre_mask[index[order]])
    of_item = np.ascontiguousarray(of_item[:, liked].T)  # (genres, m): sums over whole rows are the fast ones
    p = (history_share[liked] / history_share[liked].sum()).astype(np.float32)
    smooth = (p * np.float32(SMOOTHING / (1 - SMOOTHING)))[:, None]
    relevance = np.float32(1 - strength) * _scaled(scores[order])
    without = np.flatnonzero(~has_genre)
    chosen = np.empty(n, dtype=np.int64)
    total, counted = np.zeros((liked.size, 1), dtype=np.float32), 0
    for place in range(n):
        # −KL = Σ p ln q̃ but for what is the same for every candidate: Σ p ln p, and ln of list length and 1 − α.
        nearness = p @ np.log(of_item + (total + smooth * (counted + 1)))
        if without.size:
            before = max(counted, 1)
            nearness[without] = p @ np.log(total + smooth * before) + log((counted + 1) / before)
        best = int((relevance + np.float32(strength) * nearness).argmax())
        chosen[place] = best
        relevance[best] = -np.inf  # it is not chosen again
        total += of_item[:, best : best + 1]
        counted += int(has_genre[best])
    return order[chosen]


def genre_share(
    genre_mask: NDArray[np.bool_], item_index: NDArray[np.integer], weight: NDArray[np.floating]
) -> NDArray[np.float32]:
    """The distribution of genres in what a user liked, p(g|u) = Σ_i w_i p(g|i) / Σ_i w_i, float32, (n_genres,).

    The sums are over items of a genre; all zeros where there is none. Steck 2018, equation 2.

    Args:
        genre_mask: bool, shape (n_items, n_genres).
        item_index: shape (h,); the items; what is below 0 is passed over.
        weight: shape (h,), 0 or more.
    """
    known = item_index >= 0
    share, _ = _genres_of(genre_mask[item_index[known]])
    total = weight[known].astype(np.float32) @ share
    mass = total.sum()
    return total / mass if mass > 0 else total


def mixed(
    index: NDArray[np.integer], genre_mask: NDArray[np.bool_], n: int, most: float | NDArray[np.floating]
) -> Positions:
    """The first candidates among which no genre has more than its share of the n slots, in their order.

    A genre g may have c_g = max(1, ⌊most_g · n⌋) slots; an item stands for each of its genres. Candidates are taken
    from the first on, passing over those of a genre that is full. Where that leaves fewer than n, every c_g grows
    by one and those passed over are looked at again, so that the list is min(n, m) long whatever the shares.
    O(m · genres of an item) each time round.

    Args:
        index: shape (m,); the candidates' item indices, best first.
        genre_mask: bool, shape (n_items, n_genres).
        n: positions wanted.
        most: a share of the slots, 0 to 1, for every genre alike or shape (n_genres,); 1 binds nothing.
    """
    n = max(min(n, len(index)), 0)
    caps = np.broadcast_to(np.maximum(1, np.floor(np.asarray(most) * n + 1e-9)), genre_mask.shape[1:])
    of_item = genre_mask[index]
    if not (of_item[:n].sum(axis=0) > caps).any():
        return np.arange(n)
    room: list[float] = caps.tolist()
    left = [(position, list(compress(range(len(room)), row))) for position, row in enumerate(of_item.tolist())]
    chosen: list[int] = []
    while len(chosen) < n:
        passed_over = []
        for position, genres in left:
            if len(chosen) < n and all(room[genre] >= 1 for genre in genres):
                chosen.append(position)
                for genre in genres:
                    room[genre] -= 1
            else:
                passed_over.append((position, genres))
        left = passed_over
        room = [slots + 1 for slots in room]
    return np.array(sorted(chosen), dtype=np.int64)


def continued(positions: Positions, m: int) -> Positions:
    """Positions, and after them all the others of m in their order: what `mixed` can choose from."""
    others = np.ones(m, dtype=np.bool_)
    others[positions] = False
    return np.concatenate([positions, np.flatnonzero(others)])


def _by_score(scores: NDArray[np.floating]) -> Positions:
    """All positions, the highest score first, equals in their order."""
    return np.argsort(-_numbers(scores), kind="stable")


def _scaled(scores: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scores between 0 (the worst) and 1 (the best); all 1 where they are equal."""
    found = _numbers(scores)
    low = found.min(initial=np.inf)
    span = found.max(initial=-np.inf) - low
    return ((found - low) / span).astype(np.float32) if span > 0 else np.ones(found.size, dtype=np.float32)


def _numbers(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """In float64, what is no finite number being as low as the lowest that is one."""
    found = scores.astype(np.float64)
    finite = np.isfinite(found)
    if not finite.all():
        found[~finite] = found[finite].min(initial=0.0)
    return found


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows of length 1; those of length 0, or of what is no number, become zeros."""
    rows = vectors.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    good = (lengths > 0) & np.isfinite(lengths)
    unit: NDArray[np.float32] = np.divide(rows, lengths, out=np.zeros_like(rows), where=good)
    return unit


def _genres_of(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """p(g|i), float32, shape (m, n_genres), and whether an item has a genre, shape (m,)."""
    counts = mask.sum(axis=1, dtype=np.float32)
    return mask / np.maximum(counts, np.float32(1))[:, None], counts > 0
