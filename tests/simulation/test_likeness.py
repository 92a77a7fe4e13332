"""How close a world comes to MovieLens 1M; docs/world.md says the same in figures."""

import gzip

import numpy as np
import pytest

from matinee.simulation.concentration import gini, top_share
from matinee.simulation.likeness import likeness, organic_ratings
from matinee.simulation.options import WorldOptions


@pytest.mark.real_data
def test_ratings_look_like_those_of_movielens_1m(real_data):
    with gzip.open(real_data / "ml-1m" / "ratings_notime.dat.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=":", usecols=(0, 2, 4), dtype=np.int32)
    real = likeness(*table.T)
    made = likeness(*organic_ratings(WorldOptions(start_us=0, viewers=1_510, movies=3_706, late_movies=0.0), 165.6))
    assert np.abs(np.subtract(made.stars, real.stars)).max() < 0.02
    assert made.mean == pytest.approx(real.mean, abs=0.05)
    assert made.item_mean_sd == pytest.approx(real.item_mean_sd, abs=0.04)
    assert made.item_gini == pytest.approx(real.item_gini, abs=0.02)
    assert made.item_top_share == pytest.approx(real.item_top_share, abs=0.03)
    assert made.item_quantiles == pytest.approx(real.item_quantiles, abs=0.05, rel=0.1)
    assert made.user_gini == pytest.approx(real.user_gini, abs=0.03)
    assert made.user_quantiles == pytest.approx(real.user_quantiles, rel=0.2)


def test_gini_and_top_share_by_hand():
    assert gini(np.array([3, 3, 3])) == 0
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(0.75)  # (n − 1)/n where one has everything
    assert gini(np.zeros(4)) == 0
    assert top_share(np.array([1, 2, 3, 4]), 0.5) == pytest.approx(0.7)
    assert top_share(np.array([1, 3]), 0.01) == pytest.approx(0.75)  # at least one
