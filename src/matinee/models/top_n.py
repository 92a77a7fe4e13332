"""The best n items of many users: in blocks of users, without sorting whole catalogues."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from matinee.core.errors import InvalidInput
from matinee.models.base import Model

BLOCK_BYTES = 8 * 2**20
"""Scores held at once for each thread: they should stay in the processor's cache from their making to their
choosing. Affects speed, not results."""

SPARE = 256
"""Candidates collected beyond twice those wanted before the worst are dropped; affects speed, not results."""

STRIDE = 64
"""Scores compared at once; affects speed, not results."""

GROUPS = 10
"""Groups of items for each item wanted, of which the best score is looked for first; affects speed, not results."""


def top_n(
    model: Model[Any],
    user_index: NDArray[np.int32],
    n: int,
    exclude: sparse.csr_array | None = None,
    *,
    threads: int = 1,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The best `n` items of each user, best first; equal scores in the order of the item indices.

    Needs, beside what it returns, memory for `threads` blocks of scores, whatever the number of users.

    Args:
        model: a fitted model.
        user_index: int32, shape (u,); -1 is an unknown user.
        n: items wanted; may exceed the catalogue.
        exclude: users × items, row r belonging to `user_index[r]`; its stored entries are left out, whatever
            their values.
        threads: blocks worked at the same time, each on one core: meanwhile BLAS has no threads of its own, which
            would wait for each other. Affects speed, not results.

    Returns:
        (items int32, scores float32), both (u, n); -1 and -inf where there are no more. A score that is NaN or -inf
        is never chosen.

    Raises:
        InvalidInput: `n` is negative, or `exclude` is not users × items.
    """
    if n < 0:
        raise InvalidInput(f"n is {n}; expected 0 or more")
    if exclude is not None and exclude.shape[0] != user_index.size:
        raise InvalidInput(f"exclude has {exclude.shape[0]} rows for {user_index.size} users")
    items = np.full((user_index.size, n), -1, dtype=np.int32)
    scores = np.full((user_index.size, n), -np.inf, dtype=np.float32)
    if not user_index.size or not n:
        return items, scores
    with threadpool_limits(limits=1, user_api="blas"):
        _fill(model, user_index, exclude, threads, items, scores)
    return items, scores


def _fill(
    model: Model[Any],
    user_index: NDArray[np.int32],
    exclude: sparse.csr_array | None,
    threads: int,
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> None:
    n_items = model.scores(user_index[:1]).shape[1]
    if exclude is not None and exclude.shape[1] != n_items:
        raise InvalidInput(f"exclude has {exclude.shape[1]} columns for {n_items} items")
    indptr, indices = _excluded(exclude, user_index.size)
    rows = max(1, BLOCK_BYTES // (4 * max(1, n_items)))

    def block(first: int) -> None:
        users = user_index[first : first + rows]
        found = np.ascontiguousarray(model.scores(users), dtype=np.float32)
        part = slice(first, first + users.size)
        _select(found, indptr[first : first + users.size + 1], indices, items[part], scores[part])

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(block, range(0, user_index.size, rows)):
            pass


def _excluded(exclude: sparse.csr_array | None, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    if exclude is None:
        return np.zeros(rows + 1, dtype=np.int64), np.empty(0, dtype=np.int32)
    return exclude.indptr.astype(np.int64), exclude.indices.astype(np.int32)


@njit(cache=True, nogil=True)
def _select(
    scores: NDArray[np.float32],
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    best_items: NDArray[np.int32],
    best_scores: NDArray[np.float32],
) -> None:
    """For each row collect what exceeds a bar, and raise the bar whenever the collection is full.

    The bar begins where at least n scores exceed it, and few more.
    """
    rows, n_items = scores.shape
    n = best_items.shape[1]
    room = 2 * n + SPARE
    kept_items, kept_scores = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.float32)
    excluded_for = np.full(n_items, -1, dtype=np.int64)
    best_of = np.empty(min(n_items, GROUPS * n), dtype=np.float32)
    for row in range(rows):
        its_scores, excluded = scores[row], indices[indptr[row] : indptr[row + 1]]
        for item in excluded:
            excluded_for[item] = row
        kept, bar = 0, _below_the_nth(its_scores, excluded, excluded_for, row, n, best_of)
        for start in range(0, n_items, STRIDE):
            stride = its_scores[start : start + STRIDE]
            above = 0
            for i in range(stride.size):
                above += stride[i] > bar
            if not above:  # most strides, and cheap to see: the loop above runs in vector registers
                continue
            for i in range(stride.size):
                if stride[i] > bar and excluded_for[start + i] != row:
                    kept_items[kept], kept_scores[kept] = start + i, stride[i]
                    kept += 1
                    if kept == room:
                        bar = _keep_best(kept_items, kept_scores, n)
                        kept = n
        if kept > n:
            _keep_best(kept_items[:kept], kept_scores[:kept], n)
            kept = n
        order = np.argsort(-kept_scores[:kept], kind="mergesort")  # stable: equal scores stay in index order
        for place in range(kept):
            best_items[row, place] = kept_items[order[place]]
            best_scores[row, place] = kept_scores[order[place]]


@njit(cache=True, nogil=True)
def _below_the_nth(
    scores: NDArray[np.float32],
    excluded: NDArray[np.int32],
    excluded_for: NDArray[np.int64],
    row: int,
    n: int,
    best_of: NDArray[np.float32],
) -> np.float32:
    """A number that the n-th best score exceeds, or -inf where there are fewer.

    Items are dealt out in groups, i to group i mod the number of groups. The n best of the groups are n scores, so
    the least of them is no better than the n-th best of all; and is little worse, since the n best are mostly in
    groups of their own.
    """
    n_items, n_groups = scores.size, best_of.size
    if n > n_groups:
        return np.float32(-np.inf)
    best_of[:] = -np.inf
    for start in range(0, n_items, n_groups):
        of_each = scores[start : start + n_groups]
        for group in range(of_each.size):  # runs in vector registers
            best_of[group] = max(best_of[group], of_each[group])
    for item in excluded:
        group = item % n_groups
        if scores[item] == best_of[group]:  # the group's best must not count: look again, past the excluded
            best_of[group] = -np.inf
            for other in range(group, n_items, n_groups):
                if scores[other] > best_of[group] and excluded_for[other] != row:
                    best_of[group] = scores[other]
    below: np.float32 = np.nextafter(np.partition(best_of, n_groups - n)[n_groups - n], np.float32(-np.inf))
    return below


@njit(cache=True, nogil=True)
def _keep_best(items: NDArray[np.int32], scores: NDArray[np.float32], n: int) -> np.float32:
    """Move the best n to the front, in the order they stand, and return the least of them.

    Of those equal to the least the first stay: they have the lower indices, since all stand in index order.
    """
    least: np.float32 = np.partition(scores, scores.size - n)[scores.size - n]
    ties = n
    for at in range(scores.size):
        ties -= scores[at] > least
    kept = 0
    for at in range(scores.size):
        tie = scores[at] == least and ties > 0
        if scores[at] > least or tie:
            ties -= tie
            items[kept], scores[kept] = items[at], scores[at]
            kept += 1
    return least
