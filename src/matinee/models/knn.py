"""k nearest neighbours: what those who rate alike make of an item, or the user of items rated alike."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from matinee.models.arrays import rows_or_zero
from matinee.models.base import Params
from matinee.models.bias import BaselineOnlyParams
from matinee.models.neighbours import KNNParams, Neighbours
from matinee.models.similarities import Ratings


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
        self._x_deviation = _deviations(ratings, self._fitted_rating).astype(np.float32)
        from_mean = ratings.y_value - self._x_mean[ratings.y_x]
        return from_mean / self._x_deviation[ratings.y_x]

    def _combined(
        self, x: NDArray[np.int32], y: NDArray[np.int32], known: NDArray[np.bool_], neighbours: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        scaled = rows_or_zero(self._x_deviation, x) * np.where(np.isnan(neighbours), np.float32(0), neighbours)
        return np.where(known, rows_or_zero(self._x_mean, x) + scaled, self._mean)


class KNNBaselineParams(KNNParams, BaselineOnlyParams):
    """Hyperparameters of `KNNBaseline`: those of k-NN and those of the baselines."""


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


def _deviations(ratings: Ratings, fitted: NDArray[np.float32]) -> NDArray[np.float64]:
    values = ratings.x_value.astype(np.float64)
    from_mean = values - np.repeat(_means(ratings), np.diff(ratings.x_start))
    own, overall = np.sqrt(_of_x(ratings, from_mean**2)), fitted.std(dtype=np.float64)
    rounding = 1e-9 * np.abs(fitted).max()  # ratings that are all equal may miss their mean by as little
    return np.where(own > rounding, own, overall if overall > rounding else 1.0)
