"""The blend against weights that one can derive."""

import numpy as np
import pytest

from matinee.core.errors import ConfigurationError
from matinee.models.blend import Blend, _weights


def everyone(data):
    return np.arange(data.n_users, dtype=np.int32)


def test_the_member_that_is_right_gets_all_the_weight():
    rng = np.random.default_rng(0)
    right, noise = rng.normal(3, 1, 400), rng.normal(3, 1, 400)
    np.testing.assert_allclose(_weights(np.column_stack([right, noise]), right, 0.0), [0, 1, 0], atol=1e-6)


def test_a_constant_error_is_taken_back_by_the_first_weight():
    right = np.linspace(1, 5, 50)
    np.testing.assert_allclose(_weights((right + 0.5)[:, None], right, 0.0), [-0.5, 1], atol=1e-6)


def test_strong_regularisation_weighs_members_equally():
    rng = np.random.default_rng(0)
    right, noise = rng.normal(3, 1, 400), rng.normal(3, 1, 400)
    np.testing.assert_allclose(_weights(np.column_stack([right, noise]), right, 1e12)[1:], [0.5, 0.5], atol=1e-6)


def test_equal_members_are_no_trouble():
    right = np.linspace(1, 5, 50)
    weights = _weights(np.column_stack([right, right]), right, 0.0)
    np.testing.assert_allclose(weights[0] + right * weights[1:].sum(), right, atol=1e-5)


def test_scores_are_the_weighted_sum_of_the_members_own(mixed):
    rated = mixed.rated()
    model = Blend(members=("baseline_only", "svd"), member_params={"svd": {"n_factors": 4}}).fit(rated, seed=3)
    w = model.state()["weights"]
    scores = [member.scores(everyone(rated)) for member in model._fitted]
    np.testing.assert_allclose(model.scores(everyone(rated)), w[0] + w[1] * scores[0] + w[2] * scores[1], rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"members": ("als",)}, "als cannot be a member"),
        ({"members": ("blend",)}, "blend cannot be a member"),
        ({"members": ("no_such",)}, "there is no model 'no_such'"),
        ({"members": ("svd",), "member_params": {"nmf": {}}}, "nmf, which is no member"),
        ({"members": ()}, "members"),
    ],
)
def test_members_that_cannot_be_are_refused(given, told, mixed):
    with pytest.raises(ConfigurationError, match=told):
        Blend(**given).fit(mixed)


def test_too_few_ratings_to_hold_back_weigh_members_equally(build):
    model = Blend(members=("baseline_only", "svd")).fit(build([(0, 0, 4.0)], 1, 1))
    np.testing.assert_array_equal(model.state()["weights"], np.array([0, 0.5, 0.5], dtype=np.float32))
