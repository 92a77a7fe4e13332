"""Popularity counts people who liked an item, and nothing else."""

import numpy as np

from matinee.models.popularity import Popularity, PopularityParams

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
