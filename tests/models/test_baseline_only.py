"""The bias baseline against its formula, rating by rating."""

import numpy as np
import pytest

from matinee.core.errors import ConfigurationError
from matinee.models.bias import BaselineOnly, BaselineOnlyParams, baselines


def plain_biases(data, params):
    mean = data.rating.mean(dtype=np.float64)
    rows = list(zip(data.user_index, data.item_index, data.rating.astype(float), strict=True))
    bu, bi = np.zeros(data.n_users), np.zeros(data.n_items)
    for _ in range(params.epochs()):
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


def plain_descent(data, params):
    mean = data.rating.mean(dtype=np.float64)
    bu, bi = np.zeros(data.n_users), np.zeros(data.n_items)
    for _ in range(params.epochs()):
        for u, i, r in zip(data.user_index, data.item_index, data.rating.astype(float), strict=True):
            e = r - (mean + bu[u] + bi[i])
            bu[u] += params.learning_rate * (e - params.reg * bu[u])
            bi[i] += params.learning_rate * (e - params.reg * bi[i])
    return mean + bu[:, None] + bi


@pytest.mark.parametrize("n_epochs", [None, 0, 3])
def test_gradient_descent_is_that_of_the_formula(n_epochs, mixed):
    params = BaselineOnlyParams(method="sgd", n_epochs=n_epochs, learning_rate=0.05)
    scores = BaselineOnly(params).fit(mixed).scores(np.arange(mixed.n_users, dtype=np.int32))
    np.testing.assert_allclose(scores, plain_descent(mixed.rated(), params), rtol=1e-5)


def test_gradient_descent_that_diverges_is_refused(mixed):
    with pytest.raises(ConfigurationError, match="diverged") as caught:
        BaselineOnly(method="sgd", learning_rate=1e6, n_epochs=40).fit(mixed)
    assert "learning_rate" in caught.value.remedy


@pytest.mark.parametrize(("method", "epochs"), [("als", 10), ("sgd", 20)])
def test_each_method_has_its_own_number_of_epochs(method, epochs, mixed):
    steps = []
    BaselineOnly(method=method).fit(mixed, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n, epochs) for n in range(1, epochs + 1)]


@pytest.mark.parametrize("method", ["als", "sgd"])
def test_the_plain_function_gives_what_the_model_holds(method, mixed):
    mean, user_bias, item_bias = baselines(mixed.rated(), BaselineOnlyParams(method=method))
    state = BaselineOnly(method=method).fit(mixed).state()
    assert state["mean"][0] == np.float32(mean)
    np.testing.assert_array_equal(state["user_bias"], user_bias)
    np.testing.assert_array_equal(state["item_bias"], item_bias)
    assert (user_bias.dtype, item_bias.dtype) == (np.float32, np.float32)


def test_defaults_are_surprises():
    assert BaselineOnlyParams().model_dump() == {
        "method": "als", "n_epochs": None, "reg_i": 10, "reg_u": 15, "reg": 0.02, "learning_rate": 0.005,
    }  # fmt: skip
