"""SVD against its own equations, written out plainly."""

import numpy as np
import pytest

from matinee.core.errors import ConfigurationError
from matinee.models.svd import SVD, SVDParams


def plain_sgd(data, params, seed):
    """Surprise's loop in float64, from the same start."""
    rng = np.random.default_rng(seed)
    p = rng.normal(params.init_mean, params.init_std_dev, (data.n_users, params.n_factors))
    q = rng.normal(params.init_mean, params.init_std_dev, (data.n_items, params.n_factors))
    bu, bi = np.zeros(data.n_users), np.zeros(data.n_items)
    lr_bu, lr_bi, lr_pu, lr_qi, reg_bu, reg_bi, reg_pu, reg_qi = params.rates().astype(np.float64)
    mean = data.rating.mean() if params.biased else 0.0
    for _ in range(params.n_epochs):
        for u, i, r in zip(data.user_index, data.item_index, data.rating, strict=True):
            error = r - (mean + bu[u] + bi[i] + p[u] @ q[i])
            if params.biased:
                bu[u] += lr_bu * (error - reg_bu * bu[u])
                bi[i] += lr_bi * (error - reg_bi * bi[i])
            p[u], q[i] = (
                p[u] + lr_pu * (error * q[i] - reg_pu * p[u]),
                q[i] + lr_qi * (error * p[u] - reg_qi * q[i]),
            )
    return mean + bu[:, None] + bi + p @ q.T


@pytest.mark.parametrize(
    "params",
    [
        SVDParams(n_factors=8, n_epochs=5),
        SVDParams(n_factors=8, n_epochs=5, biased=False, init_mean=0.3),
        SVDParams(n_factors=8, n_epochs=5, lr_bu=0.03, lr_bi=0.02, lr_pu=0.04, lr_qi=0.01,
                  reg_bu=0.3, reg_bi=0.2, reg_pu=0.4, reg_qi=0.1),
    ],
    ids=["defaults", "unbiased", "all rates different"],
)  # fmt: skip
def test_updates_are_those_of_the_equations(params, planted):
    users = np.arange(planted.n_users, dtype=np.int32)
    scores = SVD(params).fit(planted, seed=9).scores(users)
    np.testing.assert_allclose(scores, plain_sgd(planted, params, 9), rtol=1e-4, atol=1e-4)


def test_defaults_are_surprises():
    assert SVDParams().model_dump() == {
        "n_factors": 100, "n_epochs": 20, "biased": True, "init_mean": 0.0, "init_std_dev": 0.1,
        "lr_all": 0.005, "reg_all": 0.02, "lr_bu": None, "lr_bi": None, "lr_pu": None, "lr_qi": None,
        "reg_bu": None, "reg_bi": None, "reg_pu": None, "reg_qi": None,
    }  # fmt: skip


def test_a_rate_of_its_own_takes_precedence_even_when_it_is_zero():
    rates = SVDParams(lr_all=0.1, reg_all=0.2, lr_bu=0.0, reg_qi=0.0).rates()
    np.testing.assert_allclose(rates, [0, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0])


def test_without_epochs_only_the_mean_and_the_start_remain(planted):
    model = SVD(SVDParams(n_factors=8, n_epochs=0, init_std_dev=0.0)).fit(planted)
    assert model.predict(np.zeros(1, np.int32), np.zeros(1, np.int32))[0] == planted.rating.mean()


def test_unknown_pairs_leave_out_what_is_unknown(mixed):
    model = SVD(SVDParams(n_factors=8)).fit(mixed)
    state = model.state()
    user, nobody = np.array([7], np.int32), np.array([-1], np.int32)
    mean, bu, bi = state["mean"][0], state["user_bias"][7], state["item_bias"][7]
    np.testing.assert_allclose(model.predict(user, nobody), [mean + bu], rtol=1e-6)
    np.testing.assert_allclose(model.predict(nobody, user), [mean + bi], rtol=1e-6)
    np.testing.assert_allclose(model.predict(nobody, nobody), [mean], rtol=1e-6)


def test_without_biases_anything_unknown_gets_the_mean(mixed):
    model = SVD(SVDParams(n_factors=8, biased=False)).fit(mixed)
    mean = mixed.rated().rating.mean()
    users, items = np.array([-1, 7, 0, 7], np.int32), np.array([7, -1, 7, 0], np.int32)
    np.testing.assert_allclose(model.predict(users, items), mean, rtol=1e-6)
    np.testing.assert_allclose(model.scores(np.array([-1, 0], np.int32)), mean, rtol=1e-6)
    np.testing.assert_allclose(model.scores(np.array([7], np.int32))[:, :3], mean, rtol=1e-6)


def test_predictions_stay_on_the_scale_and_scores_may_leave_it(planted):
    model = SVD(SVDParams(n_factors=8, n_epochs=0, init_std_dev=2.0)).fit(planted)
    users = np.arange(planted.n_users, dtype=np.int32)
    u, i = (index.ravel() for index in np.meshgrid(users, np.arange(planted.n_items, dtype=np.int32)))
    predicted, scores = model.predict(u, i), model.scores(users)
    assert predicted.min() >= 1
    assert predicted.max() <= 5
    assert scores.max() > 5


def test_the_order_of_the_ratings_counts(planted):
    turned = planted.take(np.arange(len(planted))[::-1].copy())
    quick = SVDParams(n_factors=8)
    assert not np.array_equal(
        SVD(quick).fit(planted).state()["user_bias"], SVD(quick).fit(turned).state()["user_bias"]
    )


def test_a_fit_that_diverges_says_what_to_do(planted):
    with pytest.raises(ConfigurationError, match="diverged") as caught:
        SVD(SVDParams(n_factors=8, lr_all=50.0)).fit(planted)
    assert "learning rates" in caught.value.remedy
