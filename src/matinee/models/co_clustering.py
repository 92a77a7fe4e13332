"""Co-clustering: users and items in clusters, ratings predicted from the clusters' means."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart


class CoClusteringParams(Params):
    """Hyperparameters of `CoClustering`; names and defaults are scikit-surprise's."""

    n_cltr_u: Annotated[int, Field(gt=0)] = 3
    """Clusters of users."""
    n_cltr_i: Annotated[int, Field(gt=0)] = 3
    """Clusters of items."""
    n_epochs: Annotated[int, Field(ge=0)] = 20
    """Rounds in which every user, then every item, moves to its best cluster."""


class _Averages(NamedTuple):
    """Mean ratings of clusters; the mean of all where a cluster has none."""

    user: NDArray[np.float64]
    item: NDArray[np.float64]
    both: NDArray[np.float64]


class CoClustering(Model[CoClusteringParams]):
    """r̂(u, i) = C̄_ui + (μ_u − C̄_u) + (μ_i − C̄_i), clipped to the scale of the ratings.

    μ_u and μ_i are the means of the user's and the item's ratings, C̄_u and C̄_i those of their clusters, C̄_ui that
    of the ratings between the two clusters. Clusters are drawn at random; in each epoch every user goes to the
    cluster that gives its ratings the least squared error (the first of equals), then every item, with the means
    from before the epoch. George and Merugu 2005, "A Scalable Collaborative Filtering Framework Based on
    Co-Clustering". As scikit-surprise's `CoClustering`, save that fractions of ratings count here, where it cuts
    them off. A pair with anything unknown gets the mean of all, as there.

    Time O(n (n_cltr_u + n_cltr_i)) an epoch for n ratings, memory O(n + users + items); the fit is in float64.

    State: mean (1,), user_offset = μ_u − C̄_u (n_users,), item_offset (n_items,), user_cluster and item_cluster
    (int32; -1 for those without ratings), cluster_mean (n_cltr_u, n_cltr_i).
    """

    name: ClassVar[str] = "co_clustering"
    capabilities: ClassVar[Capabilities] = Capabilities(predicts_ratings=True, personal=True)
    params_type: ClassVar[type[Params]] = CoClusteringParams

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        params, rng = self.params, np.random.default_rng(seed)
        by_user = interactions.matrix(interactions.rating)
        by_item = by_user.T.tocsr()
        user_cluster = rng.integers(params.n_cltr_u, size=interactions.n_users, dtype=np.int32)
        item_cluster = rng.integers(params.n_cltr_i, size=interactions.n_items, dtype=np.int32)
        user_mean, item_mean = _row_means(by_user), _row_means(by_item)
        sides = ((by_user, user_mean, user_cluster), (by_item, item_mean, item_cluster))
        for epoch in range(params.n_epochs):
            averages = _averages(interactions, user_cluster, item_cluster, params)
            tables = (averages.both, averages.user, averages.item), (averages.both.T, averages.item, averages.user)
            for n, table in enumerate(tables):
                rows, own_mean, own = sides[n]
                _, other_mean, other = sides[1 - n]
                offset = other_mean - table[2][other]
                _move(rows.indptr, rows.indices, rows.data, own_mean, offset, other,
                      table[0] - table[1][:, None], own)  # fmt: skip
            progress(epoch + 1, params.n_epochs)
        averages = _averages(interactions, user_cluster, item_cluster, params)
        known = np.diff(by_user.indptr) > 0, np.diff(by_item.indptr) > 0
        return {
            "mean": np.array([interactions.rating.mean(dtype=np.float64)], dtype=np.float32),
            "user_offset": np.where(known[0], user_mean - averages.user[user_cluster], 0).astype(np.float32),
            "item_offset": np.where(known[1], item_mean - averages.item[item_cluster], 0).astype(np.float32),
            "user_cluster": np.where(known[0], user_cluster, np.int32(-1)),
            "item_cluster": np.where(known[1], item_cluster, np.int32(-1)),
            "cluster_mean": averages.both.astype(np.float32),
        }

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._mean = floats(state["mean"])[0]
        self._user_offset, self._item_offset = floats(state["user_offset"]), floats(state["item_offset"])
        self._user_cluster = state["user_cluster"].astype(np.int32)
        self._item_cluster = state["item_cluster"].astype(np.int32)
        self._cluster_mean = floats(state["cluster_mean"])

    def _user_clusters(self, user_index: NDArray[np.int32]) -> NDArray[np.int32]:
        return np.where(user_index < 0, np.int32(-1), self._user_cluster[user_index])

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        users = self._user_clusters(user_index)
        items = np.where(item_index < 0, np.int32(-1), self._item_cluster[item_index])
        raw: NDArray[np.float32] = self._cluster_mean[users, items] + self._user_offset[user_index]
        raw += self._item_offset[item_index]
        raw[(users < 0) | (items < 0)] = self._mean
        return raw

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        users = self._user_clusters(user_index)
        raw: NDArray[np.float32] = self._cluster_mean[users][:, self._item_cluster]
        raw += self._user_offset[user_index][:, None]
        raw += self._item_offset
        raw[users < 0] = self._mean
        raw[:, self._item_cluster < 0] = self._mean
        return raw


def _row_means(rows: sparse.csr_array) -> NDArray[np.float64]:
    """The mean of each row's entries; 0 where there are none."""
    count = np.diff(rows.indptr)
    total = np.asarray(rows.sum(axis=1, dtype=np.float64))
    means: NDArray[np.float64] = np.divide(total, count, out=np.zeros(count.size), where=count > 0)
    return means


def _averages(
    interactions: Interactions,
    user_cluster: NDArray[np.int32],
    item_cluster: NDArray[np.int32],
    params: CoClusteringParams,
) -> _Averages:
    shape = (params.n_cltr_u, params.n_cltr_i)
    cell = user_cluster[interactions.user_index] * params.n_cltr_i + item_cluster[interactions.item_index]
    total = np.bincount(cell, interactions.rating, shape[0] * shape[1]).reshape(shape).astype(np.float64)
    count = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    mean = total.sum() / count.sum()

    def means(total: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.divide(total, count, out=np.full(count.shape, mean), where=count > 0)
        return found

    by_user, by_item = (means(total.sum(axis=axis), count.sum(axis=axis)) for axis in (1, 0))
    return _Averages(by_user, by_item, means(total, count))


@njit(cache=True, nogil=True)
def _move(
    indptr: NDArray[np.int32],
    other_index: NDArray[np.int32],
    rating: NDArray[np.float32],
    own_mean: NDArray[np.float64],
    other_offset: NDArray[np.float64],
    other_cluster: NDArray[np.int32],
    relative: NDArray[np.float64],
    own_cluster: NDArray[np.int32],
) -> None:
    """Each row with ratings to its best cluster; `relative[c, d]` is C̄_cd − C̄_c. Changes `own_cluster` in place."""
    errors = np.empty(len(relative))
    for row in range(own_cluster.size):
        errors[:] = 0
        for n in range(indptr[row], indptr[row + 1]):
            other = other_index[n]
            rest = rating[n] - own_mean[row] - other_offset[other]
            for cluster in range(errors.size):
                errors[cluster] += (rest - relative[cluster, other_cluster[other]]) ** 2
        if indptr[row] < indptr[row + 1]:
            own_cluster[row] = np.argmin(errors)
