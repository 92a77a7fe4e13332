"""The paired bootstrap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.evaluation import bootstrap as module
from matinee.evaluation.bootstrap import paired_bootstrap

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
