"""The best of one user's scores, against sorting all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from matinee.models.fold_in import best

SCORES = st.floats(-3, 3, width=16) | st.just(-np.inf)  # few values, so that many are equal
# The longest have more groups than are asked for, and rests that fill no group.
LENGTHS = st.integers(0, 60) | st.integers(3_000, 3_700)


@given(scores=LENGTHS.flatmap(lambda n: arrays(np.float32, n, elements=SCORES)), n=st.integers(0, 120))
def test_it_is_the_beginning_of_a_stable_sort(scores, n):
    order = np.argsort(-scores, kind="stable")
    expected = order[scores[order] > -np.inf][:n]
    np.testing.assert_array_equal(best(scores, n), expected)


@pytest.mark.parametrize("size", [50, 27_000])
def test_what_is_no_number_is_never_chosen(size):
    scores = np.random.default_rng(1).random(size, dtype=np.float32)
    scores[::2] = np.nan
    chosen = best(scores, 20)
    assert np.isfinite(scores[chosen]).all()
    assert set(chosen) <= set(np.argsort(-scores, kind="stable")[:20])


def test_of_many_equal_scores_the_first_are_chosen():
    np.testing.assert_array_equal(best(np.ones(27_000, dtype=np.float32), 100), np.arange(100))
