"""Cross-validation: what a fold tells, and that the folds are those of the data."""

from dataclasses import replace

import numpy as np
import pytest

from matinee.core.clock import ManualClock
from matinee.core.errors import InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.dataset.splits import k_folds
from matinee.evaluation.beyond_accuracy import exposure, gini, novelty, personalisation
from matinee.evaluation.cross_validation import (
    Spread,
    by_group,
    cross_validate,
    evaluate_fold,
    pooled_ndcg,
    summarise,
)
from matinee.evaluation.ranking import evaluate_ranking
from matinee.evaluation.ranking_metrics import METRICS
from matinee.evaluation.ratings import mae, rmse, user_rmse
from matinee.evaluation.subgroups import Groups
from matinee.models.popularity import Popularity
from matinee.models.registry import make

N_USERS, N_ITEMS = 25, 30


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    pairs = rng.permutation(N_USERS * N_ITEMS)[:303]
    return Interactions(N_USERS, N_ITEMS, (pairs // N_ITEMS).astype(np.int32), (pairs % N_ITEMS).astype(np.int32),
                        rng.integers(1, 6, 303).astype(np.float32), np.full(303, np.nan, np.float32))  # fmt: skip


class Slow(Popularity):
    """Takes 3 s to fit, 2 s to predict and 5 s to score, by the clock it shares."""

    clock = ManualClock()

    def _fit(self, *arguments):
        self.clock.sleep(3)
        return super()._fit(*arguments)

    def _predict(self, *arguments):
        self.clock.sleep(2)
        return np.clip(super()._predict(*arguments), 1, 5)

    def _scores(self, user_index):
        self.clock.sleep(5 if user_index.size > 1 else 0)  # one user alone only tells how many items there are
        return super()._scores(user_index)


def bias():
    return make("baseline_only")


def test_a_fold_of_a_predictor_is_its_errors_and_ranking(data):
    train, test = next(k_folds(data, 5, 1))
    result = evaluate_fold(bias(), train, test, seed=1, threads=1, clock=ManualClock())
    model = bias().fit(train, seed=1)
    predicted = model.predict(test.user_index, test.item_index)
    assert result.rmse == rmse(predicted, test.rating)
    assert result.mae == mae(predicted, test.rating)
    beyond = {"novelty@10", "gini@10", "personalisation@10", "tail_recall@20"}
    assert set(result.ranking) == beyond | {f"{name}@{k}" for name in (*METRICS, "coverage") for k in (10, 20)}
    np.testing.assert_array_equal(result.rmse_per_user, user_rmse(predicted, test.rating, test.user_index))
    np.testing.assert_array_equal(result.rated_users, np.unique(test.user_index))
    for k in (10, 20):
        report = evaluate_ranking(model, train, test, k)
        assert {name: result.ranking[f"{name}@{k}"] for name in report.means} == report.means
    report = evaluate_ranking(model, train, test, 10)
    np.testing.assert_array_equal(result.ndcg_per_user, report.per_user["ndcg"])
    np.testing.assert_array_equal(result.users, report.user_index)
    assert result.state_bytes == sum(array.nbytes for array in model.state().values())


def test_a_fold_of_a_ranker_has_no_errors(data):
    train, test = next(k_folds(data, 5))
    result = evaluate_fold(Popularity(), train, test, seed=0, threads=1, clock=ManualClock())
    assert (result.rmse, result.mae, result.test_seconds) == (None, None, 0)
    assert result.state_bytes == 4 * N_ITEMS + 2 * 8  # counts, and the shape


def test_times_are_the_clocks(data, monkeypatch):
    train, test = next(k_folds(data, 5))
    capabilities = replace(Popularity.capabilities, predicts_ratings=True)
    monkeypatch.setattr(Slow, "capabilities", capabilities)
    result = evaluate_fold(Slow(), train, test, seed=0, threads=1, clock=Slow.clock)
    assert (result.fit_seconds, result.test_seconds) == (3, 2)
    assert result.seconds_per_1000_answers == pytest.approx(5_000 / result.users.size)


def test_ratings_alone(data):
    train, test = next(k_folds(data, 5))
    disliked = replace(test, rating=np.ones_like(test.rating))  # so that there is nothing to find
    result = evaluate_fold(bias(), train, disliked, seed=0, threads=1, clock=ManualClock(), ranking=False)
    assert result.rmse is not None
    assert result.ranking == {}
    assert (result.users.size, result.ndcg_per_user.size, result.seconds_per_1000_answers) == (0, 0, 0)
    with pytest.raises(Unsuitable, match="nothing to find"):
        evaluate_fold(bias(), train, disliked, seed=0, threads=1, clock=ManualClock())


def test_the_fit_tells_of_its_progress(data):
    train, test = next(k_folds(data, 5))
    steps = []
    evaluate_fold(make("als", {"n_epochs": 2}), train, test, seed=0, threads=1, clock=ManualClock(),
                  progress=lambda *step: steps.append(step))  # fmt: skip
    assert steps == [(1, 2), (2, 2)]


def test_cross_validation_is_each_fold(data):
    steps = []
    results = cross_validate(bias, data, folds=4, seed=6, clock=ManualClock(),
                             progress=lambda *step: steps.append(step))  # fmt: skip
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for result, (train, test) in zip(results, k_folds(data, 4, 6), strict=True):
        alone = evaluate_fold(bias(), train, test, seed=6, threads=1, clock=ManualClock())
        assert (result.rmse, result.ranking) == (alone.rmse, alone.ranking)
        np.testing.assert_array_equal(result.users, alone.users)
    with pytest.raises(InvalidInput, match="folds is 1"):
        cross_validate(bias, data, folds=1, clock=ManualClock())


def test_summaries_are_means_and_deviations_over_the_folds(data):
    results = cross_validate(bias, data, folds=3, clock=ManualClock())
    errors = [result.rmse for result in results]
    summary = summarise(results)
    assert summary["rmse"] == Spread(pytest.approx(np.mean(errors)), pytest.approx(np.std(errors, ddof=1)))
    assert {"mae", "ndcg@10", "recall@20", "coverage@10", "fit_seconds", "state_bytes"} <= set(summary)
    assert summarise(results[:1])["rmse"] == Spread(errors[0], 0)
    assert "rmse" not in summarise([results[0], replace(results[1], rmse=None)])
    with pytest.raises(InvalidInput):
        summarise([])


def test_users_are_pooled_over_the_folds_that_rank_them(data):
    result = evaluate_fold(Popularity(), *next(k_folds(data, 5)), seed=0, threads=1, clock=ManualClock())
    folds = [
        replace(result, users=np.array(users, np.int32), ndcg_per_user=np.array(ndcg))
        for users, ndcg in (([2, 7], [1.0, 0.5]), ([0, 2], [0.25, 0.5]), ([7], [0.0]))
    ]
    users, ndcg = pooled_ndcg(folds)
    assert users.tolist() == [0, 2, 7]
    assert ndcg.tolist() == [0.25, 0.75, 0.25]
    with pytest.raises(Unsuitable):
        pooled_ndcg([])


def test_models_on_the_same_folds_pool_to_the_same_users(data):
    (one, _), (other, _) = (
        pooled_ndcg(cross_validate(make_model, data, folds=3, clock=ManualClock()))
        for make_model in (bias, Popularity)
    )
    np.testing.assert_array_equal(one, other)


def test_what_lists_are_like_beside_being_right_is_told(data):
    train, test = next(k_folds(data, 5, 1))
    result = evaluate_fold(Popularity(), train, test, seed=0, threads=1, clock=ManualClock())
    items = evaluate_ranking(Popularity().fit(train), train, test, 10).items
    assert result.ranking["novelty@10"] == pytest.approx(np.mean(novelty(items, train)))
    assert result.ranking["gini@10"] == gini(exposure(items, N_ITEMS))
    assert result.ranking["personalisation@10"] == personalisation(items, N_ITEMS)


def test_groups_are_pooled_over_the_folds(data):
    results = cross_validate(bias, data, folds=3, seed=1, clock=ManualClock())
    halves = Groups((np.arange(N_USERS) % 2).astype(np.int16), ("even", "odd", "nobody"))
    found = by_group(results, halves)
    users, ndcg = pooled_ndcg(results)
    assert list(found) == ["even", "odd"]
    assert found["odd"]["ndcg@10"] == pytest.approx(ndcg[users % 2 == 1].mean())
    assert found["odd"]["users"] == (users % 2 == 1).sum()
    own = [result.rmse_per_user[result.rated_users == 0] for result in results]
    first = by_group(results, Groups(np.where(np.arange(N_USERS) == 0, 0, -1).astype(np.int16), ("first",)))
    assert first["first"]["rmse"] == pytest.approx(np.mean(np.concatenate(own)))
    assert first["first"]["rated_users"] == 1


def test_groups_of_a_ranker_have_no_rmse(data):
    results = cross_validate(Popularity, data, folds=2, seed=1, clock=ManualClock())
    found = by_group(results, Groups(np.zeros(N_USERS, np.int16), ("all",)))
    assert found["all"].keys() == {"ndcg@10", "users"}
