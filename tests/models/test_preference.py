"""One meaning of liking, for training and for live history."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from matinee.dataset.interactions import Interactions
from matinee.models.preference import confidence

shares = arrays(np.float32, 20, elements=st.floats(0, 1, width=32) | st.just(np.nan))
ratings = arrays(np.float32, 20, elements=st.floats(0, 10, width=32) | st.just(np.nan))


def weigh(rating, watched, threshold=4.0):
    return confidence([rating], [watched], threshold)[0]


def test_a_rating_decides_where_there_is_one():
    assert weigh(3.0, 1.0) == 0
    assert weigh(4.0, np.nan) == 1
    assert weigh(5.0, 0.1) == 1.25


def test_unrated_watching_counts_and_grows_to_one():
    assert weigh(np.nan, 0.0) == np.float32(0.1)
    assert weigh(np.nan, 1.0) == 1
    assert weigh(np.nan, 1.5) == 1


def test_of_a_bare_event_the_choice_counts():
    assert weigh(np.nan, np.nan) == 1


def test_the_threshold_moves():
    assert weigh(3.0, np.nan, 3.0) == 1
    assert weigh(4.5, np.nan, 5.0) == 0


@given(ratings, shares, st.floats(0.5, 10))
def test_positive_exactly_where_the_interactions_say_so(rating, watched, threshold):
    index = np.zeros(20, dtype=np.int32)
    data = Interactions(1, 1, index, index, rating, watched)
    weight = confidence(rating, watched, threshold)
    assert weight.dtype == np.float32
    assert np.isfinite(weight).all()
    np.testing.assert_array_equal(weight > 0, data.positive(threshold))


@given(shares)
def test_weight_never_falls_with_the_share_watched(watched):
    known = np.sort(watched[~np.isnan(watched)])
    assert (np.diff(confidence(np.full(known.size, np.nan), known)) >= 0).all()
