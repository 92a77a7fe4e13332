"""The bias baseline: what a rating owes to the user's and the item's habits alone. A yardstick for predictors."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from matinee.dataset.interactions import Interactions
from matinee.models.arrays import check_indices, check_pairs, floats, require_ratings
from matinee.models.base import Capabilities, Model, Params, Progress


class BaselineOnlyParams(Params):
    """Hyperparameters of `BaselineOnly`; names and defaults are scikit-surprise's."""

    n_epochs: Annotated[int, Field(ge=0)] = 10
    """Alternations."""
    reg_i: Annotated[float, Field(ge=0)] = 10
    """Ratings of an item that count as much as the belief that its bias is 0."""
    reg_u: Annotated[float, Field(ge=0)] = 15
    """The same for a user."""


class BaselineOnly(Model):
    """r̂(u, i) = μ + b_u + b_i by alternating least squares, clipped to the ratings' scale.

    Each epoch sets b_i = Σ (r − μ − b_u) / (reg_i + n_i), then b_u = Σ (r − μ − b_i) / (reg_u + n_u).
    Koren 2010, "Factor in the Neighbors", section 2.1. `scores` is not clipped, so that clipping ties no items.
    """

    name: ClassVar[str] = "baseline_only"
    capabilities: ClassVar[Capabilities] = Capabilities(predicts_ratings=True, personal=False, folds_in=False)
    params: BaselineOnlyParams

    def __init__(self, params: BaselineOnlyParams | None = None) -> None:
        self.params = params or BaselineOnlyParams()

    def fit(
        self,
        interactions: Interactions,
        *,
        seed: int = 0,  # noqa: ARG002 - the interface's
        threads: int = 1,  # noqa: ARG002 - the interface's
        progress: Progress | None = None,
    ) -> Self:
        """See `Model.fit`. Learns from ratings; uses neither seed nor threads."""
        rated = require_ratings(interactions, "BaselineOnly")
        u, i, n_users, n_items = rated.user_index, rated.item_index, rated.n_users, rated.n_items
        rating = rated.rating.astype(np.float64)
        mean = rating.mean()
        user_bias, item_bias = np.zeros(n_users), np.zeros(n_items)
        for epoch in range(self.params.n_epochs):
            item_bias = _shrunk_mean(i, rating - mean - user_bias[u], n_items, self.params.reg_i)
            user_bias = _shrunk_mean(u, rating - mean - item_bias[i], n_users, self.params.reg_u)
            if progress:
                progress(epoch + 1, self.params.n_epochs)
        self._load(
            {
                "mean": np.array([mean], dtype=np.float32),
                "scale": np.array([rating.min(), rating.max()], dtype=np.float32),
                "user_bias": user_bias.astype(np.float32),
                "item_bias": item_bias.astype(np.float32),
            }
        )
        return self

    def predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `Model.predict`. An unknown user or item has a bias of 0."""
        check_pairs(user_index, item_index, self._user_bias.size - 1, self._item_bias.size - 1)
        # the last place of each is 0, and -1 finds it
        raw = self._mean + self._user_bias[user_index] + self._item_bias[item_index]
        clipped: NDArray[np.float32] = np.clip(raw, self._scale[0], self._scale[1])
        return clipped

    def scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `Model.scores`. Before clipping."""
        check_indices("user_index", user_index, self._user_bias.size - 1)
        by_user: NDArray[np.float32] = self._mean + self._user_bias[user_index]
        return by_user[:, None] + self._item_bias[None, :-1]

    def state(self) -> dict[str, NDArray[np.generic]]:
        """See `Model.state`: mean (1,), scale (2,), user_bias (n_users,), item_bias (n_items,)."""
        return {
            "mean": np.array([self._mean]),
            "scale": self._scale,
            "user_bias": self._user_bias[:-1],
            "item_bias": self._item_bias[:-1],
        }

    @classmethod
    def from_state(cls, params: Params, state: Mapping[str, NDArray[np.generic]]) -> Self:
        """See `Model.from_state`."""
        assert isinstance(params, BaselineOnlyParams)
        model = cls(params)
        model._load(state)
        return model

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._mean = floats(state["mean"])[0]
        self._scale = floats(state["scale"])
        self._user_bias = np.append(floats(state["user_bias"]), np.float32(0))
        self._item_bias = np.append(floats(state["item_bias"]), np.float32(0))


def _shrunk_mean(
    index: NDArray[np.int32], values: NDArray[np.float64], n: int, regularisation: float
) -> NDArray[np.float64]:
    """Σ values / (regularisation + count) for each index; 0 where there is nothing. Shape (n,)."""
    total = np.bincount(index, weights=values, minlength=n)
    count = np.bincount(index, minlength=n)
    mean: NDArray[np.float64] = np.divide(total, regularisation + count, out=np.zeros(n), where=count > 0)
    return mean
