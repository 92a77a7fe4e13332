"""What re-ranking costs in nDCG@10, and what it gains: coverage, diversity within a list, the user's mix of genres.

    python benchmarks/reranking.py --data movielens-100k=FOLDER [--data movielens-1m=FOLDER] [--seeds 3]
                                   [--json | --markdown] [--picture FILE.png]

FOLDER holds a MovieLens data set as it was published. For each seed a random fifth of the ratings is held out, ALS
with its defaults learns the rest, and every user with a held-out rating of 4 or 5 gets the best 100 of the whole
catalogue without what the user had; a list of 10 is made of these, by the functions that serve
(`matinee.serving.rerank`). All figures are means over users, then over seeds.

    nDCG@10    and how much it differs from that of the scores' order: the mean over users of each user's own mean
               over the seeds, with a 95% interval (paired bootstrap over users)
    coverage   the share of the catalogue that anybody was shown
    diversity  1 − the mean cosine of two items of a list: of their factors, which MMR looks at, and of their genres
    KL         of the genres the user liked in the part learnt (p) and those of the list (q), as Steck 2018 has it
    µs         for one list of 10 out of 100, the median over users: other work on the machine shows least in it
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as a server has it; read when NumPy is imported

import numpy as np
from numpy.typing import NDArray

from matinee.dataset.encoding import Encoded, encode
from matinee.dataset.interactions import Interactions
from matinee.dataset.public import PublicDataset, load
from matinee.dataset.splits import random_split
from matinee.evaluation.beyond_accuracy import diversity
from matinee.evaluation.bootstrap import paired_bootstrap
from matinee.evaluation.ranking import Relevant, evaluate_lists, find_relevant
from matinee.models.als import ALS
from matinee.models.preference import DEFAULT_POSITIVE_RATING, confidence
from matinee.models.top_n import top_n
from matinee.serving.rerank import SMOOTHING, calibrated, diversified, genre_share, mixed

CANDIDATES, N = 100, 10
STRENGTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
SHARES = (0.5, 0.3)
PLAIN = ("score", 0.0)

Way = tuple[str, float]
"""A method and its strength, or the share that one genre may have."""
Order = Callable[[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]], NDArray[np.int64]]
"""(candidates, scores, the user's genres) → positions of the list of 10."""
Figures = dict[str, float]
PerUser = dict[Way, NDArray[np.float64]]
Run = tuple[NDArray[np.int32], dict[Way, Figures], PerUser]
"""The users, the figures of each order, and each user's nDCG."""


def ways(vectors: NDArray[np.float32], genres: NDArray[np.bool_]) -> dict[Way, Order]:
    """Every order that is compared."""

    def mmr(strength: float) -> Order:
        return lambda index, scores, _: diversified(index, scores, vectors, N, strength)

    def steck(strength: float) -> Order:
        return lambda index, scores, liked: calibrated(index, scores, genres, liked, N, strength)

    def mix(most: float) -> Order:
        return lambda index, *_: mixed(index, genres, N, most)

    return {
        PLAIN: lambda *_: np.arange(N),
        **{("mmr", strength): mmr(strength) for strength in STRENGTHS},
        **{("calibrated", strength): steck(strength) for strength in STRENGTHS},
        **{("mixed", most): mix(most) for most in SHARES},
    }


def genre_mask(data: PublicDataset, encoded: Encoded) -> NDArray[np.bool_]:
    """Which item is of which genre, shape (n_items, n_genres)."""
    by_item = dict(zip(data.items["item"].to_list(), data.items["genres"].to_list(), strict=True))
    of_item = [by_item.get(item) or [] for item in encoded.items.ids]
    names = sorted({name for found in of_item for name in found})
    return np.array([[name in found for name in names] for found in of_item], dtype=np.bool_)


def liked_genres(train: Interactions, users: NDArray[np.int32], genres: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Each user's distribution of genres in what was liked, shape (u, n_genres)."""
    weight = confidence(train.rating, train.watched)
    order = np.argsort(train.user_index, kind="stable")
    bounds = np.searchsorted(train.user_index[order], [users, users + 1])
    rows = [order[first:end] for first, end in bounds.T]
    return np.array([genre_share(genres, train.item_index[part], weight[part]) for part in rows])


def divergence(
    lists: NDArray[np.int32], genres: NDArray[np.bool_], liked: NDArray[np.float32]
) -> NDArray[np.float64]:
    """KL(p ‖ q̃) of each list, shape (u,); NaN for users who liked nothing that has a genre."""
    counts = genres.sum(axis=1)
    of_item = genres / np.maximum(counts, 1)[:, None]
    q = of_item[lists].sum(axis=1) / np.maximum((counts > 0)[lists].sum(axis=1), 1)[:, None]
    p = liked.astype(np.float64)
    smoothed = (1 - SMOOTHING) * q + SMOOTHING * p
    terms = p * np.log(np.divide(p, smoothed, out=np.ones_like(p), where=p > 0))
    return np.where(p.sum(axis=1) > 0, terms.sum(axis=1), np.nan)


def figures_of(
    lists: NDArray[np.int32],
    relevant: Relevant,
    vectors: NDArray[np.float32],
    genres: NDArray[np.bool_],
    liked: NDArray[np.float32],
) -> tuple[Figures, NDArray[np.float64]]:
    """What lists are like, and the nDCG of each user."""
    report = evaluate_lists(lists, relevant, [N])[N]
    return {
        "ndcg": report.means["ndcg"],
        "coverage": report.coverage,
        "diversity_of_factors": float(np.nanmean(diversity(lists, vectors))),
        "diversity_of_genres": float(np.nanmean(diversity(lists, genres.astype(np.float32)))),
        "kl": float(np.nanmean(divergence(lists, genres, liked))),
    }, np.asarray(report.per_user["ndcg"])


def run(encoded: Encoded, genres: NDArray[np.bool_], seed: int) -> Run:
    """One split: fit, rank, and every order of the best 100."""
    train, test = random_split(encoded.interactions, 0.2, seed)
    model = ALS().fit(train, seed=seed)
    vectors = np.asarray(model.state()["item_factors"], dtype=np.float32)
    relevant = find_relevant(train, test, DEFAULT_POSITIVE_RATING)
    users = relevant.user_index
    items, scores = top_n(model, users, CANDIDATES, train.matrix()[users])
    liked = liked_genres(train, users, genres)
    figures: dict[Way, Figures] = {}
    ndcg: PerUser = {}
    for way, order in ways(vectors, genres).items():
        positions, took = np.empty((users.size, N), dtype=np.int64), np.empty(users.size)
        for row, (candidates, its_scores, its_genres) in enumerate(zip(items, scores, liked, strict=True)):
            started = time.perf_counter()
            positions[row] = order(candidates, its_scores, its_genres)
            took[row] = time.perf_counter() - started
        lists = np.take_along_axis(items, positions, axis=1)
        figures[way], ndcg[way] = figures_of(lists, relevant, vectors, genres, liked)
        figures[way]["microseconds"] = 1e6 * float(np.median(took))
        print(f"seed {seed}: {way[0]} {way[1]:g}, {len(users)} users", file=sys.stderr)
    return users, figures, ndcg


def measure(name: str, folder: Path, seeds: int) -> dict[str, Any]:
    """All seeds of a data set."""
    with tempfile.TemporaryDirectory() as nothing:
        data = load(name, folder, cache=Path(nothing))
    encoded = encode(data.ratings)
    genres = genre_mask(data, encoded)
    runs = [run(encoded, genres, seed) for seed in range(seeds)]
    _, first, _ = runs[0]
    rows = []
    for way in first:
        means = {key: float(np.mean([figures[way][key] for _, figures, _ in runs])) for key in first[way]}
        difference = paired_bootstrap(ndcg_of_users(runs, way), ndcg_of_users(runs, PLAIN))
        rows.append(
            {"method": way[0], "strength": way[1], **means, "ndcg_difference": difference.mean,
             "ndcg_difference_low": difference.low, "ndcg_difference_high": difference.high}
        )  # fmt: skip
    whole = encoded.interactions
    return {"dataset": name, "interactions": len(whole), "items": whole.n_items, "seeds": seeds,
            "lists": sum(users.size for users, *_ in runs), "rows": rows}  # fmt: skip


def ndcg_of_users(runs: list[Run], way: Way) -> NDArray[np.float64]:
    """Each user's mean over the seeds in which it had something to find."""
    _, place = np.unique(np.concatenate([users for users, *_ in runs]), return_inverse=True)
    values = np.concatenate([ndcg[way] for *_, ndcg in runs])
    return np.asarray(np.bincount(place, weights=values) / np.bincount(place))


COLUMNS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("order", lambda row: row["method"]),
    ("strength, or share", lambda row: f"{row['strength']:g}" if row["method"] != "score" else ""),
    ("nDCG@10", lambda row: f"{row['ndcg']:.4f}"),
    ("difference", lambda row: "" if row["method"] == "score" else
     f"{row['ndcg_difference']:+.4f} ({row['ndcg_difference_low']:+.4f} to {row['ndcg_difference_high']:+.4f})"),
    ("coverage", lambda row: f"{row['coverage']:.3f}"),
    ("diversity, factors", lambda row: f"{row['diversity_of_factors']:.3f}"),
    ("diversity, genres", lambda row: f"{row['diversity_of_genres']:.3f}"),
    ("KL", lambda row: f"{row['kl']:.3f}"),
    ("µs", lambda row: f"{row['microseconds']:.0f}"),
)  # fmt: skip


def heading(report: dict[str, Any]) -> str:
    """What was measured, in a line."""
    return (
        f"{report['dataset']}: {report['interactions']:,} ratings, {report['items']:,} movies, "
        f"{report['lists']:,} lists over {report['seeds']} splits"
    )


def show(report: dict[str, Any]) -> None:
    """The table for people."""
    from rich.console import Console  # noqa: PLC0415 - only for the table
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=heading(report))
    for place, (name, _) in enumerate(COLUMNS):
        table.add_column(name, justify="right" if place else "left")
    for row in report["rows"]:
        table.add_row(*(cell(row) for _, cell in COLUMNS))
    Console(width=None if sys.stdout.isatty() else 130).print(table)


def show_markdown(report: dict[str, Any]) -> None:
    """The table for a page."""
    print(f"{heading(report)}.\n")
    print("| " + " | ".join(name for name, _ in COLUMNS) + " |")
    print("|---" + "|---:" * (len(COLUMNS) - 1) + "|")
    for row in report["rows"]:
        print("| " + " | ".join(cell(row) for _, cell in COLUMNS) + " |")
    print()


LOOKS = {"mmr": ("#0072B2", "o", "MMR", (5, 4)), "calibrated": ("#D55E00", "s", "calibrated", (4, -11))}
"""Blue and vermilion of Okabe and Ito's palette."""
PANELS = (
    ("coverage", "coverage of the catalogue"),
    ("diversity_of_factors", "diversity of factors in a list"),
    ("diversity_of_genres", "diversity of genres in a list"),
    ("kl", "KL from the user's genres (lower is nearer)"),
)
NAMED_FROM = 0.3
"""Strengths from here on are written beside their points; those below lie too close together."""


def draw(reports: list[dict[str, Any]], file: Path) -> None:
    """Of each data set, what is gained (up) against what it costs (to the left), by strength."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only for the picture

    figure = Figure(figsize=(16, 3.9 * len(reports)), layout="constrained")
    panels = figure.subplots(len(reports), len(PANELS), squeeze=False)
    for report, row in zip(reports, panels, strict=True):
        for axes, (key, label) in zip(row, PANELS, strict=True):
            by_way = {(found["method"], found["strength"]): found for found in report["rows"]}
            for method, (colour, marker, name, offset) in LOOKS.items():
                points = [by_way[PLAIN], *(by_way[method, strength] for strength in STRENGTHS)]
                x, y = [point["ndcg"] for point in points], [point[key] for point in points]
                axes.plot(x, y, color=colour, marker=marker, label=name)
                for strength, *at in zip(STRENGTHS, x[1:], y[1:], strict=True):
                    if strength >= NAMED_FROM:
                        axes.annotate(
                            f"{strength:g}", at, offset, textcoords="offset points", fontsize=8, color=colour
                        )
            axes.plot(by_way[PLAIN]["ndcg"], by_way[PLAIN][key], color="black", marker="D", label="by score",
                      linestyle="none")  # fmt: skip
            axes.set(xlabel="nDCG@10", ylabel=label, title=report["dataset"])
            axes.margins(0.08)
            axes.grid(visible=True, alpha=0.3)
    panels[0, 0].legend()
    figure.savefig(file, dpi=100)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, metavar="NAME=FOLDER", help="once or more often")
    parser.add_argument("--seeds", type=int, default=3, help="random splits of each data set")
    parser.add_argument("--json", action="store_true", help="an object for each data set, in a list")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--picture", type=Path, help="file for the picture, as reranking.png; needs matplotlib")
    arguments = parser.parse_args()
    named = [text.partition("=") for text in arguments.data]
    if arguments.seeds < 1 or not all(folder for *_, folder in named):
        parser.error("--seeds must be at least 1, and --data a name and a folder, as movielens-1m=~/ml-1m")
    reports = [measure(name, Path(folder).expanduser(), arguments.seeds) for name, _, folder in named]
    if arguments.picture:
        draw(reports, arguments.picture)
    if arguments.json:
        print(json.dumps(reports))
        return
    for report in reports:
        (show_markdown if arguments.markdown else show)(report)


if __name__ == "__main__":
    main()
