"""Novelty, diversity, personalisation and exposure: closed forms, and the definitions written out pair by pair."""

from itertools import combinations
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.evaluation import beyond_accuracy as module
from matinee.evaluation.beyond_accuracy import diversity, exposure, gini, item_users, novelty, personalisation

N_ITEMS = 8


def train(pairs, n_users=10) -> Interactions:
    users, items = (
        np.array(column, dtype=np.int32) for column in (zip(*pairs, strict=True) if pairs else ([], []))
    )
    return Interactions(n_users, N_ITEMS, users, items, np.full(len(pairs), 3, np.float32),
                        np.full(len(pairs), np.nan, np.float32))  # fmt: skip


@st.composite
def lists(draw, least_users=1):
    """Lists of distinct items, some of which end early."""
    k = draw(st.integers(1, 6))
    rows = draw(
        st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=k, unique=True), min_size=least_users, max_size=7)
    )
    return np.array([row + [-1] * (k - len(row)) for row in rows], dtype=np.int32)


def test_novelty_is_one_bit_more_for_half_as_many_users():
    # 8 users; item 0 has them all, item 1 four, item 2 two, item 3 one, item 4 none
    data = train([(u, i) for i in range(4) for u in range(8 >> i)])
    items = np.array([[0, 1, 2], [3, -1, -1], [4, 0, -1], [-1, -1, -1]], np.int32)
    np.testing.assert_array_equal(novelty(items, data), [1, 3, 1.5, np.nan])


@given(lists(), st.sets(st.tuples(st.integers(0, 9), st.integers(0, N_ITEMS - 1)), min_size=1))
def test_novelty_is_as_defined(items, pairs):
    n = len({u for u, _ in pairs})
    have = [max(1, sum(i == item for _, i in pairs)) for item in range(N_ITEMS)]
    wanted = [
        np.mean([-log2(have[i] / n) for i in row if i >= 0]) if max(row) >= 0 else np.nan for row in items.tolist()
    ]
    np.testing.assert_allclose(novelty(items, train(sorted(pairs))), wanted, atol=1e-12)


def test_diversity_of_genres():
    genres = np.array([[1, 0, 0], [2, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], np.float32)
    items = np.array([[0, 1, -1], [0, 2, -1], [0, 3, -1], [0, 1, 2], [0, 4, -1], [0, -1, -1]], np.int32)
    wanted = [0, 1, 1 - 1 / np.sqrt(2), 2 / 3, 1, np.nan]
    np.testing.assert_allclose(diversity(items, genres), wanted, atol=1e-12)
    np.testing.assert_allclose(diversity(items, sparse.csr_array(genres)), wanted, atol=1e-12)


@given(lists(), st.integers(0, 99), st.booleans())
def test_diversity_is_as_defined(items, seed, narrow):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(N_ITEMS, 5)) * (rng.random((N_ITEMS, 5)) < 0.6)
    length = np.sqrt((vectors**2).sum(axis=1))
    unit = vectors / np.where(length > 0, length, 1)[:, None]
    wanted = []
    for row in items:
        pairs = list(combinations(row[row >= 0], 2))
        wanted.append(1 - np.mean([unit[i] @ unit[j] for i, j in pairs]) if pairs else np.nan)
    with pytest.MonkeyPatch.context() as patch:
        if narrow:
            patch.setattr(module, "ENTRIES_AT_ONCE", 1)  # a list at a time
        np.testing.assert_allclose(diversity(items, vectors), wanted, atol=1e-12)


def test_co_interaction_is_the_cosine_of_the_sets_of_users():
    # item 0 had by users 0 to 3, item 1 by 2 to 5, item 2 by 9
    data = train([(u, 0) for u in range(4)] + [(u, 1) for u in range(2, 6)] + [(9, 2)])
    items = np.array([[0, 1], [0, 2], [0, 7]], np.int32)
    np.testing.assert_allclose(diversity(items, item_users(data)), [0.5, 1, 1])


@given(lists(least_users=2))
def test_personalisation_is_as_defined(items):
    k = items.shape[1]
    shares = [len(set(a[a >= 0]) & set(b[b >= 0])) / k for a, b in combinations(items, 2)]
    assert personalisation(items, N_ITEMS) == pytest.approx(1 - np.mean(shares))


def test_personalisation_of_the_same_and_of_disjoint_lists():
    assert personalisation(np.array([[0, 1], [1, 0], [0, 1]], np.int32), N_ITEMS) == 0
    assert personalisation(np.array([[0, 1], [2, 3], [4, -1]], np.int32), N_ITEMS) == 1
    assert personalisation(np.array([[0, 1], [1, 2]], np.int32), N_ITEMS) == 0.5


def test_exposure_counts_lists_and_no_empty_places():
    items = np.array([[0, 1], [1, -1]], np.int32)
    assert exposure(items, 4).tolist() == [1, 2, 0, 0]


def test_gini_closed_forms():
    assert gini(np.full(7, 3)) == 0
    assert gini(np.array([0, 0, 0, 9])) == 0.75  # 1 − 1/n
    assert gini(np.array([1, 3])) == pytest.approx(0.25)
    assert gini(np.arange(1, 101)) == pytest.approx(99 / 300)  # of 1 … n: (n − 1) / (3 n)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any))
def test_gini_is_half_the_relative_mean_difference(counts):
    n, total = len(counts), sum(counts)
    wanted = sum(abs(a - b) for a in counts for b in counts) / (2 * n * total)
    assert gini(np.array(counts)) == pytest.approx(wanted, abs=1e-12)
    assert gini(7.5 * np.array(counts)) == pytest.approx(wanted, abs=1e-12)


def test_what_cannot_be_is_refused():
    items = np.array([[0, N_ITEMS]], np.int32)
    with pytest.raises(InvalidInput, match="0 to 8; expected -1 to 7"):
        novelty(items, train([(0, 0)]))
    with pytest.raises(InvalidInput, match="expected -1 to 7"):
        personalisation(items, N_ITEMS)
    with pytest.raises(InvalidInput, match="shape"):
        exposure(items[0], N_ITEMS)
    with pytest.raises(InvalidInput, match="not finite"):
        diversity(items[:, :1], np.array([[np.nan]]))
    with pytest.raises(Unsuitable):
        novelty(items[:, :1], train([]))
    with pytest.raises(Unsuitable, match="1 lists"):
        personalisation(items[:, :1], N_ITEMS)
    with pytest.raises(InvalidInput, match="0 or more"):
        gini(np.array([1, -1]))
    with pytest.raises(Unsuitable):
        gini(np.zeros(3))
