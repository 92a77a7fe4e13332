"""Similarities against their definitions, pair by pair."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.models.similarities import both_sides, measure, similarity_row, similarity_rows
from models.conftest import make_interactions

NAMES = ("cosine", "msd", "pearson", "pearson_baseline")


def plain_similarity(name, a, b, min_support=1, shrinkage=0.0):
    """Of two users' ratings, dictionaries by item."""
    r, s = (np.array([ratings[i] for i in sorted(a.keys() & b.keys())], dtype=float) for ratings in (a, b))
    n = r.size
    if n < max(min_support, 2 if name == "pearson_baseline" else 1):
        return 0.0
    if name == "msd":
        return 1 / (((r - s) ** 2).mean() + 1)
    if name == "pearson":
        if np.ptp(r) == 0 or np.ptp(s) == 0:
            return 0.0
        return np.corrcoef(r, s)[0, 1]
    below = np.sqrt((r**2).sum() * (s**2).sum())
    shrunk = (n - 1) / (n - 1 + shrinkage) if name == "pearson_baseline" and n > 1 else 1
    return (r * s).sum() / below * shrunk if below else 0.0


def all_similarities(data, name, min_support=1, shrinkage=0.0, user_based=True):
    n = data.n_users if user_based else data.n_items
    rows = np.full((n, n), np.nan, dtype=np.float32)
    ratings = both_sides(data, data.rating, user_based)
    similarity_rows(0, n, ratings, measure(name, min_support, shrinkage), rows)
    return rows


def of_each(index, other, rating, n):
    lists = [{} for _ in range(n)]
    for x, y, r in zip(index.tolist(), other.tolist(), rating.tolist(), strict=True):
        lists[x][y] = r
    return lists


rated = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 5), st.sampled_from([0.0, 0.5, 1.0, 2.5, 3.7, 5.0])),
    min_size=1, max_size=42, unique_by=lambda row: row[:2],
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(rows=rated, name=st.sampled_from(NAMES), min_support=st.integers(1, 3), user_based=st.booleans())
def test_every_pair_is_as_alike_as_defined(rows, name, min_support, user_based):
    data = make_interactions(rows, 7, 6)
    x, y, n = (data.user_index, data.item_index, 7) if user_based else (data.item_index, data.user_index, 6)
    lists = of_each(x, y, data.rating, n)
    wanted = [[plain_similarity(name, a, b, min_support, 7.0) for b in lists] for a in lists]
    np.fill_diagonal(wanted := np.array(wanted), 1)
    found = all_similarities(data, name, min_support, 7.0, user_based)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_similarities_are_symmetric(name, mixed):
    found = all_similarities(mixed.rated(), name)
    np.testing.assert_array_equal(found, found.T)


def test_msd_by_hand(build):
    """Common ratings (5, 3) and (1, 1): mean of 4 and 0 is 2, so 1/3; nothing in common is 0."""
    data = build([(0, 0, 5.0), (0, 1, 1.0), (1, 0, 3.0), (1, 1, 1.0), (1, 2, 4.0), (2, 3, 4.0)], 3, 4)
    third = np.float32(Fraction(1, 3))
    np.testing.assert_array_equal(all_similarities(data, "msd"), [[1, third, 0], [third, 1, 0], [0, 0, 1]])


def test_pearson_of_opposites_is_minus_one_and_of_one_common_rating_nothing(build):
    data = build([(0, 0, 1.0), (0, 1, 5.0), (1, 0, 5.0), (1, 1, 1.0), (2, 0, 4.0)], 3, 2)
    np.testing.assert_array_equal(all_similarities(data, "pearson"), [[1, -1, 0], [-1, 1, 0], [0, 0, 1]])


def test_ratings_that_are_all_equal_correlate_with_none(build):
    """3.7 is no binary fraction: rounding must not pass for variance."""
    data = build([(u, i, 3.7 if u else float(i)) for u in range(2) for i in range(7)], 2, 7)
    np.testing.assert_array_equal(all_similarities(data, "pearson"), np.eye(2))


def test_shrinkage_counts_the_common_ratings(build):
    """Same ratings of 3 items: 2 / (2 + 100)."""
    data = build([(u, i, 1.0 + i) for u in range(2) for i in range(3)], 2, 3)
    assert all_similarities(data, "pearson_baseline", 1, 100.0)[0, 1] == np.float32(2 / 102)


def test_a_row_is_that_of_all_rows(mixed):
    data = mixed.rated()
    ratings, how = both_sides(data, data.rating, True), measure("pearson", 1, 100)
    row = np.empty(data.n_users, dtype=np.float32)
    similarity_row(11, ratings, how, np.empty((data.n_users, how.sums)), row)
    np.testing.assert_array_equal(row, all_similarities(data, "pearson")[11])


def test_both_sides_keep_the_order_of_the_interactions(build):
    data = build([(1, 2, 5.0), (0, 2, 4.0), (1, 0, 3.0)], 2, 3)
    ratings = both_sides(data, data.rating, True)
    assert [part.tolist() for part in ratings] == [
        [0, 1, 3], [2, 2, 0], [4.0, 5.0, 3.0], [0, 1, 1, 3], [1, 1, 0], [3.0, 5.0, 4.0],
    ]  # fmt: skip
