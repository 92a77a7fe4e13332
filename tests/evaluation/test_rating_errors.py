"""RMSE and MAE."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.evaluation.ratings import mae, rmse

ratings = arrays(np.float32, 12, elements=st.floats(1, 5, width=32))


def test_closed_forms():
    predicted, actual = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 0.0])
    assert rmse(predicted, actual) == 2.0
    assert mae(predicted, actual) == 1.0


@given(ratings, ratings)
def test_bounds(predicted, actual):
    worst = np.abs(predicted.astype(float) - actual).max()
    assert 0 <= mae(predicted, actual) <= rmse(predicted, actual) + 1e-12 <= worst + 2e-12


@given(ratings, ratings, st.permutations(range(12)))
def test_order_does_not_matter(predicted, actual, order):
    assert rmse(predicted[order], actual[order]) == pytest.approx(rmse(predicted, actual))
    assert mae(predicted[order], actual[order]) == pytest.approx(mae(predicted, actual))


@pytest.mark.parametrize("metric", [rmse, mae])
def test_what_cannot_be_is_refused_with_its_place(metric):
    with pytest.raises(InvalidInput, match=r"predicted\[1\] is nan"):
        metric(np.array([1.0, np.nan]), np.ones(2))
    with pytest.raises(InvalidInput, match=r"actual\[0\] is inf"):
        metric(np.ones(1), np.array([np.inf]))
    with pytest.raises(InvalidInput, match="shape"):
        metric(np.ones(2), np.ones(1))
    with pytest.raises(Unsuitable):
        metric(np.empty(0), np.empty(0))
