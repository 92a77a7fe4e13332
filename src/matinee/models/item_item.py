"""What models share whose scores are a user's row times weights between items: X·W."""

from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from matinee.core.errors import Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats
from matinee.models.base import Model, Params, Progress, State, WarmStart
from matinee.models.preference import DEFAULT_POSITIVE_RATING, confidence

ITEMS_AT_ONCE = 256
"""Items that a thread takes at a time; affects speed, not results."""

_FAST = {"reassoc", "contract", "nsz"}


class ItemItemParams(Params):
    """Hyperparameters of all models of this kind."""

    positive_rating: Annotated[float, Field(gt=0)] = DEFAULT_POSITIVE_RATING
    """The least rating that counts as liking."""


P = TypeVar("P", bound=ItemItemParams)


def positives(interactions: Interactions, positive_rating: float) -> sparse.csr_array:
    """Users × items: the weight of each positive, float32; nothing else is stored. Columns sorted."""
    weight = confidence(interactions.rating, interactions.watched, positive_rating)
    return interactions.take(weight > 0).matrix(weight[weight > 0])


def require_positives(interactions: Interactions, positive_rating: float, wanted_by: str) -> sparse.csr_array:
    """The same, or `Unsuitable` naming what wanted them where there is none."""
    rows = positives(interactions, positive_rating)
    if not rows.nnz:
        raise Unsuitable(
            f"{wanted_by} learns from positives, and these {len(interactions)} interactions hold none",
            remedy=f"Lower positive_rating (now {positive_rating}) or add interactions.",
        )
    return rows


class ItemItem(Model[P]):
    """Scores s_uj = Σ_i x_ui W_ij, with x_u the user's row and W weights from item to item.

    A kind gives `_weights` (what W is learnt as) and, where W is not sparse, `_load_weights`, `_row_scores` and
    `_pair_scores`. A user without a positive is answered like the mean user: x̄W, the mean over users who have
    one. A user is folded in by storing its row: the answer is what the same W gives a user of the fit.

    State: user_indptr (n_users + 1,), user_indices and user_data (positives,): the users' rows; prior (n_items,):
    x̄W; and what the kind adds, here weights_indptr, weights_indices, weights_data: the rows of W.
    """

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        liked = require_positives(interactions, self.params.positive_rating, type(self).__name__)
        weights = self._weights(liked, threads, progress)
        rows = self._rows(liked)
        self._load_weights(weights, interactions.n_items)
        mean = sparse.csr_array(rows.sum(axis=0)[None, :] / np.float32((np.diff(rows.indptr) > 0).sum()))
        prior = self._row_scores(*_parts(mean))[0]
        return {**_row_state(rows), "prior": prior, **weights}

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._indptr = state["user_indptr"].astype(np.int64)
        self._indices = state["user_indices"].astype(np.int32, copy=False)
        self._data = floats(state["user_data"])
        self._prior = floats(state["prior"])
        self._load_weights(state, self.n_items)

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        scores = self._pair_scores(user_index, item_index)
        nobody = ~self._has_row(user_index)
        scores[nobody] = self._prior[item_index[nobody]]
        scores[item_index < 0] = 0
        return scores

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        nobody = ~self._has_row(user_index)
        rows = sparse.csr_array((self._data, self._indices, self._indptr), shape=(self.n_users, self.n_items))
        scores = self._row_scores(*_parts(rows[np.where(nobody, 0, user_index)]))
        scores[nobody] = self._prior
        return scores

    def _fold_in(self, newcomers: Interactions) -> State:
        new = newcomers.user_index >= self.n_users
        rows = self._rows(positives(newcomers.take(new), self.params.positive_rating))
        return {
            "user_indptr": np.append(self._indptr, self._indptr[-1] + rows.indptr[self.n_users + 1 :]),
            "user_indices": np.append(self._indices, rows.indices.astype(np.int32)),
            "user_data": np.append(self._data, floats(rows.data)),
        }

    def _has_row(self, user_index: NDArray[np.int32]) -> NDArray[np.bool_]:
        return (user_index >= 0) & (self._indptr[user_index + 1] > self._indptr[user_index])

    @abstractmethod
    def _weights(self, liked: sparse.csr_array, threads: int, progress: Progress) -> State:
        """W as named arrays, from users × items of the positives' weights."""

    def _rows(self, liked: sparse.csr_array) -> sparse.csr_array:
        """The users' rows x_u from the positives' weights."""
        return liked

    def _load_weights(self, state: Mapping[str, NDArray[np.generic]], n_items: int) -> None:
        """Make W ready."""
        self._w_indptr = state["weights_indptr"].astype(np.int64)
        self._w_indices = state["weights_indices"].astype(np.int32, copy=False)
        self._w_data = floats(state["weights_data"])
        self._width = n_items

    def _row_scores(
        self, indptr: NDArray[np.int64], indices: NDArray[np.int32], data: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The product of rows in CSR with W, dense."""
        return _sparse_rows(indptr, indices, data, self._w_indptr, self._w_indices, self._w_data, self._width)

    def _pair_scores(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        """Single elements of the product of the users' rows with W; anything where an index is -1."""
        return _sparse_pairs(user_index, item_index, self._indptr, self._indices, self._data,
                             self._w_indptr, self._w_indices, self._w_data)  # fmt: skip


def strongest_products(
    left: sparse.csr_array,
    right: sparse.csr_array,
    column_scale: NDArray[np.float32],
    k: int,
    threads: int,
    progress: Progress,
) -> State:
    """For each row of LR the k greatest positive elements off the diagonal, each times its column's scale.

    Equal elements go by the lower column. Neither the whole product nor its rows are ever held: memory is
    O(items · k) and, for each thread, O(items). Time is O(Σ_u d_u²) for d_u items of user u.

    Args:
        left: L, items × users, no negative values.
        right: R, users × items, no negative values.
        column_scale: float32, (items,), above 0.
        k: elements kept a row.
        threads: rows are independent, so that this changes nothing in the result.
        progress: called after each block of rows.

    Returns:
        weights_indptr, weights_indices (sorted in each row), weights_data: a CSR matrix.
    """
    n_items = left.shape[0]
    k = min(k, n_items)
    columns = np.full((n_items, k), -1, dtype=np.int32)
    values = np.zeros((n_items, k), dtype=np.float32)
    (l_indptr, l_indices, l_data), (r_indptr, r_indices, r_data) = _parts(left), _parts(right)

    def part(first: int) -> None:
        last = min(first + ITEMS_AT_ONCE, n_items)
        _strongest(first, last, l_indptr, l_indices, l_data, r_indptr, r_indices, r_data,
                   column_scale, columns, values)  # fmt: skip

    blocks = range(0, n_items, ITEMS_AT_ONCE)
    with ThreadPoolExecutor(threads) as pool:
        for done, _ in enumerate(pool.map(part, blocks), start=1):
            progress(done, len(blocks))
    kept = columns >= 0
    row = np.repeat(np.arange(n_items, dtype=np.int32), kept.sum(axis=1))
    weights = sparse.csr_array((values[kept], (row, columns[kept])), shape=(n_items, n_items))
    weights.sort_indices()
    indptr, indices, data = _parts(weights)
    return {"weights_indptr": indptr, "weights_indices": indices, "weights_data": data}


def _parts(rows: sparse.csr_array) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    return rows.indptr.astype(np.int64), rows.indices.astype(np.int32, copy=False), floats(rows.data)


def _row_state(rows: sparse.csr_array) -> State:
    indptr, indices, data = _parts(rows)
    return {"user_indptr": indptr, "user_indices": indices, "user_data": data}


@njit(cache=True, nogil=True, fastmath=_FAST)
def _strongest(
    first: int,
    last: int,
    l_indptr: NDArray[np.int64],
    l_indices: NDArray[np.int32],
    l_data: NDArray[np.float32],
    r_indptr: NDArray[np.int64],
    r_indices: NDArray[np.int32],
    r_data: NDArray[np.float32],
    scale: NDArray[np.float32],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
) -> None:
    """Rows `first` to `last - 1` of `strongest_products`, into `columns` and `values`."""
    total = np.zeros(scale.size, dtype=np.float32)
    met = np.empty(scale.size, dtype=np.int32)
    k = columns.shape[1]
    for row in range(first, last):
        n_met = 0
        for a in range(l_indptr[row], l_indptr[row + 1]):
            u, share = l_indices[a], l_data[a]
            for b in range(r_indptr[u], r_indptr[u + 1]):
                j = r_indices[b]
                if total[j] == np.float32(0) and n_met < met.size:
                    met[n_met] = j
                    n_met += 1
                total[j] += share * r_data[b]
        n_kept = 0
        for m in range(n_met):
            j = met[m]
            value = total[j] * scale[j]
            total[j] = np.float32(0)  # so an item noted twice (its first products were 0) counts once
            if j == row or not value > np.float32(0):
                continue
            if n_kept == k and not _before(value, j, values[row, k - 1], columns[row, k - 1]):
                continue
            at = min(n_kept, k - 1)
            while at > 0 and _before(value, j, values[row, at - 1], columns[row, at - 1]):
                values[row, at], columns[row, at] = values[row, at - 1], columns[row, at - 1]
                at -= 1
            values[row, at], columns[row, at] = value, j
            n_kept = min(n_kept + 1, k)


@njit(cache=True, nogil=True)
def _before(value: np.float32, column: np.int32, other: np.float32, other_column: np.int32) -> bool:
    return bool(value > other or (value == other and column < other_column))


@njit(cache=True, nogil=True, fastmath=_FAST)
def _sparse_rows(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    data: NDArray[np.float32],
    w_indptr: NDArray[np.int64],
    w_indices: NDArray[np.int32],
    w_data: NDArray[np.float32],
    width: int,
) -> NDArray[np.float32]:
    """Rows in CSR times weights in CSR, dense: float32 (rows, width)."""
    out = np.zeros((indptr.size - 1, width), dtype=np.float32)
    for row in range(indptr.size - 1):
        for a in range(indptr[row], indptr[row + 1]):
            i, x = indices[a], data[a]
            for b in range(w_indptr[i], w_indptr[i + 1]):
                out[row, w_indices[b]] += x * w_data[b]
    return out


@njit(cache=True, nogil=True, fastmath=_FAST)
def _sparse_pairs(
    user_index: NDArray[np.int32],
    item_index: NDArray[np.int32],
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    data: NDArray[np.float32],
    w_indptr: NDArray[np.int64],
    w_indices: NDArray[np.int32],
    w_data: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Single elements of the same, float32 (n,); 0 where an index is -1. Each looks its item up in d_u rows."""
    out = np.zeros(user_index.size, dtype=np.float32)
    for n in range(user_index.size):
        u, j = user_index[n], item_index[n]
        if u < 0 or j < 0:
            continue
        for a in range(indptr[u], indptr[u + 1]):
            low, end = w_indptr[indices[a]], w_indptr[indices[a] + 1]
            at = low + np.searchsorted(w_indices[low:end], j)
            if at < end and w_indices[at] == j:
                out[n] += data[a] * w_data[at]
    return out
