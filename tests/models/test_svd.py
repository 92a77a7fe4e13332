"""SVD against its own equations, written out plainly."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.core.errors import ConfigurationError
from matinee.dataset.interactions import Interactions
from matinee.models.arrays import normal
from matinee.models.base import WarmStart
from matinee.models.svd import SVD, SVDParams
from matinee.models.svd_steps import Blocks, ridge_rows


def plain_sgd(data, params, seed):
    """Surprise's loop in float64, from the same start."""
    rng = np.random.default_rng(seed)
    p, q = (
        normal(rng, params.init_mean, params.init_std_dev, (rows, params.n_factors)).astype(np.float64)
        for rows in (data.n_users, data.n_items)
    )
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


@pytest.mark.parametrize("n_factors", [1, 7, 9, 33])
def test_any_number_of_factors_is_learnt_by_the_same_equations(n_factors, planted):
    params = SVDParams(n_factors=n_factors, n_epochs=4)
    model = SVD(params).fit(planted, seed=9)
    users = np.arange(planted.n_users, dtype=np.int32)
    np.testing.assert_allclose(model.scores(users), plain_sgd(planted, params, 9), rtol=1e-4, atol=1e-4)
    assert model.state()["user_factors"].shape == (planted.n_users, n_factors)


@given(
    pairs=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, unique=True), t=st.integers(1, 5)
)
@settings(deadline=None)
def test_blocks_hold_every_rating_once_and_those_of_one_turn_share_nothing(pairs, t):
    user, item = (np.array(column, dtype=np.int32) for column in zip(*pairs, strict=True))
    seen, turns = [], []
    blocks = Blocks.cut(user, item, np.arange(user.size, dtype=np.float32), t)
    with ThreadPoolExecutor(1) as pool:
        blocks.epoch(pool, lambda u, i, r: turns.append((set(u.tolist()), set(i.tolist()))) or seen.append(r))
    assert sorted(np.concatenate(seen).tolist()) == list(range(user.size))
    assert all((np.diff(numbers) > 0).all() for numbers in seen)  # in the order given
    for turn in range(t):
        users, items = zip(*turns[turn * t : (turn + 1) * t], strict=True)
        assert sum(map(len, users)) == len(set().union(*users))
        assert sum(map(len, items)) == len(set().union(*items))


def test_threads_go_through_blocks_as_one_thread_would(planted):
    params = SVDParams(n_factors=8, n_epochs=5)
    blocks = Blocks.cut(planted.user_index, planted.item_index, planted.rating, 3)
    turns = [range(blocks.first[a * 3 + b], blocks.first[a * 3 + b + 1]) for s in range(3) for a in range(3)
             for b in [(a + s) % 3]]  # fmt: skip
    order = np.concatenate(turns)
    in_turn = Interactions(planted.n_users, planted.n_items, blocks.user_index[order], blocks.item_index[order],
                           blocks.rating[order], planted.watched)  # fmt: skip
    one, three = SVD(params).fit(in_turn).state(), SVD(params).fit(planted, threads=3).state()
    assert all(np.array_equal(one[name], three[name]) for name in one if name != "mean")
    again = SVD(params).fit(planted, threads=3).state()
    assert all(np.array_equal(again[name], array) for name, array in three.items())


def test_threads_reach_the_same_error(planted):
    params = SVDParams(n_factors=8, n_epochs=100, lr_all=0.02)
    errors = [
        np.abs(
            SVD(params).fit(planted, threads=t).predict(planted.user_index, planted.item_index) - planted.rating
        ).mean()
        for t in (1, 2, 4)
    ]
    np.testing.assert_allclose(errors, errors[0], atol=0.05)


def test_a_warm_start_goes_on_where_the_fit_stopped(planted):
    whole, half = (SVD(n_factors=9, n_epochs=n).fit(planted) for n in (7, 4))
    rows = [np.arange(n, dtype=np.int32) for n in (planted.n_users, planted.n_items)]
    rest = SVD(n_factors=9, n_epochs=3).fit(planted, start=WarmStart(half.state(), *rows)).state()
    assert all(np.array_equal(array, rest[name]) for name, array in whole.state().items())


def test_a_warm_start_keeps_nothing_of_who_has_no_ratings_now(planted):
    rows = [np.arange(n, dtype=np.int32) for n in (planted.n_users, planted.n_items)]
    start = WarmStart(SVD(n_factors=8).fit(planted).state(), *rows)
    rest = planted.take((planted.user_index > 1) & (planted.item_index > 1))
    state = SVD(n_factors=8).fit(rest, start=start).state()
    for name in ("user_bias", "user_factors", "item_bias", "item_factors"):
        assert not state[name][:2].any()


def without_newcomers(data, params, n_users, n_items):
    """A model of the first users and items alone, and what the newcomers' indices are."""
    known = (data.user_index < n_users) & (data.item_index < n_items)
    few = data.take(known)
    return SVD(params).fit(Interactions(n_users, n_items, few.user_index, few.item_index, few.rating, few.watched))


@pytest.mark.parametrize("biased", [True, False])
def test_folded_in_users_and_items_minimise_the_formula(biased, planted):
    params = SVDParams(
        n_factors=3, n_epochs=50, biased=biased, reg_bu=0.3, reg_pu=0.2, reg_bi=0.4, reg_qi=0.1, init_mean=0.2
    )
    model = without_newcomers(planted, params, 20, 13)
    state = {name: array.astype(np.float64) for name, array in model.fold_in(planted).state().items()}
    mean = state["mean"] if biased else 0.0
    for side, old, n_known, n_old, n, index, other, reg_b, reg_f in (
        ("user", "item", 20, 13, planted.n_users, planted.user_index, planted.item_index, 0.3, 0.2),
        ("item", "user", 13, 20, planted.n_items, planted.item_index, planted.user_index, 0.4, 0.1),
    ):
        for new in range(n_known, n):
            rows = (index == new) & (other < n_old)
            b, x, f = (
                state[f"{side}_bias"][new],
                state[f"{side}_factors"][new],
                state[f"{old}_factors"][other[rows]],
            )
            error = planted.rating[rows] - mean - state[f"{old}_bias"][other[rows]] - b - f @ x
            if biased:
                np.testing.assert_allclose(error.sum(), rows.sum() * reg_b * b, atol=1e-4)
            else:
                assert b == 0
            np.testing.assert_allclose(f.T @ error, rows.sum() * reg_f * x, atol=1e-4)


def test_folding_in_leaves_the_others_alone_and_finds_what_newcomers_like(planted, planted_answer):
    model = without_newcomers(planted, SVDParams(n_factors=8, n_epochs=100, lr_all=0.05), 20, 14)
    folded = model.fold_in(planted)
    users = np.arange(planted.n_users, dtype=np.int32)
    np.testing.assert_allclose(folded.scores(users[:20])[:, :14], model.scores(users[:20]), rtol=1e-5)
    items, _ = folded.recommend(users, 1, planted.matrix())
    np.testing.assert_array_equal(items[:, 0] % 2, planted_answer % 2)


def test_newcomers_that_met_nobody_known_are_answered_like_the_unknown(build):
    model = SVD(n_factors=4).fit(build([(0, 0, 4.0), (1, 1, 2.0)], 2, 3))
    folded = model.fold_in(build([(2, 2, 5.0), (3, 0, None, 0.5), (2, 3, 5.0)], 4, 4))
    scores = folded.scores(np.array([-1, 2, 3], dtype=np.int32))
    np.testing.assert_array_equal(scores[1:], scores[[0, 0]])
    nobody = np.array([0, 0], dtype=np.int32)
    predicted = folded.predict(nobody, np.array([-1, 3], dtype=np.int32))
    assert predicted[0] == predicted[1]


def test_without_regularisation_the_ridge_is_the_least_solution():
    features = np.array([[3.0, 4.0]], dtype=np.float32)
    bias, factors = ridge_rows(np.array([1], np.int32), np.array([10.0]), features, 3, 0.0, 0.0, biased=False)
    assert not bias.any()
    np.testing.assert_allclose(factors, [[0, 0], [1.2, 1.6], [0, 0]], rtol=1e-6)
