import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.dataset.vocabulary import Vocabulary

NAN = float("nan")


def make(users, items, ratings=None, watched=None, times=None, n_users=4, n_items=5):
    n = len(users)
    return Interactions(
        n_users=n_users,
        n_items=n_items,
        user_index=np.array(users, dtype=np.int32),
        item_index=np.array(items, dtype=np.int32),
        rating=np.array(ratings if ratings is not None else [NAN] * n, dtype=np.float32),
        watched=np.array(watched if watched is not None else [NAN] * n, dtype=np.float32),
        time_us=None if times is None else np.array(times, dtype=np.int64),
    )


def test_an_index_out_of_range_is_refused_with_its_place():
    with pytest.raises(InvalidInput, match=r"user_index\[1\] is 4; expected 0 to 3"):
        make([0, 4], [0, 0])
    with pytest.raises(InvalidInput, match=r"item_index\[0\] is -1"):
        make([0], [-1])


def test_wrong_types_and_lengths_are_refused():
    fine = make([0, 1], [0, 1])
    with pytest.raises(InvalidInput, match="rating is float64"):
        Interactions(4, 5, fine.user_index, fine.item_index, np.zeros(2), fine.watched)
    with pytest.raises(InvalidInput, match="watched is"):
        Interactions(4, 5, fine.user_index, fine.item_index, fine.rating, fine.watched[:1])
    with pytest.raises(InvalidInput, match=r"rating\[0\] is infinite"):
        make([0], [0], ratings=[float("inf")])


def test_a_rating_decides_what_is_liked_and_the_choice_counts_without_one():
    interactions = make([0, 0, 0, 0], [0, 1, 2, 3], ratings=[4, 3, NAN, NAN], watched=[NAN, 1.0, 0.1, NAN])
    assert interactions.positive(4.0).tolist() == [True, False, True, True]
    assert interactions.rated().item_index.tolist() == [0, 1]


def test_times_are_there_or_refused_in_the_name_of_who_wanted_them():
    assert make([0], [0], times=[7]).require_times("this").tolist() == [7]
    assert not make([0], [0]).timed
    with pytest.raises(Unsuitable, match="a clock needs event times"):
        make([0], [0]).require_times("a clock")


def test_the_matrix_has_every_row_in_its_cell():
    interactions = make([2, 0, 2], [4, 1, 0], ratings=[5, 3, 1])
    dense = interactions.matrix(interactions.rating).toarray()
    expected = np.zeros((4, 5))
    expected[2, 4], expected[0, 1], expected[2, 0] = 5, 3, 1
    assert (dense == expected).all()
    assert (interactions.matrix().toarray() == (expected > 0)).all()


@given(st.lists(st.integers(0, 3), max_size=12))
def test_by_user_gives_each_row_once_and_under_its_user(users):
    interactions = make(users, [0] * len(users))
    seen = []
    for user, rows in interactions.by_user():
        assert rows.size
        assert (interactions.user_index[rows] == user).all()
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(users)))


def test_take_keeps_users_items_and_order():
    taken = make([0, 1, 2], [0, 1, 2], ratings=[1, 2, 3], times=[9, 8, 7]).take(np.array([2, 0]))
    assert (taken.n_users, taken.n_items) == (4, 5)
    assert taken.rating.tolist() == [3, 1]
    assert taken.time_us.tolist() == [7, 9]


@given(st.lists(st.text(max_size=5), unique=True))
def test_ids_and_indices_translate_both_ways(ids):
    vocabulary = Vocabulary(ids)
    assert vocabulary.ids_at(vocabulary.indices(ids)) == ids
    assert [vocabulary.index(text) for text in ids] == list(range(len(ids)))
    assert len(vocabulary) == len(ids)


def test_a_vocabulary_knows_what_it_lacks():
    vocabulary = Vocabulary(["a", "b"])
    assert vocabulary.index("c") is None
    assert vocabulary.indices(["b", "c"]).tolist() == [1, -1]
    assert "c" not in vocabulary
    with pytest.raises(IndexError):
        vocabulary.id(-1)
    with pytest.raises(InvalidInput, match="twice"):
        Vocabulary(["a", "a"])
