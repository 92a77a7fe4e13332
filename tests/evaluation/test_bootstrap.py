"""The bootstrap, and the test of two models by flips of signs."""

from itertools import product
from math import erfc, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.evaluation import bootstrap as module
from matinee.evaluation.bootstrap import mean_interval, paired_bootstrap, paired_permutation_test

values = arrays(np.float64, 15, elements=st.floats(0, 1))


def test_a_constant_difference_leaves_no_doubt():
    b = np.random.default_rng(0).random(50)
    interval = paired_bootstrap(b + 0.25, b, resamples=200)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.25, 0.25, 0.25))


def test_pairing_removes_what_both_share():
    """Users differ wildly, the models by little and steadily: unpaired, nobody could tell."""
    rng = np.random.default_rng(0)
    b = rng.random(300)
    assert paired_bootstrap(b + 0.01 + 0.001 * rng.random(300), b).low > 0


def test_agrees_with_the_central_limit_theorem():
    difference = np.random.default_rng(1).normal(0.1, 1, 2_000)
    interval = paired_bootstrap(difference, np.zeros(2_000), resamples=5_000)
    half = 1.96 * difference.std() / np.sqrt(2_000)
    assert interval.mean == pytest.approx(difference.mean())
    assert interval.low == pytest.approx(difference.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(difference.mean() + half, abs=0.1 * half)


def test_one_of_two_users():
    """Means of two draws from 0 and 1 are 0, ½, 1 with chances ¼, ½, ¼: the middle 40% is ½ alone, 95% is all."""
    a, b = np.array([1.0, 0.0]), np.zeros(2)
    narrow, wide = (paired_bootstrap(a, b, 4_000, level=level) for level in (0.4, 0.95))
    assert (narrow.low, narrow.high) == (0.5, 0.5)
    assert (wide.low, wide.high) == (0, 1)


@given(values, values, st.integers(0, 100))
def test_bounds_and_reversal(a, b, seed):
    interval, reverse = paired_bootstrap(a, b, 100, seed), paired_bootstrap(b, a, 100, seed)
    assert (a - b).min() - 1e-12 <= interval.low <= interval.high <= (a - b).max() + 1e-12
    assert (reverse.low, reverse.high) == pytest.approx((-interval.high, -interval.low))


def test_the_seed_decides():
    a, b = np.random.default_rng(2).random((2, 40))
    assert paired_bootstrap(a, b, seed=5) == paired_bootstrap(a, b, seed=5)
    assert paired_bootstrap(a, b, seed=5) != paired_bootstrap(a, b, seed=6)


def test_blocks_cover_every_resample(monkeypatch):
    monkeypatch.setattr(module, "DRAWS_AT_ONCE", 100)  # seven resamples of 15 users do not fit
    a = np.random.default_rng(3).random(15)
    interval = paired_bootstrap(a, a - 0.5, resamples=7)
    assert (interval.low, interval.high) == pytest.approx((0.5, 0.5))


def test_what_cannot_be_is_refused():
    ones = np.ones(3)
    with pytest.raises(InvalidInput, match="shape"):
        paired_bootstrap(ones, np.ones(4))
    with pytest.raises(InvalidInput, match=r"a\[1\].* is nan"):
        paired_bootstrap(np.array([1, np.nan, 1]), ones)
    with pytest.raises(InvalidInput, match="resamples is 0"):
        paired_bootstrap(ones, ones, resamples=0)
    with pytest.raises(InvalidInput, match="level 1"):
        paired_bootstrap(ones, ones, level=1)
    with pytest.raises(Unsuitable):
        paired_bootstrap(ones[:0], ones[:0])


@given(values, st.integers(0, 100))
def test_the_interval_of_one_mean(a, seed):
    interval = mean_interval(a, 100, seed)
    assert interval.mean == pytest.approx(a.mean())
    assert interval == paired_bootstrap(a, np.zeros(15), 100, seed)


def test_the_interval_of_one_mean_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(7)
    intervals = [mean_interval(rng.random(60), 300, seed, level=0.9) for seed in range(200)]
    covered = sum(interval.low <= 0.5 <= interval.high for interval in intervals)
    assert 0.82 <= covered / 200 <= 0.96  # 0.9 ± 3 standard deviations, less what a percentile interval lacks


def plain_p_value(difference):
    """Every flip of signs, one at a time."""
    sums = [abs(sum(s * d for s, d in zip(signs, difference, strict=True)))
            for signs in product([1, -1], repeat=len(difference))]  # fmt: skip
    return sum(total >= abs(sum(difference)) - 1e-9 for total in sums) / len(sums)


@given(arrays(np.float64, st.integers(1, 8), elements=st.sampled_from([-0.5, -0.1, 0.0, 0.1, 0.2, 0.3])))
def test_few_users_are_tested_exactly(difference):
    result = paired_permutation_test(difference, np.zeros_like(difference))
    assert result.p_value == pytest.approx(plain_p_value(difference.tolist()))
    assert (result.better, result.worse, result.equal) == (
        (difference > 0).sum(),
        (difference < 0).sum(),
        (difference == 0).sum(),
    )


def test_always_better_by_the_same_is_two_flips_of_all():
    """Only the flip as it is and the one with all signs turned reach the sum: p = 2 / 2^10."""
    result = paired_permutation_test(np.full(10, 0.75), np.full(10, 0.5))
    assert result.p_value == 2 / 2**10
    assert (result.difference, result.better, result.worse, result.equal) == (0.25, 10, 0, 0)


def test_models_that_are_equal_do_not_differ():
    a = np.random.default_rng(0).random(500)
    assert paired_permutation_test(a, a).p_value == 1
    assert paired_permutation_test(np.ones(1), np.zeros(1)).p_value == 1  # one user proves nothing


def test_drawn_flips_come_near_all_of_them():
    difference = np.random.default_rng(4).normal(0.3, 1, 14)
    exact = paired_permutation_test(difference, np.zeros(14), 2**14)
    drawn = paired_permutation_test(difference, np.zeros(14), 2**14 - 1)
    assert exact.p_value == pytest.approx(plain_p_value(difference.tolist()))
    assert drawn.p_value == pytest.approx(exact.p_value, abs=4 * np.sqrt(0.25 / 2**14))


def test_agrees_with_the_normal_approximation():
    """Σ ± d has variance Σ d²: with many users p is twice the tail beyond |Σ d| / √Σ d²."""
    difference = np.random.default_rng(5).normal(0.04, 1, 2_000)
    z = abs(difference.sum()) / np.sqrt((difference**2).sum())
    result = paired_permutation_test(difference, np.zeros(2_000), 20_000)
    assert result.p_value == pytest.approx(erfc(z / sqrt(2)), abs=0.012)


def test_no_drawn_p_value_is_zero():
    b = np.random.default_rng(6).random(100)
    assert paired_permutation_test(b + 1, b, 99).p_value == 0.01


@given(values, values, st.integers(0, 100))
def test_a_permutation_test_takes_no_side(a, b, seed):
    one, other = paired_permutation_test(a, b, 200, seed), paired_permutation_test(b, a, 200, seed)
    assert one.p_value == other.p_value
    assert one.difference == pytest.approx(-other.difference)
    assert 0 < one.p_value <= 1
    assert one == paired_permutation_test(a, b, 200, seed)


def test_blocks_cover_every_permutation(monkeypatch):
    b = np.random.default_rng(8).random(40)
    monkeypatch.setattr(module, "DRAWS_AT_ONCE", 100)  # seven flips of 40 users do not fit
    assert paired_permutation_test(b + 1, b, 7).p_value == 1 / 8
    assert paired_permutation_test(b[:8] + 1, b[:8]).p_value == 2 / 2**8  # twelve of 256 flips fit


def test_comparisons_that_cannot_be_are_refused():
    ones = np.ones(3)
    with pytest.raises(InvalidInput, match="permutations is 0"):
        paired_permutation_test(ones, ones, 0)
    with pytest.raises(InvalidInput, match="shape"):
        paired_permutation_test(ones, np.ones((3, 1)))
    with pytest.raises(Unsuitable):
        paired_permutation_test(ones[:0], ones[:0])
    with pytest.raises(Unsuitable):
        mean_interval(ones[:0])
