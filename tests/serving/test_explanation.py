"""Reasons, checked by taking the reason away and watching the score."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.models.fold_in import FoldIn, scaled
from matinee.serving.explanation import contributions, reasons

N_ITEMS, N_USERS, K = 60, 200, 8


def taught(seed: int = 0) -> tuple[FoldIn, np.ndarray]:
    """Factors learnt from people of four tastes (the singular vectors of who had what), and who had what."""
    rng = np.random.default_rng(seed)
    taste, kind = np.arange(N_USERS) % 4, np.arange(N_ITEMS) % 4
    had = rng.random((N_USERS, N_ITEMS)) < np.where(taste[:, None] == kind, 0.5, 0.05)
    _, lengths, items = np.linalg.svd(had.astype(np.float64), full_matrices=False)
    factors = (items[:K].T * np.sqrt(lengths[:K])).astype(np.float32)
    return FoldIn(
        item_factors=factors, gram=factors.T.astype(np.float64) @ factors, prior=np.zeros(K, dtype=np.float32),
        alpha=4.0, reg=0.12, mean_total=4.0 * had.sum() / N_USERS, positive_rating=4.0,
    ), had  # fmt: skip


MODEL, HAD = taught()
HISTORIES = st.lists(
    st.tuples(st.integers(-1, N_ITEMS - 1), st.integers(0, 8).map(lambda value: value / 4)),
    max_size=15, unique_by=lambda entry: entry[0],
)  # fmt: skip


def unzipped(history) -> tuple[np.ndarray, np.ndarray]:
    return np.array([i for i, _ in history], dtype=np.int32), np.array([w for _, w in history], dtype=np.float32)


@given(HISTORIES, st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5]))
def test_contributions_sum_to_the_score(history, exponent, epsilon):
    model = replace(MODEL, reg_exponent=exponent, epsilon=epsilon)
    index, weight = unzipped(history)
    added = contributions(model, index, weight, np.arange(N_ITEMS))
    assert added.shape == (N_ITEMS, len(history))
    if ((index >= 0) & (weight > 0)).any():  # else the scores are those of the mean user, which nothing explains
        assert added.sum(axis=1) == pytest.approx(model.scores(index, weight), abs=1e-4)
    assert not added[:, (index < 0) | (weight == 0)].any()


def test_without_the_strongest_reason_the_score_is_lower():
    """For every user whose best unseen item has a reason; with regularisation that follows the history."""
    tried = 0
    for user in range(N_USERS):
        index = np.flatnonzero(HAD[user]).astype(np.int32)
        weight = np.ones(index.size, dtype=np.float32)
        scores = MODEL.scores(index, weight)
        target = int(np.argmax(np.where(HAD[user], -np.inf, scores)))
        (reason,), _ = (found[0] for found in reasons(MODEL, index, weight, np.array([target]), 1))
        if reason < 0 or index.size == 1:
            continue
        left = index != reason
        tried += 1
        assert MODEL.scores(index[left], weight[left])[target] < scores[target]
    assert tried > N_USERS // 2


@given(HISTORIES.filter(lambda history: sum(1 for i, w in history if i >= 0 and w > 0) >= 2))
def test_how_far_the_score_falls_follows_from_the_contribution(history):
    """With λ fixed (ν = 0), by Sherman and Morrison's formula for A less one of its terms.

    Of target j without item i: s_j − s'_j = c_ij (1 − e s_i / (1 + e)) / (1 − e h), where c_ij is the contribution,
    s_i the user's score of i itself and h = y_iᵀ A⁻¹ y_i.
    """
    model = replace(MODEL, reg_exponent=0.0)
    index, weight = unzipped(history)
    used = np.flatnonzero((index >= 0) & (weight > 0))
    added = contributions(model, index, weight, np.arange(N_ITEMS))
    before = added.sum(axis=1)
    place = int(used[np.argmax(weight[used])])
    e = model.alpha * scaled(weight[place : place + 1].astype(np.float64), model.epsilon)[0]
    h = added[index[place], place] / (1 + e)
    left = np.arange(index.size) != place
    fell = before - contributions(model, index[left], weight[left], np.arange(N_ITEMS)).sum(axis=1)
    expected = added[:, place] * (1 - e * before[index[place]] / (1 + e)) / (1 - e * h)
    assert fell == pytest.approx(expected, abs=1e-6)


@given(HISTORIES, st.integers(0, 20), st.lists(st.integers(0, N_ITEMS - 1), max_size=5))
def test_reasons_are_the_strongest_that_speak_for_an_item(history, k, targets):
    index, weight = unzipped(history)
    found, amounts = reasons(MODEL, index, weight, np.array(targets, dtype=np.int32), k)
    added = contributions(MODEL, index, weight, np.array(targets, dtype=np.int32))
    assert found.shape == amounts.shape == (len(targets), k)
    for row, target in enumerate(targets):
        speak = {int(i): c for i, c in zip(index, added[row], strict=True) if c > 0 and i != target}
        strongest = sorted(speak.values(), reverse=True)[:k]
        assert amounts[row].tolist() == [*strongest, *[0.0] * (k - len(strongest))]
        assert [speak.get(i, 0.0) for i in found[row].tolist()] == amounts[row].tolist()
        assert (found[row] >= 0).sum() == len(strongest)


def test_who_liked_a_kind_is_told_so():
    user = 1  # whose taste is items 1, 5, 9, …
    index = np.flatnonzero(HAD[user]).astype(np.int32)
    weight = np.ones(index.size, dtype=np.float32)
    own = np.flatnonzero((np.arange(N_ITEMS) % 4 == 1) & ~HAD[user])
    found, _ = reasons(MODEL, index, weight, own, 1)
    assert (found[:, 0] % 4 == 1).all()
