"""What lists are like beside being right: novel, diverse, personal, and fair to the catalogue.

All take `items`, int32, shape (u, k): the lists of u users, best first, each item at most once in a list; -1 where
a list has ended. A list may be empty. The share of the catalogue that is shown is `ranking_metrics.coverage`.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions

Lists = NDArray[np.int32]
PerUser = NDArray[np.float64]

ENTRIES_AT_ONCE = 2**22
"""Entries of summed vectors held at once; affects speed, not results."""


def novelty(items: Lists, train: Interactions) -> PerUser:
    """Mean self-information of each list, in bits: 1/|L| · Σ_{i ∈ L} −log₂(n_i / n).

    n_i is the number of users who have item i in `train`, n the number of users who have anything there. So an item
    that everyone has tells nothing new (0), and one more bit is half as many users. An item that nobody has counts
    as one that a single user has, log₂ n, the most there is. Zhou, Kuscsik, Liu, Medo, Wakeling and Zhang 2010,
    "Solving the apparent diversity-accuracy dilemma of recommender systems". O(u · k + interactions).

    Args:
        items: the lists; see the module.
        train: what users have had.

    Returns:
        float64, shape (u,), from 0 to log₂ n; NaN for an empty list.

    Raises:
        InvalidInput: an item is out of range.
        Unsuitable: `train` is empty.
    """
    _check(items, train.n_items)
    users = int(np.count_nonzero(np.bincount(train.user_index, minlength=train.n_users)))
    if not users:
        raise Unsuitable("nobody has had anything: nothing is more or less novel", remedy="Gather more data.")
    have = np.bincount(train.item_index, minlength=train.n_items)
    bits = np.log2(users) - np.log2(np.maximum(have, 1))
    return _ratio(np.append(bits, 0.0)[items].sum(axis=1), (items >= 0).sum(axis=1))  # -1 finds the 0 appended


def diversity(items: Lists, vectors: sparse.csr_array | NDArray[np.floating]) -> PerUser:
    """Intra-list diversity: 1 − the mean cosine similarity of the pairs of items within each list.

    1 − 2 / (|L| (|L| − 1)) · Σ_{i < j ∈ L} cos(v_i, v_j); an item without a vector (all zeros) is like no other.
    Ziegler, McNee, Konstan and Lausen 2005, "Improving recommendation lists through topic diversification"; Smyth
    and McClave 2001, "Similarity vs. diversity". The sum over pairs follows from the length of the sum of the unit
    vectors, |Σ v|² = Σ |v|² + 2 Σ_{i<j} v_i·v_j, so the time is that of summing vectors: O(u · k · e) for e entries
    other than 0 in a vector; memory is that of one block of users.

    Args:
        items: the lists; see the module.
        vectors: shape (n_items, d), sparse or dense: features of the items (genres as 0 and 1), factors, or for
            the cosine between the sets of users who had two items `item_users(train)`.

    Returns:
        float64, shape (u,), from 0 (all alike) to 1 where vectors hold nothing negative; NaN for a list of fewer
        than two items.

    Raises:
        InvalidInput: an item has no row in `vectors`, or a value there is not finite.
    """
    _check(items, vectors.shape[0])
    unit = _unit_rows(vectors)
    own = np.append(_squared_lengths(unit), 0.0)  # 1, and 0 for an item without a vector; -1 finds the 0 appended
    sizes = (items >= 0).sum(axis=1)
    pairs = np.empty(len(items))
    widest = min(unit.shape[1], items.shape[1] * int(np.diff(unit.indptr).max(initial=0)))
    rows = max(1, ENTRIES_AT_ONCE // max(1, widest))
    for first in range(0, len(items), rows):
        part = items[first : first + rows]
        total = sparse.csr_array(_incidence(part, unit.shape[0]) @ unit)
        pairs[first : first + rows] = _squared_lengths(total) - own[part].sum(axis=1)
    return 1 - _ratio(pairs, sizes * (sizes - 1))


def item_users(train: Interactions) -> sparse.csr_array:
    """Who had each item, items × users, ones: vectors for `diversity`, with cosines |U_i ∩ U_j| / √(n_i n_j).

    Popular items make long vectors: for many users compare factors instead, or the lists of a sample of users.
    """
    return sparse.csr_array(train.matrix().T)


def personalisation(items: Lists, n_items: int) -> float:
    """1 − the mean share of items that two users' lists have in common, over all pairs of users.

    The share of two lists is |L_u ∩ L_v| / k, k their length; the mean is exact: an item in c lists is common to
    c (c − 1) / 2 pairs, so

        1 − Σ_i c_i (c_i − 1) / (k · u (u − 1)).

    O(u · k) time, O(n_items) memory. The inter-user diversity h of Zhou et al. 2010 (as for `novelty`). A list that
    has ended early is divided by k too, as there.

    Args:
        items: the lists; see the module.
        n_items: items of the catalogue.

    Returns:
        0 where all lists hold the same k items, 1 where no two share one.

    Raises:
        InvalidInput: an item is out of range.
        Unsuitable: there are fewer than two lists, or k is 0.
    """
    _check(items, n_items)
    users, k = items.shape
    if users < 2 or not k:
        raise Unsuitable(f"{users} lists of {k} have no pairs to compare", remedy="Rank for two users or more.")
    counts = exposure(items, n_items)
    common = int((counts * (counts - 1)).sum())
    return float(1 - common / (k * users * (users - 1)))


def exposure(items: Lists, n_items: int) -> NDArray[np.int64]:
    """How many lists show each item, int64, shape (n_items,)."""
    _check(items, n_items)
    return np.bincount(items[items >= 0], minlength=n_items)


def gini(counts: NDArray[np.integer] | NDArray[np.floating]) -> float:
    """The Gini coefficient of amounts: of `exposure`, how unevenly lists treat the whole catalogue.

    With the n amounts ascending, x_1 ≤ … ≤ x_n: Σ_j (2j − n − 1) x_j / (n Σ_j x_j). 0 where all are equal; 1 − 1/n
    where one has everything. The mean difference of two amounts over twice their mean; Gini 1912; on recommenders
    Fleder and Hosanagar 2009, "Blockbuster culture's next rise or fall". O(n log n).

    Args:
        counts: shape (n,), 0 or more.

    Raises:
        InvalidInput: the shape is another, or an amount is negative or not finite.
        Unsuitable: there is nothing to share: no items, or all amounts are 0.
    """
    if counts.ndim != 1 or not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise InvalidInput(f"counts are {counts.dtype}{counts.shape}; expected finite amounts of 0 or more, (n,)")
    amounts = np.sort(counts.astype(np.float64))
    total = amounts.sum()
    if not total > 0:
        raise Unsuitable("nothing was shown: there is no share to compare", remedy="Rank for some users.")
    n = amounts.size
    return float((2 * np.arange(1, n + 1) - n - 1) @ amounts / (n * total))


def _check(items: Lists, n_items: int) -> None:
    if items.ndim != 2 or items.dtype.kind != "i":
        raise InvalidInput(f"items is {items.dtype}{items.shape}; expected integers of shape (u, k)")
    if items.size and not -1 <= int(items.min()) <= int(items.max()) < n_items:
        raise InvalidInput(f"items hold {items.min()} to {items.max()}; expected -1 to {n_items - 1}")


def _unit_rows(vectors: sparse.csr_array | NDArray[np.floating]) -> sparse.csr_array:
    """The rows scaled to length 1, in float64; rows of zeros stay so."""
    unit = sparse.csr_array(vectors).astype(np.float64)
    unit.sum_duplicates()
    if not np.isfinite(unit.data).all():
        raise InvalidInput("vectors hold a value that is not finite")
    lengths = np.sqrt(_squared_lengths(unit))
    lengths[lengths == 0] = 1
    unit.data /= np.repeat(lengths, np.diff(unit.indptr))
    return unit


def _squared_lengths(matrix: sparse.csr_array) -> NDArray[np.float64]:
    """Σ of squares of each row."""
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return np.bincount(row, weights=matrix.data**2, minlength=matrix.shape[0]).astype(np.float64)


def _incidence(items: Lists, n_items: int) -> sparse.csr_array:
    """Lists × items, a one for each item of a list."""
    shown = items >= 0
    indptr = np.append(0, np.cumsum(shown.sum(axis=1)))
    chosen = items[shown]
    return sparse.csr_array((np.ones(chosen.size), chosen, indptr), shape=(len(items), n_items))


def _ratio(total: NDArray[np.float64], count: NDArray[np.integer]) -> PerUser:
    """The quotient, NaN where the count is 0."""
    ratio: PerUser = np.full(total.shape, np.nan)
    np.divide(total, count, out=ratio, where=count > 0)
    return ratio
