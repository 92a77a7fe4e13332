"""The interface that all models share: arrays in, arrays out. Knows nothing of files, streams or servers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import sparse

from matinee.dataset.interactions import Interactions

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


class Params(BaseModel):
    """Hyperparameters of a model: frozen, validated, all with defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do. The conformance suite tests what is declared."""

    predicts_ratings: bool
    """`predict` gives a rating on the scale it was fitted to (else a score that only ranks)."""
    personal: bool
    """Two users with different tastes get different answers."""
    folds_in: bool
    """A user who came after the fit can be given factors from a few items."""


class Model(ABC):
    """A collaborative-filtering model.

    Args:
        params: its hyperparameters; the defaults where none are given.
    """

    name: ClassVar[str]
    """What configuration and manifests call it."""
    capabilities: ClassVar[Capabilities]
    params: Params

    @abstractmethod
    def fit(
        self, interactions: Interactions, *, seed: int = 0, threads: int = 1, progress: Progress | None = None
    ) -> Self:
        """Learn from interactions and return itself. Same seed and one thread: same bits.

        Raises:
            Unsuitable: the interactions lack what this model learns from.
        """

    @abstractmethod
    def predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        """Scores of pairs, shape (n,). An index of -1 is an unknown user or item and gets the model's prior."""

    @abstractmethod
    def scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        """Scores of every item for some users, shape (len(user_index), n_items).

        Agrees with `predict`, save that it does not clip to the rating scale, which would tie the best items.
        """

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

    def fold_in_arrays(self) -> dict[str, NDArray[np.generic]]:
        """What `FoldIn.from_arrays` needs to answer users who came after the fit; empty where it cannot fold in."""
        return {}

    @abstractmethod
    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything learnt, as named arrays, so that it can be saved and loaded without pickle."""

    @classmethod
    @abstractmethod
    def from_state(cls, params: Params, state: Mapping[str, NDArray[np.generic]]) -> Self:
        """The model that `state` was taken from."""
