"""The whole evaluation of a ranking, against lists one can see."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.evaluation import ranking as module
from matinee.evaluation.ranking import evaluate_ranking, evaluate_rankings, find_relevant, rank
from matinee.models.popularity import Popularity
from matinee.models.registry import make


def data(rows, n_users=5, n_items=6) -> Interactions:
    users, items, ratings = (np.array(column) for column in zip(*rows, strict=True))
    nothing = np.full(len(rows), np.nan, dtype=np.float32)
    return Interactions(
        n_users, n_items, users.astype(np.int32), items.astype(np.int32), ratings.astype(np.float32), nothing
    )


# item i is liked by 4 − i users: popularity ranks 0, 1, 2, 3, then 4 and 5 in the order of their indices
TRAIN = data([(u, i, 5) for i in range(4) for u in range(4 - i)])


@pytest.fixture(scope="module")
def model():
    return Popularity().fit(TRAIN)


def test_what_a_user_had_in_train_is_no_candidate(model):
    # user 0 had 0 to 3, so its list is 4, 5; user 4 had nothing, so its list is 0, 1
    report = evaluate_ranking(model, TRAIN, data([(0, 4, 5), (4, 1, 5)]), k=2)
    assert report.user_index.tolist() == [0, 4]
    np.testing.assert_allclose(report.per_user["ndcg"], [1, 1 / np.log2(3)])
    np.testing.assert_allclose(report.per_user["map"], [1, 0.5])
    np.testing.assert_allclose(report.per_user["precision"], [0.5, 0.5])
    assert report.coverage == 4 / 6


def test_disliked_items_of_train_are_no_candidates_either(model):
    train = data([(4, 0, 1), (4, 1, 1)])
    report = evaluate_ranking(model, train, data([(4, 2, 5)]), k=1)
    assert report.per_user["ndcg"].tolist() == [1]


def test_only_positives_are_relevant_and_users_without_are_left_out_and_counted(model):
    test = data([(0, 4, 5), (0, 5, 3), (1, 4, 3), (2, 4, 2), (2, 5, 1)])
    report = evaluate_ranking(model, TRAIN, test, k=2)
    assert report.user_index.tolist() == [0]
    assert report.users_left_out == 2
    assert report.per_user["recall"].tolist() == [1]
    assert evaluate_ranking(model, TRAIN, test, k=2, positive_rating=3).users_left_out == 1


def test_unrated_watching_is_relevant(model):
    watched = Interactions(5, 6, np.array([4], np.int32), np.array([0], np.int32),
                           np.array([np.nan], np.float32), np.array([0.3], np.float32))  # fmt: skip
    assert evaluate_ranking(model, TRAIN, watched, k=1).per_user["hit_rate"].tolist() == [1]


def test_a_list_longer_than_the_catalogue(model):
    report = evaluate_ranking(model, TRAIN, data([(0, 4, 5)]), k=10)
    assert report.per_user["precision"].tolist() == [0.1]
    assert report.per_user["ndcg"].tolist() == [1]


def test_an_empty_place_is_not_the_last_item_of_the_user_before():
    train = data([(0, i, 5) for i in range(5)] + [(1, i, 5) for i in range(4)])
    report = evaluate_ranking(Popularity().fit(train), train, data([(0, 5, 5), (1, 5, 5)]), k=5)
    assert report.per_user["precision"].tolist() == [0.2, 0.2]


def test_means_are_of_the_users_and_coverage(model):
    report = evaluate_ranking(model, TRAIN, data([(0, 4, 5), (4, 5, 5)]), k=2)
    assert report.means["ndcg"] == 0.5
    assert set(report.means) == {"precision", "recall", "ndcg", "map", "hit_rate", "coverage"}


def test_subgroups_divide_the_users_evaluated(model):
    report = evaluate_ranking(model, TRAIN, data([(0, 4, 5), (1, 5, 5), (4, 1, 5)]), k=1)
    groups = report.by_subgroup(np.array([1, 0, 0, 2, 1], np.int16), ["old", "young", "absent"])
    assert set(groups) == {"old", "young"}
    assert groups["old"]["users"] == 1
    assert groups["young"]["users"] == 2
    assert groups["young"]["ndcg"] == 0.5
    assert report.by_subgroup(np.full(5, -1, np.int16), []) == {}


def test_subgroups_that_cannot_be_are_refused(model):
    report = evaluate_ranking(model, TRAIN, data([(4, 1, 5)]), k=1)
    with pytest.raises(InvalidInput):
        report.by_subgroup(np.zeros(4, np.int16), ["all"])
    with pytest.raises(InvalidInput):
        report.by_subgroup(np.ones(5, np.int16), ["all"])


def test_what_cannot_be_evaluated_is_refused(model):
    with pytest.raises(InvalidInput, match="k is 0"):
        evaluate_ranking(model, TRAIN, data([(0, 4, 5)]), k=0)
    with pytest.raises(InvalidInput, match="5 users × 6 items, test 5 × 7"):
        evaluate_ranking(model, TRAIN, data([(0, 4, 5)], n_items=7))
    with pytest.raises(Unsuitable, match="positive"):
        evaluate_ranking(model, TRAIN, data([(0, 4, 1)]))


@pytest.fixture(scope="module")
def larger():
    """Random likes of 90 users and 40 items, a fifth held out, and factors fitted to the rest."""
    rng = np.random.default_rng(3)
    pairs = np.flatnonzero(rng.random(90 * 40) < 0.2)
    whole = data([(p // 40, p % 40, rng.integers(3, 6)) for p in pairs], 90, 40)
    held_out = rng.random(len(whole)) < 0.2
    train = whole.take(~held_out)
    return make("als", {"n_factors": 4, "n_epochs": 2}).fit(train), train, whole.take(held_out)


def assert_equal(report, other):
    assert (report.k, report.coverage, report.users_left_out) == (other.k, other.coverage, other.users_left_out)
    np.testing.assert_array_equal(report.user_index, other.user_index)
    np.testing.assert_array_equal(report.items, other.items)
    for name, values in report.per_user.items():
        np.testing.assert_array_equal(values, other.per_user[name])


def test_several_lengths_at_once_are_each_alone(larger):
    reports = evaluate_rankings(*larger, ks=(20, 3, 10))
    assert list(reports) == [20, 3, 10]
    for k, report in reports.items():
        assert report.items.shape == (report.user_index.size, k)
        assert_equal(report, evaluate_ranking(*larger, k=k))


def test_blocks_and_threads_change_nothing(larger, monkeypatch):
    whole = evaluate_ranking(*larger, k=5)
    monkeypatch.setattr(module, "USERS_AT_ONCE", 7)
    assert_equal(evaluate_ranking(*larger, k=5), whole)
    assert_equal(evaluate_ranking(*larger, k=5, threads=3), whole)


def test_progress_counts_the_blocks(larger, monkeypatch):
    monkeypatch.setattr(module, "USERS_AT_ONCE", 20)
    steps = []
    report = evaluate_ranking(*larger, progress=lambda done, total: steps.append((done, total)))
    assert 40 < report.user_index.size <= 60
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_lists_are_the_models_own_without_what_users_had(larger):
    model, train, _ = larger
    users = np.array([5, 3, 5, 80], np.int32)
    items = rank(model, train, users, 6)
    wanted, _ = model.recommend(users, 6, train.matrix()[users])
    np.testing.assert_array_equal(items, wanted)


@given(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1), st.integers(0, 99), st.integers(1, 5))
def test_hits_are_looked_up_by_user(pairs, seed, block):
    relevant = find_relevant(TRAIN, data([(u, i, 5) for u, i in sorted(pairs)]), 4)
    items = np.random.default_rng(seed).integers(-1, 6, (relevant.user_index.size, 4)).astype(np.int32)
    wanted = [[(u, i) in pairs for i in row] for u, row in zip(relevant.user_index, items.tolist(), strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "USERS_AT_ONCE", block)
        np.testing.assert_array_equal(relevant.hits(items), wanted)
    assert relevant.n_relevant.tolist() == [sum(v == u for v, _ in pairs) for u in relevant.user_index]


def test_no_length_is_refused(model):
    with pytest.raises(InvalidInput, match="expected 1 or more"):
        evaluate_rankings(model, TRAIN, data([(0, 4, 5)]), ())
