"""How alike two users (or two items) rate: by what both have rated, a row at a time, in compiled code."""

from typing import Literal, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from matinee.dataset.interactions import Interactions

Similarity = Literal["cosine", "msd", "pearson", "pearson_baseline"]

MSD, COSINE, PEARSON = 0, 1, 2

LEAST_VARIANCE = 1e-12
"""The share of n Σ r² below which n Σ r² − (Σ r)² is rounding: such ratings are equal, and correlate with none."""


class Measure(NamedTuple):
    """A similarity, as the compiled code takes it."""

    kind: int
    """`MSD`, `COSINE` or `PEARSON`."""
    sums: int
    """Sums that it keeps of each pair."""
    min_support: int
    """Common ratings below which a similarity is 0."""
    shrinkage: float
    """Multiply by (n − 1) / (n − 1 + shrinkage), n being the common ratings."""


class Ratings(NamedTuple):
    """Ratings from both sides. x is what is compared, y what both rated: users and items, or the other way round.

    Both sides hold the same ratings, save those of newcomers (see `both_sides`).

    The lists of each x and each y stand in the order of the interactions.
    """

    x_start: NDArray[np.int64]
    """Shape (n_x + 1,): the list of x is the entries x_start[x] to x_start[x + 1] - 1."""
    x_y: NDArray[np.uint32]
    """Shape (n,): the ys that x rated."""
    x_value: NDArray[np.float32]
    """Shape (n,): the ratings (of pearson_baseline: less their baselines)."""
    y_start: NDArray[np.int64]
    """Shape (n_y + 1,): the same for y."""
    y_x: NDArray[np.uint32]
    """Shape (m,), m = n without newcomers: the xs that rated y."""
    y_value: NDArray[np.float32]
    """Shape (m,): their values."""


def measure(name: Similarity, min_support: int, shrinkage: float) -> Measure:
    """The similarity of that name.

    Over the n ratings r, s that two users (or items) have in common, sums over these alone:

        msd                1 / (Σ (r − s)² / n + 1)
        cosine             Σ r s / √(Σ r² Σ s²)
        pearson            (n Σ r s − Σ r Σ s) / √((n Σ r² − (Σ r)²) (n Σ s² − (Σ s)²))
        pearson_baseline   (n − 1) / (n − 1 + shrinkage) · Σ r' s' / √(Σ r'² Σ s'²),   r' = r − (μ + b_u + b_i)

    0 where n < `min_support` (of pearson_baseline: where n < 2 as well), and where the denominator is 0; 1 of
    each with itself. These are the definitions of scikit-surprise; the last is that of Koren 2010, "Factor in the
    Neighbors", section 2.2.
    """
    if name == "pearson_baseline":
        return Measure(COSINE, 4, max(2, min_support), float(shrinkage))
    kind, sums = {"msd": (MSD, 2), "cosine": (COSINE, 4), "pearson": (PEARSON, 6)}[name]
    return Measure(kind, sums, min_support, 0.0)


def both_sides(
    interactions: Interactions,
    value: NDArray[np.float32],
    user_based: bool,
    known: tuple[int, int] | None = None,
) -> Ratings:
    """The values of the interactions from both sides.

    A newcomer has a list of its own and stands in nobody's, so that what is between the others does not change.

    Args:
        interactions: of newcomers only those with who is known.
        value: shape (n,).
        user_based: whether x are the users; else the items.
        known: users and items below these numbers are no newcomers; nothing: there are none.
    """
    n_users, n_items = known or (interactions.n_users, interactions.n_items)
    old_user, old_item = interactions.user_index < n_users, interactions.item_index < n_items
    of_users = _lists_of(old_item, interactions.user_index, interactions.n_users, interactions.item_index, value)
    of_items = _lists_of(old_user, interactions.item_index, interactions.n_items, interactions.user_index, value)
    return Ratings(*of_users, *of_items) if user_based else Ratings(*of_items, *of_users)


def _lists_of(
    chosen: NDArray[np.bool_],
    row: NDArray[np.int32],
    n_rows: int,
    column: NDArray[np.int32],
    value: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.float32]]:
    return _lists(row[chosen], n_rows, column[chosen], value[chosen])


@njit(cache=True, nogil=True)
def _lists(
    row: NDArray[np.int32], n_rows: int, column: NDArray[np.int32], value: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.float32]]:
    """(starts, columns, values) of each row, in the order given."""
    start = np.zeros(n_rows + 1, dtype=np.int64)
    for entry in range(row.size):
        start[row[entry] + 1] += 1
    for r in range(n_rows):
        start[r + 1] += start[r]
    place = start[:-1].copy()
    columns, values = np.empty(row.size, dtype=np.uint32), np.empty(row.size, dtype=np.float32)
    for entry in range(row.size):
        at = place[row[entry]]
        columns[at], values[at] = column[entry], value[entry]
        place[row[entry]] = at + 1
    return start, columns, values


@njit(cache=True, nogil=True)
def similarity_row(
    x: int, ratings: Ratings, how: Measure, sums: NDArray[np.float64], row: NDArray[np.float32]
) -> None:
    """Set `row`, shape (n_x,), to the similarities of x with every x.

    Takes Σ n_y steps over the ys that x rated, n_y being the ratings of y, and n_x. Sums of ratings with few binary
    places (integers, half stars) are exact.

    Args:
        x: which.
        ratings: from both sides.
        how: the similarity.
        sums: room to work in, shape (n_x, how.sums).
        row: the answer.
    """
    sums[:] = 0
    if how.kind == MSD:
        _add_differences(x, ratings, sums)
    elif how.kind == COSINE:
        _add_products(x, ratings, sums)
    else:
        _add_moments(x, ratings, sums)
    for other in range(row.size):
        common = sums[other, 0]
        alike = 0.0
        if common >= how.min_support and common > 0:
            if how.kind == MSD:
                alike = 1 / (sums[other, 1] / common + 1)
            elif how.kind == COSINE:
                alike = _cosine(sums[other])
            else:
                alike = _pearson(sums[other])
            if how.shrinkage > 0:
                alike *= (common - 1) / (common - 1 + how.shrinkage)
        row[other] = np.float32(alike)
    row[x] = np.float32(1)


@njit(cache=True, nogil=True)
def _add_differences(x: int, ratings: Ratings, sums: NDArray[np.float64]) -> None:
    """n, Σ (r − s)²."""
    y_start, y_x, y_value = ratings.y_start, ratings.y_x, ratings.y_value
    for entry in range(ratings.x_start[x], ratings.x_start[x + 1]):
        y, own = ratings.x_y[entry], np.float64(ratings.x_value[entry])
        for at in range(y_start[y], y_start[y + 1]):
            other, difference = y_x[at], own - np.float64(y_value[at])
            sums[other, 0] += 1
            sums[other, 1] += difference * difference


@njit(cache=True, nogil=True)
def _add_products(x: int, ratings: Ratings, sums: NDArray[np.float64]) -> None:
    """n, Σ r s, Σ r², Σ s²."""
    y_start, y_x, y_value = ratings.y_start, ratings.y_x, ratings.y_value
    for entry in range(ratings.x_start[x], ratings.x_start[x + 1]):
        y, own = ratings.x_y[entry], np.float64(ratings.x_value[entry])
        for at in range(y_start[y], y_start[y + 1]):
            other, theirs = y_x[at], np.float64(y_value[at])
            sums[other, 0] += 1
            sums[other, 1] += own * theirs
            sums[other, 2] += own * own
            sums[other, 3] += theirs * theirs


@njit(cache=True, nogil=True)
def _add_moments(x: int, ratings: Ratings, sums: NDArray[np.float64]) -> None:
    """n, Σ r s, Σ r², Σ s², Σ r, Σ s."""
    y_start, y_x, y_value = ratings.y_start, ratings.y_x, ratings.y_value
    for entry in range(ratings.x_start[x], ratings.x_start[x + 1]):
        y, own = ratings.x_y[entry], np.float64(ratings.x_value[entry])
        for at in range(y_start[y], y_start[y + 1]):
            other, theirs = y_x[at], np.float64(y_value[at])
            sums[other, 0] += 1
            sums[other, 1] += own * theirs
            sums[other, 2] += own * own
            sums[other, 3] += theirs * theirs
            sums[other, 4] += own
            sums[other, 5] += theirs


@njit(cache=True, nogil=True)
def _cosine(sums: NDArray[np.float64]) -> float:
    product, own, theirs = sums[1], sums[2], sums[3]
    below = np.sqrt(own * theirs)
    return product / below if below > 0 else 0.0


@njit(cache=True, nogil=True)
def _pearson(sums: NDArray[np.float64]) -> float:
    n, product, own, theirs, own_sum, their_sum = sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]
    own_spread, their_spread = n * own - own_sum * own_sum, n * theirs - their_sum * their_sum
    if own_spread <= LEAST_VARIANCE * n * own or their_spread <= LEAST_VARIANCE * n * theirs:
        return 0.0
    alike: float = (n * product - own_sum * their_sum) / np.sqrt(own_spread * their_spread)
    return alike


@njit(cache=True, nogil=True)
def similarity_rows(first: int, last: int, ratings: Ratings, how: Measure, rows: NDArray[np.float32]) -> None:
    """Set rows `first` to `last` - 1 of `rows`, shape (n_x, n_x); see `similarity_row`."""
    sums = np.empty((rows.shape[1], how.sums))
    for x in range(first, last):
        similarity_row(x, ratings, how, sums, rows[x])
