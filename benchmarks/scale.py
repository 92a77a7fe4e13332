"""Time and peak memory of fits as users, items and interactions grow: svd, svdpp, als and ease on made-up data.

    python benchmarks/scale.py [--largest 2] [--models svd als] [--runs 1] [--json] [--picture FILE.png]

Sizes: 10 000 users, 2 700 items, 0.5 million interactions; ten times the users and interactions; a hundred times
(1 million users, 27 000 items, 50 million). Items grow as the square root, so users keep 50 interactions on average
and an item gets more. The data are seeded: Zipf-like activity and popularity, ratings of 1 to 5 from planted biases
and tastes with noise, one row for each pair, sorted by user; they are written once a size to a temporary folder (12
bytes a row), and making them takes little more memory than that.

Each fit has a process of its own, on as many cores as `--threads` says. Hyperparameters are the defaults, save for
few epochs, equal at all sizes: svd 3, svdpp 2, als 2; ease is solved in one go. `seconds` is the whole fit without
compilation and reading; `seconds_per_epoch` is measured between ends of epochs, so without what comes before them
and after (als then solves all users exactly, which takes most of so short a fit). `peak_mb` is the process's
greatest resident memory, with interpreter, imports and data; `data_mb` are the arrays given to the fit, `before_mb`
the peak before it began. The slope is log(seconds ratio) / log(interactions ratio) from the size before: 1 where
time grows as the interactions do. Other programs on the machine disturb single runs: see `--runs`.
"""

import argparse
import contextlib
import importlib.util
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = ((10_000, 2_700, 500_000), (100_000, 8_500, 5_000_000), (1_000_000, 27_000, 50_000_000))
"""Users, items, interactions."""

EPOCHS: dict[str, int | None] = {"svd": 3, "svdpp": 2, "als": 2, "ease": None}
"""Epochs of each model; None where it has none."""

SEED = 0
N_TASTES = 8
NOISE = 0.5
"""Standard deviation of what is added to a planted rating, in stars."""

LOOKS = {"svd": ("#0072B2", "o"), "svdpp": ("#D55E00", "s"), "als": ("#009E73", "^"), "ease": ("#CC79A7", "D")}
"""Okabe and Ito's colours, which the colour-blind tell apart, and markers."""

Row = dict[str, Any]
"""One fit, or what a worker reports."""


# --- workers: each in a process of its own ----------------------------------------------------------------------


def make_data(size: int, folder: Path) -> Row:
    """Write user.npy, item.npy (int32) and rating.npy (float32) to `folder`."""
    import numpy as np  # noqa: PLC0415 - the parent stays small, see `main`

    n_users, n_items, n_rows = SIZES[size - 1]
    rng = np.random.default_rng([SEED, size])
    # Shares of rank / n, not rank: the shape of the activity is the same at all sizes, at most 8.4 means.
    activity = rng.permutation((np.arange(n_users) / n_users + 0.02) ** -0.8)
    ends = np.floor(np.cumsum(activity) / activity.sum() * n_rows + 1e-6).astype(np.int64)
    ends[-1] = n_rows
    popularity = rng.permutation((np.arange(n_items) + 10.0) ** -0.9)
    reach = np.cumsum(popularity) / popularity.sum()
    user = np.repeat(np.arange(n_users, dtype=np.int32), np.diff(ends, prepend=0))
    item, rating = np.empty(n_rows, dtype=np.int32), np.empty(n_rows, dtype=np.float32)
    newest = np.full(n_items, -1, dtype=np.int32)
    item_bias = rng.normal(0, 0.4, n_items).astype(np.float32)
    tastes = rng.normal(0, N_TASTES**-0.25, (n_items, N_TASTES)).astype(np.float32)
    for u, (start, end) in enumerate(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)):
        filled = start
        while filled < end:  # what was drawn before is drawn again
            drawn = np.unique(np.searchsorted(reach, rng.random(end - filled), side="right"))
            fresh = drawn[(drawn < n_items) & (newest[np.minimum(drawn, n_items - 1)] != u)]
            newest[fresh] = u
            item[filled : filled + fresh.size] = fresh
            filled += fresh.size
        its = item[start:end]
        own = rng.normal(0, N_TASTES**-0.25, N_TASTES).astype(np.float32)
        planted = 3.5 + rng.normal(0, 0.4) + item_bias[its] + 0.5 * (tastes[its] @ own)
        rating[start:end] = np.clip(np.rint(planted + rng.normal(0, NOISE, its.size)), 1, 5)
    for name, array in (("user", user), ("item", item), ("rating", rating)):
        np.save(folder / f"{name}.npy", array)
    return {}


def fit(name: str, size: int, threads: int, folder: Path, *, only_compile: bool) -> Row:
    """Fit one model to the data in `folder` and measure; a note where it refuses."""
    import numpy as np  # noqa: PLC0415 - the parent stays small, see `main`

    from matinee.core.errors import Unsuitable  # noqa: PLC0415 - the same
    from matinee.dataset.interactions import Interactions  # noqa: PLC0415 - the same
    from matinee.models.registry import make  # noqa: PLC0415 - the same

    n_users, n_items, n_rows = SIZES[size - 1]
    user, item, rating = (np.load(folder / f"{column}.npy") for column in ("user", "item", "rating"))
    data = Interactions(n_users, n_items, user, item, rating, np.full(n_rows, np.nan, dtype=np.float32))
    given = {} if EPOCHS[name] is None else {"n_epochs": EPOCHS[name]}
    few = Interactions(50, 50, user[:100] % 50, item[:100] % 50, rating[:100], data.watched[:100])
    make(name, given).fit(few, threads=threads)  # loads what is compiled
    if only_compile:
        return {}
    ends: list[float] = []
    before = _peak_mb()
    started = time.perf_counter()
    try:
        make(name, given).fit(
            data, seed=SEED, threads=threads, progress=lambda *_: ends.append(time.perf_counter())
        )
    except Unsuitable as error:
        return {"note": str(error)}
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "seconds_per_epoch": (ends[-1] - ends[0]) / (len(ends) - 1) if given else None,
        "peak_mb": _peak_mb(),
        "before_mb": before,
        "data_mb": sum(array.nbytes for array in (user, item, rating, data.watched)) / 1e6,
    }


def _peak_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


# --- the parent -------------------------------------------------------------------------------------------------


def worker(threads: int, *which: str) -> Row:
    """Run one worker and return what it reports; a `note` where it failed."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    command = [sys.executable, __file__, "--threads", str(threads), "--worker", *which]
    environment = os.environ | dict.fromkeys(names, str(threads))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"note": f"ended with status {done.returncode}: {last}"}
    result: Row = json.loads(done.stdout.splitlines()[-1])
    return result


def run_size(size: int, models: list[str], threads: int, n_runs: int) -> list[Row]:
    """All models at one size. Each is compiled before, in another process, lest that count in its memory."""
    n_users, n_items, n_rows = SIZES[size - 1]
    rows = []
    with tempfile.TemporaryDirectory(prefix="matinee-benchmark-") as scratch:
        started = time.perf_counter()
        made = worker(threads, "make", "", str(size), scratch)
        say(f"size {size}: {made.get('note') or f'data made in {time.perf_counter() - started:.0f} s'}")
        for name in models:
            if not made:
                worker(threads, "compile", name, str(size), scratch)
            found = made or typical([worker(threads, "fit", name, str(size), scratch) for _ in range(n_runs)])
            nothing = dict.fromkeys(("seconds", "seconds_per_epoch", "peak_mb", "before_mb", "data_mb", "note"))
            row = {"model": name, "users": n_users, "items": n_items, "interactions": n_rows,
                   "epochs": EPOCHS[name], "threads": threads, **nothing, **found}  # fmt: skip
            told = row["note"] or f"{row['seconds']:.2f} s, {row['peak_mb']:.0f} MB"
            say(f"size {size}, {name}: {told}")
            rows.append(row)
    return rows


def typical(runs: list[Row]) -> Row:
    """The run of median seconds (of an even number the faster one); the first that failed if one did."""
    failed = [run for run in runs if "note" in run]
    return failed[0] if failed else sorted(runs, key=lambda run: run["seconds"])[(len(runs) - 1) // 2]


def with_slopes(rows: list[Row]) -> list[Row]:
    """The rows, sizes ascending, with `slope`: the exponent from the size before; None where there is none."""
    before: dict[str, Row] = {}
    found = []
    for row in rows:
        last, slope = before.get(row["model"]), None
        if last and last["seconds"] and row["seconds"]:
            growth = row["interactions"] / last["interactions"]
            slope = math.log(row["seconds"] / last["seconds"]) / math.log(growth)
        before[row["model"]] = row
        found.append({**row, "slope": slope})
    return found


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)


def show(rows: list[Row], models: list[str]) -> None:
    """The table for people."""
    from rich.console import Console  # noqa: PLC0415 - programs need none
    from rich.table import Table  # noqa: PLC0415 - the same

    table = Table(title=f"Fits as the data grow, threads: {rows[0]['threads']}")
    table.add_column("model")
    for heading in (
        "users",
        "items",
        "interactions",
        "epochs",
        "fit s",
        "s an epoch",
        "peak MB",
        "data MB",
        "slope",
    ):
        table.add_column(heading, justify="right")
    forms = {"users": ",", "items": ",", "interactions": ",", "epochs": "d", "seconds": ".2f",
             "seconds_per_epoch": ".3f", "peak_mb": ",.0f", "data_mb": ",.0f", "slope": ".2f"}  # fmt: skip
    ordered = sorted(rows, key=lambda row: (models.index(row["model"]), row["interactions"]))
    for row in ordered:
        cells = ("–" if row[key] is None else format(row[key], form) for key, form in forms.items())
        table.add_row(row["model"], *cells)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for row in ordered:
        if row["note"]:
            console.print(f"{row['model']}, {row['interactions']:,} interactions: {row['note']}", markup=False)


def draw(rows: list[Row], models: list[str], file: Path) -> None:
    """Time and memory against interactions, both axes logarithmic."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only for the picture

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, key, heading in zip(panels, ("seconds", "peak_mb"), ("fit, seconds", "peak memory, MB"), strict=True):
        for name in models:
            good = [row for row in rows if row["model"] == name and row[key] is not None]
            colour, marker = LOOKS[name]
            label = name if EPOCHS[name] is None else f"{name}, {EPOCHS[name]} epochs"
            x, y = [row["interactions"] for row in good], [row[key] for row in good]
            axes.plot(x, y, color=colour, marker=marker, label=label)
        if key == "peak_mb":
            data = sorted({(row["interactions"], row["data_mb"]) for row in rows if row["data_mb"] is not None})
            axes.plot(*zip(*data, strict=True), color="black", linestyle=":", label="the data alone")
        axes.set(xscale="log", yscale="log", xlabel="interactions, millions", ylabel=heading)
        at = sorted({row["interactions"] for row in rows})
        axes.set_xticks(at, [f"{n / 1e6:g}" for n in at])
        axes.minorticks_off()
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    figure.savefig(file, dpi=150)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", type=int, default=1, choices=(1, 2, 3), help="size to begin with")
    parser.add_argument("--largest", type=int, default=2, choices=(1, 2, 3), help="size to end with")
    parser.add_argument("--models", nargs="+", default=list(EPOCHS), choices=list(EPOCHS))
    parser.add_argument("--threads", type=int, default=1, help="cores that each process may use")
    parser.add_argument("--runs", type=int, default=1, help="fits of each; the one of median seconds is shown")
    parser.add_argument("--json", action="store_true", help="a list of objects, one a fit")
    parser.add_argument("--picture", type=Path, help="file for the picture, as scale.png; needs matplotlib")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("--runs must be at least 1")
    if arguments.smallest > arguments.largest:
        parser.error("--smallest exceeds --largest")
    if arguments.picture and importlib.util.find_spec("matplotlib") is None:
        parser.error("--picture needs matplotlib: pip install matplotlib")
    return arguments


def _work(which: str, name: str, size: int, folder: Path, threads: int) -> Row:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if which == "make":
        return make_data(size, folder)
    return fit(name, size, threads, folder, only_compile=which == "compile")


def main() -> None:
    """Run what was asked for.

    The parent imports next to nothing: Linux counts the memory that a process had before it became the worker.
    """
    arguments = _arguments()
    if arguments.worker:
        which, name, size, folder = arguments.worker
        with contextlib.redirect_stdout(sys.stderr):
            result = _work(which, name, int(size), Path(folder), arguments.threads)
        print(json.dumps(result))
        return
    measured: list[Row] = []
    for size in range(arguments.smallest, arguments.largest + 1):
        measured += run_size(size, arguments.models, arguments.threads, arguments.runs)
    rows = with_slopes(measured)
    if arguments.picture and all(row["note"] for row in rows):
        say("nothing was measured, so there is no picture")
    elif arguments.picture:
        draw(rows, arguments.models, arguments.picture)
    if arguments.json:
        print(json.dumps(rows))
    else:
        show(rows, arguments.models)


if __name__ == "__main__":
    main()
