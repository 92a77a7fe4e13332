"""SVD++ against the textbook's loop, which updates every y_j at every rating."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.core.errors import ConfigurationError
from matinee.models.arrays import normal
from matinee.models.base import WarmStart
from matinee.models.svdpp import SVDpp, SVDppParams, epoch_by_user
from models.conftest import make_interactions

ALL_DIFFERENT = {
    "lr_bu": 0.03, "lr_bi": 0.02, "lr_pu": 0.04, "lr_qi": 0.01, "lr_yj": 0.05,
    "reg_bu": 0.3, "reg_bi": 0.2, "reg_pu": 0.4, "reg_qi": 0.1, "reg_yj": 0.6,
}  # fmt: skip


def textbook_epoch(users, items, ratings, mean, rates, bu, bi, p, q, y):
    """One pass in float64; at every rating all y_j of the user change. Quadratic in a user's ratings."""
    lr_bu, lr_bi, lr_pu, lr_qi, lr_yj, reg_bu, reg_bi, reg_pu, reg_qi, reg_yj = rates
    for n in np.argsort(users, kind="stable"):
        u, i = users[n], items[n]
        rated = items[users == u]
        root = np.sqrt(rated.size)
        z = y[rated].sum(axis=0) / root
        error = ratings[n] - (mean + bu[u] + bi[i] + q[i] @ (p[u] + z))
        bu[u] += lr_bu * (error - reg_bu * bu[u])
        bi[i] += lr_bi * (error - reg_bi * bi[i])
        y[rated] += lr_yj * (error * q[i] / root - reg_yj * y[rated])
        p[u], q[i] = (
            p[u] + lr_pu * (error * q[i] - reg_pu * p[u]),
            q[i] + lr_qi * (error * (p[u] + z) - reg_qi * q[i]),
        )


def beginning(rng, data, params):
    p, q, y = (
        normal(rng, params.init_mean, params.init_std_dev, (rows, params.n_factors)).astype(np.float64)
        for rows in (data.n_users, data.n_items, data.n_items)
    )
    return [np.zeros(data.n_users), np.zeros(data.n_items), p, q, y]


def grouped(data):
    order = np.argsort(data.user_index, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(data.user_index, minlength=data.n_users))])
    return first, data.item_index[order], data.rating[order].astype(np.float64)


def both_ways(data, params, seed=0):
    """The same epochs in float64 by the textbook and by the linear kernel."""
    rates, mean = params.rates().astype(np.float64), float(data.rating.mean())
    plain = beginning(np.random.default_rng(seed), data, params)
    quick = [array.copy() for array in plain]
    for _ in range(params.n_epochs):
        textbook_epoch(data.user_index, data.item_index, data.rating, mean, rates, *plain)
        epoch_by_user(*grouped(data), mean, rates, *quick)
    return plain, quick


@pytest.fixture(scope="module")
def uneven():
    """Users with 0, 1, 2, 3 and many ratings, their rows all mixed."""
    rng = np.random.default_rng(2)
    counts = [0, 1, 1, 2, 3, 10, 25, 50, 50]
    rows = [
        (u, i, float(rng.integers(1, 6)))
        for u, n in enumerate(counts)
        for i in rng.choice(50, n, replace=False).tolist()
    ]
    return make_interactions([rows[n] for n in rng.permutation(len(rows))], len(counts), 52)


@pytest.mark.parametrize(
    "params",
    [
        SVDppParams(n_epochs=20),
        SVDppParams(n_factors=7, n_epochs=10, **ALL_DIFFERENT),
        SVDppParams(n_factors=1, n_epochs=10, reg_yj=0.0, init_mean=0.3),
        SVDppParams(n_factors=8, n_epochs=10, lr_all=0.05, lr_yj=0.5, reg_yj=2.0),
        SVDppParams(n_factors=8, n_epochs=10, lr_yj=0.0, reg_yj=0.9),
    ],
    ids=["defaults", "all rates different", "y without regularisation", "y forgets at each step", "y stands still"],
)
def test_it_is_the_textbook_to_rounding(params, uneven):
    for plain, quick in zip(*both_ways(uneven, params), strict=True):
        np.testing.assert_allclose(quick, plain, rtol=1e-11, atol=1e-13)


@given(
    pairs=st.sets(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1),
    lr=st.floats(0, 0.2),
    reg=st.floats(0, 3),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_it_is_the_textbook_whatever_was_rated(pairs, lr, reg, seed):
    rng = np.random.default_rng(seed)
    ordered = sorted(pairs)
    rows = [(*ordered[n], float(rng.integers(1, 6))) for n in rng.permutation(len(ordered))]
    params = SVDppParams(n_factors=3, n_epochs=3, lr_yj=lr, reg_yj=reg)
    for plain, quick in zip(*both_ways(make_interactions(rows, 5, 7), params, seed), strict=True):
        np.testing.assert_allclose(quick, plain, rtol=1e-10, atol=1e-12)


def test_a_fit_is_the_textbook_as_near_as_float32_can(uneven):
    params = SVDppParams(n_factors=8, n_epochs=10, **ALL_DIFFERENT)
    plain, _ = both_ways(uneven, params, seed=9)
    state = SVDpp(params).fit(uneven, seed=9).state()
    for name, wanted in zip(
        ("user_bias", "item_bias", "user_own", "item_factors", "item_implicit"), plain, strict=True
    ):
        met = state["user_known" if name.startswith("user") else "item_known"]
        np.testing.assert_allclose(state[name][met], wanted[met], rtol=1e-3, atol=1e-5)
        assert not state[name][~met].any()


def test_effective_factors_are_a_users_own_and_its_implicit_part(uneven):
    state = SVDpp(n_factors=4).fit(uneven).state()
    for u, rows in uneven.by_user():
        z = state["item_implicit"][uneven.item_index[rows]].sum(axis=0) / np.sqrt(rows.size)
        np.testing.assert_allclose(state["user_factors"][u], state["user_own"][u] + z, rtol=1e-4, atol=1e-6)


def test_defaults_are_surprises():
    assert SVDppParams().model_dump() == {
        "n_factors": 20, "n_epochs": 20, "init_mean": 0.0, "init_std_dev": 0.1, "lr_all": 0.007, "reg_all": 0.02,
        "lr_bu": None, "lr_bi": None, "lr_pu": None, "lr_qi": None, "lr_yj": None,
        "reg_bu": None, "reg_bi": None, "reg_pu": None, "reg_qi": None, "reg_yj": None, "cache_ratings": False,
    }  # fmt: skip


def test_a_rate_of_its_own_takes_precedence_even_when_it_is_zero():
    rates = SVDppParams(lr_all=0.1, reg_all=0.2, lr_yj=0.0, reg_bu=0.0).rates()
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.1, 0.1, 0, 0, 0.2, 0.2, 0.2, 0.2])


def test_caching_ratings_changes_nothing(uneven):
    one, other = (SVDpp(n_factors=4, cache_ratings=cached).fit(uneven).state() for cached in (False, True))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_only_a_users_own_order_counts(uneven):
    params = SVDppParams(n_factors=4)
    by_user = uneven.take(np.argsort(uneven.user_index, kind="stable"))
    turned = uneven.take(np.arange(len(uneven))[::-1].copy())
    given_order, grouped_order, reverse = (SVDpp(params).fit(d).state() for d in (uneven, by_user, turned))
    assert all(np.array_equal(given_order[name], grouped_order[name]) for name in given_order)
    assert not np.array_equal(given_order["user_bias"], reverse["user_bias"])


def test_time_grows_with_ratings_and_not_with_their_square():
    params, wanted = SVDppParams(n_factors=16).rates(), []
    for n in (4_000, 64_000):
        item, rng = np.arange(n, dtype=np.int32), np.random.default_rng(0)
        learnt = [np.zeros(1, np.float32), np.zeros(n, np.float32),
                  *(rng.normal(0, 0.1, (rows, 16)).astype(np.float32) for rows in (1, n, n))]  # fmt: skip
        ratings = rng.integers(1, 6, n).astype(np.float32)
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            epoch_by_user(np.array([0, n]), item, ratings, np.float32(3), params, *learnt)
            taken.append(time.perf_counter() - start)
        wanted.append(min(taken))
    assert wanted[1] < 100 * wanted[0]  # 16 times the ratings; a square would take 256 times as long


def test_unknown_pairs_leave_out_what_is_unknown(mixed):
    model = SVDpp(n_factors=8).fit(mixed)
    state = model.state()
    user, nobody = np.array([7], np.int32), np.array([-1], np.int32)
    mean, bu, bi = state["mean"][0], state["user_bias"][7], state["item_bias"][7]
    np.testing.assert_allclose(model.predict(user, nobody), [mean + bu], rtol=1e-6)
    np.testing.assert_allclose(model.predict(nobody, user), [mean + bi], rtol=1e-6)
    np.testing.assert_allclose(model.predict(nobody, nobody), [mean], rtol=1e-6)


def test_a_fit_that_diverges_says_what_to_do(planted):
    with pytest.raises(ConfigurationError, match="diverged") as caught:
        SVDpp(n_factors=8, lr_all=50.0).fit(planted)
    assert "learning rates" in caught.value.remedy


def start_from(model, n_users, n_items):
    return WarmStart(model.state(), np.arange(n_users, dtype=np.int32), np.arange(n_items, dtype=np.int32))


def test_a_warm_start_goes_on_where_the_fit_stopped(planted):
    whole = SVDpp(n_factors=8, n_epochs=7).fit(planted).state()
    half = SVDpp(n_factors=8, n_epochs=4).fit(planted)
    rest = SVDpp(n_factors=8, n_epochs=3).fit(planted, start=start_from(half, planted.n_users, planted.n_items))
    assert all(np.array_equal(array, whole[name]) for name, array in rest.state().items())


def test_a_warm_start_keeps_nothing_of_who_has_no_ratings_now(planted):
    earlier = SVDpp(n_factors=8).fit(planted)
    rest = planted.take((planted.user_index > 1) & (planted.item_index > 1))
    state = SVDpp(n_factors=8).fit(rest, start=start_from(earlier, planted.n_users, planted.n_items)).state()
    for name in ("user_bias", "user_own", "user_factors", "item_bias", "item_factors", "item_implicit"):
        assert not state[name][:2].any()


def test_a_folded_in_users_factors_are_those_that_minimise_the_formula(planted):
    params = SVDppParams(n_factors=3, n_epochs=50, reg_bu=0.3, reg_pu=0.2)
    model = SVDpp(params).fit(planted.take(planted.user_index < 20))
    model = SVDpp.from_state(params, {**model.state(), **_without(model.state(), 20)})
    folded = model.fold_in(planted)
    state = {name: array.astype(np.float64) for name, array in folded.state().items()}
    for u in range(20, planted.n_users):
        rows = planted.user_index == u
        items, n = planted.item_index[rows], rows.sum()
        z = state["item_implicit"][items].sum(axis=0) / np.sqrt(n)
        b, p, q = state["user_bias"][u], state["user_own"][u], state["item_factors"][items]
        error = planted.rating[rows] - state["mean"] - state["item_bias"][items] - b - q @ (p + z)
        np.testing.assert_allclose(error.sum(), n * 0.3 * b, atol=1e-4)  # where both gradients are 0
        np.testing.assert_allclose(q.T @ error, n * 0.2 * p, atol=1e-4)
        np.testing.assert_allclose(state["user_factors"][u], p + z, rtol=1e-5, atol=1e-6)


def _without(state, n_users):
    """A state cut down to its first users."""
    cut = {name: array[:n_users] for name, array in state.items() if name.startswith("user")}
    return {**cut, "shape": np.array([n_users, state["shape"][1]])}


def test_folding_in_finds_what_a_newcomer_likes_and_leaves_the_others_alone(planted, planted_answer):
    params = SVDppParams(n_factors=8, n_epochs=100, lr_all=0.05)
    fitted = SVDpp(params).fit(planted.take(planted.user_index < 20))
    model = SVDpp.from_state(params, {**fitted.state(), **_without(fitted.state(), 20)})
    folded = model.fold_in(planted)
    users = np.arange(planted.n_users, dtype=np.int32)
    items, _ = folded.recommend(users, 1, planted.matrix())
    np.testing.assert_array_equal(items[20:, 0], planted_answer[20:])
    np.testing.assert_array_equal(folded.scores(users[:20]), model.scores(users[:20]))


def test_newcomers_without_ratings_of_known_items_are_answered_like_unknown_users(build):
    model = SVDpp(n_factors=4).fit(build([(0, 0, 4.0), (1, 1, 2.0)], 2, 3))
    folded = model.fold_in(build([(2, 2, 5.0), (3, 0, None, 0.5)], 4, 3))
    scores = folded.scores(np.array([-1, 2, 3], dtype=np.int32))
    np.testing.assert_array_equal(scores[1:], scores[[0, 0]])
