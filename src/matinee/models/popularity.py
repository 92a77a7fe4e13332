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

DAY_US = 86_400_000_000
"""Microseconds of a day."""


class PopularityParams(Params):
    """Hyperparameters of `Popularity`."""

    positive_rating: Annotated[float, Field(gt=0)] = DEFAULT_POSITIVE_RATING
    """The least rating that counts as liking."""
    half_life_days: Annotated[float, Field(gt=0)] | None = None
    """Days after which a like counts half; nothing: it counts the same for ever."""


class Popularity(Model[PopularityParams]):
    """An item's score is the number of users to whom it is a positive. Equal counts keep the items' order.

    With half_life_days h, each of them counts 2^(−age / h), where age is the days from the positive's last event to
    the newest interaction of all: what is popular now, as in the time decay of Ding and Li 2005, "Time Weight
    Collaborative Filtering". Time O(interactions), memory O(n_items + interactions).

    State: count (n_items,).

    Raises:
        Unsuitable: half_life_days is given and the interactions have no times.
    """

    name: ClassVar[str] = "popularity"
    capabilities: ClassVar[Capabilities] = Capabilities(
        predicts_ratings=False, personal=False, needs_data=False, seeded=False
    )
    params_type: ClassVar[type[Params]] = PopularityParams

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        weight = confidence(interactions.rating, interactions.watched, self.params.positive_rating)
        liked = weight > 0
        value = _recency(interactions, self.params.half_life_days)
        count = np.bincount(interactions.item_index[liked], value[liked], minlength=interactions.n_items)
        progress(1, 1)
        return {"count": count.astype(np.float32)}

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._count = floats(state["count"])

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        return rows_or_zero(self._count, item_index)

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        return np.tile(self._count, (user_index.size, 1))


def _recency(interactions: Interactions, half_life_days: float | None) -> NDArray[np.float64]:
    """What each row counts, shape (n,): 1 where recency does not matter."""
    if half_life_days is None or not len(interactions):
        return np.ones(len(interactions))
    times = interactions.require_times("popularity with half_life_days")
    counts: NDArray[np.float64] = np.exp2((times - times.max()) / (half_life_days * DAY_US))
    return counts
