"""Popularity counts people who liked an item, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from matinee.core.errors import Unsuitable
from matinee.models.popularity import DAY_US, Popularity, PopularityParams

ROWS = [(0, 0, 3.0), (1, 0, 3.5), (2, 0, 5.0), (0, 1, 4.0), (1, 1, 4.5), (2, 2, None, 0.05), (0, 2, 1.0, 1.0)]


def scores(data, threshold=4.0):
    model = Popularity(PopularityParams(positive_rating=threshold)).fit(data)
    return model.scores(np.array([0, -1], np.int32)).tolist()


def test_only_positives_count(build):
    assert scores(build(ROWS, 3, 4)) == [[1, 2, 1, 0]] * 2


def test_the_threshold_moves(build):
    assert scores(build(ROWS, 3, 4), threshold=3.0) == [[3, 2, 1, 0]] * 2


def test_equal_counts_keep_the_order_of_the_items(build):
    items, _ = Popularity().fit(build(ROWS, 3, 4)).recommend(np.zeros(1, np.int32), 4)
    assert items.tolist() == [[1, 0, 2, 3]]


def test_with_a_half_life_what_is_old_counts_less(build):
    days = np.array([0, 0, 10, 10, 4, 7, 12])
    data = replace(build(ROWS, 3, 4), time_us=1_000_000 + days * DAY_US)
    # The newest row, a dislike, is of day 12; likes of item 0: day 10; item 1: days 10 and 4; item 2: day 7.
    model = Popularity(half_life_days=2.0).fit(data)
    wanted = [2**-1, 2**-1 + 2**-4, 2**-2.5, 0]
    np.testing.assert_allclose(model.scores(np.array([0], np.int32))[0], wanted, rtol=1e-6)


def test_an_endless_half_life_counts_alike(build):
    data = replace(build(ROWS, 3, 4), time_us=np.arange(7) * DAY_US)
    model = Popularity(half_life_days=1e12).fit(data)
    assert model.scores(np.array([0], np.int32))[0].tolist() == [1, 2, 1, 0]


def test_recency_without_times_is_refused(build):
    with pytest.raises(Unsuitable, match="half_life_days needs event times"):
        Popularity(half_life_days=30.0).fit(build(ROWS, 3, 4))
