"""Models side by side on the same folds: how good, how fast, how large. Each runs in a process of its own."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from matinee.core.errors import InvalidInput
from matinee.dataset.interactions import Interactions
from matinee.evaluation.bootstrap import Interval, paired_bootstrap
from matinee.evaluation.comparison_work import Ended, FoldDone, Step, Task, work
from matinee.evaluation.cross_validation import FoldResult, Spread, by_group, pooled_ndcg, summarise
from matinee.evaluation.subgroups import Groups, by_activity
from matinee.models.preference import DEFAULT_POSITIVE_RATING
from matinee.models.registry import make

StepProgress = Callable[[str, int, int], None]
"""Called with (what is going on, steps done, steps in all)."""

_THREAD_LIMITS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_PATIENCE_SECONDS = 5.0
"""How long a process that was told to end may take."""

FIGURES: tuple[str, ...] = ("rmse", "mae", "ndcg@10", "recall@20", "coverage@10", "novelty@10", "gini@10",
                            "personalisation@10", "tail_recall@20", "fit_seconds", "seconds_per_1000_answers",
                            "peak_bytes", "state_bytes")  # fmt: skip
"""The names of a row's figures, in the order of a table."""


@dataclass(frozen=True, slots=True)
class Options:
    """How models are compared; the same for all.

    Args:
        folds: of the cross-validation.
        seed: of folds and models.
        threads: cores that a model may use, and that linear algebra may.
        positive_rating: the least rating that counts as liking, in what is relevant and to models that ask.
        params: hyperparameters by model name, over the defaults.
        resamples: of users behind nDCG's confidence interval.
    """

    folds: int = 5
    seed: int = 0
    threads: int = 1
    positive_rating: float = DEFAULT_POSITIVE_RATING
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    resamples: int = 1_000


@dataclass(frozen=True, slots=True)
class Row:
    """One model's part of a comparison.

    Attributes:
        model: its name.
        params: its hyperparameters, with the defaults.
        folds: what came of each fold so far.
        peak_bytes: by how much memory rose above what the process held before the first fold, with the program and
            the data in it: the fold's parts, the fit, the model and its answers, at their highest over all folds.
        refused: why there is nothing more; empty where all went well.
    """

    model: str
    params: Mapping[str, Any]
    folds: tuple[FoldResult, ...] = ()
    peak_bytes: int | None = None
    refused: str = ""

    @property
    def figures(self) -> dict[str, Spread]:
        """Over the folds so far, by name (`FIGURES`); those that the model has, and none of a refused one."""
        if self.refused or not self.folds:
            return {}
        found = summarise(self.folds)
        if not any(fold.users.size for fold in self.folds):
            del found["seconds_per_1000_answers"]  # nothing was liked, and nothing ranked
        if self.peak_bytes is not None:
            found["peak_bytes"] = Spread(float(self.peak_bytes), 0.0)
        return {name: found[name] for name in FIGURES if name in found}

    def by_group(self, groups: Groups) -> dict[str, dict[str, float]]:
        """How each group of users fared (`cross_validation.by_group`); nothing of a refused model."""
        return {} if self.refused else by_group(self.folds, groups)

    def ndcg_interval(self, resamples: int, seed: int) -> Interval | None:
        """Where the mean over users of nDCG@10 may lie: 95 %, from resamples of users; see `pooled_ndcg`.

        Users weigh alike here, and folds in `figures`: the two means may differ in the third digit.
        """
        if "ndcg@10" not in self.figures:
            return None
        _, ndcg = pooled_ndcg(self.folds)
        return paired_bootstrap(ndcg, np.zeros_like(ndcg), resamples, seed)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Models on the folds of one data set.

    Attributes:
        dataset: what people call it.
        n_users: its users.
        n_items: its items.
        n_interactions: its interactions.
        options: how models were compared.
        rows: the models, in the order given.
        groups: groups of users to see for whom models do well, by kind: `activity`, and what else is known.
    """

    dataset: str
    n_users: int
    n_items: int
    n_interactions: int
    options: Options
    rows: tuple[Row, ...]
    groups: Mapping[str, Groups] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values, save what each user got."""
        options = self.options
        return {
            "dataset": self.dataset,
            "users": self.n_users,
            "items": self.n_items,
            "interactions": self.n_interactions,
            "folds": options.folds,
            "seed": options.seed,
            "threads": options.threads,
            "positive_rating": options.positive_rating,
            "models": {row.model: self._described(row) for row in self.rows},
        }

    def _described(self, row: Row) -> dict[str, Any]:
        described: dict[str, Any] = {"params": dict(row.params), "refused": row.refused or None}
        for name, figure in row.figures.items():
            described[name] = {"mean": figure.mean, "deviation": figure.deviation}
        if (interval := row.ndcg_interval(self.options.resamples, self.options.seed)) is not None:
            described["ndcg_interval"] = {"mean": interval.mean, "low": interval.low, "high": interval.high}
        described["subgroups"] = {kind: row.by_group(groups) for kind, groups in self.groups.items()}
        return described


def compare(
    interactions: Interactions,
    models: Sequence[str],
    *,
    dataset: str,
    options: Options | None = None,
    groups: Mapping[str, Groups] | None = None,
    progress: StepProgress | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> Comparison:
    """Cross-validate models on the same folds, one after the other, each in a fresh process.

    Where no rating that is held out is liked, ratings alone are compared, and who predicts none is refused.
    A model that refuses the data, fails, or whose process is ended from outside (for want of memory) has its reason
    in its row, and the next goes on. Time is the models' own; memory beyond what one cross-validation takes is that
    of the interactions once more. A program that calls this needs the guard `if __name__ == "__main__":`, as all
    programs that start processes do.

    Args:
        interactions: what to split into folds.
        models: names in `matinee.models.registry.NAMES`.
        dataset: what people call it.
        options: how.
        groups: of the users, by kind, to report on beside those by activity; such as `segment`.
        progress: called as folds go on.
        on_row: called with a model's row when it begins, after each fold, and when it ends.

    Raises:
        InvalidInput: no model is named, one is twice, or there are fewer than 2 folds or 1 thread.
        ConfigurationError: there is no such model or hyperparameter.
    """
    options = options or Options()
    if not models or len(set(models)) != len(models):
        raise InvalidInput(f"the models are {', '.join(models) or 'none'}; expected one or more, each once")
    if options.folds < 2 or options.threads < 1:
        raise InvalidInput(f"{options.folds} folds, {options.threads} threads; expected 2 or more, and 1 or more")
    empty = [Row(name, make(name, _params(name, options)).params.model_dump(mode="json")) for name in models]
    rows = tuple(
        _run(row, interactions, options, progress or (lambda *_: None), on_row or (lambda _: None)) for row in empty
    )
    every = {"activity": by_activity(interactions), **(groups or {})}
    return Comparison(dataset, interactions.n_users, interactions.n_items, len(interactions), options, rows, every)


def _params(name: str, options: Options) -> dict[str, Any]:
    given = options.params.get(name, {})
    if "positive_rating" in make(name, given).params_type.model_fields:
        return {"positive_rating": options.positive_rating, **given}
    return dict(given)


def _run(
    row: Row,
    interactions: Interactions,
    options: Options,
    progress: StepProgress,
    on_row: Callable[[Row], None],
) -> Row:
    task = Task(row.model, dict(row.params), options.folds, options.seed, options.threads, options.positive_rating)
    on_row(row)
    with _child(task, interactions) as pipe:
        for told in _told(pipe):
            if isinstance(told, Step):
                progress(f"{row.model}, fold {told.fold + 1} of {options.folds}", told.done, told.total)
            elif isinstance(told, FoldDone):
                row = replace(row, folds=(*row.folds, told.result), peak_bytes=told.peak_bytes)
                on_row(row)
            elif told.refused:
                row = replace(row, refused=told.refused)
    on_row(row)
    return row


def _told(pipe: "Connection[Any, Any]") -> Iterator[Step | FoldDone | Ended]:
    """What the child tells, to its end, foreseen or not."""
    told = None
    while not isinstance(told, Ended):
        try:
            told = pipe.recv()
        except EOFError:
            told = Ended("its process was ended from outside, perhaps for want of memory")
        yield told


@contextmanager
def _child(task: Task, interactions: Interactions) -> Iterator["Connection[Any, Any]"]:
    """A process at work on one model, and the pipe that it tells through; gone after the block in any case."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(theirs, task, interactions), daemon=True)
    with ours:
        with theirs, _thread_limits(task.threads):
            process.start()
        try:
            yield ours
        finally:
            process.terminate()
            process.join(_PATIENCE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()


@contextmanager
def _thread_limits(threads: int) -> Iterator[None]:
    """Linear algebra reads its number of threads from the environment, and only while it is loaded."""
    before = {name: os.environ.get(name) for name in _THREAD_LIMITS}
    os.environ.update(dict.fromkeys(_THREAD_LIMITS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
