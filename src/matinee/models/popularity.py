"""Popularity: the same answer for everyone. The yardstick of everything that ranks."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from matinee.dataset.interactions import Interactions
from matinee.models.arrays import check_indices, check_pairs, floats
from matinee.models.base import Capabilities, Model, Params, Progress
from matinee.models.preference import DEFAULT_POSITIVE_RATING, confidence


class PopularityParams(Params):
    """Hyperparameters of `Popularity`."""

    positive_rating: Annotated[float, Field(gt=0)] = DEFAULT_POSITIVE_RATING
    """The least rating that counts as liking."""


class Popularity(Model):
    """An item's score is the number of users to whom it is a positive. Equal counts keep the items' order."""

    name: ClassVar[str] = "popularity"
    capabilities: ClassVar[Capabilities] = Capabilities(predicts_ratings=False, personal=False, folds_in=False)
    params: PopularityParams

    def __init__(self, params: PopularityParams | None = None) -> None:
        self.params = params or PopularityParams()

    def fit(
        self,
        interactions: Interactions,
        *,
        seed: int = 0,  # noqa: ARG002 - the interface's
        threads: int = 1,  # noqa: ARG002 - the interface's
        progress: Progress | None = None,
    ) -> Self:
        """See `Model.fit`. Uses neither seed nor threads."""
        weight = confidence(interactions.rating, interactions.watched, self.params.positive_rating)
        liked = interactions.item_index[weight > 0]
        count = np.bincount(liked, minlength=interactions.n_items)
        self._load({"count": count, "n_users": np.array([interactions.n_users])})
        if progress:
            progress(1, 1)
        return self

    def predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `Model.predict`. An unknown item has no positives: 0."""
        check_pairs(user_index, item_index, self._n_users, self._count.size - 1)
        return self._count[item_index]  # the last place is 0, and -1 finds it

    def scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `Model.scores`."""
        check_indices("user_index", user_index, self._n_users)
        return np.tile(self._count[:-1], (user_index.size, 1))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """See `Model.state`: count (n_items,), n_users (1,)."""
        return {"count": self._count[:-1], "n_users": np.array([self._n_users])}

    @classmethod
    def from_state(cls, params: Params, state: Mapping[str, NDArray[np.generic]]) -> Self:
        """See `Model.from_state`."""
        assert isinstance(params, PopularityParams)
        model = cls(params)
        model._load(state)
        return model

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._count = np.append(floats(state["count"]), np.float32(0))
        self._n_users = int(state["n_users"].astype(np.int64)[0])
