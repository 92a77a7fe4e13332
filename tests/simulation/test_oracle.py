"""The truth must be true: against every list there is, and against chance itself."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.simulation.behaviour import choose
from matinee.simulation.oracle import best_value, list_value

SHARES = st.floats(0, 1, width=32)
GAINS = st.floats(-1, 1, width=32)


def row(values):
    return np.array([values], dtype=np.float32)


@given(st.lists(st.tuples(SHARES, GAINS), min_size=1, max_size=5), st.integers(1, 4))
def test_the_best_list_is_the_best_of_all_lists(movies, length):
    a, d = zip(*movies, strict=True)
    every = [
        float(list_value(row([a[i] for i in chosen]), row([d[i] for i in chosen]))[0])
        for places in range(1, min(length, len(movies)) + 1)
        for chosen in permutations(range(len(movies)), places)
    ]
    assert best_value(row(a), row(d), length)[0] == pytest.approx(max(0.0, *every), abs=1e-6)


def test_sessions_are_worked_out_together_as_one_by_one():
    random = np.random.default_rng(1)
    a, d = random.random((7, 30), dtype=np.float32), random.uniform(-1, 1, (7, 30)).astype(np.float32)
    alone = [best_value(a[r : r + 1], d[r : r + 1], 5)[0] for r in range(7)]
    assert np.allclose(best_value(a, d, 5), alone)


def test_the_value_of_a_list_is_what_choosing_from_it_gives_on_average():
    a, d = row([0.3, 0.0, 0.8, 0.5]), row([0.2, 0.9, -0.1, 0.6])
    n = 200_000
    places = choose(np.random.default_rng(2), np.repeat(a, n, axis=0))
    gained = np.where(places >= 0, d[0][places], 0)
    assert gained.mean() == pytest.approx(list_value(a, d)[0], abs=5 * gained.std() / np.sqrt(n))
    assert not (places == 1).any()  # nobody chooses what attracts nobody


def test_two_places_by_hand():
    # The second place is looked at with probability 0.88 once the first was not chosen.
    assert list_value(row([0.5, 1.0]), row([0.4, 0.2]))[0] == pytest.approx(0.5 * 0.4 + 0.88 * 0.5 * 0.2)
