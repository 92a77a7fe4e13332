"""The search for hyperparameters: on data where what is best is known."""

from dataclasses import replace

import numpy as np
import pytest

from matinee.core.clock import SystemClock
from matinee.core.errors import ConfigurationError
from matinee.dataset.interactions import Interactions
from matinee.models.spaces import Between, OneOf
from matinee.training import search as module
from matinee.training.search import SearchOptions, search

QUICK = SearchOptions(trials=4, sampler="grid", folds=2, resamples=200)


@pytest.fixture(scope="module")
def biases():
    """Ratings that are a user's bias and an item's, and nothing else: shrinking them makes them worse."""
    rng = np.random.default_rng(2)
    users, items = 40, 30
    u, i = np.divmod(np.flatnonzero(rng.random(users * items) < 0.6), items)
    rating = 3 + rng.uniform(-1, 1, users)[u] + rng.uniform(-1, 1, items)[i]
    nothing = np.full(u.size, np.nan, dtype=np.float32)
    return Interactions(users, items, u.astype(np.int32), i.astype(np.int32), rating.astype(np.float32), nothing)


@pytest.fixture
def look(biases, tmp_path):
    def run(space, options=QUICK, *, model="baseline_only", data=biases, name="a", progress=None):
        return search(
            model,
            space,
            data,
            options,
            storage_url=f"sqlite:///{tmp_path}/tuning.sqlite",
            study_name=name,
            clock=SystemClock(),
            progress=progress,
        )

    return run


GRID = {"reg_u": OneOf((0.0, 50.0)), "reg_i": OneOf((0.0, 50.0))}


def test_a_grid_tries_every_combination_and_finds_the_best(look):
    report = look(GRID, replace(QUICK, prune=False, trials=100))
    tried = {tuple(sorted(trial["params"].items())) for trial in report.trials}
    assert len(tried) == len(report.trials) == 4
    assert report.best == {"reg_u": 0.0, "reg_i": 0.0}
    assert report.after.result.rmse < report.before.result.rmse
    assert report.gain.high < 0


def test_the_reported_figure_is_of_data_that_no_trial_saw(look, biases, monkeypatch):
    met = []
    real = module.evaluate_fold

    def noting(model, train, test, **options):
        met.append((len(train), len(test)))
        return real(model, train, test, **options)

    monkeypatch.setattr(module, "evaluate_fold", noting)
    look(GRID, replace(QUICK, prune=False))
    aside = round(0.2 * len(biases))
    assert all(train + test == len(biases) - aside for train, test in met[:-2])
    assert met[-2:] == [(len(biases) - aside, aside)] * 2


def test_tpe_finds_the_better_end_of_a_range(look):
    report = look({"reg_u": Between(0.0, 100.0)}, replace(QUICK, sampler="tpe", trials=20))
    assert report.best["reg_u"] < 20
    assert report.importance == {"reg_u": 1.0}


def test_an_interrupted_search_goes_on_where_it_ended(look, monkeypatch):
    real, calls = module.evaluate_fold, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    options = replace(QUICK, prune=False)
    monkeypatch.setattr(module, "evaluate_fold", interrupted)
    with pytest.raises(KeyboardInterrupt):
        look(GRID, options)
    monkeypatch.setattr(module, "evaluate_fold", real)
    steps = []
    report = look(GRID, options, progress=lambda done, total, best: steps.append((done, total)))
    assert steps[0] == (2, 4)
    assert steps[-1] == (4, 4)
    assert report.counts["complete"] == 4
    assert report.best == {"reg_u": 0.0, "reg_i": 0.0}


def test_a_finished_search_is_not_made_again(look):
    first = look(GRID, replace(QUICK, prune=False))
    again = look(GRID, replace(QUICK, prune=False))
    assert again.trials == first.trials


def test_another_search_of_the_same_name_is_refused(look):
    look(GRID)
    with pytest.raises(ConfigurationError, match="other data, space or options") as caught:
        look({"reg_u": OneOf((1.0, 2.0))})
    assert "--name" in caught.value.remedy


def test_a_hopeless_trial_is_given_up(look):
    report = look({"n_epochs": OneOf((0, 10))}, replace(QUICK, sampler="tpe", trials=25))
    assert report.best == {"n_epochs": 10}
    pruned = [trial for trial in report.trials if trial["state"] == "pruned"]
    assert pruned
    assert {trial["params"]["n_epochs"] for trial in pruned} == {0}


def test_a_setting_that_diverges_is_noted_and_not_tried_again(look):
    space = {"lr_all": OneOf((0.005, 1e9)), "n_factors": OneOf((4,))}
    options = replace(QUICK, prune=False)
    first = look(space, options, model="svd")
    assert first.counts == {"complete": 1, "pruned": 0, "fail": 1}
    assert first.best["lr_all"] == 0.005
    assert look(space, options, model="svd").trials == first.trials


def test_two_trials_at_a_time_find_the_same_best_of_a_grid(look):
    report = look(GRID, replace(QUICK, prune=False, jobs=2, trials=100))
    assert report.counts["complete"] >= 4
    assert report.best == {"reg_u": 0.0, "reg_i": 0.0}


def test_rankers_are_searched_by_ndcg(look):
    report = look({"n_factors": OneOf((2, 4))}, model="als", data=planted(), name="als")
    assert report.metric == "ndcg@10"
    assert report.after.result.ranking["ndcg@10"] >= 0


def planted():
    rng = np.random.default_rng(0)
    u, i = np.divmod(np.arange(40 * 20), 20)
    met = (u % 2 == i % 2) & (rng.random(u.size) < 0.7)
    rating = np.full(met.sum(), 5, dtype=np.float32)
    nothing = np.full(met.sum(), np.nan, dtype=np.float32)
    return Interactions(40, 20, u[met].astype(np.int32), i[met].astype(np.int32), rating, nothing)


def test_what_cannot_be_searched_is_refused(look):
    with pytest.raises(ConfigurationError, match="has no RMSE"):
        look({"n_factors": OneOf((2,))}, replace(QUICK, metric="rmse"), model="als")
    with pytest.raises(ConfigurationError, match="a grid needs values of reg_u"):
        look({"reg_u": Between(0.0, 1.0)})
