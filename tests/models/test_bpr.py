"""BPR against a textbook loop, and its random numbers against their source."""

import numpy as np
import pytest

from matinee.core.errors import ConfigurationError
from matinee.models import bpr
from matinee.models.base import WarmStart
from matinee.models.bpr import BPR, BPRParams
from matinee.models.item_item import positives

MASK = 2**64 - 1


class SplitMix:
    """The published generator, on Python's integers."""

    def __init__(self, state):
        self.state = int(state)

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, n):
        return ((self.next() >> 32) * n) >> 32


def test_the_generator_is_splitmix64():
    """The first three numbers from a state of 1234567, as published with the algorithm."""
    numbers = SplitMix(1234567)
    assert [numbers.next() for _ in range(3)] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423]  # fmt: skip


def textbook(data, params, seed):
    """All samples one by one, in float64."""
    rng = np.random.default_rng(seed)
    liked = positives(data, params.positive_rating)
    x, y = (rng.standard_normal((n, params.n_factors), dtype=np.float32).astype(float) * params.init_std_dev
            for n in liked.shape)  # fmt: skip
    b = np.zeros(data.n_items)
    numbers = SplitMix(rng.integers(2**64, size=(1, 1), dtype=np.uint64)[0, 0])
    user = np.repeat(np.arange(data.n_users), np.diff(liked.indptr))
    some = np.unique(liked.indices)
    for _ in range(params.n_epochs * liked.nnz):
        at = numbers.below(liked.nnz)
        u, i = user[at], liked.indices[at]
        own = set(liked[[u]].indices.tolist())
        tries, j = 1, some[numbers.below(some.size)]
        while j in own and tries < bpr.TRIES:
            tries, j = tries + 1, some[numbers.below(some.size)]
        if j in own:
            continue
        g = 1 / (1 + np.exp(b[i] - b[j] + x[u] @ (y[i] - y[j])))
        step_u, step_i, step_j = g * (y[i] - y[j]) - params.reg * x[u], g * x[u], -g * x[u]
        y[i] += params.lr * (step_i - params.reg * y[i])
        y[j] += params.lr * (step_j - params.reg * y[j])
        x[u] += params.lr * step_u
        b[i] += params.lr * (g - params.reg * b[i])
        b[j] += params.lr * (-g - params.reg * b[j])
    return x, y, b


def test_each_sample_steps_as_in_the_textbook(mixed):
    params = BPRParams(n_factors=5, n_epochs=3)
    state = BPR(params).fit(mixed, seed=4).state()
    x, y, b = textbook(mixed, params, 4)
    liked = positives(mixed, 4.0)
    users, items = np.diff(liked.indptr) > 0, np.unique(liked.indices)
    np.testing.assert_allclose(state["user_factors"][users], x[users], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(state["item_factors"][items], y[items], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(state["item_bias"][items], b[items], rtol=1e-3, atol=1e-5)
    assert state["least_bias"] == state["item_bias"][items].min()


def test_a_user_who_likes_everything_teaches_nothing(build):
    data = build([(0, 0, 5.0), (0, 1, 5.0)], 1, 2)
    once, often = (BPR(n_factors=3, n_epochs=n).fit(data).state() for n in (0, 20))
    assert all(np.array_equal(once[name], often[name]) for name in once)


def test_all_threads_together_find_the_withheld_part(planted, planted_answer):
    model = BPR(n_factors=8, n_epochs=100).fit(planted, threads=3)
    users = np.arange(planted.n_users, dtype=np.int32)
    items, _ = model.recommend(users, 1, planted.matrix())
    assert (items[:, 0] == planted_answer).mean() > 0.9


def test_a_warm_start_goes_on_where_the_earlier_fit_stood(planted):
    first = BPR(n_factors=8, n_epochs=60).fit(planted)
    rows = (np.arange(n, dtype=np.int32) for n in (planted.n_users, planted.n_items))
    again = BPR(n_factors=8, n_epochs=0).fit(planted, start=WarmStart(first.state(), *rows))
    for name, array in first.state().items():
        np.testing.assert_array_equal(again.state()[name], array)


def test_items_that_nobody_likes_come_last(mixed):
    model = BPR(n_factors=4, n_epochs=5).fit(mixed)
    liked = np.unique(positives(mixed, 4.0).indices)
    strange = model.scores(np.array([5], np.int32))[0][np.setdiff1d(np.arange(mixed.n_items), liked)]
    assert (strange == model.state()["least_bias"]).all()


def test_a_fit_that_diverges_says_what_to_change(mixed):
    with pytest.raises(ConfigurationError, match="BPR") as caught:
        BPR(n_factors=4, lr=1e4, reg=1.0).fit(mixed)
    assert "lr" in caught.value.remedy
