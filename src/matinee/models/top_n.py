"""The best n items of many users: in blocks of users, without sorting whole catalogues."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse

from matinee.core.errors import InvalidInput
from matinee.models.base import Model

BLOCK_BYTES = 32 * 2**20
"""Scores held at once for each thread; affects speed, not results."""


def top_n(
    model: Model,
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
        threads: blocks worked at the same time; affects speed, not results.

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
    return items, scores


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
    """For each row keep a heap with its worst at the root: most items lose against it and cost one comparison."""
    rows, n_items = scores.shape
    n = best_items.shape[1]
    excluded_for = np.full(n_items, -1, dtype=np.int64)
    for row in range(rows):
        for entry in range(indptr[row], indptr[row + 1]):
            excluded_for[indices[entry]] = row
        heap_items, heap_scores = best_items[row], best_scores[row]
        size = 0
        bar = np.float32(-np.inf)
        for i in range(n_items):
            score = scores[row, i]
            if score > bar and excluded_for[i] != row:
                if size < n:
                    heap_items[size], heap_scores[size] = i, score
                    size += 1
                    _sift_up(heap_items, heap_scores, size - 1)
                else:
                    heap_items[0], heap_scores[0] = i, score
                    _sift_down(heap_items, heap_scores, 0, n)
                if size == n:
                    bar = heap_scores[0]  # an equal score with a later index loses
        for end in range(size - 1, 0, -1):  # the worst goes to the end, and so on: best first
            heap_items[0], heap_items[end] = heap_items[end], heap_items[0]
            heap_scores[0], heap_scores[end] = heap_scores[end], heap_scores[0]
            _sift_down(heap_items, heap_scores, 0, end)


@njit(cache=True, nogil=True, inline="always")
def _worse(items: NDArray[np.int32], scores: NDArray[np.float32], a: int, b: int) -> bool:
    return bool(scores[a] < scores[b] or (scores[a] == scores[b] and items[a] > items[b]))


@njit(cache=True, nogil=True)
def _sift_up(items: NDArray[np.int32], scores: NDArray[np.float32], at: int) -> None:
    while at > 0:
        parent = (at - 1) // 2
        if not _worse(items, scores, at, parent):
            return
        items[at], items[parent] = items[parent], items[at]
        scores[at], scores[parent] = scores[parent], scores[at]
        at = parent


@njit(cache=True, nogil=True)
def _sift_down(items: NDArray[np.int32], scores: NDArray[np.float32], at: int, size: int) -> None:
    while True:
        worst = at
        for child in (2 * at + 1, 2 * at + 2):
            if child < size and _worse(items, scores, child, worst):
                worst = child
        if worst == at:
            return
        items[at], items[worst] = items[worst], items[at]
        scores[at], scores[worst] = scores[worst], scores[at]
        at = worst
