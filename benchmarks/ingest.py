"""Lines per second from the log to lake and history, and from a file to the same, on one core.

    python benchmarks/ingest.py --path movielog.csv.gz [--log sqlite kafka] [--lines 1000000] [--runs 3] [--profile]

Takes real lines of the scenario and repeats them with their times and users shifted, so that no line comes twice.
Each run has a home of its own. The scenario has 500 lines/s; the target is 100,000 lines/s from the log to lake
and history. Two rates are given: by the clock, and by the processor's time, which other programs do not
lengthen. A broker may run on any core and its time is not counted; all threads of ingest are on the one.
"""

import argparse
import cProfile
import gzip
import json
import os
import pstats
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

os.environ["POLARS_MAX_THREADS"] = "1"

from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.core.logging import configure_logging
from matinee.core.settings import LakeSettings, LoggingSettings, LogSettings, Settings
from matinee.ingest.importing import Importer
from matinee.ingest.service import ingest
from matinee.ingest.stores import stores_of
from stream_logs import LOGS, a_broker, kind_of_log

SETTINGS = Settings(lake=LakeSettings(retention_days=100_000))
APPEND = 5_000
SCENARIO = 500
"""Lines a second."""
Seconds = tuple[float, float]
"""By the clock, and of the processor."""
_LINE = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)([^,]*),(\d+),(.*)", re.DOTALL)


def main() -> None:
    """Measure, and print the figures."""
    arguments = _arguments()
    lines = repeated(arguments.path, arguments.lines)
    print(f"{len(lines):,} lines, one core, {arguments.runs} runs each")
    results = {}
    with ExitStack() as stack:
        brokers = {kind: stack.enter_context(a_broker(kind)) for kind in arguments.log}  # before the core is chosen
        os.sched_setaffinity(0, {arguments.core})
        for kind, new_url in brokers.items():
            runs = [from_log(lines, new_url(), arguments.profile) for _ in range(arguments.runs)]
            results[f"{kind} log to lake and history"] = runs
    results["file to lake and history"] = [from_file(lines, arguments.profile) for _ in range(arguments.runs)]
    for name, seconds in results.items():
        for which, what in enumerate(("by the clock", "by processor time")):
            rates = [len(lines) / both[which] for both in seconds]
            spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
            median = statistics.median(rates)
            print(
                f"{name}, {what}: median {median:,.0f} lines/s ({spread}), {median / SCENARIO:,.0f} × the scenario"
            )
    print(json.dumps({"lines": len(lines), "wall_and_processor_seconds": results}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=Path, required=True, help="lines of the scenario, plain or gzip")
    parser.add_argument("--log", nargs="+", type=kind_of_log, choices=LOGS, default=["sqlite"])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--profile", action="store_true", help="say where the time of the polling thread goes")
    return parser.parse_args()


def repeated(path: Path, wanted: int) -> list[bytes]:
    """Real lines, again and again: 100 s later and of users 100,003 further on each time (of a million)."""
    data = path.read_bytes()
    real = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).splitlines()
    lines: list[bytes] = []
    while len(lines) < wanted:
        turn = len(lines) // len(real)
        lines += (_shifted(line, turn) for line in real)
    return lines[:wanted]


def _shifted(line: bytes, turn: int) -> bytes:
    parts = _LINE.fullmatch(line)
    if turn == 0 or parts is None:
        return line
    moment = datetime.fromisoformat(parts[1].decode()) + timedelta(seconds=100 * turn)
    user = (int(parts[3]) + 100_003 * turn) % 1_000_000
    return b"%s%s,%d,%s" % (moment.isoformat().encode(), parts[2], user, parts[4])


def from_log(lines: list[bytes], url: str, profile: bool) -> Seconds:
    """An ingest from the log's beginning to its end, opening and last commit included."""
    settings = SETTINGS.model_copy(update={"log": LogSettings(url=url)})
    with a_home() as home:
        with stores_of(settings, home, SystemClock()).log() as log:
            partitions = sorted(log.ends()) or [0]
            for number, start in enumerate(range(0, len(lines), APPEND)):
                log.append(lines[start : start + APPEND], partition=partitions[number % len(partitions)])
        return timed(lambda: _ingest(settings, home, len(lines)), profile)


def _ingest(settings: Settings, home: Home, n_lines: int) -> None:
    report = ingest(settings=settings, home=home, clock=SystemClock(), raise_alarm=_complain, until_idle=True)
    assert report.counts.read == n_lines, report


def from_file(lines: list[bytes], profile: bool) -> Seconds:
    """An import, the file's hash and history included."""
    with a_home() as home:
        path = home.path / "lines"
        path.write_bytes(b"\n".join(lines))
        stores = stores_of(SETTINGS, home, SystemClock())
        importer = Importer(home=home, lake=stores.lake(), history=stores.history, clock=SystemClock())
        return timed(lambda: importer.lines(path), profile)


@contextmanager
def a_home() -> Iterator[Home]:
    """A home that is gone after the block."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        configure_logging("benchmark", home.logs, LoggingSettings())
        yield home


def timed(body: Callable[[], Any], profile: bool) -> Seconds:
    """How long `body` takes, by the clock and by the processor."""
    profiler = cProfile.Profile()
    began, worked = time.perf_counter(), time.process_time()
    if profile:
        profiler.runcall(body)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    else:
        body()
    return time.perf_counter() - began, time.process_time() - worked


def _complain(*alarm: object) -> None:
    raise AssertionError(alarm)


if __name__ == "__main__":
    main()
