"""Everyone's top 100 into a bundle, and what the bundle costs those who open it, as the number of users grows.

    python benchmarks/bundle.py [--users 10000 100000 1000000] [--threads 2] [--json] [--picture FILE.png]

For each number of users: made-up data for 27,000 items × 64 factors (seeded; log-normal activity of 50 items a user
on average, Zipf popularity, random factors of which one stands for popularity), then each in a process of its own

- the building: `matinee.training.run.bundle_contents` into `matinee.bundle.write.write_bundle`, as a run does after
  the fit. `arrays` are the seconds for what is of items alone (popularity, biases of ratings); `answers` those
  until all lists are chosen, of which `products` and `selection` in seconds of cores; `writing` what packing the
  users and LMDB take; `hashing` SHA-256 of every file; `forcing` fsync. `peak_mb` is the process's greatest
  resident memory, with interpreter, imports, the snapshot and the model (`data_mb`);
- the opening: for the first time on the host (`verify`: every byte is read and hashed), then again in another
  process (`open`), and reading all pages in before traffic (`touch`);
- real servers (`matinee serve`), one after the other, each asked for the same users: proportional set sizes (PSS,
  from `smaps_rollup`, with the processes that a server starts) of the first, and what each further one adds to the
  sum of all.

The slope is log(core seconds ratio) / log(users ratio) from the size before: 1 where work grows as users do.
Compilation is not counted. Other programs on the machine disturb every figure in seconds, those in seconds of cores
less.
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
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

N_ITEMS, N_FACTORS, TOP = 27_000, 64, 100
MEAN_ACTIVITY, ACTIVITY_SPREAD, MOST_ACTIVE = 50, 1.0, 5_000
"""Items a user has met: the mean, the standard deviation of the logarithm, and the most."""
RATED = 0.1
"""The share of these that were rated, too."""
SEED = 0
MADE_AT_ONCE = 20_000
ASKED = 2_000
"""Users that each server is asked for."""
GOALS = {"total": 180.0, "peak_mb": 6_000.0, "open": 2.0, "further_server_mb": 120.0}
"""At most, for 1,000,000 users."""
STAGES = ("arrays", "answers", "writing", "hashing", "forcing")
LOOKS = {
    "arrays": "#56B4E9",
    "answers": "#0072B2",
    "writing": "#E69F00",
    "hashing": "#009E73",
    "forcing": "#CC79A7",
}

Row = dict[str, Any]


# --- workers: each in a process of its own ----------------------------------------------------------------------


def make_data(n_users: int, folder: Path, _: int) -> Row:
    """Write ends.npy and items.npy (who met what, in the order of users), and the factors of both."""
    import numpy as np  # noqa: PLC0415 - the parent stays small, see `main`

    rng = np.random.default_rng([SEED, n_users])
    popularity = (np.arange(N_ITEMS) + 10.0) ** -0.9
    place = rng.permutation(N_ITEMS).astype(np.int32)  # of each rank, so that neighbours are not alike
    reach = np.cumsum(popularity) / popularity.sum()
    log_mean = math.log(MEAN_ACTIVITY) - ACTIVITY_SPREAD**2 / 2
    pairs = []
    for start in range(0, n_users, MADE_AT_ONCE):
        n = min(MADE_AT_ONCE, n_users - start)
        drawn = np.clip(rng.lognormal(log_mean, ACTIVITY_SPREAD, n), 1, MOST_ACTIVE).astype(np.int64)
        users = np.repeat(np.arange(start, start + n), drawn)
        items = place[np.minimum(np.searchsorted(reach, rng.random(drawn.sum())), N_ITEMS - 1)]
        pairs.append(np.unique(users * N_ITEMS + items))
    every = np.concatenate(pairs)
    np.save(folder / "items.npy", (every % N_ITEMS).astype(np.int32))
    np.save(folder / "ends.npy", np.searchsorted(every // N_ITEMS, np.arange(n_users + 1)))
    item_factors = rng.normal(0, 0.1, (N_ITEMS, N_FACTORS)).astype(np.float32)
    item_factors[place, 0] = (popularity / popularity[0]) ** 0.25
    user_factors = rng.normal(0, 0.5, (n_users, N_FACTORS)).astype(np.float32)
    user_factors[:, 0] = rng.uniform(0.2, 1, n_users)
    np.save(folder / "item_factors.npy", item_factors)
    np.save(folder / "user_factors.npy", user_factors)
    return {}


def build(n_users: int, folder: Path, threads: int) -> Row:
    """Write the bundle into the home `folder`/home, and publish it."""
    import numpy as np  # noqa: PLC0415 - the parent stays small, see `main`

    from matinee.bundle import write  # noqa: PLC0415 - the same
    from matinee.bundle.manifest import CodeVersion, Gate, Provenance  # noqa: PLC0415 - the same
    from matinee.core.clock import SystemClock  # noqa: PLC0415 - the same
    from matinee.core.home import Home  # noqa: PLC0415 - the same
    from matinee.core.settings import TrainingSettings  # noqa: PLC0415 - the same
    from matinee.history.lmdb import LmdbHistory  # noqa: PLC0415 - the same
    from matinee.models import top_n as selection  # noqa: PLC0415 - the same
    from matinee.release.plan import publish  # noqa: PLC0415 - the same
    from matinee.training.run import bundle_contents  # noqa: PLC0415 - the same

    snapshot, model = made_up_run(folder)
    data_mb = _resident_mb()
    selection.top_n(model, np.zeros(1, dtype=np.int32), TOP, threads=threads)  # loads what is compiled
    clock, home, spent = (
        SystemClock(),
        Home(folder / "home"),
        dict.fromkeys(("products", "selection", *STAGES), 0.0),
    )
    for owner, name, stage, seconds in (
        (model, "scores", "products", time.thread_time),
        (selection, "_select", "selection", time.thread_time),
        (write, "file_sha256", "hashing", time.perf_counter),
        (write, "fsync_file", "forcing", time.perf_counter),
    ):
        setattr(owner, name, timed(getattr(owner, name), spent, stage, seconds))

    def told(what: str, done: int, total: int) -> None:
        if done == total or done % (16 * 8_192) < 8_192:
            say(f"  {what}: {done:,} of {total:,}")

    provenance = Provenance(
        model="als", params={}, seed=0, lake_versions={}, offsets=(), time_range=None, row_counts={},
        content_hash="", code=CodeVersion(package="0"), libraries={}, metrics={},
        gate=Gate(passed=True, evidence={}),
    )  # fmt: skip
    settings = TrainingSettings(top_n=TOP, threads=threads)
    started, used = time.perf_counter(), time.process_time()
    contents = bundle_contents(model, snapshot, provenance, settings, told)
    spent["arrays"] = time.perf_counter() - started
    contents = replace(contents, users=timed_blocks(iter(contents.users), spent))
    version = write.write_bundle(home.bundles, contents=contents, clock=clock)
    total, used = time.perf_counter() - started, time.process_time() - used
    spent["writing"] = total - sum(spent[stage] for stage in STAGES if stage != "writing")
    peak_mb = _peak_mb()
    with LmdbHistory(home.data / "history"):
        publish(home.data, version, clock=clock)
    files = {path.name: path.stat().st_size for path in (home.bundles / version).iterdir()}
    return {
        "interactions": len(snapshot.interactions),
        "total": total,
        "processor": used,
        **spent,
        "peak_mb": peak_mb,
        "data_mb": data_mb,
        "users_mb": files["users.lmdb"] / 1e6,
        "bundle_mb": sum(files.values()) / 1e6,
        "bytes_a_user": files["users.lmdb"] / n_users,
    }


def made_up_run(folder: Path) -> tuple[Any, Any]:
    """The snapshot and the model that a run has when it begins to write its bundle."""
    import numpy as np  # noqa: PLC0415 - the parent stays small, see `main`

    from matinee.dataset.attributes import Attributes  # noqa: PLC0415 - the same
    from matinee.dataset.interactions import Interactions  # noqa: PLC0415 - the same
    from matinee.dataset.profile import BatchCounts, Profile  # noqa: PLC0415 - the same
    from matinee.dataset.snapshot import ExtraUsers, Snapshot  # noqa: PLC0415 - the same
    from matinee.dataset.vocabulary import Vocabulary  # noqa: PLC0415 - the same
    from matinee.models.als import ALS, ALSParams  # noqa: PLC0415 - the same

    ends, items = np.load(folder / "ends.npy"), np.load(folder / "items.npy")
    factors = {name: np.load(folder / f"{name}.npy") for name in ("user_factors", "item_factors")}
    n_users, n_rows = len(ends) - 1, len(items)
    rng = np.random.default_rng(SEED)
    users = np.repeat(np.arange(n_users, dtype=np.int32), np.diff(ends))
    everything = np.ones(n_rows, np.float32)
    rating = np.where(rng.random(n_rows) < RATED, rng.integers(1, 6, n_rows), np.nan).astype(np.float32)
    interactions = Interactions(n_users, N_ITEMS, users, items, rating, everything, np.arange(n_rows))
    always = np.iinfo(np.int64)
    attributes = Attributes(
        titles=tuple(f"Some Title of a Movie {index}" for index in range(N_ITEMS)),
        genres=tuple(f"Genre {index:02d}" for index in range(18)),
        genre_mask=rng.random((N_ITEMS, 18)) < 0.1,
        year=rng.integers(1920, 2026, N_ITEMS).astype(np.int16),
        age_limit=np.zeros(N_ITEMS, np.uint8),
        available_from_us=np.full(N_ITEMS, always.min),
        available_until_us=np.full(N_ITEMS, always.max),
    )
    snapshot = Snapshot(
        interactions=interactions,
        users=Vocabulary(f"user{index:07d}" for index in range(n_users)),
        items=Vocabulary(f"some+title+of+a+movie+{index:05d}+1999" for index in range(N_ITEMS)),
        extra_items=(), lake_versions={}, offsets={}, time_range=None, row_counts={}, content_hash="",
        earlier_hashes=(),
        item_minutes=np.full(N_ITEMS, 100, np.float32),
        segments=["a", "b", "c"],
        user_segment=rng.integers(0, 3, n_users).astype(np.int16),
        user_age=rng.integers(14, 80, n_users).astype(np.int16),
        extra_users=ExtraUsers((), np.empty(0, np.int16), np.empty(0, np.int16)),
        attributes=attributes,
        profile=Profile(n_rows, 0, 0, None, (), {}, {}, {}, N_ITEMS, 0, BatchCounts()),
    )  # fmt: skip
    state = {
        **factors,
        "prior": factors["user_factors"].mean(axis=0),
        "mean_total": np.ones(1),
        "item_mean_total": np.ones(1),
        "user_gram": np.eye(N_FACTORS),
        "shape": np.array([n_users, N_ITEMS]),
    }
    return snapshot, ALS.from_state(ALSParams(n_factors=N_FACTORS), state)


def timed(
    function: Callable[..., Any],
    spent: dict[str, float],
    stage: str,
    clock: Callable[[], float] = time.perf_counter,
) -> Callable[..., Any]:
    """The function, adding the seconds of each call to a stage."""

    def call(*arguments: Any) -> Any:
        started = clock()
        try:
            return function(*arguments)
        finally:
            spent[stage] += clock() - started

    return call


def timed_blocks(blocks: Iterator[Any], spent: dict[str, float]) -> Iterator[Any]:
    """The blocks, the seconds until each comes added to `answers`."""
    while True:
        started = time.perf_counter()
        block = next(blocks, None)
        spent["answers"] += time.perf_counter() - started
        if block is None:
            return
        yield block


def open_once(_: int, folder: Path, __: int) -> Row:
    """Open the bundle, then read all its pages in."""
    from matinee.bundle.manifest import list_versions  # noqa: PLC0415 - the parent stays small, see `main`
    from matinee.bundle.open import open_bundle  # noqa: PLC0415 - the same
    from matinee.core.home import Home  # noqa: PLC0415 - the same

    home = Home(folder / "home")
    path = home.bundles / list_versions(home.bundles)[-1]
    started = time.perf_counter()
    with open_bundle(path, home.run) as bundle:
        opened = time.perf_counter()
        bundle.touch()
        return {"open": opened - started, "touch": time.perf_counter() - opened}


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


# --- the servers ------------------------------------------------------------------------------------------------


def serve_and_measure(n_users: int, folder: Path, n_servers: int) -> Row:
    """Start servers one after the other, ask each the same, and see what all of them hold in memory."""
    users = [f"user{(number * 7_919) % n_users:07d}" for number in range(ASKED)]
    totals = []
    with contextlib.ExitStack() as stack:
        pids = []
        for _ in range(n_servers):
            pid, port = stack.enter_context(server(folder))
            ask(port, users)
            pids.append(pid)
            totals.append(sum(_smaps_with_children(pid, "Pss") for pid in pids) / 1e6)
        private_mb = sum(_smaps_with_children(pids[-1], key) for key in ("Private_Clean", "Private_Dirty")) / 1e6
    further = (totals[-1] - totals[0]) / (n_servers - 1)
    return {"first_server_mb": totals[0], "further_server_mb": further, "private_mb": private_mb}


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[int, int]]:
    """A server of the home, ready: its process id and port."""
    import httpx  # noqa: PLC0415 - the parent stays small, see `main`

    from matinee.serving.server import require_free  # noqa: PLC0415 - the same

    port = require_free("127.0.0.1", 0)
    command = [sys.executable, "-m", "matinee", "serve", "--home", str(folder / "home"), "--port", str(port)]
    said = folder / "server.txt"
    with said.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"a server did not become ready: {said.read_text()}")
            time.sleep(0.1)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(30)


def ask(port: int, users: list[str]) -> None:
    """One request after the other; each must get a personal answer."""
    import httpx  # noqa: PLC0415 - the parent stays small, see `main`

    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for user in users:
            if client.get(f"/recommend/{user}").status_code != 200:
                raise SystemExit(f"no answer for {user}")


def _smaps_with_children(pid: int, key: str) -> int:
    import psutil  # noqa: PLC0415 - the parent stays small, see `main`

    return sum(_smaps(one, key) for one in (pid, *(child.pid for child in psutil.Process(pid).children(True))))


def _smaps(pid: int, key: str) -> int:
    """Bytes that `smaps_rollup` says of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"smaps_rollup knows no {key}")


# --- the parent -------------------------------------------------------------------------------------------------

WORKERS = {"make": make_data, "build": build, "open": open_once, "serve": serve_and_measure}


def worker(which: str, n_users: int, folder: Path, number: int) -> Row:
    """Run one worker and return what it reports."""
    command = [sys.executable, __file__, "--worker", which, str(n_users), str(folder), str(number)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{which} for {n_users:,} users ended with status {done.returncode}")
    result: Row = json.loads(done.stdout.splitlines()[-1])
    return result


def run_size(n_users: int, threads: int, n_servers: int) -> Row:
    """Everything for one number of users."""
    with tempfile.TemporaryDirectory(prefix="matinee-benchmark-") as name:
        folder = Path(name)
        say(f"{n_users:,} users: making data")
        worker("make", n_users, folder, 0)
        built = worker("build", n_users, folder, threads)
        say(f"  built in {built['total']:.1f} s, {built['peak_mb']:,.0f} MB at the peak")
        first, again = (worker("open", n_users, folder, 0) for _ in range(2))
        say(f"  verified in {first['open']:.2f} s, opened again in {again['open']:.3f} s; starting servers")
        return {"users": n_users, "items": N_ITEMS, "factors": N_FACTORS, "threads": threads, **built,
                "verify": first["open"], **again, **worker("serve", n_users, folder, n_servers)}  # fmt: skip


def with_slopes(rows: list[Row]) -> list[Row]:
    """The rows, sizes ascending, with `slope`: the exponent from the size before; None for the first."""
    found = []
    for before, row in zip([None, *rows], rows, strict=False):
        slope = None
        if before is not None:
            growth = row["processor"] / before["processor"]
            slope = math.log(growth) / math.log(row["users"] / before["users"])
        found.append({**row, "slope": slope})
    return found


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)


FORMS = {
    "interactions": (",", "interactions"),
    "total": (".1f", "build, s"),
    "slope": (".2f", "slope"),
    "processor": (".1f", "build, core s"),
    "arrays": (".1f", "of items, s"),
    "answers": (".1f", "answers, s"),
    "products": (".1f", "  products, core s"),
    "selection": (".1f", "  selection, core s"),
    "writing": (".1f", "writing, s"),
    "hashing": (".2f", "hashing, s"),
    "forcing": (".2f", "forcing, s"),
    "peak_mb": (",.0f", "peak, MB"),
    "data_mb": (",.0f", "  before building, MB"),
    "bundle_mb": (",.0f", "bundle, MB"),
    "bytes_a_user": (",.0f", "users' file, bytes a user"),
    "verify": (".2f", "verify and open, s"),
    "open": (".3f", "open again, s"),
    "touch": (".3f", "touch, s"),
    "first_server_mb": (",.0f", "first server, PSS MB"),
    "further_server_mb": (",.0f", "each further, PSS MB"),
    "private_mb": (",.0f", "  of it private, MB"),
}
"""How each figure is shown, and what it is called."""


def show(rows: list[Row]) -> None:
    """The table for people."""
    from rich.console import Console  # noqa: PLC0415 - programs need none
    from rich.table import Table  # noqa: PLC0415 - the same

    title = f"A bundle of {N_ITEMS:,} items × {N_FACTORS} factors, threads: {rows[0]['threads']}"
    table = Table(title=title)
    table.add_column("users")
    for row in rows:
        table.add_column(f"{row['users']:,}", justify="right")
    table.add_column("at most, for 1,000,000", justify="right")
    for key, (form, name) in FORMS.items():
        cells = ("–" if row[key] is None else format(row[key], form) for row in rows)
        table.add_row(name, *cells, format(GOALS[key], form) if key in GOALS else "")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def draw(rows: list[Row], file: Path) -> None:
    """Seconds by stage, and megabytes, against users; all axes logarithmic."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only for the picture

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    users = [row["users"] for row in rows]
    for stage in STAGES:
        time_axes.plot(users, [row[stage] for row in rows], color=LOOKS[stage], marker="o", label=stage)
    time_axes.plot(users, [row["total"] for row in rows], color="black", marker="s", label="all")
    for key, name, colour in (
        ("peak_mb", "peak of the building", "#D55E00"),
        ("data_mb", "before the building", "#56B4E9"),
        ("bundle_mb", "bundle", "#009E73"),
        ("further_server_mb", "each further server (PSS)", "#CC79A7"),
    ):
        memory_axes.plot(users, [row[key] for row in rows], color=colour, marker="o", label=name)
    for axes, heading in ((time_axes, "seconds"), (memory_axes, "MB")):
        axes.set(xscale="log", yscale="log", xlabel="users", ylabel=heading)
        axes.set_xticks(users, [f"{n:,}" for n in users])
        axes.minorticks_off()
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    figure.savefig(file, dpi=150)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="sizes")
    parser.add_argument("--threads", type=int, default=2, help="cores to build with")
    parser.add_argument("--servers", type=int, default=3, help="servers to start, at least 2")
    parser.add_argument("--json", action="store_true", help="a list of objects, one a size")
    parser.add_argument("--picture", type=Path, help="file for the picture, as bundle.png; needs matplotlib")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if min(arguments.users) < 1 or arguments.threads < 1 or arguments.servers < 2:
        parser.error("--users and --threads must be at least 1, --servers at least 2")
    if arguments.picture and importlib.util.find_spec("matplotlib") is None:
        parser.error("--picture needs matplotlib: pip install matplotlib")
    return arguments


def main() -> None:
    """Run what was asked for.

    The parent imports next to nothing: Linux counts the memory that a process had before it became the worker.
    """
    arguments = _arguments()
    if arguments.worker:
        which, n_users, folder, number = arguments.worker
        with contextlib.redirect_stdout(sys.stderr):
            result = WORKERS[which](int(n_users), Path(folder), int(number))
        print(json.dumps(result))
        return
    sizes = sorted(set(arguments.users))
    rows = with_slopes([run_size(n_users, arguments.threads, arguments.servers) for n_users in sizes])
    if arguments.picture:
        draw(rows, arguments.picture)
    if arguments.json:
        print(json.dumps(rows))
    else:
        show(rows)


if __name__ == "__main__":
    main()
