"""k nearest neighbours: what those who rate alike make of an item, or the user of items rated alike."""

from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Annotated, ClassVar, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats, rows_or_zero
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart
from matinee.models.bias import BaselineOnlyParams, baselines
from matinee.models.knn_steps import neighbour_means
from matinee.models.similarities import Ratings, Similarity, both_sides, measure, similarity_rows

MATRIX_BYTES = 2**30
"""The greatest matrix of item similarities that `scores` keeps; beyond it rows are worked out at each call."""

GROUPS_AT_ONCE = 64
"""Users (or items) whose pairs a thread takes at a time; affects speed, not results."""

PAIRS_AT_ONCE = 2**20
"""Pairs that `scores` has in hand at once, unless one user (or item) has more; affects speed, not results."""


class KNNParams(Params):
    """Hyperparameters of k-NN; those of scikit-surprise, its `sim_options` among them by name."""

    k: Annotated[int, Field(gt=0)] = 40
    """The most neighbours that count."""
    min_k: Annotated[int, Field(ge=0)] = 1
    """The fewest that must count; with fewer (and with none in any case) the neighbours say nothing."""
    similarity: Similarity = "msd"
    """What makes neighbours; see `matinee.models.similarities.measure`."""
    user_based: bool = True
    """Neighbours are users who rated the item; else they are items that the user rated."""
    min_support: Annotated[int, Field(ge=1)] = 1
    """Common ratings that two need to be similar at all."""
    shrinkage: Annotated[float, Field(ge=0)] = 100
    """pearson_baseline: how much few common ratings shrink the similarity."""


class KNNBaselineParams(KNNParams, BaselineOnlyParams):
    """Hyperparameters of `KNNBaseline`: those of k-NN and those of the baselines."""


KP = TypeVar("KP", bound=KNNParams)


class Neighbours(Model[KP]):
    """What the k-NN models share.

    With x a user and y an item if `user_based`, else the other way round, and N the k among the x' that rated y
    whose similarity with x is greatest, of these only those with a similarity above 0:

        r̂ = base(x, y) + σ_x · Σ_N sim(x, x') value(x', y) / Σ_N sim(x, x')

    The kinds differ in base, σ and value. Formulas, defaults and edge cases are those of scikit-surprise 1.1.5.
    Of equally similar ones the first in the order of the interactions are taken, as there; but similarities are
    rounded to float32, so that a few more are equal. x is in its own neighbourhood where it rated y.

    Learning is keeping the ratings. Similarities are worked out when they are asked for, a row at a time, and
    forgotten: `predict` takes, for each x, Σ n_y steps over the ys that x rated (n_y being the ratings of y), then
    n_y for each of its pairs. Memory is that of the ratings, a few times, and in each thread O(n_x). Only `scores`
    of item-based models, which need all rows for any user, keeps the n_items² float32 matrix, if that is at
    most `MATRIX_BYTES`. Results do not depend on the number of threads; those of the fit are used.

    State: user_index, item_index, rating (n,) as given; mean (1,); user_bias, item_bias where baselines take part.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(predicts_ratings=True, personal=True, seeded=False)
    params_type: ClassVar[type[Params]] = KNNParams
    _threads: int = 1

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        self._threads = threads
        state: State = {
            "user_index": interactions.user_index,
            "item_index": interactions.item_index,
            "rating": interactions.rating,
            "mean": np.array([interactions.rating.mean(dtype=np.float64)], dtype=np.float32),
        }
        if self._needs_baselines():
            _, state["user_bias"], state["item_bias"] = baselines(interactions, self._baseline_params())
        progress(1, 1)
        return state

    def _needs_baselines(self) -> bool:
        return self.params.similarity == "pearson_baseline"

    def _baseline_params(self) -> BaselineOnlyParams:
        return BaselineOnlyParams()

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        users, items = (
            cast("NDArray[np.int32]", np.ascontiguousarray(state[name], dtype=np.int32))
            for name in ("user_index", "item_index")
        )
        rating, params = floats(state["rating"]), self.params
        nothing = np.full(rating.size, np.nan, dtype=np.float32)
        kept = Interactions(self.n_users, self.n_items, users, items, rating, nothing)
        self._mean = floats(state["mean"])[0]
        if self._needs_baselines():
            self._user_bias, self._item_bias = floats(state["user_bias"]), floats(state["item_bias"])
        self._measure = measure(params.similarity, params.min_support, params.shrinkage)
        compared = rating
        if params.similarity == "pearson_baseline":
            compared = rating - self._baseline(users, items)
        self._ratings: Ratings = both_sides(kept, compared, params.user_based)
        plain = self._ratings if compared is rating else both_sides(kept, rating, params.user_based)
        self._known_x, self._known_y = np.diff(plain.x_start) > 0, np.diff(plain.y_start) > 0
        self._value = self._values(plain)
        self._matrix = np.empty((0, 0), dtype=np.float32)
        self._matrix_lock = Lock()

    def _baseline(self, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        baseline: NDArray[np.float32] = self._mean + rows_or_zero(self._user_bias, users)
        return baseline + rows_or_zero(self._item_bias, items)

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        by_user = self.params.user_based
        x, y = (user_index, item_index) if by_user else (item_index, user_index)
        return self._answer(x, y, np.empty((0, 0), dtype=np.float32))

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        by_user = self.params.user_based
        items = np.arange(self.n_items, dtype=np.int32)
        xs, ys = (user_index, items) if by_user else (items, user_index)
        matrix = self._matrix if by_user or not user_index.size else self._kept_matrix()
        scores = np.empty((user_index.size, self.n_items), dtype=np.float32)
        rows = max(1, PAIRS_AT_ONCE // max(1, ys.size))
        for first in range(0, xs.size, rows):
            part = xs[first : first + rows]
            answers = self._answer(np.repeat(part, ys.size), np.tile(ys, part.size), matrix)
            grid = answers.reshape(part.size, ys.size)
            if by_user:
                scores[first : first + rows] = grid
            else:
                scores[:, first : first + rows] = grid.T
        return scores

    def _answer(
        self, x: NDArray[np.int32], y: NDArray[np.int32], matrix: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        known = rows_or_zero(self._known_x, x) & rows_or_zero(self._known_y, y)
        neighbours = np.full(x.size, np.nan, dtype=np.float32)
        asked = np.flatnonzero(known)
        neighbours[asked] = self._neighbour_means(x[asked], y[asked], matrix)
        return self._combined(x, y, known, neighbours)

    def _neighbour_means(
        self, x: NDArray[np.int32], y: NDArray[np.int32], matrix: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The neighbours' means of pairs of known x and y, shape (n,); NaN where they say nothing."""
        order = np.argsort(x, kind="stable")
        xs, starts = np.unique(x[order], return_index=True)
        bounds, ys = np.append(starts, x.size), y[order]
        means = np.empty(x.size, dtype=np.float32)

        def part(first: int) -> None:
            last = min(first + GROUPS_AT_ONCE, xs.size)
            neighbour_means(first, last, xs, bounds, ys, self._ratings, self._value, self._measure, matrix,
                            self.params.k, self.params.min_k, means)  # fmt: skip

        with ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(part, range(0, xs.size, GROUPS_AT_ONCE)):
                pass
        placed = np.empty_like(means)
        placed[order] = means
        return placed

    def _kept_matrix(self) -> NDArray[np.float32]:
        """All similarities, (n_x, n_x), worked out once; nothing, (0, 0), where they are too many to keep."""
        n_x = self._known_x.size
        with self._matrix_lock:
            if not self._matrix.size and 4 * n_x * n_x <= MATRIX_BYTES:
                matrix = np.empty((n_x, n_x), dtype=np.float32)

                def part(first: int) -> None:
                    last = min(first + GROUPS_AT_ONCE, n_x)
                    similarity_rows(first, last, self._ratings, self._measure, matrix)

                with ThreadPoolExecutor(self._threads) as pool:
                    for _ in pool.map(part, range(0, n_x, GROUPS_AT_ONCE)):
                        pass
                self._matrix = matrix
            return self._matrix

    @abstractmethod
    def _values(self, ratings: Ratings) -> NDArray[np.float32]:
        """What is averaged over the neighbours, shape (n,), in the order of `ratings.y_x`."""

    @abstractmethod
    def _combined(
        self, x: NDArray[np.int32], y: NDArray[np.int32], known: NDArray[np.bool_], neighbours: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The predictions from the neighbours' means, NaN where they say nothing."""


class KNNBasic(Neighbours[KNNParams]):
    """r̂ = Σ_N sim(x, x') r(x', y) / Σ_N sim(x, x'); see `Neighbours` for the symbols, cost, memory and state.

    The mean of all ratings where the user or item is unknown or too few neighbours count.
    """

    name: ClassVar[str] = "knn_basic"

    def _values(self, ratings: Ratings) -> NDArray[np.float32]:
        return ratings.y_value

    def _combined(
        self, x: NDArray[np.int32], y: NDArray[np.int32], known: NDArray[np.bool_], neighbours: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        return np.where(np.isnan(neighbours), self._mean, neighbours)


class KNNWithMeans(Neighbours[KNNParams]):
    """r̂ = μ_x + Σ_N sim(x, x') (r(x', y) − μ_x') / Σ_N sim(x, x'), μ_x being the mean of x's ratings.

    See `Neighbours` for the symbols, cost, memory and state. μ_x where too few neighbours count; the mean of all
    ratings where the user or item is unknown.
    """

    name: ClassVar[str] = "knn_with_means"

    def _values(self, ratings: Ratings) -> NDArray[np.float32]:
        self._x_mean = _means(ratings).astype(np.float32)
        return ratings.y_value - self._x_mean[ratings.y_x]

    def _combined(
        self, x: NDArray[np.int32], y: NDArray[np.int32], known: NDArray[np.bool_], neighbours: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        predicted = rows_or_zero(self._x_mean, x) + np.where(np.isnan(neighbours), np.float32(0), neighbours)
        return np.where(known, predicted, self._mean)


class KNNWithZScore(Neighbours[KNNParams]):
    """r̂ = μ_x + σ_x Σ_N sim(x, x') (r(x', y) − μ_x') / σ_x' / Σ_N sim(x, x').

    μ_x and σ_x are mean and (population) standard deviation of x's ratings; where these are all equal, σ_x is the
    standard deviation of all ratings, and 1 if those are all equal too. See `Neighbours` for the symbols, cost,
    memory and state. μ_x where too few neighbours count; the mean of all ratings where the user or item is unknown.
    """

    name: ClassVar[str] = "knn_with_z_score"

    def _values(self, ratings: Ratings) -> NDArray[np.float32]:
        self._x_mean = _means(ratings).astype(np.float32)
        self._x_deviation = _deviations(ratings).astype(np.float32)
        from_mean = ratings.y_value - self._x_mean[ratings.y_x]
        return from_mean / self._x_deviation[ratings.y_x]

    def _combined(
        self, x: NDArray[np.int32], y: NDArray[np.int32], known: NDArray[np.bool_], neighbours: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        scaled = rows_or_zero(self._x_deviation, x) * np.where(np.isnan(neighbours), np.float32(0), neighbours)
        return np.where(known, rows_or_zero(self._x_mean, x) + scaled, self._mean)


class KNNBaseline(Neighbours[KNNBaselineParams]):
    """r̂ = b(x, y) + Σ_N sim(x, x') (r(x', y) − b(x', y)) / Σ_N sim(x, x'), b being μ + b_u + b_i of `baselines`.

    Koren 2010, "Factor in the Neighbors", section 2.2. See `Neighbours` for the symbols, cost, memory and state.
    b(x, y) where too few neighbours count; of an unknown user or item the bias is 0.
    """

    name: ClassVar[str] = "knn_baseline"
    params_type: ClassVar[type[Params]] = KNNBaselineParams

    def _needs_baselines(self) -> bool:
        return True

    def _baseline_params(self) -> BaselineOnlyParams:
        return self.params

    def _values(self, ratings: Ratings) -> NDArray[np.float32]:
        y = np.repeat(np.arange(ratings.y_start.size - 1, dtype=np.int32), np.diff(ratings.y_start))
        return ratings.y_value - self._baseline_of(ratings.y_x.astype(np.int32), y)

    def _baseline_of(self, x: NDArray[np.int32], y: NDArray[np.int32]) -> NDArray[np.float32]:
        return self._baseline(x, y) if self.params.user_based else self._baseline(y, x)

    def _combined(
        self, x: NDArray[np.int32], y: NDArray[np.int32], known: NDArray[np.bool_], neighbours: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        return self._baseline_of(x, y) + np.where(np.isnan(neighbours), np.float32(0), neighbours)


def _of_x(ratings: Ratings, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the values, in the order of `ratings.x_y`, of each x; 0 where there are none. Shape (n_x,)."""
    count = np.diff(ratings.x_start)
    x = np.repeat(np.arange(count.size), count)
    total = np.bincount(x, weights=values, minlength=count.size)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.zeros(count.size), where=count > 0)
    return mean


def _means(ratings: Ratings) -> NDArray[np.float64]:
    return _of_x(ratings, ratings.x_value.astype(np.float64))


def _deviations(ratings: Ratings) -> NDArray[np.float64]:
    values = ratings.x_value.astype(np.float64)
    from_mean = values - np.repeat(_means(ratings), np.diff(ratings.x_start))
    own, overall = np.sqrt(_of_x(ratings, from_mean**2)), values.std()
    rounding = 1e-9 * np.abs(values).max()  # ratings that are all equal may miss their mean by as little
    return np.where(own > rounding, own, overall if overall > rounding else 1.0)
