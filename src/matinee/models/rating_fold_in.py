"""Predicted ratings for a user who came, or rated, after the fit. NumPy only, so that servers can use it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from matinee.core.errors import InvalidInput

REG, REG_BIAS = 8.0, 5.0
"""Ratings that count as much as the belief that a user is like everybody: in tastes, and in how high they rate.

Of 3, 6, 10, 15, 25 and 40 for the first, 6 or 10 gave the lowest RMSE with the vectors of ALS (16, 64, 128 factors)
and BPR, on a fifth of MovieLens 100K and of 1M; docs/models.md has what comes of it.
"""
_ARRAYS = ("item_bias", "rated")
_NUMBERS = ("mean", "low", "high", "reg")


@dataclass(frozen=True, slots=True)
class RatingFoldIn:
    """r̂(u, i) = μ + b_i + b_u + y_i·w_u, clipped to the ratings' scale: a ridge regression of a user's own ratings.

    y are item vectors of any model, whatever it was fitted for. Of a user who rated the items j,

        (b_u, w_u) = argmin Σ_j (r_j − μ − b_j − b − y_j·w)² + λ_b b² + λ |w|²
        λ_b = REG_BIAS        λ = REG · the mean of |y_i|² over the items whose vector is not 0

    which is the user step of alternating least squares for rating prediction (Koren, Bell and Volinsky 2009,
    "Matrix factorization techniques for recommender systems", equation 5), the items held fixed. Without vectors,
    or without ratings, there are the biases alone.

    Attributes:
        item_vectors: float32, shape (n_items, k), of any scale; may be a read-only map of a file; k may be 0.
        item_bias: b, float32, shape (n_items,).
        rated: bool, shape (n_items,); whether anybody has rated the item.
        mean: μ.
        low: the lowest rating there was.
        high: the highest.
        reg: λ.
    """

    item_vectors: NDArray[np.float32]
    item_bias: NDArray[np.float32]
    rated: NDArray[np.bool_]
    mean: float
    low: float
    high: float
    reg: float

    @classmethod
    def of(
        cls,
        item_vectors: NDArray[np.float32],
        item_bias: NDArray[np.float32],
        rated: NDArray[np.bool_],
        *,
        mean: float,
        low: float,
        high: float,
    ) -> Self:
        """With the λ that these vectors need, whatever their scale."""
        squares = np.einsum("ij,ij->i", item_vectors, item_vectors, dtype=np.float64)
        reg = REG * float(squares[squares > 0].mean()) if (squares > 0).any() else REG
        return cls(item_vectors, item_bias, rated, mean, low, high, reg)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], item_vectors: NDArray[np.float32]) -> Self:
        """From what `to_arrays` gave, and the vectors.

        Raises:
            InvalidInput: an array is missing, or its shape does not fit the others.
        """
        shapes = {**dict.fromkeys(_ARRAYS, (len(item_vectors),)), **dict.fromkeys(_NUMBERS, (1,))}
        for name, shape in shapes.items():
            if name not in arrays or arrays[name].shape != shape:
                raise InvalidInput(f"predicted ratings: {name} is missing, or not of shape {shape}")
        numbers = {name: float(np.asarray(arrays[name]).item()) for name in _NUMBERS}
        bias, rated = np.asarray(arrays["item_bias"], dtype=np.float32), np.asarray(arrays["rated"], dtype=np.bool_)
        return cls(item_vectors, bias, rated, **numbers)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything it holds but the vectors, as named arrays."""
        numbers = {name: np.array([getattr(self, name)], dtype=np.float64) for name in _NUMBERS}
        return {**{name: getattr(self, name) for name in _ARRAYS}, **numbers}

    def ratings(
        self, item_index: NDArray[np.int32], rating: NDArray[np.float32], targets: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """The ratings that a user would give, float32, shape (t,). O(m · k² + k³ + t · k).

        Args:
            item_index: int32, shape (m,); what the user rated, each item at most once.
            rating: float32, shape (m,).
            targets: shape (t,); the items to predict for.
        """
        base = self.mean + self.item_bias[targets].astype(np.float64)
        if item_index.size:
            left = rating.astype(np.float64) - self.mean - self.item_bias[item_index]
            rated = self._with_one(item_index)
            system = rated.T @ rated
            held = np.full(len(system), self.reg)
            held[0] = REG_BIAS
            system.flat[:: len(system) + 1] += held
            base += self._with_one(targets) @ np.linalg.solve(system, rated.T @ left)
        clipped: NDArray[np.float32] = np.clip(base, self.low, self.high).astype(np.float32)
        return clipped

    def knows(self, targets: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Of which of these items anything was learnt, bool, shape (t,)."""
        known: NDArray[np.bool_] = self.rated[targets] | self.item_vectors[targets].any(axis=1)
        return known

    def _with_one(self, index: NDArray[np.integer]) -> NDArray[np.float64]:
        """The vectors of items after a column of ones, float64, shape (m, 1 + k)."""
        found = np.ones((len(index), 1 + self.item_vectors.shape[1]))
        found[:, 1:] = self.item_vectors[index]
        return found
