"""RMSE, MAE, seconds and peak memory of the rating predictors beside scikit-surprise's, fold by fold.

    python benchmarks/surprise_table.py --dataset movielens-100k [--path FOLDER] [--folds 5] [--models svd nmf]

The ratings are dealt into 5 random folds; each fold is held out in turn and both libraries learn the rest with
their defaults, one after the other. Each fit has a process of its own, and all have the same cores: all there are,
unless `--threads` says otherwise. scikit-surprise's models use one of them. Compilation, reading and the making of
each library's own form of the data are not timed; predicting is, with `algo.test(testset)` as scikit-surprise's
users do it. Peak memory is the process's, with the interpreter, the imports and the data. Fold k is learnt with
seed k by both, which draw differently from it: hence the range of the errors over the folds.

Times are medians over the folds, errors means, peak memory the greatest. `ratio` is the median of theirs / ours
within a fold, of fit and test together; `processor_ratio` the same by the processor's time, which other programs on
the same core do not lengthen. `svdpp_cached` is SVD++ with scikit-surprise's `cache_ratings`, beside the same model
of ours. Without scikit-surprise (`pip install scikit-surprise`) our own figures are shown.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

N_FOLDS = 5
SHUFFLED_WITH = 0
"""Seed of the deal into folds."""

MODELS: dict[str, tuple[str, str, dict[str, Any], bool]] = {
    "svd": ("svd", "SVD", {}, True),
    "svdpp": ("svdpp", "SVDpp", {"cache_ratings": False}, True),
    "svdpp_cached": ("svdpp", "SVDpp", {"cache_ratings": True}, True),
    "nmf": ("nmf", "NMF", {}, True),
    "slope_one": ("slope_one", "SlopeOne", {}, False),
    "knn_basic": ("knn_basic", "KNNBasic", {"verbose": False}, False),
    "knn_with_means": ("knn_with_means", "KNNWithMeans", {"verbose": False}, False),
    "knn_with_z_score": ("knn_with_z_score", "KNNWithZScore", {"verbose": False}, False),
    "knn_baseline": ("knn_baseline", "KNNBaseline", {"verbose": False}, False),
    "co_clustering": ("co_clustering", "CoClustering", {}, True),
    "normal_predictor": ("normal_predictor", "NormalPredictor", {}, False),
    "baseline_only": ("baseline_only", "BaselineOnly", {"verbose": False}, False),
}
"""Row → our name, scikit-surprise's class, what it is given, and whether it takes a `random_state`."""

USUAL = ("svd", "svdpp", "svdpp_cached", "nmf", "slope_one", "knn_basic")
"""The rows unless others are asked for."""

Result = dict[str, Any]
"""What a worker reports of one fit."""


# --- workers: each in a process of its own ----------------------------------------------------------------------


def prepare(dataset: str, path: Path | None, cache: Path, file: Path) -> Result:
    """Write users, items (as int32 indices), ratings and folds to `file`."""
    import numpy as np  # noqa: PLC0415 - the parent stays small, see `main`

    from matinee.dataset.public import load  # noqa: PLC0415 - the same

    ratings = load(dataset, path, cache=cache).ratings
    users, user_index = np.unique(ratings["user"].to_numpy(), return_inverse=True)
    items, item_index = np.unique(ratings["item"].to_numpy(), return_inverse=True)
    rating = ratings["rating"].to_numpy().astype(np.float32)
    fold = np.random.default_rng(SHUFFLED_WITH).permutation(rating.size) % N_FOLDS
    u, i = user_index.astype(np.int32), item_index.astype(np.int32)
    np.savez(file, user=u, item=i, rating=rating, fold=fold, shape=np.array([users.size, items.size]))
    return {"ratings": rating.size, "users": users.size, "items": items.size}


def run_matinee(row: str, fold: int, threads: int, file: Path) -> Result:
    """Fit and test our model on a fold."""
    import numpy as np  # noqa: PLC0415 - the parent stays small, see `main`

    from matinee.core.errors import ConfigurationError  # noqa: PLC0415 - the same
    from matinee.dataset.interactions import Interactions  # noqa: PLC0415 - the same
    from matinee.models.registry import make  # noqa: PLC0415 - the same

    try:
        model = make(MODELS[row][0])
    except ConfigurationError as error:
        return {"note": str(error)}
    with np.load(file) as data:
        n_users, n_items = data["shape"].tolist()
        user, item, rating, held_out = data["user"], data["item"], data["rating"], data["fold"] == fold
    nothing = np.full(rating.size, np.nan, dtype=np.float32)
    whole = Interactions(n_users, n_items, user, item, rating, nothing)
    train, test = whole.take(~held_out), whole.take(held_out)
    few = Interactions(n_users, n_items, user[:10], item[:10], rating[:10], nothing[:10])
    make(MODELS[row][0]).fit(few).predict(user[:10], item[:10])  # loads what is compiled
    clock, processor = time.perf_counter(), time.process_time()
    model.fit(train, seed=fold, threads=threads)
    fitted = time.perf_counter()
    predicted = model.predict(test.user_index, test.item_index)
    measured = _measured(clock, fitted, processor)
    return measured | _errors(predicted, test.rating)


def run_surprise(row: str, fold: int, file: Path) -> Result:
    """Fit and test scikit-surprise's model on a fold."""
    import numpy as np  # noqa: PLC0415 - the parent stays small, see `main`
    import surprise  # noqa: PLC0415 - an optional peer

    with np.load(file) as data:
        user, item, rating, held_out = data["user"], data["item"], data["rating"], data["fold"] == fold
    low, high = float(rating.min()), float(rating.max())
    dataset = surprise.Dataset(surprise.Reader(rating_scale=(low, high)))
    parts = []
    for rows in (~held_out, held_out):
        columns = user[rows].tolist(), item[rows].tolist(), rating[rows].tolist()
        parts.append([(u, i, r, None) for u, i, r in zip(*columns, strict=True)])
    train, test = dataset.construct_trainset(parts[0]), dataset.construct_testset(parts[1])
    _, kind, given, seeded = MODELS[row]
    model = getattr(surprise, kind)(**given, **({"random_state": fold} if seeded else {}))
    clock, processor = time.perf_counter(), time.process_time()
    model.fit(train)
    fitted = time.perf_counter()
    predictions = model.test(test)
    measured = _measured(clock, fitted, processor)
    return measured | _errors(np.array([p.est for p in predictions], dtype=np.float32), rating[held_out])


def _measured(started: float, fitted: float, processor: float) -> Result:
    tested = time.perf_counter()
    return {
        "fit_seconds": fitted - started,
        "test_seconds": tested - fitted,
        "seconds": tested - started,
        "processor_seconds": time.process_time() - processor,
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _errors(predicted: Any, actual: Any) -> Result:
    from matinee.evaluation.ratings import mae, rmse  # noqa: PLC0415 - after the peak was measured

    return {"rmse": rmse(predicted, actual), "mae": mae(predicted, actual)}


# --- the parent -------------------------------------------------------------------------------------------------


def worker(arguments: argparse.Namespace, *which: str) -> Result:
    """Run one worker and return what it reports; a `note` where it failed."""
    given = ["--dataset", arguments.dataset, "--threads", str(arguments.threads), "--cache", str(arguments.cache)]
    if arguments.path:
        given += ["--path", str(arguments.path)]
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS"),
        str(arguments.threads),
    )
    command = [sys.executable, __file__, *given, "--worker", *which]
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"note": f"ended with status {done.returncode}: {last}"}
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(row: str, arguments: argparse.Namespace, file: str, *, peer: bool) -> Result:
    """One row of the table."""
    warmed = worker(arguments, "matinee", row, "0", file)  # compiles, which would count in the first fold's peak
    if "note" in warmed:
        say(f"{row}: {warmed['note']}")
        return summarise(row, [], [], warmed["note"])
    ours, theirs = [], []
    for fold in range(arguments.folds):
        ours.append(worker(arguments, "matinee", row, str(fold), file))
        if peer:
            theirs.append(worker(arguments, "surprise", row, str(fold), file))
        told = [
            run.get("note") or f"{name} {run['seconds']:.2f} s, RMSE {run['rmse']:.4f}"
            for name, run in (("ours", ours[-1]), *(("theirs", run) for run in theirs[-1:]))
        ]
        say(f"{row}, fold {fold + 1} of {arguments.folds}: {'; '.join(told)}")
    notes = {run["note"] for run in ours + theirs if "note" in run}
    return summarise(row, ours, theirs, "; ".join(sorted(notes)) or None)


def summarise(row: str, ours: list[Result], theirs: list[Result], note: str | None) -> Result:
    """A row from its folds; None where there is no figure."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if "note" not in a and "note" not in b]
    ratios = [b["seconds"] / a["seconds"] for a, b in pairs]
    by_processor = [b["processor_seconds"] / a["processor_seconds"] for a, b in pairs]
    return {
        "model": row,
        **_over_folds(ours),
        **{f"peer_{key}": value for key, value in _over_folds(theirs).items()},
        "ratio": statistics.median(ratios) if ratios else None,
        "ratio_range": [min(ratios), max(ratios)] if ratios else None,
        "processor_ratio": statistics.median(by_processor) if by_processor else None,
        "folds": len(ours),
        "note": note,
    }


def _over_folds(runs: list[Result]) -> Result:
    good = [run for run in runs if "note" not in run]
    found: Result = {}
    for key in ("rmse", "mae"):
        values = [run[key] for run in good]
        found[key] = statistics.mean(values) if values else None
        found[f"{key}_range"] = [min(values), max(values)] if values else None
    for key in ("seconds", "fit_seconds", "test_seconds", "processor_seconds"):
        found[key] = statistics.median(run[key] for run in good) if good else None
    found["peak_mb"] = max((run["peak_mb"] for run in good), default=None)
    return found


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)


def show(report: list[Result], title: str) -> None:
    """The table for people."""
    from rich.console import Console  # noqa: PLC0415 - programs need none
    from rich.table import Table  # noqa: PLC0415 - the same

    table = Table(title=title, caption="ours / scikit-surprise's; times faster: by the clock / by processor time")
    table.add_column("model", overflow="fold", min_width=max(len(row["model"]) for row in report))
    for heading in ("RMSE", "± folds", "MAE", "fit s", "test s", "peak MB", "times faster"):
        table.add_column(heading, justify="right")
    for row in report:
        spread = [
            "–" if row[key] is None else f"{(row[key][1] - row[key][0]) / 2:.4f}"
            for key in ("rmse_range", "peer_rmse_range")
        ]
        cells = [_both(row, key, form) for key, form in (("rmse", ".4f"), ("mae", ".4f"), ("fit_seconds", ".2f"),
                                                         ("test_seconds", ".3f"), ("peak_mb", ".0f"))]  # fmt: skip
        ratio = " / ".join("–" if row[key] is None else f"{row[key]:.1f}" for key in ("ratio", "processor_ratio"))
        table.add_row(row["model"], cells[0], " / ".join(spread), *cells[1:], ratio)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for row in report:
        if row["note"]:
            console.print(f"{row['model']}: {row['note']}", markup=False)


def _both(row: Result, key: str, form: str) -> str:
    return " / ".join("–" if row[k] is None else format(row[k], form) for k in (key, f"peer_{key}"))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="movielens-100k", choices=("movielens-100k", "movielens-1m"))
    parser.add_argument("--path", type=Path, help="folder or zip of the data set; downloaded if not given")
    parser.add_argument("--cache", type=Path, default=Path(".matinee/cache"), help="where downloads are kept")
    parser.add_argument(
        "--models",
        nargs="+",
        default=USUAL,
        choices=list(MODELS),
        metavar="MODEL",
        help=f"of {', '.join(MODELS)}; the first six unless given",
    )
    parser.add_argument(
        "--folds", type=int, default=N_FOLDS, choices=range(1, N_FOLDS + 1), help="run so many of the 5"
    )
    parser.add_argument(
        "--threads", type=int, default=_cores(), help="cores that each process may use; all there are"
    )
    parser.add_argument("--json", action="store_true", help="a list of objects, one a model")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def _work(arguments: argparse.Namespace) -> Result:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    which, *rest = arguments.worker
    if which == "prepare":
        return prepare(arguments.dataset, arguments.path, arguments.cache, Path(rest[0]))
    row, fold, file = rest
    if which == "matinee":
        return run_matinee(row, int(fold), arguments.threads, Path(file))
    return run_surprise(row, int(fold), Path(file))


def main() -> None:
    """Run what was asked for.

    The parent imports next to nothing: Linux counts the memory that a process had before it became the worker.
    """
    arguments = _arguments()
    if arguments.worker:
        with contextlib.redirect_stdout(sys.stderr):
            result = _work(arguments)
        print(json.dumps(result))
        return
    peer = importlib.util.find_spec("surprise") is not None
    if not peer:
        say("scikit-surprise is not installed, so there is nothing to compare with: pip install scikit-surprise")
    with tempfile.TemporaryDirectory(prefix="matinee-benchmark-") as scratch:
        file = str(Path(scratch) / "ratings.npz")
        size = worker(arguments, "prepare", file)
        if "note" in size:
            sys.exit(f"{arguments.dataset} could not be read: {size['note']}")
        report = [compare(row, arguments, file, peer=peer) for row in arguments.models]
    if arguments.json:
        print(json.dumps([row | {"dataset": arguments.dataset, "threads": arguments.threads} for row in report]))
    else:
        show(report, f"{arguments.dataset}, {size['ratings']:,} ratings, {arguments.folds} of {N_FOLDS} folds")


if __name__ == "__main__":
    main()
