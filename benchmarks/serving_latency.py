"""Latency under load with telemetry on, off, and stalled, and what became of every record. See `serving.py`."""

import math
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from matinee.core.home import Home
from serving_load import Latencies, open_loop, to_last_core
from serving_report import divided, spread, told
from serving_servers import Target

Ask = Callable[[int], Sequence[str]]
"""So many paths to ask for, other ones each time."""
Slice = tuple[Latencies, dict[str, int]]
"""What a loop measured, and what became of its records."""
LOOP_OF_STALL, BEFORE_STALL = 1.2, 0.1
"""How long a loop takes, and when the log stalls in it, as shares of how long the stall lasts."""
OUTCOMES = ("asked", "offered", "written", "dropped")
"""Requests, how many of their answers telemetry was given to record, and what became of those."""
SLICES = 4
"""Pieces in which telemetry on and off take turns within a round, so that the same moments are measured."""
QUEUE_SECONDS = 60.0
"""How long telemetry may take to write what waits when a stall is over: its writer has only idle time to do so."""
HOLD_LOCK = """
import sqlite3, sys, time
log = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
time.sleep(float(sys.argv[2]))
log.execute("BEGIN IMMEDIATE")
time.sleep(float(sys.argv[3]))
log.execute("ROLLBACK")
"""


@contextmanager
def stalled(home: Home) -> Iterator[None]:
    """Let nobody append to the log while the block lasts."""
    with closing(sqlite3.connect(home.data / "log.sqlite", isolation_level=None, timeout=10)) as log:
        log.execute("BEGIN IMMEDIATE")
        yield
        log.execute("ROLLBACK")


def records(home: Home) -> int:
    """How many records the log has ever held."""
    with closing(sqlite3.connect(home.data / "log.sqlite")) as log:
        row = log.execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'").fetchone()
    return 0 if row is None else int(row[0])


def counted(target: Target) -> dict[str, int]:
    """What became of the records so far."""
    names = {
        "offered": "offered_total",
        "written": "written_total",
        "dropped": "dropped_total",
        "waiting": "queued",
    }
    found = target.metrics([f"matinee_telemetry_{name}" for name in names.values()])
    return {name: int(value) for name, value in zip(names, found, strict=True)}


def settled(target: Target) -> dict[str, int]:
    """The counts when nothing waits any more. Not before: they are read one after the other, and then they rest."""
    end = time.monotonic() + QUEUE_SECONDS
    while waiting := counted(target)["waiting"]:
        if time.monotonic() > end:
            raise SystemExit(f"{waiting} records still wait {QUEUE_SECONDS:g} s after the load")
        time.sleep(0.1)
    return counted(target)


def measured_loop(
    target: Target, home: Home, ask: Ask, rate: float, seconds: float, *, stall: float = 0.0
) -> Slice:
    """An open loop, the log stalled in it for so long, and what became of its records: exactly, or it fails."""
    paths = ask(math.ceil(rate * seconds))
    before, rows = counted(target), records(home)
    holder = None
    if stall:
        command = [sys.executable, "-c", HOLD_LOCK, str(home.data / "log.sqlite")]
        holder = subprocess.Popen([*command, str(stall * BEFORE_STALL), str(stall)])
    found = open_loop(target.port, paths, rate, seconds)
    if holder is not None and holder.wait(60):
        raise SystemExit("the log could not be stalled")
    after = settled(target)
    change = {name: after[name] - before[name] for name in after}
    if change["offered"] != change["written"] + change["dropped"] or records(home) - rows != change["written"]:
        raise SystemExit(f"telemetry counted {change}; the log has {records(home) - rows} records more")
    return found, change


def one_round(on: Target, off: Target, home: Home, ask: Ask, rate: float, stall: float) -> dict[str, list[Slice]]:
    """The slices with telemetry on and off, in turns, and the one of the stalled log."""
    seconds = stall * LOOP_OF_STALL
    found: dict[str, list[Slice]] = {"on": [], "off": []}
    for number in range(SLICES):
        for name, target in (("on", on), ("off", off))[:: 1 if number % 2 else -1]:
            found[name].append(measured_loop(target, home, ask, rate, seconds / SLICES))
    return found | {"stalled": [measured_loop(on, home, ask, rate, seconds, stall=stall)]}


def milliseconds(latencies: Sequence[float], share: float) -> float:
    """That percentile of latencies in seconds."""
    return float(np.percentile(latencies, share)) * 1e3


def stalled_over_off(found: dict[str, list[Slice]]) -> float:
    """The p99 of the stalled slice over that of the round's slices without telemetry, taken together.

    Together they are as long as the stalled one. The median of their own percentiles would leave out the second in
    which the machine did something else, which the long slice can't.
    """
    off = [latency for each, _ in found["off"] for latency in each.latencies]
    return milliseconds(found["stalled"][0][0].latencies, 99.0) / milliseconds(off, 99.0)


def described(found: Latencies, counts: dict[str, int]) -> dict[str, float]:
    """Milliseconds by percentile, and what became of the records."""
    of = {f"p{share:g}": milliseconds(found.latencies, share) for share in (50.0, 99.0, 99.9)}
    return (
        of | {"lag_p99": milliseconds(found.lags, 99.0), "asked": len(found.lags), "failed": found.failed} | counts
    )


def measure_latency(
    on: Target, off: Target, home: Home, ask: Ask, rate: float, rounds: int, stall: float
) -> dict[str, Any]:
    """Milliseconds at a fixed rate with telemetry on, off, and stalled for so many seconds, and ratios of the p99.

    The ratio of on and off is taken within each pair of slices, that of stalled and off within each round.
    """
    to_last_core()
    found: dict[str, list[dict[str, float]]] = {"on": [], "off": [], "stalled": []}
    stalled_ratios = []
    for number in range(rounds + 1):
        told(f"latency at {rate}/s, round {number} of {rounds}")
        of = one_round(on, off, home, ask, rate, stall)
        for name, measured in of.items():
            slices = [described(*each) for each in measured]
            if any(each["offered"] != (0 if name == "off" else each["asked"]) for each in slices):
                raise SystemExit(f"telemetry {name}: not every answer was offered: {slices}")
            if number:  # the first round warms up
                found[name] += slices
        if number:
            stalled_ratios.append(stalled_over_off(of))
    values = {
        name: {label: [each[label] for each in slices] for label in ("p50", "p99", "p99.9", "lag_p99")}
        for name, slices in found.items()
    }
    lag = statistics.median(value for of in values.values() for value in of["lag_p99"])
    return {
        "requests_per_second": rate,
        "failed": sum(each["failed"] for slices in found.values() for each in slices),
        "records": {
            name: {of: sum(each[of] for each in slices) for of in OUTCOMES} for name, slices in found.items()
        },
        "milliseconds": {name: {label: spread(v) for label, v in of.items()} for name, of in values.items()},
        "p99_on_over_off": spread(divided(values["on"]["p99"], values["off"]["p99"])),
        "p99_stalled_over_off": spread(stalled_ratios),
        "lost_while_stalled": [each["dropped"] for each in found["stalled"]],
        "generator_kept_up": lag <= 0.1 * statistics.median(values["off"]["p99"]),
    }
