import numpy as np
import pytest

from matinee.dataset.interactions import Interactions
from matinee.models.registry import make
from matinee.training import predicted_ratings
from matinee.training.predicted_ratings import prediction_errors, rating_fold_in

N_USERS, N_ITEMS = 12, 30


def some(seed: int, *, timed: bool, rated: float = 0.6) -> tuple[Interactions, Interactions]:
    """What was known and what is held out; of what is known, much was only watched."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(N_USERS * N_ITEMS)[:240]
    users, items = (pairs // N_ITEMS).astype(np.int32), (pairs % N_ITEMS).astype(np.int32)
    rating = np.where(rng.random(240) < rated, rng.integers(1, 6, 240), np.nan).astype(np.float32)
    times = rng.permutation(240).astype(np.int64) if timed else None
    every = Interactions(N_USERS, N_ITEMS, users, items, rating, np.full(240, 0.5, np.float32), times)
    held_out = rng.random(240) < 0.2
    return every.take(~held_out), every.take(held_out)


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("model", ["als", "ease"])
def test_the_errors_are_those_of_each_user_s_latest_items(monkeypatch, model, timed):
    monkeypatch.setattr(predicted_ratings, "MAX_ITEMS", 5)
    train, test = some(1, timed=timed)
    fitted = make(model, {"n_factors": 3} if model == "als" else {}).fit(train, seed=0)
    fold_in = rating_fold_in(fitted, train)
    errors = []
    for user in range(N_USERS):
        own = np.flatnonzero(train.user_index == user)
        latest = (own if train.time_us is None else own[np.argsort(train.time_us[own])])[-5:]
        rated = latest[~np.isnan(train.rating[latest])]
        wanted = np.flatnonzero((test.user_index == user) & ~np.isnan(test.rating))
        found = fold_in.ratings(train.item_index[rated], train.rating[rated], test.item_index[wanted])
        errors += (found - test.rating[wanted]).tolist()
    found = prediction_errors(fitted, train, test, seed=0)
    assert found["predicted_rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    assert found["predicted_mae"] == pytest.approx(np.mean(np.abs(errors)))


def test_of_many_users_as_many_are_drawn_as_are_judged_and_the_seed_says_which(monkeypatch):
    train, test = some(2, timed=True)
    fitted = make("popularity", {}).fit(train, seed=0)
    whole = prediction_errors(fitted, train, test, seed=0)
    monkeypatch.setattr(predicted_ratings, "JUDGED_USERS", 3)
    by_seed = [prediction_errors(fitted, train, test, seed=seed)["predicted_rmse"] for seed in (0, 1, 2, 0)]
    assert by_seed[0] == by_seed[3]
    assert len({whole["predicted_rmse"], *by_seed}) > 2


def test_without_ratings_on_either_side_there_is_no_error():
    train, test = some(3, timed=True)
    fitted = make("popularity", {}).fit(train, seed=0)
    assert prediction_errors(fitted, train, test.take(np.isnan(test.rating)), seed=0) == {}
    watched = train.take(np.isnan(train.rating))
    assert prediction_errors(make("popularity", {}).fit(watched, seed=0), watched, test, seed=0) == {}


def test_where_everybody_gives_the_same_rating_that_is_predicted():
    train, _ = some(4, timed=False, rated=1.0)
    fives = Interactions(N_USERS, N_ITEMS, train.user_index, train.item_index, np.full(len(train), 5, np.float32),
                         train.watched)  # fmt: skip
    fold_in = rating_fold_in(make("ease", {}).fit(fives, seed=0), fives)
    every = np.arange(N_ITEMS)
    assert fold_in.knows(every).tolist() == np.isin(every, fives.item_index).tolist()
    assert fold_in.ratings(fives.item_index[:3], fives.rating[:3], every).tolist() == [5.0] * N_ITEMS
