"""The whole evaluation of a ranking, against lists one can see."""

import numpy as np
import pytest

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.evaluation.ranking import evaluate_ranking
from matinee.models.popularity import Popularity


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
