"""Popularity: the same answer for everyone. The yardstick of everything that ranks."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats, rows_or_zero
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart
from matinee.models.preference import DEFAULT_POSITIVE_RATING, confidence


class PopularityParams(Params):
    """Hyperparameters of `Popularity`."""

    positive_rating: Annotated[float, Field(gt=0)] = DEFAULT_POSITIVE_RATING
    """The least rating that counts as liking."""


class Popularity(Model[PopularityParams]):
    """An item's score is the number of users to whom it is a positive. Equal counts keep the items' order.

    State: count (n_items,).
    """

    name: ClassVar[str] = "popularity"
    capabilities: ClassVar[Capabilities] = Capabilities(predicts_ratings=False, personal=False, seeded=False)
    params_type: ClassVar[type[Params]] = PopularityParams

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        weight = confidence(interactions.rating, interactions.watched, self.params.positive_rating)
        liked = interactions.item_index[weight > 0]
        count = np.bincount(liked, minlength=interactions.n_items)
        progress(1, 1)
        return {"count": count.astype(np.float32)}

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._count = floats(state["count"])

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        return rows_or_zero(self._count, item_index)

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        return np.tile(self._count, (user_index.size, 1))
