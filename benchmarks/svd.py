"""SVD on MovieLens 1M, a random fifth held out: seconds to fit, RMSE, MAE; beside scikit-surprise where it is.

    python benchmarks/svd.py --path FOLDER [--runs 5] [--json]

FOLDER holds `ratings.dat` of MovieLens 1M (`user::item::rating[::time]`), plain or gzipped. Both libraries run with
their defaults (20 epochs, 100 factors) on one core, on the same fold, in turns; compilation is not timed.
"""

import argparse
import gzip
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matinee.dataset.interactions import Interactions
from matinee.evaluation.ratings import mae, rmse
from matinee.models.svd import SVD

FILES = ("ratings.dat", "ratings.dat.gz", "ratings_notime.dat", "ratings_notime.dat.gz")


@dataclass(frozen=True)
class Run:
    """One fit on the fold."""

    seconds: float
    rmse: float
    mae: float


def read_ratings(folder: Path) -> Interactions:
    """All ratings of MovieLens 1M, in their order."""
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        sys.exit(f"{folder} holds none of {', '.join(FILES)}")
    content = path.read_bytes()
    lines = (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines()
    numbers = np.array([line.split(b"::")[:3] for line in lines]).astype(np.int32)
    users, u = np.unique(numbers[:, 0], return_inverse=True)
    items, i = np.unique(numbers[:, 1], return_inverse=True)
    rating, nothing = numbers[:, 2].astype(np.float32), np.full(len(numbers), np.nan, dtype=np.float32)
    return Interactions(users.size, items.size, u.astype(np.int32), i.astype(np.int32), rating, nothing)


def run_matinee(train: Interactions, test: Interactions, seed: int) -> Run:
    """Fit and measure our SVD."""
    started = time.perf_counter()
    model = SVD().fit(train, seed=seed)
    seconds = time.perf_counter() - started
    return _measured(seconds, model.predict(test.user_index, test.item_index), test)


def run_surprise(train: Interactions, test: Interactions, seed: int) -> Run:
    """Fit and measure scikit-surprise's."""
    import surprise  # noqa: PLC0415 - an optional peer

    ratings = zip(train.user_index.tolist(), train.item_index.tolist(), train.rating.tolist(), strict=True)
    raw = [(u, i, r, None) for u, i, r in ratings]
    data = surprise.Dataset(surprise.Reader(rating_scale=(1, 5)))
    trainset = data.construct_trainset(raw)
    model = surprise.SVD(random_state=seed)
    started = time.perf_counter()
    model.fit(trainset)
    seconds = time.perf_counter() - started
    pairs = zip(test.user_index.tolist(), test.item_index.tolist(), strict=True)
    predicted = np.array([model.predict(u, i).est for u, i in pairs], dtype=np.float32)
    return _measured(seconds, predicted, test)


def _measured(seconds: float, predicted: NDArray[np.float32], test: Interactions) -> Run:
    return Run(seconds, rmse(predicted, test.rating), mae(predicted, test.rating))


def summarise(runs: list[Run]) -> dict[str, object]:
    """Median and range of the seconds, medians of the errors, and every run."""
    seconds = [run.seconds for run in runs]
    return {
        "seconds_median": statistics.median(seconds),
        "seconds_range": [min(seconds), max(seconds)],
        "rmse": statistics.median(run.rmse for run in runs),
        "mae": statistics.median(run.mae for run in runs),
        "runs": [asdict(run) for run in runs],
    }


def benchmark(ratings: Interactions, n_runs: int) -> dict[str, object]:
    """Run both in turns and compare."""
    held_out = np.random.default_rng(0).random(len(ratings)) < 0.2
    train, test = ratings.take(~held_out), ratings.take(held_out)
    peers: dict[str, Callable[[Interactions, Interactions, int], Run]] = {"matinee": run_matinee}
    if importlib.util.find_spec("surprise"):
        peers["surprise"] = run_surprise
    SVD().fit(train.take(np.arange(10)))  # compiles
    runs: dict[str, list[Run]] = {name: [] for name in peers}
    for seed in range(n_runs):
        for name, run in peers.items():
            runs[name].append(run(train, test, seed))
    report: dict[str, object] = {"ratings": len(train), "held_out": len(test)}
    report |= {name: summarise(its) for name, its in runs.items()}
    if "surprise" in runs:
        pairs = zip(runs["surprise"], runs["matinee"], strict=True)
        ratios = [theirs.seconds / ours.seconds for theirs, ours in pairs]
        report["times_faster"] = {"median": statistics.median(ratios), "range": [min(ratios), max(ratios)]}
    else:
        report["surprise"] = None
    return report


def show(report: dict[str, object]) -> None:
    """The report for people."""
    print(f"MovieLens 1M: {report['ratings']} ratings, {report['held_out']} held out")
    for name in ("matinee", "surprise"):
        its = report[name]
        if not isinstance(its, dict):
            print(f"  {name:9} missing: pip install scikit-surprise to compare")
            continue
        low, high = its["seconds_range"]
        print(f"  {name:9} {its['seconds_median']:7.3f} s ({low:.3f} to {high:.3f})", end="")
        print(f"   RMSE {its['rmse']:.4f}   MAE {its['mae']:.4f}")
    ratio = report.get("times_faster")
    if isinstance(ratio, dict):
        print(f"  {ratio['median']:.1f} times faster ({ratio['range'][0]:.1f} to {ratio['range'][1]:.1f})")


def main() -> None:
    """Parse the arguments, run, report."""
    parser = argparse.ArgumentParser(description="SVD's time and errors on MovieLens 1M.")
    parser.add_argument("--path", type=Path, required=True, help="folder with MovieLens 1M's ratings.dat")
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    report = benchmark(read_ratings(arguments.path), arguments.runs)
    if arguments.json:
        print(json.dumps(report))
    else:
        show(report)


if __name__ == "__main__":
    main()
