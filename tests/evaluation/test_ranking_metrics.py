"""Ranking metrics: closed forms, bounds, and the formulas written out for one user at a time."""

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.evaluation.ranking_metrics import METRICS, coverage


def plain(hits, n_relevant):
    """Every metric of one user, from its definition."""
    k, ideal = len(hits), min(len(hits), n_relevant)
    return {
        "precision": sum(hits) / k,
        "recall": sum(hits) / n_relevant,
        "hit_rate": float(any(hits)),
        "ndcg": sum(1 / log2(r + 1) for r, hit in enumerate(hits, 1) if hit)
        / sum(1 / log2(r + 1) for r in range(1, ideal + 1)),
        "map": sum(sum(hits[:r]) / r for r, hit in enumerate(hits, 1) if hit) / ideal,
    }


@st.composite
def lists(draw):
    k = draw(st.integers(1, 12))
    rows = draw(st.lists(st.lists(st.booleans(), min_size=k, max_size=k), min_size=1, max_size=6))
    more = draw(st.lists(st.integers(0, 15), min_size=len(rows), max_size=len(rows)))
    return np.array(rows), np.array([max(1, sum(row) + extra) for row, extra in zip(rows, more, strict=True)])


@given(lists())
def test_equal_to_the_definitions(data):
    hits, n_relevant = data
    for name, metric in METRICS.items():
        wanted = [plain(row.tolist(), int(n))[name] for row, n in zip(hits, n_relevant, strict=True)]
        np.testing.assert_allclose(metric(hits, n_relevant), wanted, rtol=1e-12)


@given(lists())
def test_bounds(data):
    for metric in METRICS.values():
        values = metric(*data)
        assert values.dtype == np.float64
        assert ((values >= 0) & (values <= 1)).all()


@given(lists(), st.randoms(use_true_random=False))
def test_what_counts_a_set_ignores_its_order(data, random):
    hits, n_relevant = data
    order = list(range(hits.shape[1]))
    random.shuffle(order)
    for name in ("precision", "recall", "hit_rate"):
        np.testing.assert_array_equal(METRICS[name](hits[:, order], n_relevant), METRICS[name](hits, n_relevant))


@given(lists())
def test_what_values_ranks_is_best_with_hits_first(data):
    hits, n_relevant = data
    first = -np.sort(-hits.astype(int), axis=1) > 0
    for name in ("ndcg", "map"):
        assert (METRICS[name](first, n_relevant) >= METRICS[name](hits, n_relevant)).all()


@given(lists(), st.randoms(use_true_random=False))
def test_users_are_independent(data, random):
    hits, n_relevant = data
    order = list(range(len(hits)))
    random.shuffle(order)
    for metric in METRICS.values():
        np.testing.assert_array_equal(metric(hits[order], n_relevant[order]), metric(hits, n_relevant)[order])


@pytest.mark.parametrize("rank", range(1, 11))
def test_one_relevant_item_at_a_rank(rank):
    hits = np.arange(1, 11)[None] == rank
    one = np.array([1])
    assert METRICS["ndcg"](hits, one)[0] == pytest.approx(1 / log2(rank + 1))
    assert METRICS["map"](hits, one)[0] == pytest.approx(1 / rank)
    assert METRICS["precision"](hits, one)[0] == pytest.approx(0.1)
    assert METRICS["recall"](hits, one)[0] == 1
    assert METRICS["hit_rate"](hits, one)[0] == 1


@pytest.mark.parametrize("n_relevant", [1, 3, 5, 50])
def test_a_perfect_list_reaches_one_where_the_metric_allows(n_relevant):
    hits = (np.arange(5) < n_relevant)[None]
    for name in ("ndcg", "map", "hit_rate"):
        assert METRICS[name](hits, np.array([n_relevant]))[0] == 1
    assert METRICS["precision"](hits, np.array([n_relevant]))[0] == min(1, n_relevant / 5)
    assert METRICS["recall"](hits, np.array([n_relevant]))[0] == min(1, 5 / n_relevant)


def test_coverage_counts_distinct_items_and_no_empty_places():
    assert coverage(np.array([[0, 1], [1, -1]], np.int32), 8) == 0.25
    assert coverage(np.full((2, 2), -1, np.int32), 8) == 0
    assert coverage(np.empty((0, 2), np.int32), 0) == 0
