"""The interface that all models share: arrays in, arrays out. Knows nothing of files, streams or servers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy import sparse

from matinee.core.errors import ConfigurationError, InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.models.arrays import check_indices, check_pairs, floats, require_ratings

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

State = dict[str, NDArray[np.generic]]
"""What a model has learnt, as named arrays."""


class Params(BaseModel):
    """Hyperparameters of a model: frozen, validated, all with defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


P = TypeVar("P", bound=Params)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a model can do. The conformance suite tests what is declared."""

    predicts_ratings: bool
    """`predict` gives a rating on the scale it was fitted to (else a score that only ranks)."""
    personal: bool
    """Two users with different tastes get different answers."""
    by_lot: bool = False
    """Answers are drawn at random: they differ between users, and mean nothing."""
    learns_structure: bool = True
    """A personal model finds what is withheld of a block matrix: groups of users who like groups of items."""
    folds_in_users: bool = False
    """`fold_in` can add users who came after the fit."""
    folds_in_items: bool = False
    """`fold_in` can add items that came after the fit."""
    online_fold_in: bool = False
    """Servers can fold a user in between two fits: `fold_in_arrays` is not empty."""
    warm_starts: bool = False
    """`fit` can begin from what an earlier fit learnt."""
    converges: bool = False
    """More epochs bring a fit nearer to where it tends, and not past it: it can go on from an earlier one day after
    day. Gradient descent is stopped before it overfits, and has no such place."""
    scales: bool = True
    """Memory grows with interactions, users and items, never with users × users or items × items; what is kept to
    save time, and could be worked out again, has a limit that a hyperparameter sets."""
    needs_data: bool = True
    """No interactions at all are refused; else everything then scores alike."""
    seeded: bool = True
    """Another seed gives another result."""
    threads_change_results: bool = False
    """Results depend on the number of threads; the same seed and number give the same bits."""
    threads_race: bool = False
    """Several threads race: only on one thread does the same seed give the same bits."""


@dataclass(frozen=True, slots=True)
class WarmStart:
    """What an earlier fit learnt, for the next to begin from.

    Attributes:
        state: the earlier model's `state()`.
        user_row: int32, shape (n_users,): for each user of the coming fit its index in the earlier; -1 where new.
        item_row: int32, shape (n_items,): the same for items.
    """

    state: Mapping[str, NDArray[np.generic]]
    user_row: NDArray[np.int32]
    item_row: NDArray[np.int32]

    def users(self, name: str, cold: NDArray[np.float32]) -> NDArray[np.float32]:
        """`cold`, shape (n_users, …), with the rows that the earlier state has of that name in their places."""
        return _placed(self.state, name, self.user_row, cold)

    def items(self, name: str, cold: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same for items."""
        return _placed(self.state, name, self.item_row, cold)


def _placed(
    state: Mapping[str, NDArray[np.generic]], name: str, row: NDArray[np.int32], cold: NDArray[np.float32]
) -> NDArray[np.float32]:
    earlier = floats(state[name])
    if earlier.shape[1:] != cold.shape[1:] or row.shape != cold.shape[:1]:
        raise InvalidInput(
            f"a warm start has {name} of shape {earlier.shape} and {row.size} rows; the fit needs {cold.shape}",
            remedy="Start from a model of the same kind and number of factors, with a row for each user and item.",
        )
    check_indices("row", row, len(earlier))
    return np.where((row >= 0).reshape(-1, *[1] * (cold.ndim - 1)), earlier[row], cold)


class Model(ABC, Generic[P]):
    """A collaborative-filtering model.

    A kind of model gives four functions: `_fit` (interactions → state), `_load` (state → ready to answer),
    `_predict` and `_scores`; what is common to all (checks, clipping, state, fold-in of newcomers) stands here.

    Args:
        params: its hyperparameters; the defaults where none are given.
        hyperparameters: instead of `params`, by name: `SVD(n_factors=50)`.

    Raises:
        ConfigurationError: there is no such hyperparameter (the message lists what there is), or a value cannot be.
    """

    name: ClassVar[str]
    """What configuration and manifests call it."""
    capabilities: ClassVar[Capabilities]
    params_type: ClassVar[type[Params]]
    """The class of its hyperparameters."""
    params: P
    n_users: int
    n_items: int

    def __init__(self, params: P | None = None, /, **hyperparameters: Any) -> None:
        self.params = (
            cast("P", validated(self.name, self.params_type, hyperparameters)) if params is None else params
        )
        self._state: State = {}

    def fit(
        self,
        interactions: Interactions,
        *,
        seed: int = 0,
        threads: int = 1,
        progress: Progress | None = None,
        start: WarmStart | None = None,
    ) -> Self:
        """Learn from interactions and return itself. Same seed and one thread: same bits (and mostly with more).

        Args:
            interactions: what to learn from.
            seed: of whatever is drawn.
            threads: cores to use where the model can.
            progress: called after each step.
            start: what to begin from instead of noise; see `WarmStart`.

        Raises:
            Unsuitable: the interactions lack what this model learns from, or it cannot begin from an earlier fit.
            InvalidInput: a row of a rating predictor's holds a NaN and nothing else; says where.
            ConfigurationError: the fit diverged; says what to change.
        """
        if start is not None and not self.capabilities.warm_starts:
            raise Unsuitable(f"{self.name} does not begin from an earlier fit", remedy="Leave `start` out.")
        usable = interactions
        if self.capabilities.predicts_ratings:
            usable = require_ratings(interactions, type(self).__name__)
        state = self._fit(usable, seed, threads, progress or _nobody_watches, start)
        if self.capabilities.predicts_ratings:
            state["scale"] = np.array([usable.rating.min(), usable.rating.max()], dtype=np.float32)
        state["shape"] = np.array([interactions.n_users, interactions.n_items], dtype=np.int64)
        self._adopt(state)
        return self

    def predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        """Scores of pairs, shape (n,); ratings are clipped to the scale of the fit.

        An index of -1 is an unknown user or item and gets the model's prior.

        Raises:
            InvalidInput: shapes differ or an index is out of range; says where.
        """
        self._require_fitted()
        check_pairs(user_index, item_index, self.n_users, self.n_items)
        predicted = self._predict(user_index, item_index)
        if self.capabilities.predicts_ratings:
            low, high = floats(self._state["scale"])
            return np.clip(predicted, low, high)
        return predicted

    def scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        """Scores of every item for some users, shape (len(user_index), n_items).

        Agrees with `predict`, save that it does not clip to the rating scale, which would tie the best items.
        """
        self._require_fitted()
        check_indices("user_index", user_index, self.n_users)
        return self._scores(user_index)

    def recommend(
        self, user_index: NDArray[np.int32], n: int, exclude: sparse.csr_array | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The best `n` items of each user, best first; equal scores in the order of the item indices.

        Args:
            user_index: int32, shape (u,).
            n: items wanted; may exceed the catalogue.
            exclude: users × items, row r belonging to `user_index[r]`; the items to leave out.

        Returns:
            (items int32, scores float32), both (u, n); -1 and -inf where there are no more.
        """
        from matinee.models.top_n import top_n  # noqa: PLC0415 - Numba stays out of who only needs the interface

        return top_n(self, user_index, n, exclude)

    def fold_in(self, newcomers: Interactions) -> Self:
        """A model that also knows users or items that came after the fit; what this one knew is the same in it.

        Args:
            newcomers: interactions whose users from index `n_users` on, or items from index `n_items` on, are new.
                The new users' rows on known items and the new items' rows by known users count; others are passed
                over.

        Raises:
            InvalidInput: there are fewer users or items than the model knows.
            Unsuitable: the model cannot fold in what is new.
        """
        self._require_fitted()
        if newcomers.n_users < self.n_users or newcomers.n_items < self.n_items:
            raise InvalidInput(
                f"newcomers are {newcomers.n_users} users × {newcomers.n_items} items, fewer than the model's "
                f"{self.n_users} × {self.n_items}",
                remedy="Keep the indices of the fit, and give new users and items indices after them.",
            )
        for what, more, can in (
            ("users", newcomers.n_users > self.n_users, self.capabilities.folds_in_users),
            ("items", newcomers.n_items > self.n_items, self.capabilities.folds_in_items),
        ):
            if more and not can:
                raise Unsuitable(f"{self.name} cannot fold in {what}", remedy="Fit it again with the newcomers.")
        state = self._fold_in(newcomers)
        shape = np.array([newcomers.n_users, newcomers.n_items], dtype=np.int64)
        return self.from_state(self.params, {**self._state, **state, "shape": shape})

    def fold_in_arrays(self) -> State:
        """What `FoldIn.from_arrays` needs to answer users who came after the fit; empty where servers cannot."""
        return {}

    def item_vectors(self) -> NDArray[np.float32]:
        """What the model describes items by, float32, shape (n_items, k): `item_factors` of its state.

        Shape (0, 0) where it has none.
        """
        self._require_fitted()
        return floats(self._state.get("item_factors", np.empty((0, 0), dtype=np.float32)))

    def state(self) -> State:
        """Everything learnt, as named arrays, so that it can be saved and loaded without pickle.

        Beside what the model's own docstring names: `shape` (n_users, n_items), and of rating predictors `scale`
        (least and greatest rating).
        """
        self._require_fitted()
        return dict(self._state)

    @classmethod
    def from_state(cls, params: Params, state: Mapping[str, NDArray[np.generic]]) -> Self:
        """The model that `state` was taken from."""
        model = cls(cast("P", params))
        model._adopt(dict(state))
        return model

    def _adopt(self, state: State) -> None:
        self._state = state
        self.n_users, self.n_items = (int(size) for size in state["shape"].astype(np.int64))
        self._load(state)

    def _require_fitted(self) -> None:
        if not self._state:
            raise ConfigurationError(f"{self.name} has learnt nothing yet", remedy="Call `fit` first.")

    @abstractmethod
    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        """What is learnt. A rating predictor is given rated rows only; `scale` and `shape` are added by `fit`."""

    @abstractmethod
    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Make ready to answer from the state; `n_users` and `n_items` are set already."""

    @abstractmethod
    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        """`predict` for checked indices, before clipping."""

    @abstractmethod
    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        """`scores` for checked indices."""

    def _fold_in(self, newcomers: Interactions) -> State:
        """The arrays of the state that change, grown to `newcomers`' users and items."""
        raise NotImplementedError(f"{self.name} declares a fold-in that it does not have")


def validated(name: str, kind: type[Params], given: Mapping[str, object]) -> Params:
    """Hyperparameters from their names and values, or `ConfigurationError` naming what is wrong."""
    unknown = sorted(set(given) - set(kind.model_fields))
    if unknown:
        raise ConfigurationError(
            f"model {name!r} has no parameter {', '.join(unknown)}; it has {', '.join(kind.model_fields)}",
            remedy="Mend the parameter's name.",
        )
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        problems = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())
        raise ConfigurationError(f"model {name!r}: {problems}", remedy="Mend the parameter's value.") from error


def _nobody_watches(done: int, total: int) -> None:
    """Progress that goes nowhere."""
