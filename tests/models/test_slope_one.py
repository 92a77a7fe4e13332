"""Slope One against its definition, pair by pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.core.errors import Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.models.slope_one import APART, SlopeOne


def plain_scores(data):
    """users × items from the definition, with dictionaries."""
    rows = list(zip(data.user_index.tolist(), data.item_index.tolist(), data.rating.tolist(), strict=True))
    of = {u: {i: r for user, i, r in rows if user == u} for u in range(data.n_users)}
    known = {i for _, i, _ in rows}
    scores = np.full((data.n_users, data.n_items), np.mean([r for _, _, r in rows]))
    for u in (u for u in of if of[u]):
        for i in known:
            deviations = []
            for j in of[u]:
                both = [rated[i] - rated[j] for rated in of.values() if i in rated and j in rated]
                deviations += [np.mean(both)] if both else []
            scores[u, i] = np.mean(list(of[u].values())) + (np.mean(deviations) if deviations else 0)
    return scores


def everyone(data):
    return np.arange(data.n_users, dtype=np.int32)


def test_the_example_of_the_paper(build):
    """Lemire and Maclachlan's figure 1: A gave the items 1 and 1.5; B gave the first 2, so the second gets 2.5."""
    model = SlopeOne().fit(build([(0, 0, 1.0), (0, 1, 1.5), (1, 0, 2.0)], 2, 2))
    assert model.scores(np.array([1], dtype=np.int32))[0, 1] == 2.5


def test_scores_are_those_of_the_definition(mixed):
    scores = SlopeOne().fit(mixed).scores(everyone(mixed))
    np.testing.assert_allclose(scores, plain_scores(mixed.rated()), rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3))
def test_scores_and_predictions_are_those_of_the_definition_on_any_data(seed, n_users, n_items, threads):
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(n_users * n_items)[: rng.integers(1, n_users * n_items + 1)]
    data = Interactions(
        n_users, n_items, (pairs // n_items).astype(np.int32), (pairs % n_items).astype(np.int32),
        rng.integers(1, 11, pairs.size).astype(np.float32) / 2, np.full(pairs.size, np.nan, dtype=np.float32),
    )  # fmt: skip
    model, wanted = SlopeOne().fit(data, threads=threads), plain_scores(data)
    np.testing.assert_allclose(model.scores(everyone(data)), wanted, rtol=1e-5, atol=1e-5)
    u, i = np.indices((n_users, n_items), dtype=np.int32).reshape(2, -1)
    clipped = np.clip(wanted, data.rating.min(), data.rating.max())
    np.testing.assert_allclose(model.predict(u, i), clipped.ravel(), rtol=1e-5, atol=1e-5)


def test_deviations_are_antisymmetric_and_zero_from_an_item_to_itself():
    """More items than one block of the mirror holds."""
    rng = np.random.default_rng(3)
    pairs = rng.permutation(20 * 150)[:400]
    data = Interactions(
        20, 150, (pairs // 150).astype(np.int32), (pairs % 150).astype(np.int32),
        rng.integers(1, 6, pairs.size).astype(np.float32), np.full(pairs.size, np.nan, dtype=np.float32),
    )  # fmt: skip
    deviation = SlopeOne().fit(data).state()["deviation"]
    together = data.matrix().T @ data.matrix()
    np.testing.assert_array_equal(deviation != APART, together.toarray() > 0)
    known = np.where(deviation == APART, 0, deviation)
    np.testing.assert_array_equal(known, -known.T)
    assert not known.diagonal().any()


def test_an_item_that_shares_no_user_gets_the_users_mean(build):
    model = SlopeOne().fit(build([(0, 0, 1.0), (0, 1, 2.0), (1, 2, 5.0)], 2, 3))
    assert model.predict(np.zeros(1, np.int32), np.full(1, 2, np.int32))[0] == 1.5


def test_what_is_unknown_gets_the_mean_of_all(build):
    model = SlopeOne().fit(build([(0, 0, 1.0), (0, 1, 2.0), (1, 2, 5.0)], 3, 4))
    u, i = np.array([-1, 2, 0, 0, -1], dtype=np.int32), np.array([0, 0, -1, 3, -1], dtype=np.int32)
    np.testing.assert_allclose(model.predict(u, i), 8 / 3, rtol=1e-6)


def test_a_table_too_large_is_refused_with_its_size(build):
    with pytest.raises(Unsuitable, match=r"100000 × 100000 items, 40 GB; the limit is 4 GB") as caught:
        SlopeOne().fit(build([(0, 0, 1.0)], 1, 100_000))
    assert "memory_limit_gb" in caught.value.remedy
    with pytest.raises(Unsuitable, match=r"0\.4 GB"):
        SlopeOne(memory_limit_gb=0.3).fit(build([(0, 0, 1.0)], 1, 10_000))
