"""Rankers on MovieLens 1M, a random fifth of the positives held out: seconds, nDCG@10, recall@20; beside implicit.

    python benchmarks/implicit_table.py --path FOLDER [--runs 3] [--threads 1] [--json]

FOLDER holds `ratings.dat` of MovieLens 1M (`user::item::rating[::time]`), plain or gzipped. Ratings of 4 and 5 are
positives, all of one weight; the rest is left out. Both libraries get the same positives, factors, epochs,
neighbours and threads, and run in turns; compilation is not timed. For ALS, implicit's confidence of a positive is
ours, and its one regularisation that which ours has for the mean user. For BPR each has the learning rate and
regularisation that suit it: ours its defaults, implicit the best of learning rates from 0.01 to 0.2 times
regularisations from 0.001 to 0.1 on another deal of the same data. Lists are made from the whole
catalogue without what the user is known to like.
"""

import argparse
import gzip
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from matinee.dataset.interactions import Interactions
from matinee.evaluation.ranking import evaluate_ranking
from matinee.models.als import ALS, ALSParams
from matinee.models.base import Model
from matinee.models.bpr import BPR
from matinee.models.item_knn import ItemKNN, ItemKNNParams

FILES = ("ratings.dat", "ratings.dat.gz", "ratings_notime.dat", "ratings_notime.dat.gz")
FACTORS = 64
EPOCHS = {"als": 10, "bpr": 50, "item_knn": 1}

Fit = Callable[[Interactions, int, int, Callable[..., None]], Model[Any]]
"""(train, seed, threads, called after each epoch) → fitted model."""


@dataclass(frozen=True)
class Run:
    """One fit on the fold."""

    seconds: float
    """Of the whole fit."""
    epoch_seconds: float | None
    """Median of the epochs after the first; None where there is no telling them apart."""
    ndcg_at_10: float
    recall_at_20: float


@dataclass(frozen=True)
class Peer:
    """What implicit learnt, ranking as our models do. Scores are rows times columns."""

    rows: Any
    columns: NDArray[np.float32] | sparse.csr_array

    def scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        """As `Model.scores`."""
        product = self.rows[user_index] @ self.columns
        dense = product.toarray() if sparse.issparse(product) else product
        return np.asarray(dense, dtype=np.float32)


def ours() -> dict[str, Fit]:
    """Our models."""

    def fit(model: Callable[[], Model[Any]]) -> Fit:
        return lambda train, seed, threads, epoch: model().fit(train, seed=seed, threads=threads, progress=epoch)

    return {
        "als": fit(lambda: ALS(n_factors=FACTORS, n_epochs=EPOCHS["als"])),
        "bpr": fit(lambda: BPR(n_factors=FACTORS, n_epochs=EPOCHS["bpr"])),
        "item_knn": fit(ItemKNN),
    }


def theirs() -> dict[str, Fit]:
    """implicit's; empty where it is not installed."""
    if not importlib.util.find_spec("implicit"):
        return {}

    def als(train: Interactions, seed: int, threads: int, epoch: Callable[..., None]) -> Model[Any]:
        from implicit.cpu.als import AlternatingLeastSquares  # noqa: PLC0415 - an optional peer

        ours, positives = ALSParams(), _matrix(train)
        mean_total = ours.alpha * positives.nnz / np.count_nonzero(np.diff(positives.indptr))
        model = AlternatingLeastSquares(
            factors=FACTORS, regularization=ours.reg * mean_total, alpha=1 + ours.alpha, iterations=EPOCHS["als"],
            num_threads=threads, random_state=seed)  # fmt: skip
        model.fit(positives, show_progress=False, callback=epoch)
        return cast("Model[Any]", Peer(model.user_factors, model.item_factors.T))

    def bpr(train: Interactions, seed: int, threads: int, epoch: Callable[..., None]) -> Model[Any]:
        from implicit.cpu.bpr import BayesianPersonalizedRanking  # noqa: PLC0415 - an optional peer

        model = BayesianPersonalizedRanking(
            factors=FACTORS, learning_rate=0.01, regularization=0.001, iterations=EPOCHS["bpr"],
            num_threads=threads, random_state=seed)  # fmt: skip
        model.fit(_matrix(train), show_progress=False, callback=epoch)
        return cast("Model[Any]", Peer(model.user_factors, model.item_factors.T))

    def item_knn(train: Interactions, _: int, threads: int, __: Callable[..., None]) -> Model[Any]:
        from implicit.nearest_neighbours import CosineRecommender  # noqa: PLC0415 - an optional peer

        positives = _matrix(train)
        # implicit counts an item among its own neighbours.
        model = CosineRecommender(K=ItemKNNParams().k + 1, num_threads=threads)
        model.fit(positives, show_progress=False)
        return cast("Model[Any]", Peer(positives, model.similarity))

    return {"als": als, "bpr": bpr, "item_knn": item_knn}


def _matrix(train: Interactions) -> sparse.csr_matrix:
    matrix = train.matrix()
    # implicit takes the older kind of sparse matrix, with int32 indices, alone.
    return sparse.csr_matrix((matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)),
                             shape=matrix.shape)  # fmt: skip


def run(fit: Fit, train: Interactions, test: Interactions, seed: int, threads: int) -> Run:
    """Fit and measure."""
    ends: list[float] = []
    started = time.perf_counter()
    model = fit(train, seed, threads, lambda *_: ends.append(time.perf_counter()))
    seconds = time.perf_counter() - started
    epochs = [end - before for before, end in pairwise(ends)]
    ndcg = evaluate_ranking(model, train, test, 10).means["ndcg"]
    recall = evaluate_ranking(model, train, test, 20).means["recall"]
    return Run(seconds, statistics.median(epochs) if epochs else None, ndcg, recall)


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


def positives_of(ratings: Interactions) -> Interactions:
    """Ratings of 4 and 5, all as 4: one weight for all."""
    liked = ratings.take(ratings.rating >= 4)
    return replace(liked, rating=np.full_like(liked.rating, 4))


def summarise(runs: list[Run]) -> dict[str, object]:
    """Median and range of the seconds, medians of the metrics, and every run."""
    seconds = [run.seconds for run in runs]
    epochs = [run.epoch_seconds for run in runs if run.epoch_seconds is not None]
    return {
        "seconds_median": statistics.median(seconds),
        "seconds_range": [min(seconds), max(seconds)],
        "epoch_seconds": statistics.median(epochs) if epochs else None,
        "ndcg_at_10": statistics.median(run.ndcg_at_10 for run in runs),
        "recall_at_20": statistics.median(run.recall_at_20 for run in runs),
        "runs": [asdict(run) for run in runs],
    }


def benchmark(ratings: Interactions, n_runs: int, threads: int) -> dict[str, Any]:
    """Run all in turns and compare."""
    liked = positives_of(ratings)
    held_out = np.random.default_rng(0).random(len(liked)) < 0.2
    train, test = liked.take(~held_out), liked.take(held_out)
    libraries = {"matinee": ours(), "implicit": theirs()}
    for fit in ours().values():
        fit(train.take(np.arange(10)), 0, threads, lambda *_: None)  # compiles
    report: dict[str, Any] = {"positives": len(train), "held_out": len(test), "threads": threads, "models": {}}
    for model in EPOCHS:
        runs: dict[str, list[Run]] = {library: [] for library, fits in libraries.items() if model in fits}
        for seed in range(n_runs):
            for library, its in runs.items():
                its.append(run(libraries[library][model], train, test, seed, threads))
        its_report: dict[str, Any] = {library: summarise(its) for library, its in runs.items()}
        if "implicit" in runs:
            pairs = list(zip(runs["implicit"], runs["matinee"], strict=True))
            its_report["times_faster"] = _spread([their.seconds / our.seconds for their, our in pairs])
            by_epoch = [
                their.epoch_seconds / our.epoch_seconds
                for their, our in pairs
                if their.epoch_seconds is not None and our.epoch_seconds is not None
            ]
            its_report["epochs_times_faster"] = _spread(by_epoch) if by_epoch else None
        report["models"][model] = its_report
    return report


def _spread(ratios: list[float]) -> dict[str, object]:
    return {"median": statistics.median(ratios), "range": [min(ratios), max(ratios)]}


def show(report: dict[str, Any]) -> None:
    """The report for people."""
    print(f"MovieLens 1M: {report['positives']} positives, {report['held_out']} held out, ", end="")
    print(f"threads: {report['threads']}")
    for model, its_report in report["models"].items():
        for library in ("matinee", "implicit"):
            its = its_report.get(library)
            if its is None:
                print(f"  {model:9} {library:9} missing: pip install implicit to compare")
                continue
            low, high = its["seconds_range"]
            print(f"  {model:9} {library:9} {its['seconds_median']:7.3f} s ({low:.3f} to {high:.3f})", end="")
            if its["epoch_seconds"] is not None:
                print(f"   {its['epoch_seconds']:.4f} s an epoch", end="")
            print(f"   nDCG@10 {its['ndcg_at_10']:.4f}   recall@20 {its['recall_at_20']:.4f}")
        for what, key in (("fit", "times_faster"), ("an epoch", "epochs_times_faster")):
            if ratio := its_report.get(key):
                low, high = ratio["range"]
                print(f"  {model:9} {what}: {ratio['median']:.2f} times faster ({low:.2f} to {high:.2f})")


def main() -> None:
    """Parse the arguments, run, report."""
    parser = argparse.ArgumentParser(description="Rankers' time and quality on MovieLens 1M.")
    parser.add_argument("--path", type=Path, required=True, help="folder with MovieLens 1M's ratings.dat")
    parser.add_argument("--runs", type=int, default=3, help="interleaved runs")
    parser.add_argument("--threads", type=int, default=1, help="cores to use")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    report = benchmark(read_ratings(arguments.path), arguments.runs, arguments.threads)
    if arguments.json:
        print(json.dumps(report))
    else:
        show(report)


if __name__ == "__main__":
    main()
