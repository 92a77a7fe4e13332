"""Groups of users, and recall of the tail."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.evaluation.ranking import evaluate_ranking, find_relevant
from matinee.evaluation.subgroups import ACTIVITY, Groups, by_activity, recall_among, tail_items
from matinee.models.popularity import Popularity


def data(pairs, n_users, n_items) -> Interactions:
    users, items = (
        np.array(column, dtype=np.int32) for column in (zip(*pairs, strict=True) if pairs else ([], []))
    )
    return Interactions(n_users, n_items, users, items, np.full(len(pairs), 5, np.float32),
                        np.full(len(pairs), np.nan, np.float32))  # fmt: skip


def with_user_counts(counts) -> Interactions:
    return data([(u, i) for u, count in enumerate(counts) for i in range(count)], len(counts), 20)


def with_item_counts(counts) -> Interactions:
    return data([(u, i) for i, count in enumerate(counts) for u in range(count)], 60, len(counts))


counts_of_users = st.lists(st.integers(0, 20), min_size=1, max_size=15)


def test_users_in_thirds_and_the_new_apart():
    groups = by_activity(with_user_counts([1, 9, 5, 0, 2, 8, 4]))
    assert groups.names == ("new", *ACTIVITY)
    assert [groups.names[g] for g in groups.group] == [
        "light",
        "heavy",
        "medium",
        "new",
        "light",
        "heavy",
        "medium",
    ]
    assert groups.mask("heavy").tolist() == [False, True, False, False, False, True, False]


def test_users_with_the_same_count_stay_together():
    assert by_activity(with_user_counts([3, 3, 3, 3, 3])).group.tolist() == [1] * 5
    assert by_activity(with_user_counts([1, 1, 1, 2]), ("few", "many")).group.tolist() == [1, 1, 1, 2]


def test_users_without_any_are_new():
    assert by_activity(with_user_counts([0, 0])).group.tolist() == [0, 0]


@given(counts_of_users, st.integers(1, 4))
def test_groups_by_activity_are_as_defined(counts, g):
    names = [f"group {j}" for j in range(g)]
    groups = by_activity(with_user_counts(counts), names)
    active = [count for count in counts if count]
    bounds = [min(c for c in active if sum(other <= c for other in active) * g >= j * len(active))
              for j in range(1, g)] if active else []  # fmt: skip
    wanted = [1 + sum(count > bound for bound in bounds) if count else 0 for count in counts]
    assert groups.group.tolist() == wanted


def test_a_report_takes_groups():
    train = data([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)], 4, 6)
    report = evaluate_ranking(Popularity().fit(train), train, data([(1, 2), (2, 5), (3, 0)], 4, 6), k=1)
    groups = by_activity(train)
    found = report.by_subgroup(groups.group, groups.names)
    assert {name: (means["users"], means["recall"]) for name, means in found.items()} == {
        "new": (1, 1), "light": (1, 0), "medium": (1, 1)
    }  # fmt: skip


def test_the_tail_holds_at_most_its_share():
    # of 50 interactions the tail may have 10: 1 + 2 + 3 is 6, with the next 12
    assert tail_items(with_item_counts([20, 1, 18, 2, 6, 3, 0])).tolist() == [
        False,
        True,
        False,
        True,
        False,
        True,
        True,
    ]
    assert tail_items(with_item_counts([8, 2])).tolist() == [False, True]  # exactly a fifth


def test_items_as_popular_as_one_another_stay_together():
    assert not tail_items(with_item_counts([5, 5, 5])).any()
    assert tail_items(with_item_counts([1, 8, 1])).tolist() == [True, False, True]
    assert tail_items(with_item_counts([1, 7, 1, 1])).tolist() == [False] * 4


@given(st.lists(st.integers(0, 12), min_size=1, max_size=12).filter(any), st.sampled_from([0.125, 0.25, 0.5, 0.75]))
def test_the_tail_is_as_defined(counts, share):
    wanted = [sum(c for c in counts if c <= count) <= share * sum(counts) for count in counts]
    assert tail_items(with_item_counts(counts), share).tolist() == wanted


@st.composite
def held_out(draw):
    n_users, n_items = 6, 9
    pairs = draw(st.sets(st.tuples(st.integers(0, n_users - 1), st.integers(0, n_items - 1)), min_size=1))
    relevant = find_relevant(data([], n_users, n_items), data(sorted(pairs), n_users, n_items), 4)
    k = draw(st.integers(1, 5))
    one = st.lists(st.integers(0, n_items - 1), max_size=k, unique=True)
    rows = [draw(one) for _ in relevant.user_index]
    items = np.array([row + [-1] * (k - len(row)) for row in rows], dtype=np.int32)
    return pairs, relevant, items, np.array(draw(st.lists(st.booleans(), min_size=n_items, max_size=n_items)))


@given(held_out())
def test_recall_among_some_items_is_as_defined(case):
    pairs, relevant, items, chosen = case
    wanted = []
    for user, row in zip(relevant.user_index.tolist(), items.tolist(), strict=True):
        own = {i for u, i in pairs if u == user and chosen[i]}
        wanted.append(len(own & set(row)) / len(own) if own else np.nan)
    np.testing.assert_array_equal(recall_among(items, relevant, chosen), wanted)


def test_what_cannot_be_is_refused():
    some = with_item_counts([2, 1])
    for share in (0, 1, np.nan):
        with pytest.raises(InvalidInput, match="share"):
            tail_items(some, share)
    with pytest.raises(Unsuitable):
        tail_items(data([], 2, 2))
    with pytest.raises(InvalidInput, match="names"):
        by_activity(some, [])
    with pytest.raises(InvalidInput, match="new"):
        by_activity(some, ["new", "old"])
    with pytest.raises(InvalidInput, match="expected -1 to 0"):
        Groups(np.array([1], np.int16), ("all",))
    with pytest.raises(InvalidInput, match="no group 'old'"):
        by_activity(some).mask("old")
    relevant = find_relevant(some, some, 4)
    with pytest.raises(InvalidInput, match="expected"):
        recall_among(np.zeros((1, 3), np.int32), relevant, np.ones(2, np.bool_))


def test_means_are_of_each_group_that_has_users():
    groups = Groups(np.array([0, 1, -1, 0], dtype=np.int16), ("a", "b", "c"))
    assert groups.means(np.array([0, 3, 2], dtype=np.int32), np.array([1.0, 2.0, 9.0])) == {"a": (1.5, 2)}
    with pytest.raises(InvalidInput):
        groups.means(np.array([4], dtype=np.int32), np.array([1.0]))
