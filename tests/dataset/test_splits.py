from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.dataset.splits import k_folds, last_split, leave_last_out, random_split, split, time_split


def build(pairs, times):
    n = len(pairs)
    users, items = zip(*pairs, strict=True) if pairs else ((), ())
    return Interactions(
        n_users=6,
        n_items=6,
        user_index=np.array(users, dtype=np.int32),
        item_index=np.array(items, dtype=np.int32),
        rating=np.arange(n, dtype=np.float32),
        watched=np.full(n, np.nan, dtype=np.float32),
        time_us=None if times is None else np.array(times, dtype=np.int64),
    )


@st.composite
def interactions(draw):
    pairs = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), unique=True, min_size=2, max_size=30))
    times = draw(st.lists(st.integers(0, 9), min_size=len(pairs), max_size=len(pairs)))
    return build(pairs, times)


fractions = st.floats(0.05, 0.95)


def split_or_skip(data, kind, fraction, seed=0):
    try:
        return split(data, kind, fraction, seed)
    except Unsuitable:
        assume(False)


@given(interactions(), st.sampled_from(["random", "time", "last"]), fractions, st.integers(0, 9))
def test_the_parts_make_up_the_whole_in_its_order_and_share_its_indices(data, kind, fraction, seed):
    train, test = split_or_skip(data, kind, fraction, seed)
    assert len(train)
    assert len(test)
    for part in (train, test):
        assert (part.n_users, part.n_items) == (data.n_users, data.n_items)
        assert (np.diff(part.rating) > 0).all()  # ratings are row numbers here
    assert sorted([*train.rating, *test.rating]) == list(range(len(data)))


@given(interactions(), st.sampled_from(["random", "time", "last"]), fractions, st.integers(0, 9))
def test_the_same_seed_gives_the_same_split(data, kind, fraction, seed):
    _, first = split_or_skip(data, kind, fraction, seed)
    _, second = split_or_skip(data, kind, fraction, seed)
    assert first.rating.tolist() == second.rating.tolist()


@given(interactions(), fractions)
def test_a_split_by_time_learns_nothing_from_the_future(data, fraction):
    train, test = split_or_skip(data, "time", fraction)
    assert train.time_us.max() < test.time_us.min()


@given(st.integers(2, 30), fractions)
def test_a_split_by_time_of_distinct_moments_holds_out_the_fraction(n, fraction):
    data = build([(row // 6, row % 6) for row in range(n)], range(n))
    size = min(n - 1, max(1, round(n * fraction)))
    assert time_split(data, fraction)[1].rating.tolist() == list(range(n - size, n))


@given(interactions(), fractions)
def test_the_last_of_each_user_is_held_out_and_never_all(data, fraction):
    train, test = split_or_skip(data, "last", fraction)
    whole, held = Counter(data.user_index.tolist()), Counter(test.user_index.tolist())
    for user, rows in whole.items():
        assert held[user] == min(rows - 1, max(1, int(rows * fraction + 0.5)))
        learnt, kept = train.time_us[train.user_index == user], test.time_us[test.user_index == user]
        assert not kept.size or learnt.max() <= kept.min()


def test_ties_are_settled_alike_whatever_the_order_of_rows_and_prefer_no_item():
    pairs = [(user, item) for user in range(6) for item in range(6)]
    held_out = {}
    for name, order in (("as is", pairs), ("reversed", pairs[::-1])):
        _, test = last_split(build(order, [0] * 36), 0.34)
        held_out[name] = set(zip(test.user_index.tolist(), test.item_index.tolist(), strict=True))
    assert held_out["as is"] == held_out["reversed"]
    assert len(held_out["as is"]) == 12
    assert len({item for _, item in held_out["as is"]}) > 2


def test_seeds_differ():
    data = build([(row // 6, row % 6) for row in range(36)], None)
    held = {tuple(random_split(data, 0.5, seed)[1].rating) for seed in range(5)}
    assert len(held) == 5
    assert all(len(rows) == 18 for rows in held)


@pytest.mark.parametrize("kind", ["time", "last"])
def test_untimed_data_is_refused_where_time_is_needed(kind):
    with pytest.raises(Unsuitable, match="needs event times"):
        split(build([(0, 0), (0, 1)], None), kind, 0.5)


@pytest.mark.parametrize("kind", ["random", "time", "last"])
@pytest.mark.parametrize("pairs", [[], [(0, 0)]])
def test_what_cannot_be_split_is_refused(kind, pairs):
    with pytest.raises(Unsuitable, match="would be empty"):
        split(build(pairs, [0] * len(pairs)), kind, 0.5)


def test_one_moment_cannot_be_split_by_time():
    with pytest.raises(Unsuitable, match="would be empty"):
        time_split(build([(0, 0), (0, 1), (1, 1)], [4, 4, 4]), 0.5)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
@pytest.mark.parametrize("kind", ["random", "time", "last"])
def test_a_fraction_outside_0_to_1_is_refused(kind, fraction):
    with pytest.raises(InvalidInput, match="fraction"):
        split(build([(0, 0), (0, 1)], [1, 2]), kind, fraction)


def test_an_unknown_kind_is_refused():
    with pytest.raises(InvalidInput, match="no split 'leave one out'"):
        split(build([(0, 0), (0, 1)], [1, 2]), "leave one out", 0.5)


@given(interactions(), st.integers(2, 8), st.integers(0, 9))
def test_folds_hold_out_every_row_once_and_evenly(data, folds, seed):
    assume(len(data) >= folds)
    parts = list(k_folds(data, folds, seed))
    assert len(parts) == folds
    held = [test.rating.astype(int).tolist() for _, test in parts]
    assert sorted(row for rows in held for row in rows) == list(range(len(data)))
    assert max(map(len, held)) - min(map(len, held)) <= 1
    for train, test in parts:
        assert (train.n_users, test.n_items) == (data.n_users, data.n_items)
        assert (np.diff(train.rating) > 0).all()
        assert (np.diff(test.rating) > 0).all()
        assert sorted([*train.rating, *test.rating]) == list(range(len(data)))


def test_the_seed_decides_on_folds():
    data = build([(row // 6, row % 6) for row in range(36)], None)

    def held(seed):
        return [tuple(test.rating) for _, test in k_folds(data, 3, seed)]

    assert held(1) == held(1)
    assert len({fold for seed in range(5) for fold in held(seed)}) == 15


def test_folds_that_cannot_be_are_refused_before_the_first_is_asked_for():
    data = build([(0, 0), (0, 1)], None)
    with pytest.raises(InvalidInput, match="folds is 1"):
        k_folds(data, 1)
    with pytest.raises(Unsuitable, match="would be empty"):
        k_folds(data, 3)
    assert [test.rating.size for _, test in k_folds(data, 2)] == [1, 1]


@given(interactions())
def test_leaving_the_last_out_holds_out_one_row_of_each_user_that_has_two(data):
    whole = Counter(data.user_index.tolist())
    assume(max(whole.values()) > 1)
    train, test = leave_last_out(data)
    assert Counter(test.user_index.tolist()) == {user: 1 for user, rows in whole.items() if rows > 1}
    for user, time in zip(test.user_index, test.time_us, strict=True):
        assert time == data.time_us[data.user_index == user].max()
    assert sorted([*train.rating, *test.rating]) == list(range(len(data)))


def test_leaving_the_last_out_needs_times_and_a_user_with_two_rows():
    with pytest.raises(Unsuitable, match="needs event times"):
        leave_last_out(build([(0, 0), (0, 1)], None))
    with pytest.raises(Unsuitable, match="would be empty"):
        leave_last_out(build([(0, 0), (1, 1)], [3, 4]))
