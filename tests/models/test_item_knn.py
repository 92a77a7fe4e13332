"""ItemKNN against a textbook loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from matinee.models.item_item import ITEMS_AT_ONCE, strongest_products
from matinee.models.item_knn import ItemKNN
from matinee.models.preference import confidence


def dense(data):
    w = np.zeros((data.n_users, data.n_items))
    w[data.user_index, data.item_index] = confidence(data.rating, data.watched)
    return w


def vectors(w, similarity, k1=100.0, b=0.8):
    """Item vectors as columns."""
    n_items = w.shape[1]
    idf = np.log(n_items / (1 + (w > 0).sum(axis=1)))[:, None]
    if similarity == "bm25":
        length = w.sum(axis=0)
        return idf * w * (k1 + 1) / (k1 * (1 - b + b * length / length.mean()) + w)
    a = w if similarity == "cosine" else np.sqrt(w) * idf
    norm = np.sqrt((a**2).sum(axis=0))
    return a / np.where(norm > 0, norm, 1)


def strongest(product, k):
    """Each row's k greatest positive elements off the diagonal; equal ones by column."""
    kept = np.zeros_like(product)
    for i, row in enumerate(product):
        order = [j for j in np.argsort(-row, kind="stable") if j != i and row[j] > 0][:k]
        kept[i, order] = row[order]
    return kept


def weights_of(model):
    state = model.state()
    parts = (state["weights_data"], state["weights_indices"], state["weights_indptr"])
    return sparse.csr_array(parts, shape=(model.n_items, model.n_items)).toarray()


@pytest.mark.parametrize("similarity", ["cosine", "tf-idf", "bm25"])
@pytest.mark.parametrize("k", [3, 1000])
def test_similarities_and_scores_are_those_of_the_formulas(similarity, k, mixed):
    model = ItemKNN(similarity=similarity, k=k).fit(mixed)
    w = dense(mixed)
    a = vectors(w, similarity)
    wanted = strongest(a.T @ a, k)
    np.testing.assert_allclose(weights_of(model), wanted, rtol=1e-4, atol=1e-6)
    known = np.flatnonzero(w.any(axis=1)).astype(np.int32)
    np.testing.assert_allclose(model.scores(known), w[known] @ wanted, rtol=1e-4, atol=1e-5)


def test_items_with_the_same_friends_are_each_others_first_neighbours(build):
    rows = [(0, 0, 4.0), (1, 0, 4.0), (0, 1, 4.0), (1, 1, 4.0), (1, 2, 4.0), (2, 2, 4.0)]
    model = ItemKNN(k=1).fit(build(rows, 3, 3))
    np.testing.assert_allclose(weights_of(model), [[0, 1, 0], [1, 0, 0], [0.5, 0, 0]], rtol=1e-6)


# Quarters: sums and products are exact, so that equal elements are equal.
quarters = st.integers(0, 4).map(lambda n: np.float32(n / 4))


@given(arrays(np.float32, (6, 9), elements=quarters), arrays(np.float32, (6, 9), elements=quarters),
       st.integers(1, 12))  # fmt: skip
def test_the_strongest_products_are_chosen_and_ties_go_by_column(left, right, k):
    ones = np.ones(9, dtype=np.float32)
    found = strongest_products(sparse.csr_array(left.T), sparse.csr_array(right), ones, k, 1, lambda *_: None)
    parts = (found["weights_data"], found["weights_indices"], found["weights_indptr"])
    dense_found = sparse.csr_array(parts, shape=(9, 9)).toarray()
    np.testing.assert_array_equal(dense_found, strongest(left.T @ right, k))


def test_blocks_and_threads_make_no_difference():
    rng = np.random.default_rng(0)
    n_items = 2 * ITEMS_AT_ONCE + 7
    x = sparse.random_array((50, n_items), density=0.05, format="csr", dtype=np.float32, rng=rng)
    scale = rng.random(n_items, dtype=np.float32) + np.float32(0.5)
    steps = []
    one = strongest_products(x.T.tocsr(), x, scale, 5, 1, lambda *step: steps.append(step))
    two = strongest_products(x.T.tocsr(), x, scale, 5, 2, lambda *_: None)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert all(np.array_equal(one[name], two[name]) for name in one)
    parts = (one["weights_data"], one["weights_indices"], one["weights_indptr"])
    wanted = strongest((x.T @ x).toarray() * scale, 5)
    np.testing.assert_allclose(sparse.csr_array(parts, shape=(n_items, n_items)).toarray(), wanted, rtol=1e-5)


def test_a_user_folded_in_is_answered_like_one_of_the_same_likes(mixed, build):
    model = ItemKNN().fit(mixed)
    mine = mixed.take(mixed.user_index == 7)
    columns = (mine.item_index.tolist(), mine.rating.tolist(), mine.watched.tolist())
    grown = model.fold_in(build([(30, i, r, w) for i, r, w in zip(*columns, strict=True)], 31, mixed.n_items))
    scores = grown.scores(np.array([7, 30], np.int32))
    np.testing.assert_array_equal(scores[0], scores[1])
