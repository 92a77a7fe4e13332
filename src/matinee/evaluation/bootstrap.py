"""Whether one model is better than another, or the users happened to be kind to it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matinee.core.errors import InvalidInput, Unsuitable

DRAWS_AT_ONCE = 2**21
"""Draws held at once; part of what a seed means, since it orders the draws."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, or a mean difference, and where it may lie.

    Attributes:
        mean: of the values or differences, over the users there are.
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
    difference = _differences(a, b)
    _check(resamples, level)
    return _interval(difference, resamples, seed, level)


def mean_interval(
    values: NDArray[np.floating], resamples: int = 2_000, seed: int = 0, *, level: float = 0.95
) -> Interval:
    """The mean of one model's metric with its percentile interval over resamples of the users.

    As `paired_bootstrap` against a model that scores 0 for everyone. To tell two models apart use that one: the
    intervals of two means may overlap although one model is better for nearly every user.

    Args:
        values: the metric of each user, shape (u,).
        resamples: how many; 1 or more.
        seed: of the draws.
        level: of confidence, between 0 and 1.

    Raises:
        InvalidInput: the shape is another, a value is not finite, or `resamples` or `level` cannot be.
        Unsuitable: there are no users.
    """
    return paired_bootstrap(values, np.zeros_like(values), resamples, seed, level=level)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same users.

    Attributes:
        difference: the mean of a − b.
        p_value: how often models that do not differ would show a mean difference at least as far from 0.
        better: users for whom a is above b.
        worse: users for whom a is below b.
        equal: users for whom they are the same.
    """

    difference: float
    p_value: float
    better: int
    worse: int
    equal: int


def paired_permutation_test(
    a: NDArray[np.floating], b: NDArray[np.floating], permutations: int = 10_000, seed: int = 0
) -> Comparison:
    """Two-sided randomisation test of whether two models differ on the mean of a per-user metric.

    If the models do not differ, the two values of a user might as well stand the other way round. So the signs of
    the differences d = a − b are flipped at random, and the p-value is the share of flips whose |Σ ± d| reaches
    |Σ d|, the flip that was observed counting as one:

        p = (1 + #{flips with |Σ ± d| ≥ |Σ d|}) / (1 + permutations)

    With 2^m ≤ permutations, m the users for whom the models differ, all 2^m flips are gone through instead, and p
    is exact. Users for whom they are equal change no sum and are passed over. Fisher 1935; Smucker, Allan and
    Carterette 2007, "A Comparison of Statistical Significance Tests for Information Retrieval Evaluation"; on the
    1 added, Phipson and Smyth 2010, "Permutation P-values Should Never Be Zero". O(permutations · m) time, memory
    for `DRAWS_AT_ONCE` signs or those of one flip. Same seed, same bits.

    Args:
        a: one model's metric, shape (u,).
        b: the other's, of the same users in the same order.
        permutations: flips to draw; 1 or more.
        seed: of the draws.

    Raises:
        InvalidInput: shapes differ, a value is not finite, or `permutations` is below 1.
        Unsuitable: there are no users.
    """
    difference = _differences(a, b)
    if permutations < 1:
        raise InvalidInput(f"permutations is {permutations}; expected 1 or more")
    return Comparison(
        difference=float(difference.mean()),
        p_value=_flip_share(difference[difference != 0], permutations, seed),
        better=int((difference > 0).sum()),
        worse=int((difference < 0).sum()),
        equal=int((difference == 0).sum()),
    )


def _flip_share(values: NDArray[np.float64], permutations: int, seed: int) -> float:
    """The p-value of `paired_permutation_test`, from the differences other than 0."""
    # Sums that are equal but for rounding must count as reached, whatever the order they are summed in.
    observed = abs(values.sum()) - 1e-12 * np.abs(values).sum()
    rows = max(1, DRAWS_AT_ONCE // max(1, values.size))
    reached = 0
    flips = 1 << values.size
    if flips <= permutations:
        for first in range(0, flips, rows):
            codes = np.arange(first, min(first + rows, flips))
            reached += _reaching(values, (codes[:, None] >> np.arange(values.size)) & 1, observed)
        return reached / flips
    rng = np.random.default_rng(seed)
    for first in range(0, permutations, rows):
        shape = (min(rows, permutations - first), values.size)
        reached += _reaching(values, rng.integers(2, size=shape, dtype=np.uint8), observed)
    return (1 + reached) / (1 + permutations)


def _reaching(values: NDArray[np.float64], flip: NDArray[np.integer], observed: float) -> int:
    """How many rows of `flip` (1 turns a sign) give a sum at least as far from 0 as `observed`."""
    sums = values.sum() - 2 * (flip.astype(np.float64) @ values)
    return int((np.abs(sums) >= observed).sum())


def _differences(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    if a.shape != b.shape or a.ndim != 1:
        raise InvalidInput(f"a has shape {a.shape} and b {b.shape}; expected (u,) twice")
    if not a.size:
        raise Unsuitable("there are no users to compare on", remedy="Hold out more interactions.")
    difference = a.astype(np.float64) - b.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(difference))
    if wrong.size:
        raise InvalidInput(f"a[{wrong[0]}] − b[{wrong[0]}] is {difference[wrong[0]]}; expected a number")
    return difference


def _check(resamples: int, level: float) -> None:
    if resamples < 1 or not 0 < level < 1:
        raise InvalidInput(f"resamples is {resamples}, level {level}; expected 1 or more, and between 0 and 1")


def _interval(values: NDArray[np.float64], resamples: int, seed: int, level: float) -> Interval:
    means = _resampled_means(values, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def _resampled_means(values: NDArray[np.float64], resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Means of `resamples` draws of n from n values, shape (resamples,), in blocks of bounded memory."""
    rows = max(1, DRAWS_AT_ONCE // values.size)
    means = np.empty(resamples)
    for first in range(0, resamples, rows):
        part = means[first : first + rows]
        part[:] = values[rng.integers(values.size, size=(part.size, values.size))].mean(axis=1)
    return means
