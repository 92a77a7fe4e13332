"""Predicted ratings for everybody, from the item vectors of a model that was fitted for something else."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from matinee.dataset.interactions import Interactions
from matinee.evaluation.ratings import mae, rmse
from matinee.history.record import MAX_ITEMS
from matinee.models.base import Model
from matinee.models.bias import BaselineOnlyParams, baselines
from matinee.models.rating_fold_in import RatingFoldIn

JUDGED_USERS = 10_000
"""Users whose held-out ratings are predicted, at most, so that a run with a million users is not longer for it."""


def rating_fold_in(model: Model[Any], interactions: Interactions) -> RatingFoldIn | None:
    """What predicts the ratings of whoever has rated something; nothing where there are no ratings.

    Args:
        model: fitted; where it has no item factors, the biases alone predict.
        interactions: what it was fitted to. There may be more items: those beyond the model's have no vector.
    """
    rated = interactions.rated()
    if not len(rated):
        return None
    mean, _, item_bias = baselines(rated, BaselineOnlyParams())
    learnt = model.item_vectors()
    vectors = np.zeros((interactions.n_items, learnt.shape[1]), dtype=np.float32)
    vectors[: len(learnt)] = learnt
    return RatingFoldIn.of(
        vectors,
        item_bias,
        np.bincount(rated.item_index, minlength=interactions.n_items) > 0,
        mean=mean,
        low=float(rated.rating.min()),
        high=float(rated.rating.max()),
    )


def prediction_errors(model: Model[Any], train: Interactions, test: Interactions, *, seed: int) -> dict[str, float]:
    """RMSE and MAE of what servers will predict, as they will: from what each user rated of the latest `MAX_ITEMS`.

    Over the held-out ratings of at most `JUDGED_USERS` users, drawn by the seed. Empty where a part has none.

    Args:
        model: fitted to `train`.
        train: what users did before.
        test: what was held out.
        seed: of the draw.
    """
    fold_in, held_out = rating_fold_in(model, train), test.rated()
    if fold_in is None or not len(held_out):
        return {}
    users = np.unique(held_out.user_index)
    if len(users) > JUDGED_USERS:
        users = np.sort(np.random.default_rng(seed).choice(users, JUDGED_USERS, replace=False))
    known, wanted = (part.take(np.isin(part.user_index, users)) for part in (train, held_out))
    known, wanted = (part.take(_by_user_and_time(part)) for part in (known, wanted))
    predicted = np.empty(len(wanted), dtype=np.float32)
    of_known, of_wanted = (np.searchsorted(part.user_index, [users, users + 1]) for part in (known, wanted))
    for at, end, start, stop in zip(*of_known.tolist(), *of_wanted.tolist(), strict=True):
        latest = np.arange(max(at, end - MAX_ITEMS), end)
        rated = latest[~np.isnan(known.rating[latest])]
        predicted[start:stop] = fold_in.ratings(
            known.item_index[rated], known.rating[rated], wanted.item_index[start:stop]
        )
    return {"predicted_rmse": rmse(predicted, wanted.rating), "predicted_mae": mae(predicted, wanted.rating)}


def _by_user_and_time(interactions: Interactions) -> NDArray[np.intp]:
    """Row numbers, by user, then by time; in the order that they have where there are no times."""
    users, times = interactions.user_index, interactions.time_us
    return np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
