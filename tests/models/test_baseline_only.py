"""The bias baseline against its formula, rating by rating."""

import numpy as np
import pytest

from matinee.models.bias import BaselineOnly, BaselineOnlyParams


def plain_biases(data, params):
    mean = data.rating.mean(dtype=np.float64)
    rows = list(zip(data.user_index, data.item_index, data.rating.astype(float), strict=True))
    bu, bi = np.zeros(data.n_users), np.zeros(data.n_items)
    for _ in range(params.n_epochs):
        for i in range(data.n_items):
            own = [r - mean - bu[u] for u, item, r in rows if item == i]
            bi[i] = sum(own) / (params.reg_i + len(own)) if own else 0
        for u in range(data.n_users):
            own = [r - mean - bi[i] for user, i, r in rows if user == u]
            bu[u] = sum(own) / (params.reg_u + len(own)) if own else 0
    return mean + bu[:, None] + bi


@pytest.mark.parametrize("params", [BaselineOnlyParams(), BaselineOnlyParams(n_epochs=3, reg_u=0, reg_i=0)])
def test_biases_are_those_of_the_formula(params, mixed):
    rated = mixed.rated()
    scores = BaselineOnly(params).fit(mixed).scores(np.arange(mixed.n_users, dtype=np.int32))
    np.testing.assert_allclose(scores, plain_biases(rated, params), rtol=1e-5)


def test_one_rating_is_shrunk_towards_the_mean(build):
    """Mean 3; item 0 is two above it: b_i = 2/11, then b_u = (2 − 2/11)/16; item 1 the same below."""
    data = build([(0, 0, 5.0), (1, 1, 1.0)], 2, 2)
    scores = BaselineOnly(BaselineOnlyParams(n_epochs=1)).fit(data).scores(np.zeros(1, np.int32))
    assert scores[0, 0] == pytest.approx(3 + 2 / 11 + (2 - 2 / 11) / 16)


def test_defaults_are_surprises():
    assert BaselineOnlyParams().model_dump() == {"n_epochs": 10, "reg_i": 10, "reg_u": 15}
