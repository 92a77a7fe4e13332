"""Blend: a weighted sum of other rating predictors, the weights learnt on ratings held back from them."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue

from matinee.core.errors import ConfigurationError
from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart

Members = Annotated[tuple[str, ...], Field(min_length=1)]


class BlendParams(Params):
    """Hyperparameters of `Blend`."""

    members: Members = ("svd", "svdpp", "knn_baseline")
    """Names of rating predictors or of their presets (`svd@movielens-1m`); each counts once."""
    member_params: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """Hyperparameters of members, by their names in `members`, over their defaults."""
    held_back: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The share of ratings that the weights are learnt on."""
    reg: Annotated[float, Field(ge=0)] = 1.0
    """Regularisation of the weights towards equal ones, in ratings."""


class Blend(Model[BlendParams]):
    """r̂(u, i) = w₀ + Σ_m w_m r̂_m(u, i), clipped to the scale of the ratings it was fitted to.

    The members are fitted to a random part of the ratings; on the part held back, H, the weights minimise

        Σ_{(u,i) ∈ H} (r − w₀ − Σ_m w_m r̂_m)² + reg · Σ_m (w_m − 1/M)²

    with r̂_m not clipped; then the members are fitted again, to everything. Where there is too little to hold
    anything back, the weights are equal. Breiman 1996, "Stacked Regressions"; of
    recommenders: Jahrer, Töscher and Legenstein 2010, "Combining Predictions for Accurate Recommender Systems".

    Takes twice the time of its members together, and their memory. Whether results depend on the number of threads
    is its members' matter.

    State: weights (1 + M,), w₀ first, and the members' states, `<place>.<name>` each.
    """

    name: ClassVar[str] = "blend"
    capabilities: ClassVar[Capabilities] = Capabilities(
        predicts_ratings=True, personal=True, scales=False, threads_change_results=True
    )
    params_type: ClassVar[type[Params]] = BlendParams

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        members = self._members()
        steps = 2 * len(members)
        held = np.random.default_rng(seed).random(len(interactions)) < self.params.held_back
        part, rest = interactions.take(~held), interactions.take(held)
        found = np.empty((len(rest), len(members)))
        weights = np.array([0.0, *[1 / len(members)] * len(members)], dtype=np.float32)
        if len(part) and len(rest):
            for place, member in enumerate(members):
                member.fit(part, seed=seed + place, threads=threads)
                found[:, place] = _raw(member, rest)
                progress(place + 1, steps)
            weights = _weights(found, rest.rating.astype(np.float64), self.params.reg)
        state: State = {"weights": weights}
        for place, member in enumerate(members):
            member.fit(interactions, seed=seed + place, threads=threads)
            state |= {f"{place}.{name}": array for name, array in member.state().items()}
            progress(len(members) + place + 1, steps)
        return state

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._weights = floats(state["weights"])
        self._fitted = [
            type(member).from_state(member.params, _own(state, place))
            for place, member in enumerate(self._members())
        ]

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        total = np.full(user_index.size, self._weights[0], dtype=np.float32)
        for weight, member in zip(self._weights[1:], self._fitted, strict=True):
            total += weight * member._predict(user_index, item_index)  # not yet clipped
        return total

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        total = np.full((user_index.size, self.n_items), self._weights[0], dtype=np.float32)
        for weight, member in zip(self._weights[1:], self._fitted, strict=True):
            total += weight * member.scores(user_index)
        return total

    def _members(self) -> list[Model[Any]]:
        from matinee.models.registry import make  # noqa: PLC0415 - the registry names this model too

        beside = sorted(set(self.params.member_params) - set(self.params.members))
        if beside:
            raise ConfigurationError(
                f"model 'blend': member_params of {', '.join(beside)}, which is no member",
                remedy=f"Members are {', '.join(self.params.members)}.",
            )
        members = [make(name, self.params.member_params.get(name)) for name in self.params.members]
        for name, member in zip(self.params.members, members, strict=True):
            if not member.capabilities.predicts_ratings or isinstance(member, Blend):
                raise ConfigurationError(
                    f"model 'blend': {name} cannot be a member", remedy="Members are single rating predictors."
                )
        return members


def _raw(member: Model[Any], pairs: Interactions) -> NDArray[np.float32]:
    return member._predict(pairs.user_index, pairs.item_index)


def _own(state: Mapping[str, NDArray[np.generic]], place: int) -> State:
    mark = f"{place}."
    return {name.removeprefix(mark): array for name, array in state.items() if name.startswith(mark)}


def _weights(found: NDArray[np.float64], rating: NDArray[np.float64], reg: float) -> NDArray[np.float32]:
    """w₀ and the weights by ridge regression towards equal weights, float32 (1 + M,)."""
    n, m = found.shape
    design = np.column_stack([np.ones(n), found])
    penalty = np.diag([0.0, *[reg] * m])
    equal = np.array([0.0, *[1 / m] * m])
    left = design.T @ design + penalty
    solved: NDArray[np.float64] = np.linalg.lstsq(left, design.T @ rating + penalty @ equal, rcond=None)[0]
    return solved.astype(np.float32)
