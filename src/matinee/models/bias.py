"""The bias baseline: what a rating owes to the user's and the item's habits alone. A yardstick for predictors."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats, require_finite, rows_or_zero
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart

DEFAULT_EPOCHS = {"als": 10, "sgd": 20}
"""Epochs of each method where none are given."""


class BaselineOnlyParams(Params):
    """Hyperparameters of `BaselineOnly`; names and defaults are those of scikit-surprise's `bsl_options`."""

    method: Literal["als", "sgd"] = "als"
    """Alternating least squares or stochastic gradient descent."""
    n_epochs: Annotated[int, Field(ge=0)] | None = None
    """Alternations, or passes over the ratings; without a number 10 for als and 20 for sgd."""
    reg_i: Annotated[float, Field(ge=0)] = 10
    """als: ratings of an item that count as much as the belief that its bias is 0."""
    reg_u: Annotated[float, Field(ge=0)] = 15
    """als: the same for a user."""
    reg: Annotated[float, Field(ge=0)] = 0.02
    """sgd: regularisation of all biases."""
    learning_rate: Annotated[float, Field(ge=0)] = 0.005
    """sgd: how far a step goes."""

    def epochs(self) -> int:
        """`n_epochs`, or the method's own number where none is given."""
        return DEFAULT_EPOCHS[self.method] if self.n_epochs is None else self.n_epochs


class BaselineOnly(Model[BaselineOnlyParams]):
    """r̂(u, i) = μ + b_u + b_i, clipped to the ratings' scale; the biases are those of `baselines`.

    Koren 2010, "Factor in the Neighbors", section 2.1. An unknown user or item has a bias of 0.

    State: mean (1,), user_bias (n_users,), item_bias (n_items,).
    """

    name: ClassVar[str] = "baseline_only"
    capabilities: ClassVar[Capabilities] = Capabilities(predicts_ratings=True, personal=False, seeded=False)
    params_type: ClassVar[type[Params]] = BaselineOnlyParams

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        mean, user_bias, item_bias = baselines(interactions, self.params, progress)
        return {"mean": np.array([mean], dtype=np.float32), "user_bias": user_bias, "item_bias": item_bias}

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._mean = floats(state["mean"])[0]
        self._user_bias, self._item_bias = floats(state["user_bias"]), floats(state["item_bias"])

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        by_user: NDArray[np.float32] = self._mean + rows_or_zero(self._user_bias, user_index)
        return by_user + rows_or_zero(self._item_bias, item_index)

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        by_user: NDArray[np.float32] = self._mean + rows_or_zero(self._user_bias, user_index)
        return by_user[:, None] + self._item_bias


def baselines(
    interactions: Interactions, params: BaselineOnlyParams, progress: Progress | None = None
) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
    """The mean and the biases of ratings.

    By least squares each epoch sets b_i = Σ (r − μ − b_u) / (reg_i + n_i), then
    b_u = Σ (r − μ − b_i) / (reg_u + n_u). By gradient descent it goes through the ratings in the order given; with
    e = r − μ − b_u − b_i

        b_u += γ (e − λ b_u)          b_i += γ (e − λ b_i)

    Time O(n) an epoch, memory O(n + users + items); the arithmetic is in float64.

    Args:
        interactions: rows that all have a rating, at least one.
        params: the method and its numbers.
        progress: called after each epoch.

    Returns:
        (μ, user biases float32 (n_users,), item biases float32 (n_items,)); who has no ratings has a bias of 0.

    Raises:
        ConfigurationError: gradient descent diverged.
    """
    steps = _by_least_squares if params.method == "als" else _by_gradient_descent
    mean = float(interactions.rating.mean(dtype=np.float64))
    wide_user, wide_item = steps(interactions, mean, params, progress)
    with np.errstate(over="ignore"):
        user_bias, item_bias = wide_user.astype(np.float32), wide_item.astype(np.float32)
    require_finite("baselines", "Lower learning_rate.", user_bias=user_bias, item_bias=item_bias)
    return mean, user_bias, item_bias


def newcomer_biases(
    index: NDArray[np.int32],
    residual: NDArray[np.float64],
    n: int,
    side: Literal["u", "i"],
    params: BaselineOnlyParams,
) -> NDArray[np.float32]:
    """The biases of newcomers, the other side's held fixed.

    Of its m residuals t = r − μ − (the other's bias) a newcomer gets Σ t / (reg + m), which is a step of least
    squares, or Σ t / (m (1 + reg)), where gradient descent comes to rest.

    Args:
        index: int32, shape (rows,): whose residual it is, 0 to n − 1.
        residual: float64, shape (rows,).
        n: newcomers.
        side: `u` for users, `i` for items.
        params: the method and its numbers.

    Returns:
        float32, shape (n,); 0 of who has no residual.
    """
    if params.method == "als":
        bias = _shrunk_mean(index, residual, n, params.reg_u if side == "u" else params.reg_i)
    else:
        bias = _shrunk_mean(index, residual, n, 0.0) / (1 + params.reg)
    return bias.astype(np.float32)


def _by_least_squares(
    interactions: Interactions, mean: float, params: BaselineOnlyParams, progress: Progress | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    u, i = interactions.user_index, interactions.item_index
    n_users, n_items = interactions.n_users, interactions.n_items
    centred = interactions.rating.astype(np.float64) - mean
    user_bias, item_bias = np.zeros(n_users), np.zeros(n_items)
    for epoch in range(params.epochs()):
        item_bias = _shrunk_mean(i, centred - user_bias[u], n_items, params.reg_i)
        user_bias = _shrunk_mean(u, centred - item_bias[i], n_users, params.reg_u)
        if progress is not None:
            progress(epoch + 1, params.epochs())
    return user_bias, item_bias


def _by_gradient_descent(
    interactions: Interactions, mean: float, params: BaselineOnlyParams, progress: Progress | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    user_bias, item_bias = np.zeros(interactions.n_users), np.zeros(interactions.n_items)
    for epoch in range(params.epochs()):
        _descend(interactions.user_index, interactions.item_index, interactions.rating, mean,
                 user_bias, item_bias, params.learning_rate, params.reg)  # fmt: skip
        if progress is not None:
            progress(epoch + 1, params.epochs())
    return user_bias, item_bias


@njit(cache=True, nogil=True)
def _descend(
    user_index: NDArray[np.int32],
    item_index: NDArray[np.int32],
    rating: NDArray[np.float32],
    mean: float,
    user_bias: NDArray[np.float64],
    item_bias: NDArray[np.float64],
    rate: float,
    reg: float,
) -> None:
    """One pass over the ratings in their order; changes the biases in place."""
    for row in range(rating.size):
        u, i = user_index[row], item_index[row]
        error = rating[row] - (mean + user_bias[u] + item_bias[i])
        user_bias[u] += rate * (error - reg * user_bias[u])
        item_bias[i] += rate * (error - reg * item_bias[i])


def _shrunk_mean(
    index: NDArray[np.int32], values: NDArray[np.float64], n: int, regularisation: float
) -> NDArray[np.float64]:
    """Σ values / (regularisation + count) for each index; 0 where there is nothing. Shape (n,)."""
    total = np.bincount(index, weights=values, minlength=n)
    count = np.bincount(index, minlength=n)
    mean: NDArray[np.float64] = np.divide(total, regularisation + count, out=np.zeros(n), where=count > 0)
    return mean
