"""Candidates: models fitted to the training part and evaluated on the part held out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matinee.core.clock import Clock
from matinee.dataset.interactions import Interactions
from matinee.evaluation.ranking import evaluate_ranking
from matinee.evaluation.ratings import mae, rmse
from matinee.models.base import Model, Progress
from matinee.models.registry import make
from matinee.training.exposure import Shown
from matinee.training.predicted_ratings import prediction_errors

StepProgress = Callable[[str, int, int], None]
"""Called with (what is going on, steps done, steps in all)."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one candidate showed on the held-out part."""

    name: str
    params: dict[str, Any]
    metrics: dict[str, float]
    """Means over users with something to find, and catalogue coverage; RMSE and MAE where it predicts ratings, and
    `predicted_rmse` and `predicted_mae` of the ratings that servers predict with it."""
    by_subgroup: dict[str, dict[str, float]]
    """The ranking metrics again, for each group of users."""
    ndcg: NDArray[np.float64]
    """nDCG@10 of each evaluated user, in the order that all candidates of one split share."""
    rmse: float | None
    fit_seconds: float


def evaluate(
    name: str,
    params: dict[str, Any],
    train: Interactions,
    test: Interactions,
    *,
    shown: Shown | None = None,
    seed: int,
    threads: int,
    positive_rating: float,
    segments: NDArray[np.int16],
    segment_names: list[str],
    clock: Clock,
    progress: StepProgress,
) -> Evaluation:
    """Fit a model by name to `train` and evaluate it on `test`.

    Ranking is judged without what is `shown`, unless nothing would be left to find.
    """
    model = make(name, params)
    started = clock.monotonic()
    model.fit(train, seed=seed, threads=threads, progress=_step(progress, f"fitting {name}"))
    fit_seconds = clock.monotonic() - started
    progress(f"ranking with {name}", 0, 1)
    met, to_find = train, test
    if shown is not None and shown.left_out(test).positive(positive_rating).any():
        met, to_find = shown.added(train), shown.left_out(test)
    report = evaluate_ranking(model, met, to_find, k=10, positive_rating=positive_rating)
    metrics = report.means
    ratings = _rating_errors(model, test) | prediction_errors(model, train, test, seed=seed)
    by_subgroup = report.by_subgroup(segments, segment_names)
    return Evaluation(
        name=name,
        params=model.params.model_dump(mode="json"),
        metrics=metrics | ratings,
        by_subgroup=by_subgroup,
        ndcg=report.per_user["ndcg"],
        rmse=ratings.get("rmse"),
        fit_seconds=fit_seconds,
    )


def bias_rmse(train: Interactions, test: Interactions, *, seed: int) -> float | None:
    """RMSE of the bias baseline on the held-out ratings; nothing where there are none on either side."""
    if len(train.rated()) == 0 or len(test.rated()) == 0:
        return None
    return _rating_errors(make("baseline_only", {}).fit(train, seed=seed), test)["rmse"]


def _rating_errors(model: Model[Any], test: Interactions) -> dict[str, float]:
    rated = test.rated()
    if not model.capabilities.predicts_ratings or len(rated) == 0:
        return {}
    predicted = model.predict(rated.user_index, rated.item_index)
    return {"rmse": rmse(predicted, rated.rating), "mae": mae(predicted, rated.rating)}


def _step(progress: StepProgress, what: str) -> Progress:
    return lambda done, total: progress(what, done, total)
