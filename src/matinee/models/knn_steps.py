"""The mean of the k nearest, in compiled code."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from matinee.models.similarities import Measure, Ratings, similarity_row

BUCKETS = 512
"""Classes of similarity that tell most neighbours from the rest without sorting; affects speed, not results."""

SPARE = 64
"""Lists longer than k by more than this are thinned by classes first; affects speed, not results."""


@njit(cache=True, nogil=True)
def neighbour_means(
    first: int,
    last: int,
    group_x: NDArray[np.int32],
    group_start: NDArray[np.int64],
    pair_y: NDArray[np.int32],
    ratings: Ratings,
    value: NDArray[np.float32],
    how: Measure,
    matrix: NDArray[np.float32],
    k: int,
    min_k: int,
    means: NDArray[np.float32],
) -> None:
    """Σ sim(x, x') value(x', y) / Σ sim(x, x') over the k nearest x' that rated y; NaN where under min_k count.

    Only similarities above 0 count. Of equally near ones the first in the list of y are taken.

    Args:
        first: the groups to do: from this …
        last: … to before this.
        group_x: shape (groups,): the x of each group of pairs.
        group_start: shape (groups + 1,): where its pairs begin.
        pair_y: shape (pairs,): their ys.
        ratings: from both sides.
        value: shape (n,), in the order of `ratings.y_x`: what is averaged.
        how: the similarity.
        matrix: all similarities, (n_x, n_x), or nothing, (0, 0): then each group's row is worked out.
        k: neighbours that may count.
        min_k: neighbours that must count (one must in any case).
        means: shape (pairs,): the answers.
    """
    n_x = ratings.x_start.size - 1
    known = matrix.shape[0] > 0
    sums = np.empty((0 if known else n_x, how.sums))
    own = np.empty(0 if known else n_x, dtype=np.float32)
    longest = 0
    for y in range(ratings.y_start.size - 1):
        longest = max(longest, ratings.y_start[y + 1] - ratings.y_start[y])
    near = np.empty(longest, dtype=np.int64)
    bucket, counts = np.empty(n_x, dtype=np.uint16), np.empty(BUCKETS, dtype=np.int64)
    for group in range(first, last):
        row = own
        if known:
            row = matrix[group_x[group]]
        else:
            similarity_row(group_x[group], ratings, how, sums, own)
        _classify(group_x[group], row, bucket)
        for pair in range(group_start[group], group_start[group + 1]):
            start, end = ratings.y_start[pair_y[pair]], ratings.y_start[pair_y[pair] + 1]
            count = _nearest(row, bucket, ratings.y_x, start, end, k, near, counts)
            means[pair] = np.nan
            if count >= max(1, min_k):
                means[pair] = _weighted_mean(near[:count], row, ratings.y_x, value, start)


@njit(cache=True, nogil=True)
def _weighted_mean(
    near: NDArray[np.int64],
    row: NDArray[np.float32],
    y_x: NDArray[np.uint32],
    value: NDArray[np.float32],
    start: int,
) -> np.float32:
    total, weight = 0.0, 0.0
    for key in near:
        at = start + (0xFFFFFFFF - (key & 0xFFFFFFFF))
        alike = np.float64(row[y_x[at]])
        total += alike * np.float64(value[at])
        weight += alike
    return np.float32(total / weight)


@njit(cache=True, nogil=True)
def _classify(x: int, row: NDArray[np.float32], bucket: NDArray[np.uint16]) -> None:
    """Set the class of each similarity with x: 0 if it is not above 0, else the greater, the more alike."""
    greatest = np.float32(0)
    for other in range(row.size):
        if other != x:  # with itself it is 1, often far above all others
            greatest = max(greatest, row[other])
    scale = (BUCKETS - 2) / np.float64(greatest) if greatest > 0 else 0.0
    for other in range(row.size):
        place = max(0.0, min(np.float64(row[other]) * scale, BUCKETS - 2.0))
        bucket[other] = 1 + np.int64(place) if row[other] > 0 else 0


@njit(cache=True, nogil=True)
def _nearest(
    row: NDArray[np.float32],
    bucket: NDArray[np.uint16],
    y_x: NDArray[np.uint32],
    start: int,
    end: int,
    k: int,
    near: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> int:
    """Put the keys of the k greatest similarities above 0 in front in `near`, in no order; how many they are.

    A key holds the bits of the similarity (which, above 0, order as integers do) and below them the place in the
    list, turned round: so keys differ, and of equal similarities the first in the list has the greatest.
    """
    bits = row.view(np.int32)
    least = 1
    if end - start > k + SPARE:
        least = _least_class(bucket, y_x, start, end, k, counts)
    count = 0
    for at in range(start, end):
        other = y_x[at]
        near[count] = (np.int64(bits[other]) << 32) | (0xFFFFFFFF - (at - start))
        count += bucket[other] >= least
    if count > k:
        _keep_greatest(near[:count], k)
        count = k
    return count


@njit(cache=True, nogil=True)
def _least_class(
    bucket: NDArray[np.uint16], y_x: NDArray[np.uint32], start: int, end: int, k: int, counts: NDArray[np.int64]
) -> int:
    """The class of the k-th most alike; 1 where fewer are alike at all."""
    counts[:] = 0
    for at in range(start, end):
        counts[bucket[y_x[at]]] += 1
    least, found = BUCKETS, 0
    while least > 1 and found < k:
        least -= 1
        found += counts[least]
    return least


@njit(cache=True, nogil=True)
def _keep_greatest(keys: NDArray[np.int64], k: int) -> np.int64:
    """Move the k greatest of different keys to the front and return the least of them: quickselect."""
    low, high = 0, keys.size - 1
    while low < high:
        middle = (low + high) // 2
        a, b, c = keys[low], keys[middle], keys[high]
        pivot = max(min(a, b), min(max(a, b), c))
        left, right = low, high
        while left <= right:
            while keys[left] > pivot:
                left += 1
            while keys[right] < pivot:
                right -= 1
            if left <= right:
                keys[left], keys[right] = keys[right], keys[left]
                left += 1
                right -= 1
        if k - 1 <= right:
            high = right
        elif k - 1 >= left:
            low = left
        else:
            break
    least: np.int64 = keys[k - 1]
    return least
