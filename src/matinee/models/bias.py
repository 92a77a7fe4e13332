"""The bias baseline: what a rating owes to the user's and the item's habits alone. A yardstick for predictors."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats, rows_or_zero
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart


class BaselineOnlyParams(Params):
    """Hyperparameters of `BaselineOnly`; names and defaults are scikit-surprise's."""

    n_epochs: Annotated[int, Field(ge=0)] = 10
    """Alternations."""
    reg_i: Annotated[float, Field(ge=0)] = 10
    """Ratings of an item that count as much as the belief that its bias is 0."""
    reg_u: Annotated[float, Field(ge=0)] = 15
    """The same for a user."""


class BaselineOnly(Model[BaselineOnlyParams]):
    """r̂(u, i) = μ + b_u + b_i by alternating least squares, clipped to the ratings' scale.

    Each epoch sets b_i = Σ (r − μ − b_u) / (reg_i + n_i), then b_u = Σ (r − μ − b_i) / (reg_u + n_u).
    Koren 2010, "Factor in the Neighbors", section 2.1. An unknown user or item has a bias of 0.

    State: mean (1,), user_bias (n_users,), item_bias (n_items,).
    """

    name: ClassVar[str] = "baseline_only"
    capabilities: ClassVar[Capabilities] = Capabilities(predicts_ratings=True, personal=False, seeded=False)
    params_type: ClassVar[type[Params]] = BaselineOnlyParams

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        u, i = interactions.user_index, interactions.item_index
        n_users, n_items = interactions.n_users, interactions.n_items
        rating = interactions.rating.astype(np.float64)
        mean = rating.mean()
        user_bias, item_bias = np.zeros(n_users), np.zeros(n_items)
        for epoch in range(self.params.n_epochs):
            item_bias = _shrunk_mean(i, rating - mean - user_bias[u], n_items, self.params.reg_i)
            user_bias = _shrunk_mean(u, rating - mean - item_bias[i], n_users, self.params.reg_u)
            progress(epoch + 1, self.params.n_epochs)
        return {
            "mean": np.array([mean], dtype=np.float32),
            "user_bias": user_bias.astype(np.float32),
            "item_bias": item_bias.astype(np.float32),
        }

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._mean = floats(state["mean"])[0]
        self._user_bias, self._item_bias = floats(state["user_bias"]), floats(state["item_bias"])

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        by_user: NDArray[np.float32] = self._mean + rows_or_zero(self._user_bias, user_index)
        return by_user + rows_or_zero(self._item_bias, item_index)

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        by_user: NDArray[np.float32] = self._mean + rows_or_zero(self._user_bias, user_index)
        return by_user[:, None] + self._item_bias


def _shrunk_mean(
    index: NDArray[np.int32], values: NDArray[np.float64], n: int, regularisation: float
) -> NDArray[np.float64]:
    """Σ values / (regularisation + count) for each index; 0 where there is nothing. Shape (n,)."""
    total = np.bincount(index, weights=values, minlength=n)
    count = np.bincount(index, minlength=n)
    mean: NDArray[np.float64] = np.divide(total, regularisation + count, out=np.zeros(n), where=count > 0)
    return mean
