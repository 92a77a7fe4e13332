"""The normal predictor: random ratings. The least that a predictor must beat."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart


class NormalPredictorParams(Params):
    """`NormalPredictor` has no hyperparameters."""


class NormalPredictor(Model[NormalPredictorParams]):
    """r̂(u, i) drawn from N(μ, σ²), clipped to the scale of the ratings.

    μ and σ are the mean and the standard deviation (over n, not n − 1) of the ratings. A draw is a function of the
    seed, the user and the item alone, so that asking again gives the same answer: a hash of the three (by the
    finaliser of SplitMix64; Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number Generators") gives two
    uniform numbers, and they a normal one (Box and Muller 1958). All unknown users share their draws, and so do all
    unknown items. Distribution and estimates are those of scikit-surprise's `NormalPredictor`.

    Time and memory O(1) a pair.

    State: mean (1,), deviation (1,), key (1,) uint64 drawn from the seed, user_known (n_users,) and item_known
    (n_items,).
    """

    name: ClassVar[str] = "normal_predictor"
    capabilities: ClassVar[Capabilities] = Capabilities(predicts_ratings=True, personal=False, by_lot=True)
    params_type: ClassVar[type[Params]] = NormalPredictorParams

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        rating = interactions.rating.astype(np.float64)
        state: State = {
            "mean": np.array([rating.mean()], dtype=np.float32),
            "deviation": np.array([rating.std()], dtype=np.float32),
            "key": np.random.default_rng(seed).integers(2**64, size=1, dtype=np.uint64),
            "user_known": np.bincount(interactions.user_index, minlength=interactions.n_users) > 0,
            "item_known": np.bincount(interactions.item_index, minlength=interactions.n_items) > 0,
        }
        progress(1, 1)
        return state

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._mean, self._deviation = floats(state["mean"])[0], floats(state["deviation"])[0]
        self._key = state["key"].astype(np.uint64)
        self._users = _identities(state["user_known"].astype(np.bool_))
        self._items = _identities(state["item_known"].astype(np.bool_))

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        return self._draw(self._users[user_index], self._items[item_index])

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        return self._draw(self._users[user_index][:, None], self._items[:-1])

    def _draw(self, users: NDArray[np.uint64], items: NDArray[np.uint64]) -> NDArray[np.float32]:
        """The rating of each pair; the two broadcast."""
        bits = _mixed(_mixed(self._key ^ users) ^ items)
        radius = np.sqrt(-2 * np.log(_uniform(bits)))
        normal = radius * np.cos(2 * np.pi * _uniform(_mixed(bits)))
        drawn: NDArray[np.float32] = self._mean + self._deviation * normal.astype(np.float32)
        return drawn


def _identities(known: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """A number for each index, and at the end (so at -1 too) for what is unknown: 0, which all unknown share."""
    own = np.arange(1, known.size + 1, dtype=np.uint64)
    return np.append(np.where(known, own, np.uint64(0)), np.uint64(0))


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's step and finaliser: a bijection in which each bit hangs on all."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _uniform(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers above 0 and up to 1 from the upper 53 bits."""
    uniform: NDArray[np.float64] = ((bits >> np.uint64(11)).astype(np.float64) + 1) * 2.0**-53
    return uniform
