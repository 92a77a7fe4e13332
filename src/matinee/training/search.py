"""The search for hyperparameters: trials on inner folds, and a verdict on a part that no trial has seen.

Splits are nested. A fifth (or so) of the interactions is set aside first; trials are judged by cross-validation
within the rest; only the defaults and the best setting found are then fitted to all of the rest and held against
the part set aside. So the figure that is reported is not the one that was searched for. Cawley and Talbot 2010, "On
Over-fitting in Model Selection and Subsequent Selection Bias in Performance Evaluation".
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, Trial, TrialState

from matinee.core.clock import Clock
from matinee.core.errors import ConfigurationError, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.dataset.splits import k_folds, random_split
from matinee.evaluation.bootstrap import Interval, paired_bootstrap
from matinee.evaluation.cross_validation import FoldResult, by_group, evaluate_fold
from matinee.evaluation.subgroups import Groups, by_activity
from matinee.models.registry import make
from matinee.models.spaces import OneOf, Space

Metric = Literal["rmse", "ndcg@10"]
STARTUP_TRIALS = 8
"""Trials that are drawn at random, and never pruned, before the sampler and the pruner judge by them."""
_FINGERPRINT = "matinee.fingerprint"
_REFUSED = "matinee.refused"
"""Why the model could not be fitted with a trial's settings; the next time it could not either."""
_AGAIN = "matinee.again"
"""The numbers of trials that were interrupted and whose settings have been put in line again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How to search.

    Attributes:
        trials: settings to try, those of an earlier, interrupted search among them; a grid ends when it is through.
        sampler: `grid` tries every combination of `OneOf` dimensions, `tpe` learns where to look (Bergstra et al.
            2011, "Algorithms for Hyper-Parameter Optimization").
        metric: what to search for; nothing: RMSE for a model that predicts ratings, else nDCG@10.
        folds: inner folds that a trial is judged on.
        set_aside: the share of interactions that no trial sees.
        prune: give a trial up whose first folds are worse than the median of the trials before it.
        seed: of splits, models, sampler and bootstrap.
        jobs: trials at the same time; with more than one, which settings `tpe` tries depends on timing.
        positive_rating: the least rating that makes a held-out item relevant.
        resamples: of users, behind the interval of the improvement.
    """

    trials: int = 30
    sampler: Literal["grid", "tpe"] = "tpe"
    metric: Metric | None = None
    folds: int = 3
    set_aside: float = 0.2
    prune: bool = True
    seed: int = 0
    jobs: int = 1
    positive_rating: float = 4.0
    resamples: int = 2_000


@dataclass(frozen=True, slots=True)
class Judged:
    """One setting on the part set aside."""

    params: dict[str, Any]
    result: FoldResult
    per_user: NDArray[np.float64]
    """nDCG@10 or RMSE of each user, whichever was searched for."""
    subgroups: dict[str, dict[str, dict[str, float]]]
    """By kind of groups, then by group: `cross_validation.by_group`."""


@dataclass(frozen=True, slots=True)
class SearchReport:
    """What a search found.

    Attributes:
        model: the model's name.
        metric: what was searched for.
        best: the hyperparameters found, without those that were left at their defaults.
        before: the defaults on the part set aside.
        after: the best setting on the part set aside.
        gain: after − before, the mean over users of their own metric, with its interval.
        counts: trials by state: `complete`, `pruned`, `fail`.
        importance: share of each hyperparameter in the variance among the better trials (PED-ANOVA: Watanabe,
            Bansal and Hutter 2023); empty where too few trials tell.
        trials: every trial: number, state, value, params.
    """

    model: str
    metric: Metric
    best: dict[str, Any]
    before: Judged
    after: Judged
    gain: Interval
    counts: dict[str, int]
    importance: dict[str, float]
    trials: list[dict[str, Any]]


def search(
    model: str,
    space: Space,
    interactions: Interactions,
    options: SearchOptions,
    *,
    storage_url: str,
    study_name: str,
    clock: Clock,
    groups: Mapping[str, Groups] | None = None,
    progress: Callable[[int, int, float | None], None] | None = None,
) -> SearchReport:
    """Search a space for the best hyperparameters of a model; goes on where an interrupted search ended.

    Args:
        model: its name in the registry.
        space: dimensions by hyperparameter.
        interactions: all that may be used.
        options: how to search.
        storage_url: SQLAlchemy URL of the database that trials are kept in.
        study_name: what the search is called there; the same name goes on with it.
        clock: to measure with.
        groups: of the users, by kind, to report on beside those by activity; such as `segment`.
        progress: called after each trial with (trials done, trials in all, best value so far).

    Raises:
        ConfigurationError: a grid has a range in it, or the study of that name searched something else.
        Unsuitable: the data does not suit the model, or no trial came to an end.
    """
    maximise, metric = _goal(model, options.metric)
    outer, aside = random_split(interactions, options.set_aside, options.seed)
    for name in ("optuna", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    study = optuna.create_study(
        storage=storage_url,
        study_name=study_name,
        load_if_exists=True,
        direction="maximize" if maximise else "minimize",
        sampler=_sampler(space, options),
        pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS) if options.prune else optuna.pruners.NopPruner(),
    )
    _require_same(study, _fingerprint(model, space, interactions, metric, options))
    _take_up_again(study)
    total = min(options.trials, _grid_size(space)) if options.sampler == "grid" else options.trials
    left = total - _ended(study)

    def told(study: optuna.Study, _trial: FrozenTrial) -> None:
        if progress is not None:
            progress(min(_ended(study), total), total, _best_value(study))

    if progress is not None:
        progress(total - max(left, 0), total, _best_value(study))
    if left > 0:
        objective = _objective(model, space, outer, metric, options, clock)
        study.optimize(objective, n_trials=left, n_jobs=options.jobs, callbacks=[told], catch=(ConfigurationError,))
    every = {"activity": by_activity(interactions), **(groups or {})}
    return _report(model, metric, study, _Verdict(outer, aside, metric, options, clock, every))


def _goal(model: str, wanted: Metric | None) -> tuple[bool, Metric]:
    predicts = make(model).capabilities.predicts_ratings
    metric: Metric = wanted or ("rmse" if predicts else "ndcg@10")
    if metric == "rmse" and not predicts:
        raise ConfigurationError(f"{model} predicts no ratings: it has no RMSE", remedy="Search for ndcg@10.")
    return metric != "rmse", metric


def _sampler(space: Space, options: SearchOptions) -> optuna.samplers.BaseSampler:
    if options.sampler == "tpe":
        return optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=options.seed)
    _grid_size(space)
    grid = {name: list(dimension.values) for name, dimension in space.items() if isinstance(dimension, OneOf)}
    return optuna.samplers.GridSampler(grid, seed=options.seed)


def _grid_size(space: Space) -> int:
    size = 1
    for name, dimension in space.items():
        if not isinstance(dimension, OneOf):
            raise ConfigurationError(
                f"a grid needs values of {name}, and has a range", remedy="List them, as `n_factors=50,100`."
            )
        size *= len(dimension.values)
    return size


def _fingerprint(
    model: str, space: Space, interactions: Interactions, metric: Metric, options: SearchOptions
) -> str:
    """What trials of one study must have in common, so that their values can be compared."""
    content = hashlib.sha256()
    for array in (interactions.user_index, interactions.item_index, interactions.rating, interactions.watched):
        content.update(np.ascontiguousarray(array).tobytes())
    same = [model, metric, options.sampler, options.folds, options.set_aside, options.seed, options.positive_rating]
    space_text = {name: repr(dimension) for name, dimension in sorted(space.items())}
    return json.dumps([*same, space_text, content.hexdigest()])


def _require_same(study: optuna.Study, fingerprint: str) -> None:
    known = study.user_attrs.get(_FINGERPRINT)
    if known is None:
        study.set_user_attr(_FINGERPRINT, fingerprint)
    elif known != fingerprint:
        raise ConfigurationError(
            f"the search {study.study_name!r} was begun with other data, space or options",
            remedy="Repeat those to go on with it, or give this one a name of its own with --name.",
        )


def _take_up_again(study: optuna.Study) -> None:
    """Settings whose trial was interrupted, by a signal or by the end of the process, are tried first."""
    again = set(study.user_attrs.get(_AGAIN, ()))
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.FAIL)):
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        if _REFUSED not in trial.user_attrs and trial.number not in again:
            again.add(trial.number)
            known = {**trial.system_attrs, "fixed_params": trial.params}  # which of a grid it is stands there too
            study.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, system_attrs=known))
    study.set_user_attr(_AGAIN, sorted(again))


def _ended(study: optuna.Study) -> int:
    """Trials that need not be made again."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return sum(trial.state != TrialState.FAIL or _REFUSED in trial.user_attrs for trial in trials)


def _best_value(study: optuna.Study) -> float | None:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return study.best_value if complete else None


def _objective(
    model: str, space: Space, outer: Interactions, metric: Metric, options: SearchOptions, clock: Clock
) -> Callable[[Trial], float]:
    parts = list(k_folds(outer, options.folds, options.seed))

    def objective(trial: Trial) -> float:
        params = {name: _suggest(trial, name, dimension) for name, dimension in space.items()}
        values: list[float] = []
        for fold, (train, test) in enumerate(parts):
            try:
                result = _evaluate(model, params, train, test, metric, options, clock)
            except ConfigurationError as error:  # the fit diverged
                trial.set_user_attr(_REFUSED, str(error))
                raise
            values.append(_value(result, metric))
            mean = float(np.mean(values))
            trial.report(mean, fold)
            if options.prune and fold + 1 < len(parts) and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(values))

    return objective


def _suggest(trial: Trial, name: str, dimension: Any) -> Any:
    if isinstance(dimension, OneOf):
        return trial.suggest_categorical(name, list(dimension.values))
    if dimension.whole:
        return trial.suggest_int(name, int(dimension.low), int(dimension.high), log=dimension.log)
    return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)


def _evaluate(
    model: str,
    params: Mapping[str, Any],
    train: Interactions,
    test: Interactions,
    metric: Metric,
    options: SearchOptions,
    clock: Clock,
) -> FoldResult:
    return evaluate_fold(
        make(model, params),
        train,
        test,
        seed=options.seed,
        threads=1,
        positive_rating=options.positive_rating,
        clock=clock,
        ranking=metric != "rmse",
    )


def _value(result: FoldResult, metric: Metric) -> float:
    value = result.rmse if metric == "rmse" else result.ranking[metric]
    if value is None:
        raise Unsuitable("no ratings are held out", remedy="Give data with ratings, or search for ndcg@10.")
    return value


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Holds settings against the part that no trial has seen."""

    outer: Interactions
    aside: Interactions
    metric: Metric
    options: SearchOptions
    clock: Clock
    groups: Mapping[str, Groups]

    def on(self, model: str, params: Mapping[str, Any]) -> Judged:
        fitted = make(model, params)
        result = evaluate_fold(
            fitted,
            self.outer,
            self.aside,
            seed=self.options.seed,
            threads=1,
            positive_rating=self.options.positive_rating,
            clock=self.clock,
            ranking=self.metric != "rmse" or bool(self.aside.positive(self.options.positive_rating).any()),
        )
        return Judged(
            fitted.params.model_dump(mode="json"),
            result,
            result.rmse_per_user if self.metric == "rmse" else result.ndcg_per_user,
            {kind: by_group([result], groups) for kind, groups in self.groups.items()},
        )


def _report(model: str, metric: Metric, study: optuna.Study, verdict: _Verdict) -> SearchReport:
    trials = study.get_trials(deepcopy=False)
    if not any(trial.state == TrialState.COMPLETE for trial in trials):
        raise Unsuitable(
            f"none of {len(trials)} trials came to an end", remedy="Search nearer the defaults, or try more."
        )
    best = dict(study.best_params)
    before, after = (verdict.on(model, params) for params in ({}, best))
    gain = paired_bootstrap(
        after.per_user, before.per_user, resamples=verdict.options.resamples, seed=verdict.options.seed
    )
    states = [trial.state.name.lower() for trial in trials]
    return SearchReport(
        model=model,
        metric=metric,
        best=best,
        before=before,
        after=after,
        gain=gain,
        counts={state: states.count(state) for state in ("complete", "pruned", "fail")},
        importance=_importance(study),
        trials=[
            {"number": t.number, "state": s, "value": t.value, "params": t.params}
            for t, s in zip(trials, states, strict=True)
        ],
    )


def _importance(study: optuna.Study) -> dict[str, float]:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < STARTUP_TRIALS or len({trial.value for trial in complete}) == 1:
        return {}
    found = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
    )
    return cast("dict[str, float]", {name: float(share) for name, share in found.items()})
