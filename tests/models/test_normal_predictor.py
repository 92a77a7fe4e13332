"""Normal predictor: what is drawn, and that it stays drawn."""

import numpy as np
import pytest
from scipy import stats

from matinee.models.normal_predictor import NormalPredictor


@pytest.fixture
def wide(build):
    """400 users × 250 items, ratings 0 and 10 by halves along a diagonal: mean 5, standard deviation 5."""
    return build([(n, n % 250, 10.0 * (n % 2)) for n in range(400)], 400, 250)


def draws(data, seed=0):
    return NormalPredictor().fit(data, seed=seed).scores(np.arange(data.n_users, dtype=np.int32))


def test_draws_are_normal_with_the_mean_and_deviation_of_the_ratings(wide):
    drawn = draws(wide)
    assert drawn.size == 100_000
    assert stats.kstest(drawn.ravel(), "norm", (5, 5)).pvalue > 0.001


def test_draws_of_neighbours_are_independent(wide):
    drawn = draws(wide)
    bound = 5 / np.sqrt(drawn.size)
    for one, other in ((drawn[1:], drawn[:-1]), (drawn[:, 1:], drawn[:, :-1]), (drawn, draws(wide, seed=1))):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < bound
    assert np.unique(drawn).size > 0.95 * drawn.size


def test_a_draw_does_not_hang_on_what_is_asked_beside_it(wide):
    model = NormalPredictor().fit(wide, seed=3)
    u, i = np.indices((400, 250), dtype=np.int32).reshape(2, -1)
    order = np.random.default_rng(0).permutation(u.size)
    whole = model.predict(u, i)
    np.testing.assert_array_equal(model.predict(u[order], i[order]), whole[order])
    np.testing.assert_array_equal(np.clip(model.scores(u[::250]), 0, 10).ravel(), whole)
    assert whole.min() == 0
    assert whole.max() == 10


def test_equal_ratings_leave_nothing_to_draw(build):
    assert (draws(build([(0, 0, 3.0), (1, 1, 3.0)], 2, 2)) == 3).all()
