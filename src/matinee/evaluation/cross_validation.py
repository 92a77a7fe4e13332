"""Cross-validation: each interaction is held out once, and a model fitted anew to the rest of its fold's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matinee.core.clock import Clock
from matinee.core.errors import InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.dataset.splits import k_folds
from matinee.evaluation.beyond_accuracy import exposure, gini, novelty, personalisation
from matinee.evaluation.ranking import Relevant, evaluate_lists, find_relevant, rank
from matinee.evaluation.ratings import mae, rmse, user_rmse
from matinee.evaluation.subgroups import Groups, recall_among, tail_items
from matinee.models.base import Model, Progress
from matinee.models.preference import DEFAULT_POSITIVE_RATING

CUT_OFFS = (10, 20)
"""Lengths of the lists that `FoldResult.ranking` reports on."""


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What one model showed on one fold.

    Attributes:
        rmse: over the held-out ratings, in units of the rating; None where the model predicts none or none is held
            out.
        mae: the same for the mean absolute error.
        ranking: `<metric>@<k>` for every metric of `ranking_metrics.METRICS` and `coverage`, k of `CUT_OFFS`
            (`ndcg@10`, `recall@20`, `coverage@10`, …); means over the users ranked. Besides, of lists of 10,
            `novelty@10`, `gini@10` and `personalisation@10` (`beyond_accuracy`; the last from two users on), and
            `tail_recall@20` (`subgroups.tail_items` and `recall_among`) where anything of the tail is relevant.
            Empty if nothing was ranked.
        fit_seconds: of the fit; the first of its kind in a process also holds the compiling of its kernels.
        test_seconds: of predicting the held-out ratings; 0 where none is predicted.
        seconds_per_1000_answers: time to rank the whole catalogue for a thousand users, without what each had; 0 if
            nothing was ranked.
        state_bytes: of the arrays that the model has learnt (`Model.state`).
        ndcg_per_user: float64, shape (u,): nDCG@10 of each user ranked.
        users: int32, shape (u,): who they are, ascending.
        rmse_per_user: float64, shape (v,): RMSE over the held-out ratings of each user who has some.
        rated_users: int32, shape (v,): who they are, ascending.
    """

    rmse: float | None
    mae: float | None
    ranking: Mapping[str, float]
    fit_seconds: float
    test_seconds: float
    seconds_per_1000_answers: float
    state_bytes: int
    ndcg_per_user: NDArray[np.float64]
    users: NDArray[np.int32]
    rmse_per_user: NDArray[np.float64]
    rated_users: NDArray[np.int32]


def evaluate_fold(
    model: Model[Any],
    train: Interactions,
    test: Interactions,
    *,
    seed: int,
    threads: int,
    positive_rating: float = DEFAULT_POSITIVE_RATING,
    clock: Clock,
    ranking: bool = True,
    progress: Progress | None = None,
) -> FoldResult:
    """Fit a model to `train` and evaluate it on `test`.

    Args:
        model: fitted here; what it knew before is forgotten.
        train: what to learn from; not recommended again.
        test: of the same users and items.
        seed: of the fit.
        threads: of the fit and of the ranking.
        positive_rating: the least rating that makes a held-out item relevant.
        clock: to measure with.
        ranking: whether to rank the catalogue; else only ratings are evaluated.
        progress: handed to the fit.

    Raises:
        Unsuitable: the model cannot learn from `train`, or no user has anything to find.
        InvalidInput: `train` and `test` do not share their users and items.
    """
    started = clock.monotonic()
    model.fit(train, seed=seed, threads=threads, progress=progress)
    fit_seconds = clock.monotonic() - started
    errors = _rating_errors(model, test, clock)
    means: dict[str, float] = {}
    per_1000, ndcg, users = 0.0, np.empty(0), np.empty(0, dtype=np.int32)
    if ranking:
        relevant = find_relevant(train, test, positive_rating)
        users = relevant.user_index
        started = clock.monotonic()
        items = rank(model, train, users, max(CUT_OFFS), threads=threads)
        per_1000 = 1_000 * (clock.monotonic() - started) / users.size
        reports = evaluate_lists(items, relevant, CUT_OFFS)
        means = {f"{name}@{k}": value for k, report in reports.items() for name, value in report.means.items()}
        means |= _beyond_accuracy(items, relevant, train)
        ndcg = reports[10].per_user["ndcg"]
    return FoldResult(
        rmse=errors.rmse,
        mae=errors.mae,
        ranking=means,
        fit_seconds=fit_seconds,
        test_seconds=errors.seconds,
        seconds_per_1000_answers=per_1000,
        state_bytes=sum(array.nbytes for array in model.state().values()),
        ndcg_per_user=ndcg,
        users=users,
        rmse_per_user=errors.per_user,
        rated_users=errors.users,
    )


def cross_validate(
    make: Callable[[], Model[Any]],
    interactions: Interactions,
    *,
    folds: int = 5,
    seed: int = 0,
    threads: int = 1,
    positive_rating: float = DEFAULT_POSITIVE_RATING,
    clock: Clock,
    ranking: bool = True,
    progress: Progress | None = None,
) -> list[FoldResult]:
    """`evaluate_fold` on each of `k_folds`, in their order. The same seed gives every model the same folds.

    Args:
        make: a new, unfitted model.
        interactions: everything there is.
        folds: how many; 2 or more.
        seed: of the folds and of each fit.
        threads: of each fit and ranking; the folds go one after the other.
        positive_rating: the least rating that makes a held-out item relevant.
        clock: to measure with.
        ranking: whether to rank the catalogue; else only ratings are evaluated.
        progress: called after each fold.

    Raises:
        InvalidInput: `folds` is below 2.
        Unsuitable: there are fewer interactions than folds, or as for `evaluate_fold`.
    """
    results = []
    for train, test in k_folds(interactions, folds, seed):
        results.append(
            evaluate_fold(make(), train, test, seed=seed, threads=threads, positive_rating=positive_rating,
                          clock=clock, ranking=ranking)
        )  # fmt: skip
        if progress is not None:
            progress(len(results), folds)
    return results


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the folds.

    Attributes:
        mean: over the folds.
        deviation: standard deviation between folds, √(1/(n − 1) · Σ (x − x̄)²); 0 for a single fold. Folds share
            most of what they are fitted to, so it understates how much another data set would differ (Bengio and
            Grandvalet 2004, "No Unbiased Estimator of the Variance of K-Fold Cross-Validation").
    """

    mean: float
    deviation: float


def summarise(results: Sequence[FoldResult]) -> dict[str, Spread]:
    """Mean and deviation over the folds of each figure that all of them have.

    By name: `rmse`, `mae`, the names of `FoldResult.ranking`, `fit_seconds`, `test_seconds`,
    `seconds_per_1000_answers`, `state_bytes`.

    Raises:
        InvalidInput: there are no folds.
    """
    if not results:
        raise InvalidInput("there are no folds to summarise")
    each = [_figures(result) for result in results]
    shared = [name for name in each[0] if all(name in figures for figures in each)]
    return {name: _spread(np.array([figures[name] for figures in each])) for name in shared}


def pooled_ndcg(results: Sequence[FoldResult]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Each user's mean nDCG@10 over the folds in which it had something to find.

    A user's values in different folds depend on one another; pooled to one value a user, they can be compared by
    `bootstrap.paired_bootstrap` and `bootstrap.paired_permutation_test`, whose unit is the user.

    Returns:
        (users int32, ascending; nDCG float64), both (u,). On the same folds the users are the same for every model.

    Raises:
        Unsuitable: nothing was ranked.
    """
    users, pooled = _pooled([(result.users, result.ndcg_per_user) for result in results])
    if not users.size:
        raise Unsuitable("no fold ranked anything", remedy="Evaluate with ranking=True.")
    return users, pooled


def by_group(results: Sequence[FoldResult], groups: Groups) -> dict[str, dict[str, float]]:
    """How each group of users fared, every user weighing alike, pooled over the folds as in `pooled_ndcg`.

    Returns:
        By the group's name, as far as there are users: `ndcg@10` and `users`, how many were ranked; `rmse`, the
        mean of users' own, and `rated_users`, how many have held-out ratings that the model predicts.

    Raises:
        InvalidInput: the groups are of fewer users.
    """
    found: dict[str, dict[str, float]] = {}
    for key, count, pairs in (
        ("ndcg@10", "users", [(result.users, result.ndcg_per_user) for result in results]),
        ("rmse", "rated_users", [(result.rated_users, result.rmse_per_user) for result in results]),
    ):
        users, values = _pooled(pairs)
        for name, (mean, size) in groups.means(users, values).items():
            found.setdefault(name, {}).update({key: mean, count: float(size)})
    return {name: found[name] for name in groups.names if name in found}


def _pooled(
    pairs: Sequence[tuple[NDArray[np.int32], NDArray[np.float64]]],
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Each user's mean over the (users, values) in which it stands; users ascending."""
    users = np.concatenate([users for users, _ in pairs]) if pairs else np.empty(0, dtype=np.int32)
    found, row = np.unique(users, return_inverse=True)
    values = np.concatenate([values for _, values in pairs]) if pairs else np.empty(0)
    pooled: NDArray[np.float64] = np.bincount(row, weights=values) / np.bincount(row)
    return found, pooled


@dataclass(frozen=True, slots=True)
class _Errors:
    """Of predicted ratings; nothing where none are predicted, or none held out."""

    rmse: float | None = None
    mae: float | None = None
    seconds: float = 0.0
    per_user: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    users: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))


def _rating_errors(model: Model[Any], test: Interactions, clock: Clock) -> _Errors:
    rated = test.rated()
    if not model.capabilities.predicts_ratings or not len(rated):
        return _Errors()
    started = clock.monotonic()
    predicted = model.predict(rated.user_index, rated.item_index)
    seconds = clock.monotonic() - started
    return _Errors(
        rmse(predicted, rated.rating),
        mae(predicted, rated.rating),
        seconds,
        user_rmse(predicted, rated.rating, rated.user_index),
        np.unique(rated.user_index),
    )


def _beyond_accuracy(items: NDArray[np.int32], relevant: Relevant, train: Interactions) -> dict[str, float]:
    """What the lists, int32 (u, 20), are like beside being right; see `FoldResult.ranking`."""
    short = items[:, :10]
    found = {
        "novelty@10": float(np.nanmean(novelty(short, train))),
        "gini@10": gini(exposure(short, train.n_items)),
    }
    if len(items) > 1:
        found["personalisation@10"] = personalisation(short, train.n_items)
    tail = recall_among(items, relevant, tail_items(train))
    if not np.isnan(tail).all():
        found["tail_recall@20"] = float(np.nanmean(tail))
    return found


def _figures(result: FoldResult) -> dict[str, float]:
    errors = {"rmse": result.rmse, "mae": result.mae}
    return {name: error for name, error in errors.items() if error is not None} | {
        **result.ranking,
        "fit_seconds": result.fit_seconds,
        "test_seconds": result.test_seconds,
        "seconds_per_1000_answers": result.seconds_per_1000_answers,
        "state_bytes": float(result.state_bytes),
    }


def _spread(values: NDArray[np.float64]) -> Spread:
    return Spread(float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else 0.0)
