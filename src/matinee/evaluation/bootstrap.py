"""Whether one model is better than another, or the users happened to be kind to it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matinee.core.errors import InvalidInput, Unsuitable

DRAWS_AT_ONCE = 2**21
"""Draws held at once; part of what a seed means, since it orders the draws."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference and where it may lie.

    Attributes:
        mean: of the differences, over the users there are.
        low: lower end of the confidence interval.
        high: its upper end.
    """

    mean: float
    low: float
    high: float


def paired_bootstrap(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    resamples: int = 2_000,
    seed: int = 0,
    *,
    level: float = 0.95,
) -> Interval:
    """The mean of a − b with its percentile interval over resamples of the users.

    Users are drawn with replacement, n of n, and each keeps both its values, so that what makes a user easy for
    both models cancels. The ends are the (1 − level)/2 and (1 + level)/2 quantiles of the resampled means. Efron
    and Tibshirani 1993, chapter 13; Sakai 2006 on its use for retrieval metrics. Same seed, same bits.

    Args:
        a: one model's metric, shape (u,).
        b: the other's, of the same users in the same order.
        resamples: how many; 1 or more.
        seed: of the draws.
        level: of confidence, between 0 and 1.

    Raises:
        InvalidInput: shapes differ, a value is not finite, or `resamples` or `level` cannot be.
        Unsuitable: there are no users.
    """
    if a.shape != b.shape or a.ndim != 1:
        raise InvalidInput(f"a has shape {a.shape} and b {b.shape}; expected (u,) twice")
    if resamples < 1 or not 0 < level < 1:
        raise InvalidInput(f"resamples is {resamples}, level {level}; expected 1 or more, and between 0 and 1")
    if not a.size:
        raise Unsuitable("there are no users to compare on", remedy="Hold out more interactions.")
    difference = a.astype(np.float64) - b.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(difference))
    if wrong.size:
        raise InvalidInput(f"a[{wrong[0]}] − b[{wrong[0]}] is {difference[wrong[0]]}; expected a number")
    means = _resampled_means(difference, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(difference.mean()), float(low), float(high))


def _resampled_means(values: NDArray[np.float64], resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Means of `resamples` draws of n from n values, shape (resamples,), in blocks of bounded memory."""
    rows = max(1, DRAWS_AT_ONCE // values.size)
    means = np.empty(resamples)
    for first in range(0, resamples, rows):
        part = means[first : first + rows]
        part[:] = values[rng.integers(values.size, size=(part.size, values.size))].mean(axis=1)
    return means
