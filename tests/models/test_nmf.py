"""NMF against the textbook's loop, rating by rating."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.core.errors import ConfigurationError
from matinee.dataset.interactions import Interactions
from matinee.models.base import WarmStart
from matinee.models.nmf import NMF, NMFParams


def plain_epoch(data, params, state):
    """One epoch in float64; returns the new (p, q, bu, bi)."""
    p, q, bu, bi = (
        state[name].astype(float) for name in ("user_factors", "item_factors", "user_bias", "item_bias")
    )
    mean = data.rating.mean(dtype=np.float64) if params.biased else 0
    above_p, below_p, above_q, below_q = np.zeros_like(p), np.zeros_like(p), np.zeros_like(q), np.zeros_like(q)
    order = np.lexsort((data.item_index, data.user_index))
    for u, i, r in zip(data.user_index[order], data.item_index[order], data.rating[order], strict=True):
        estimate = mean + bu[u] + bi[i] + p[u] @ q[i]
        if params.biased:
            error = r - estimate
            bu[u] += params.lr_bu * (error - params.reg_bu * bu[u])
            bi[i] += params.lr_bi * (error - params.reg_bi * bi[i])
        above_p[u] += q[i] * r
        below_p[u] += q[i] * estimate + params.reg_pu * p[u]
        above_q[i] += p[u] * r
        below_q[i] += p[u] * estimate + params.reg_qi * q[i]
    new_p = p * np.divide(above_p, below_p, out=np.ones_like(p), where=below_p > 0)
    new_q = q * np.divide(above_q, below_q, out=np.ones_like(q), where=below_q > 0)
    return new_p, new_q, bu, bi


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("n_factors", [1, 5, 8, 15, 17])
def test_epochs_are_those_of_the_formula(n_factors, biased, mixed):
    """Any number of factors, though the compiled steps take eight at a time."""
    params = {"n_factors": n_factors, "biased": biased, "lr_bu": 0.02, "reg_bi": 0.1}
    state = NMF(**params, n_epochs=0).fit(mixed, seed=4).state()
    names = ("user_factors", "item_factors", "user_bias", "item_bias")
    for _ in range(3):
        state = dict(zip(names, plain_epoch(mixed.rated(), NMFParams(**params), state), strict=True))
    found = NMF(**params, n_epochs=3).fit(mixed, seed=4).state()
    for name in names:
        np.testing.assert_allclose(found[name], state[name], rtol=1e-4, atol=1e-6)


def test_one_rating_without_regularisation_is_met_in_one_step_of_one_side(build):
    """p ← p · q r / (q p q) = r / q and q ← r / p at once: the product is r² / (p q) of before."""
    data = build([(0, 0, 4.0), (1, 1, 1.0)], 2, 2)
    before = NMF(n_factors=1, n_epochs=0, reg_pu=0, reg_qi=0).fit(data, seed=1).state()
    after = NMF(n_factors=1, n_epochs=1, reg_pu=0, reg_qi=0).fit(data, seed=1).state()
    product = before["user_factors"][:, 0] * before["item_factors"][:, 0]
    np.testing.assert_allclose(after["user_factors"][:, 0] * after["item_factors"][:, 0], [16, 1] / product, 1e-5)


def test_factors_start_uniform_between_their_bounds(mixed):
    state = NMF(n_factors=40, n_epochs=0, init_low=0.5, init_high=0.75).fit(mixed).state()
    drawn = state["user_factors"][state["user_known"]]
    assert 0.5 <= drawn.min() < 0.51
    assert 0.74 < drawn.max() <= 0.75
    assert not state["user_factors"][~state["user_known"]].any()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_factors_are_never_negative_and_repeat_on_any_threads(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n_users, n_items = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    pairs = rng.permutation(n_users * n_items)[: data.draw(st.integers(1, n_users * n_items))]
    rating = rng.integers(1, 11, pairs.size).astype(np.float32) / 2
    rows = Interactions(
        n_users, n_items, (pairs // n_items).astype(np.int32), (pairs % n_items).astype(np.int32), rating,
        np.full(pairs.size, np.nan, dtype=np.float32),
    )  # fmt: skip
    params = {"n_epochs": 10, "biased": data.draw(st.booleans())}
    one, many = (NMF(**params).fit(rows, seed=7, threads=threads).state() for threads in (1, 3))
    assert all(np.array_equal(one[name], many[name]) for name in one)
    assert (one["user_factors"] >= 0).all()
    assert (one["item_factors"] >= 0).all()


def test_users_and_items_new_since_a_warm_start_learn_too(build):
    """An earlier fit holds zeros for them, which products never leave."""
    early = build([(0, 0, 4.0), (0, 1, 2.0)], 2, 3)
    late = build([(0, 0, 4.0), (0, 1, 2.0), (1, 2, 5.0), (1, 0, 3.0)], 2, 3)
    start = WarmStart(NMF().fit(early).state(), np.arange(2, dtype=np.int32), np.arange(3, dtype=np.int32))
    model = NMF().fit(late, start=start)
    np.testing.assert_allclose(model.predict(late.user_index, late.item_index), late.rating, atol=0.3)


@pytest.mark.parametrize("biased", [False, True])
def test_what_is_unknown_takes_no_part(biased, mixed):
    model = NMF(biased=biased).fit(mixed)
    state = model.state()
    users, items = np.array([-1, 0, 9, -1], dtype=np.int32), np.array([-1, 9, 0, 9], dtype=np.int32)
    wanted = np.full(4, state["mean"][0])
    if biased:
        wanted += [0, state["item_bias"][9], state["user_bias"][9], state["item_bias"][9]]
    np.testing.assert_allclose(model.predict(users, items), wanted, rtol=1e-6)


def test_bounds_in_the_wrong_order_are_refused(planted):
    with pytest.raises(ConfigurationError, match="init_high") as caught:
        NMF(init_low=2).fit(planted)
    assert caught.value.remedy
    with pytest.raises(ConfigurationError, match="init_low"):
        NMF(init_low=-1)


def test_a_fit_that_diverges_is_refused(planted):
    with pytest.raises(ConfigurationError, match="diverged"):
        NMF(biased=True, lr_bu=100, lr_bi=100).fit(planted)


def test_defaults_are_surprises():
    assert NMFParams().model_dump() == {
        "n_factors": 15, "n_epochs": 50, "biased": False, "reg_pu": 0.06, "reg_qi": 0.06, "reg_bu": 0.02,
        "reg_bi": 0.02, "lr_bu": 0.005, "lr_bi": 0.005, "init_low": 0, "init_high": 1,
    }  # fmt: skip
