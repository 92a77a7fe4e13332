"""Slope One: ratings predicted from mean differences between items."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from matinee.core.errors import Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart

APART = np.float32(np.finfo(np.float32).max)
"""Stands in `deviation` for two items that nobody rated both of."""
ITEMS_AT_ONCE = 64
"""Items that a thread takes at a time; affects speed, not results."""


class SlopeOneParams(Params):
    """Hyperparameters of `SlopeOne`; scikit-surprise's has none."""

    memory_limit_gb: Annotated[float, Field(gt=0)] = 4.0
    """The most that the table of items × items may take, in units of 10⁹ bytes; affects no result."""


class SlopeOne(Model[SlopeOneParams]):
    """r̂(u, i) = μ_u + mean of dev(i, j) over the items j of u that somebody rated together with i.

    dev(i, j) is the mean of r_vi − r_vj over the users v who rated both; an item's difference from itself is 0.
    A pair for which there is no such j gets μ_u, the mean of the user's ratings; a pair with anything unknown the
    mean of all. Clipped to the scale of the ratings. Lemire and Maclachlan 2005, "Slope One Predictors for Online
    Rating-Based Collaborative Filtering". As scikit-surprise's `SlopeOne`, save that fractions of ratings count
    here, where it cuts them off. Differences are summed in float32, which is exact for ratings in whole or half
    steps.

    What a user gave an item is only in μ_u: the order of a user's items follows from which items were rated. So
    groups of users who like groups of items are not told apart: differences between items are averaged over all.

    The fit takes time O(Σ_u n_u²) over the users' numbers of ratings and memory O(items²): 4 bytes a pair of items,
    beside the ratings. `predict` takes time O(n_u) a pair, `scores` O(n_u · items) a user.

    State: mean (1,), user_mean (n_users,), user_start (n_users + 1,) and user_items (n,), the items of user u being
    user_items[user_start[u] : user_start[u + 1]], item_known (n_items,), and deviation (n_items, n_items) with
    `APART`, the greatest float32, where two items have no user in common.

    Raises:
        Unsuitable: the table of items × items would be larger than `memory_limit_gb`.
    """

    name: ClassVar[str] = "slope_one"
    capabilities: ClassVar[Capabilities] = Capabilities(
        predicts_ratings=True, personal=True, learns_structure=False, scales=False, seeded=False
    )
    params_type: ClassVar[type[Params]] = SlopeOneParams

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        _require_room(interactions.n_items, self.params.memory_limit_gb)
        by_user = interactions.matrix(interactions.rating)
        count = np.diff(by_user.indptr)
        total = np.bincount(interactions.user_index, interactions.rating, interactions.n_users)
        user_mean = np.divide(total, count, out=np.zeros(count.size), where=count > 0)
        return {
            "mean": np.array([interactions.rating.mean(dtype=np.float64)], dtype=np.float32),
            "user_mean": user_mean.astype(np.float32),
            "user_start": by_user.indptr.astype(np.int64),
            "user_items": by_user.indices.astype(np.int32),
            "item_known": np.bincount(by_user.indices, minlength=interactions.n_items) > 0,
            "deviation": _deviations(by_user, threads, progress),
        }

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._mean = floats(state["mean"])[0]
        self._user_mean, self._deviation = floats(state["user_mean"]), floats(state["deviation"])
        self._user_start = np.ascontiguousarray(state["user_start"], dtype=np.int64)
        self._user_items = np.ascontiguousarray(state["user_items"], dtype=np.int32)
        self._item_known = state["item_known"].astype(np.bool_)

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        predicted = np.full(user_index.size, self._mean, dtype=np.float32)
        order = np.argsort(item_index, kind="stable")  # so an item's row of deviations serves its pairs from cache
        _predict_pairs(
            order, user_index, item_index, self._user_mean, self._user_start, self._user_items,
            self._item_known, self._deviation, predicted,
        )  # fmt: skip
        return predicted

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        scores = np.full((user_index.size, self.n_items), self._mean, dtype=np.float32)
        _score_users(
            user_index, self._user_mean, self._user_start, self._user_items,
            self._item_known, self._deviation, scores,
        )  # fmt: skip
        return scores


def _require_room(n_items: int, limit_gb: float) -> None:
    needed = 4 * n_items**2 / 1e9
    if needed > limit_gb:
        raise Unsuitable(
            f"SlopeOne holds a table of {n_items} × {n_items} items, {needed:.3g} GB; the limit is {limit_gb:g} GB",
            remedy="Raise memory_limit_gb if there is room, leave rare items out, or use svd: it needs no table.",
        )


def _deviations(by_user: sparse.csr_array, threads: int, progress: Progress) -> NDArray[np.float32]:
    """dev(i, j), float32 (n_items, n_items). Each row's lower half is computed whole by one thread."""
    n_items = by_user.shape[1]
    by_item = by_user.T.tocsr()
    deviation = np.full((n_items, n_items), APART, dtype=np.float32)

    def part(first: int) -> None:
        _lower_rows(first, min(first + ITEMS_AT_ONCE, n_items), by_item.indptr, by_item.indices, by_item.data,
                    by_user.indptr, by_user.indices, by_user.data, deviation)  # fmt: skip

    starts = range(0, n_items, ITEMS_AT_ONCE)
    with ThreadPoolExecutor(threads) as pool:
        for done, _ in enumerate(pool.map(part, starts), start=1):
            progress(done, len(starts))
    _mirror(deviation)
    return deviation


@njit(cache=True, nogil=True)
def _lower_rows(
    first: int,
    last: int,
    item_start: NDArray[np.int32],
    item_users: NDArray[np.int32],
    item_ratings: NDArray[np.float32],
    user_start: NDArray[np.int32],
    user_items: NDArray[np.int32],
    user_ratings: NDArray[np.float32],
    deviation: NDArray[np.float32],
) -> None:
    """deviation[i, j] for `first` ≤ i < `last` and j ≤ i, where some user has both."""
    sums = np.zeros((last, 2), dtype=np.float32)  # difference and count side by side: one cache line for both
    for i in range(first, last):
        sums[: i + 1] = np.float32(0)
        for n in range(item_start[i], item_start[i + 1]):
            u, rating = item_users[n], item_ratings[n]
            for m in range(user_start[u], user_start[u + 1]):
                j = user_items[m]
                if j > i:
                    break
                sums[j, 0] += rating - user_ratings[m]
                sums[j, 1] += np.float32(1)
        for j in range(i + 1):
            if sums[j, 1] > 0:
                deviation[i, j] = sums[j, 0] / sums[j, 1]


@njit(cache=True, nogil=True)
def _mirror(deviation: NDArray[np.float32]) -> None:
    """Fill the upper half from the lower: dev(j, i) = −dev(i, j). In square blocks, which caches hold."""
    n, side = len(deviation), 64
    for row in range(0, n, side):
        for column in range(0, row + 1, side):
            for i in range(row, min(row + side, n)):
                for j in range(column, min(column + side, i)):
                    if deviation[i, j] != APART:
                        deviation[j, i] = -deviation[i, j]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _predict_pairs(
    order: NDArray[np.int64],
    user_index: NDArray[np.int32],
    item_index: NDArray[np.int32],
    user_mean: NDArray[np.float32],
    user_start: NDArray[np.int64],
    user_items: NDArray[np.int32],
    item_known: NDArray[np.bool_],
    deviation: NDArray[np.float32],
    predicted: NDArray[np.float32],
) -> None:
    """The prediction of each pair with a known user and item, into `predicted`, in the order given."""
    for n in order:
        u, i = user_index[n], item_index[n]
        if u < 0 or i < 0 or not item_known[i] or user_start[u] == user_start[u + 1]:
            continue
        row = deviation[i]
        total, count = np.float32(0), np.int32(0)
        for m in range(user_start[u], user_start[u + 1]):
            between = row[user_items[m]]
            together = between != APART
            total += between if together else np.float32(0)
            count += np.int32(1) if together else np.int32(0)
        predicted[n] = user_mean[u]
        if count:
            predicted[n] += total / np.float32(count)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _score_users(
    user_index: NDArray[np.int32],
    user_mean: NDArray[np.float32],
    user_start: NDArray[np.int64],
    user_items: NDArray[np.int32],
    item_known: NDArray[np.bool_],
    deviation: NDArray[np.float32],
    scores: NDArray[np.float32],
) -> None:
    """The predictions of all known items for each known user, into `scores`."""
    n_items = len(deviation)
    total, count = np.empty(n_items, dtype=np.float32), np.empty(n_items, dtype=np.float32)
    for n in range(user_index.size):
        u = user_index[n]
        if u < 0 or user_start[u] == user_start[u + 1]:
            continue
        total[:] = np.float32(0)
        count[:] = np.float32(0)
        for m in range(user_start[u], user_start[u + 1]):
            row = deviation[user_items[m]]  # dev(j, i) = −dev(i, j), and this row is contiguous
            for i in range(n_items):
                together = row[i] != APART
                total[i] -= row[i] if together else np.float32(0)
                count[i] += np.float32(1) if together else np.float32(0)
        for i in range(n_items):
            if item_known[i]:
                scores[n, i] = user_mean[u]
                if count[i] > 0:
                    scores[n, i] += total[i] / count[i]
