"""What exchanging the bundle under load costs the answers: an open loop without exchanges and with, in turns.

    python benchmarks/swap.py [--users 100000] [--rate 2000] [--rounds 5] [--seconds 6] [--json]

One `matinee serve`, held to the first core; the generator (see `serving.py`) has the last one, and bundles are
published from there too, one a second: each is verified, opened, warmed up and exchanged for the one before.
Reported are p99 and the slowest answer of each run, in milliseconds, as medians with their spread; a failed request
ends the benchmark.
"""

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

from matinee.bundle.manifest import list_versions, read_manifest
from matinee.bundle.write import rewrite_bundle
from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.core.logging import configure_logging
from matinee.core.settings import LoggingSettings
from matinee.release.plan import publish
from serving_home import looked_up, open_home, user
from serving_latency import milliseconds
from serving_load import open_loop, to_last_core
from serving_report import spread, told
from serving_servers import Target, running

EVERY_SECONDS = 1.0


@contextmanager
def exchanges(home: Home) -> Iterator[None]:
    """Publish one bundle after the other while the block lasts, from a process that gives way to the generator."""
    command = [sys.executable, __file__, "--publish", str(home.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as publisher:
        yield
        publisher.communicate()


def publish_until_told(home: Home) -> None:
    """Publish the bundles in turn, until standard input ends."""
    os.nice(19)
    versions = cycle(list_versions(home.bundles))
    while not select.select([sys.stdin], [], [], EVERY_SECONDS)[0]:
        publish(home.data, next(versions), clock=SystemClock())


def measured(target: Target, paths: list[str], options: argparse.Namespace) -> dict[str, float]:
    """p99 and the slowest answer of one run."""
    found = open_loop(target.port, paths, options.rate, options.seconds)
    if found.failed:
        raise SystemExit(f"{found.failed} requests failed")
    return {"p99": milliseconds(found.latencies, 99.0), "slowest": 1e3 * max(found.latencies)}


def main() -> None:
    """Measure, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=2_000, help="requests a second")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6, help="of each run")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--publish", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        publish_until_told(Home(options.publish))
        return
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="matinee-benchmark-") as scratch:
        home = open_home(Path(scratch) / "home", options.users)
        configure_logging("benchmark", home.logs, LoggingSettings())
        first = home.bundles / list_versions(home.bundles)[0]
        rewrite_bundle(first, read_manifest(first), {user(0)})
        paths = [f"/recommend/{user(index)}" for index in looked_up(options.users)]
        with running("matinee", home, min(os.sched_getaffinity(0))) as target:
            to_last_core()
            found: dict[str, list[dict[str, float]]] = {"without": [], "with": []}
            swaps = 0
            for number in range(options.rounds + 1):
                told(f"round {number} of {options.rounds}")
                without = measured(target, paths, options)
                before = target.metric("matinee_release_swaps_total")
                with exchanges(home):
                    exchanged = measured(target, paths, options)
                if number:  # the first round warms up
                    found["without"].append(without)
                    found["with"].append(exchanged)
                    swaps += int(target.metric("matinee_release_swaps_total") - before)
    for name, runs in found.items():
        report[name] = {label: spread([run[label] for run in runs]) for label in ("p99", "slowest")}
    report["exchanges"] = swaps  # as the server counted them
    if options.json:
        print(json.dumps(report))
        return
    for name in found:
        of = ", ".join(
            f"{label} {v['median']:.2f} ms ({v['least']:.2f} to {v['greatest']:.2f})"
            for label, v in report[name].items()
        )
        print(f"{name} exchanges: {of}")
    print(f"{swaps} exchanges")


if __name__ == "__main__":
    main()
