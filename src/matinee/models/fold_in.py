"""Scores for a user who came, or did something, after the fit. NumPy only, so that servers can use it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from matinee.core.errors import InvalidInput

_NUMBERS = ("alpha", "reg", "mean_total", "positive_rating")
_NEWER = {"reg_exponent": 0.5, "epsilon": 0.0}
"""Numbers that older bundles lack, and what was true of all models then."""
_GROUP = 32
"""Scores in a group of `best`; affects speed, not results."""


@dataclass(frozen=True, slots=True)
class FoldIn:
    """The user step of implicit ALS (Hu, Koren and Volinsky 2008, equation 4), solved exactly.

    With item factors Y (n_items × k) and a user's items i of weight w_i, the factors x solve

        (YᵀY + λI + Σ e_i·y_i·y_iᵀ) x = Σ (1 + e_i)·y_i        λ = reg · E^ν · Ē^(1 − ν),  E = Σ e_i

    where e_i = α·w_i, or α·ln(1 + w_i / ε) if ε > 0; and the scores are Y·x. A user without any item that says
    something (see `speaks`) gets the prior: the mean user's factors.

    An item that nobody had liked when the model was fitted has factors of 0: it says nothing, and its score of 0
    means nothing.

    Attributes:
        item_factors: Y, float32, shape (n_items, k); may be a read-only map of a file.
        gram: YᵀY, float64, shape (k, k).
        prior: float32, shape (k,).
        alpha: how much one unit of weight adds to the confidence of 1.
        reg: regularisation, as a share of what a user's weights add to the confidence.
        mean_total: Ē, the mean over the users of the fit of E.
        positive_rating: what `matinee.models.preference.confidence` is to be given for the weights.
        reg_exponent: ν.
        epsilon: ε; 0 where confidence grows linearly with the weight.
    """

    item_factors: NDArray[np.float32]
    gram: NDArray[np.float64]
    prior: NDArray[np.float32]
    alpha: float
    reg: float
    mean_total: float
    positive_rating: float
    reg_exponent: float = _NEWER["reg_exponent"]
    epsilon: float = _NEWER["epsilon"]
    has_factors: NDArray[np.bool_] = field(init=False, repr=False, compare=False)
    """bool, shape (n_items,): the items of which something was learnt."""
    without_factors: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    """int64, ascending: the others."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_factors", self.item_factors.any(axis=1))
        object.__setattr__(self, "without_factors", np.flatnonzero(~self.has_factors))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Self:
        """From what `to_arrays` gave, now or before there were `reg_exponent` and `epsilon`.

        Raises:
            InvalidInput: an array is missing or its shape does not fit the others.
        """
        missing = sorted({each.name for each in fields(cls) if each.init} - set(arrays) - set(_NEWER))
        if missing:
            raise InvalidInput(f"fold-in lacks the arrays {', '.join(missing)}")
        factors = np.asarray(arrays["item_factors"], dtype=np.float32)
        if factors.ndim != 2:
            raise InvalidInput(f"fold-in: item_factors has shape {factors.shape}; expected (n_items, k)")
        k = factors.shape[1]
        numbers = (*_NUMBERS, *(name for name in _NEWER if name in arrays))
        shapes = {"gram": (k, k), "prior": (k,), **dict.fromkeys(numbers, (1,))}
        for name, shape in shapes.items():
            if arrays[name].shape != shape:
                raise InvalidInput(f"fold-in: {name} has shape {arrays[name].shape}; expected {shape}")
        return cls(
            factors,
            np.asarray(arrays["gram"], dtype=np.float64),
            np.asarray(arrays["prior"], dtype=np.float32),
            **{name: float(np.asarray(arrays[name]).item()) for name in numbers},
        )

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything it holds, as named arrays."""
        return {
            "item_factors": self.item_factors,
            "gram": self.gram,
            "prior": self.prior,
            **{name: np.array([getattr(self, name)], dtype=np.float64) for name in (*_NUMBERS, *_NEWER)},
        }

    def factors(self, item_index: NDArray[np.int32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """The user's factors, float32, shape (k,).

        Args:
            item_index: int32, shape (m,); each item at most once.
            weight: float32, shape (m,); from `confidence`.

        Raises:
            InvalidInput: an index lies beyond the catalogue, or a weight is negative or not finite; says where.
        """
        self._check(item_index, weight)
        used = self.speaks(item_index, weight)
        if not used.any():
            return self.prior
        y = self.item_factors[item_index[used]].astype(np.float64)
        extra = self.alpha * scaled(weight[used].astype(np.float64), self.epsilon)
        system = self.gram + (y.T * extra) @ y
        held = self.reg * extra.sum() ** self.reg_exponent * self.mean_total ** (1 - self.reg_exponent)
        system.flat[:: len(system) + 1] += held
        x = np.linalg.solve(system, (1.0 + extra) @ y)
        return x.astype(np.float32)

    def scores(self, item_index: NDArray[np.int32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scores of all items, float32, shape (n_items,). Arguments and errors as for `factors`."""
        scores: NDArray[np.float32] = self.item_factors @ self.factors(item_index, weight)
        return scores

    def speaks(self, item_index: NDArray[np.int32], weight: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of these items say something of liking: those known (not -1), of positive weight, with factors.

        Shape (m,), as the arguments, which are those of `factors`.
        """
        return (item_index >= 0) & (weight > 0) & self.has_factors[item_index]

    def _check(self, item_index: NDArray[np.int32], weight: NDArray[np.float32]) -> None:
        if item_index.shape != weight.shape or item_index.ndim != 1:
            raise InvalidInput(f"fold-in: item_index has shape {item_index.shape} and weight {weight.shape}")
        beyond = np.flatnonzero(item_index >= len(self.item_factors))
        if beyond.size:
            at = beyond[0]
            raise InvalidInput(f"item_index[{at}] is {item_index[at]}; expected below {len(self.item_factors)}")
        wrong = np.flatnonzero(~(weight >= 0) | np.isinf(weight))
        if wrong.size:
            raise InvalidInput(f"weight[{wrong[0]}] is {weight[wrong[0]]}; expected a number of 0 or more")


def scaled(weight: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
    """What α multiplies: ln(1 + w / ε), or w itself if ε is 0. Shape (n,)."""
    return np.log1p(weight / epsilon) if epsilon else weight


def best(scores: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """Positions of the `n` highest scores, best first; equal scores in the order of the positions. Shape (≤ n,).

    What is -inf or NaN is never chosen, so that there may be fewer. Exact, without sorting or partitioning all of
    them: the scores are dealt into groups, and since the n-th highest of the groups' maxima has at least n scores
    at or above it, what is below it is out; few are left to sort.

    Args:
        scores: shape (n_items,).
        n: positions wanted, 0 or more.
    """
    groups = scores.size // _GROUP
    least = np.float32(-np.inf)
    if 0 < n < groups:
        maxima = scores[: _GROUP * groups].reshape(_GROUP, groups).max(axis=0)
        least = np.partition(maxima, groups - n)[groups - n]
    candidates = np.flatnonzero(scores >= least if least > -np.inf else scores > -np.inf)
    order: NDArray[np.int64] = candidates[np.argsort(-scores[candidates], kind="stable")[:n]]
    return order
