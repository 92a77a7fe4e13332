"""RP3beta against the walk step by step."""

import numpy as np
import pytest

from matinee.models.preference import confidence
from matinee.models.rp3beta import RP3beta


def walk(data, alpha, beta):
    """s_uj = Σ_i Σ_v p_ui^α p_iv^α p_vj^α / D_j^β over i ≠ j, for every user."""
    w = np.zeros((data.n_users, data.n_items))
    w[data.user_index, data.item_index] = confidence(data.rating, data.watched)
    with np.errstate(invalid="ignore", divide="ignore"):
        out = np.nan_to_num(w / w.sum(axis=1, keepdims=True)) * 1.0
        back = np.nan_to_num(w.T / w.sum(axis=0)[:, None])
        held = np.where(w.any(axis=0), w.sum(axis=0), 1) ** beta
    out, back = np.where(w > 0, out**alpha, 0), np.where(w.T > 0, back**alpha, 0)
    weights = back @ out / held
    np.fill_diagonal(weights, 0)
    return w, out @ weights


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.7, 0.6), (1.5, 1.0), (0.0, 0.3)])
def test_scores_are_those_of_the_walk(alpha, beta, mixed):
    model = RP3beta(alpha=alpha, beta=beta, k=1000).fit(mixed)
    w, wanted = walk(mixed, alpha, beta)
    known = np.flatnonzero(w.any(axis=1)).astype(np.int32)
    np.testing.assert_allclose(model.scores(known), wanted[known], rtol=1e-4, atol=1e-7)


def test_by_hand(build):
    """From item 0, which user 0 likes, half the ways lead to user 1, and half of these on to item 1."""
    data = build([(0, 0, 4.0), (1, 0, 4.0), (1, 1, 4.0)], 2, 2)
    scores = RP3beta(alpha=1.0, beta=0.0).fit(data).scores(np.array([0], np.int32))
    np.testing.assert_allclose(scores, [[0, 0.25]], rtol=1e-6)


def test_beta_holds_back_what_is_popular(build):
    rows = [(0, 0, 4.0), (1, 0, 4.0), (1, 1, 4.0), (1, 2, 4.0)] + [(u, 1, 4.0) for u in range(2, 9)]
    data, user = build(rows, 9, 3), np.array([0], np.int32)
    plain, held = (RP3beta(beta=beta).fit(data).scores(user)[0] for beta in (0.0, 0.5))
    assert plain[1] == plain[2]
    np.testing.assert_allclose(held[2] / held[1], np.sqrt(8), rtol=1e-5)


def test_only_k_items_are_kept_of_each(mixed):
    state = RP3beta(k=4).fit(mixed).state()
    assert np.diff(state["weights_indptr"]).max() == 4


def test_a_user_folded_in_is_answered_like_one_of_the_same_likes(mixed, build):
    model = RP3beta().fit(mixed)
    mine = mixed.take(mixed.user_index == 9)
    columns = (mine.item_index.tolist(), mine.rating.tolist(), mine.watched.tolist())
    grown = model.fold_in(build([(30, i, r, w) for i, r, w in zip(*columns, strict=True)], 31, mixed.n_items))
    scores = grown.scores(np.array([9, 30], np.int32))
    np.testing.assert_array_equal(scores[0], scores[1])
