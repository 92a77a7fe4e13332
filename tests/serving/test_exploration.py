"""Propensities against the share of simulated lists in which an item stands at a slot."""

from collections import Counter, defaultdict
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.serving.exploration import UNCERTAIN_BELOW, explored, uncertain

LISTS = 4_000
BEYOND_CHANCE = 5.0
"""Standard errors: at some hundred comparisons one beyond this comes by chance once in ten thousand runs."""


@pytest.mark.parametrize(
    ("ranked", "candidates", "n", "share"),
    [
        (10, 6, 5, 0.4),  # two slots of five
        (10, 6, 5, 0.3),  # one slot, or two, with equal chances
        (10, 2, 5, 0.9),  # more slots to explore than there are candidates
        (2, 6, 5, 0.1),  # a ranking too short for the list
        (2, 2, 5, 0.5),  # everything there is
        (10, 6, 5, 1.0),
        (0, 6, 3, 0.2),
    ],
)
def test_a_propensity_is_the_share_of_lists_that_show_the_item_there(ranked, candidates, n, share):
    index = np.arange(ranked, dtype=np.int32)
    pool = np.arange(100, 100 + candidates)
    rng = np.random.default_rng(7)
    shown: Counter[tuple[int, int]] = Counter()
    told: dict[tuple[int, int], set[float]] = defaultdict(set)
    for _ in range(LISTS):
        items, propensities = explored(index, pool, n, share, rng)
        for slot, (item, propensity) in enumerate(zip(items.tolist(), propensities.tolist(), strict=True)):
            shown[slot, item] += 1
            told[slot, item].add(round(propensity, 12))
    slots = min(n, ranked + candidates)
    assert sum(shown.values()) == LISTS * slots
    by_slot = Counter[int]()
    for (slot, item), propensities in told.items():
        (p,) = propensities  # it depends on the item and the slot alone, not on what else was drawn
        assert 0 < p <= 1
        by_slot[slot] += p
        assert abs(shown[slot, item] / LISTS - p) <= BEYOND_CHANCE * sqrt(p * (1 - p) / LISTS) + 1e-9
    # Something stands at every slot, so the propensities of all that can stand there sum to 1.
    assert by_slot == pytest.approx(dict.fromkeys(range(slots), 1.0), abs=0.02)


@pytest.mark.parametrize("share", [0.05, 0.13, 0.5])
def test_the_share_of_slots_is_met_on_average(share):
    rng = np.random.default_rng(3)
    counts = [(explored(np.arange(40), np.arange(100, 160), 20, share, rng)[0] >= 100).sum() for _ in range(LISTS)]
    assert {int(20 * share), int(np.ceil(20 * share))} >= set(counts)  # never more than one slot off
    assert np.mean(counts) / 20 == pytest.approx(share, abs=BEYOND_CHANCE * 0.5 / 20 / sqrt(LISTS))


@given(
    ranked=st.integers(0, 12), candidates=st.integers(0, 12), shared=st.integers(0, 5), n=st.integers(-1, 15),
    share=st.floats(-0.5, 1.5), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_a_list_is_whole_distinct_and_in_the_rankings_order(ranked, candidates, shared, n, share, seed):
    index = np.arange(ranked, dtype=np.int32)
    pool = np.arange(max(ranked - shared, 0), max(ranked - shared, 0) + candidates)  # some are ranked already
    items, propensities = explored(index, pool, n, share, np.random.default_rng(seed))
    kept = [item for item in items.tolist() if item in index[: max(n, 0)]]
    assert kept == list(range(len(kept)))
    assert len(set(items.tolist())) == len(items) == len(propensities)
    assert set(items.tolist()) <= {*index.tolist(), *pool.tolist()}
    assert ((propensities > 0) & (propensities <= 1 + 1e-12)).all()
    whole = len({*index[: max(n, 0)].tolist(), *pool.tolist()}) if share > 0 else ranked
    assert len(items) == max(min(n, whole), 0)
    again, _ = explored(index, pool, n, share, np.random.default_rng(seed))
    assert again.tolist() == items.tolist()


@pytest.mark.parametrize(("share", "candidates"), [(0.0, np.arange(50, 60)), (0.5, np.arange(0))])
def test_without_exploration_the_ranking_is_shown_for_certain(share, candidates):
    items, propensities = explored(np.array([4, 2, 9]), candidates, 2, share, np.random.default_rng(0))
    assert (items.tolist(), propensities.tolist()) == ([4, 2], [1.0, 1.0])


def test_uncertain_is_what_few_have_met_or_nobody():
    interactions = np.array([0, 1, UNCERTAIN_BELOW - 1, UNCERTAIN_BELOW, 9_999], dtype=np.int32)
    assert uncertain(interactions, np.ones(5, dtype=np.bool_)).tolist() == [0, 1, 2]
    assert uncertain(interactions, np.array([False, True, False, True, True])).tolist() == [1]


def test_where_nothing_was_counted_nothing_is_explored():
    assert uncertain(np.zeros(5, dtype=np.int32), np.ones(5, dtype=np.bool_)).tolist() == []
