"""What exchanging the bundle under load costs the answers: an open loop without an exchange and with one, in turns.

    python benchmarks/swap.py [--users 100000] [--rate 1000] [--rounds 5] [--seconds 10] [--json] [--home FOLDER]

One `matinee serve`, held to the first core; the generator (see `serving.py`) has the last one. Seven of ten
requests are looked up; three are folded in, of users whose fold-ins are in the cache when a run begins. An exchange
empties it.

Each exchange is for a bundle that no process has met: the released one, written again without its last user just
before the run, and so in the page cache, as what `matinee train` leaves on the same machine. So the server must
verify, open and warm up every one; where its log does not say that it did, or a request fails, the benchmark fails.
A run is longer than a bundle stays open that was exchanged, so that none waits for the one before.

Reported are p50, p99 and the slowest answer in milliseconds, as medians of the runs with their spread: of the runs
without an exchange; of the time from publication until the new bundle answers, in whole seconds (`opening`; the
server looks for one twice a second); and of the rest of that run (`after`), in which the cache fills again.
"""

import argparse
import json
import math
import os
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from matinee.bundle.keep import prune
from matinee.bundle.manifest import read_manifest
from matinee.bundle.write import rewrite_bundle
from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.core.logging import configure_logging
from matinee.core.settings import LoggingSettings
from matinee.release.plan import bundles_in_use, publish, read_plan
from matinee.serving.release import GRACE_SECONDS
from serving import LINES, Paths, warm_up
from serving_home import LOOKED_UP_OF_TEN, open_home, user
from serving_latency import milliseconds
from serving_load import Latencies, open_loop, to_last_core
from serving_report import spread, told
from serving_servers import LOG_ROLE, Target, running

CASES = {"looked_up": "look_up", "folded_in": "cached_fold_in"}
"""The kinds of requests, and what `serving.py` calls them."""
PHASES = ("without", "opening", "after")
Found = dict[str, dict[str, float]]
"""Milliseconds of the requests of a phase, by kind and label."""


def kind_of(number: int) -> str:
    """Of which kind a request is, by its place."""
    return "looked_up" if number % 10 < LOOKED_UP_OF_TEN else "folded_in"


def mixed(paths: Paths) -> list[str]:
    """What is asked for, of both kinds."""
    of_kind = {kind: paths.of(case) for kind, case in CASES.items()}
    return [of_kind[kind_of(number)][number] for number in range(LINES)]


def prepare(home: Home) -> str:
    """Write a bundle that no process has met, and return its version."""
    plan = read_plan(home.data)
    assert plan is not None
    released = home.bundles / plan.arms[0].bundle
    manifest = read_manifest(released)
    version = rewrite_bundle(released, manifest, {user(manifest.n_users - 1)})
    if (home.run / "verified" / f"{version}.json").exists():
        raise SystemExit(f"bundle {version} was verified before")
    return version


def answers_at(log: Path, version: str) -> float:
    """When a bundle began to answer, in seconds since 1970. Fails where it was not opened for that."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    opened = sum(line["event"] == "bundle_opened" and line["bundle"] == version for line in lines)
    answers = [line for line in lines if line["event"] == "release_answers" and line["bundles"] == [version]]
    if (opened, len(answers)) != (1, 1):
        raise SystemExit(f"bundle {version} was opened {opened} times and came to answer {len(answers)} times")
    return datetime.fromisoformat(answers[0]["timestamp"]).timestamp()


def measured(target: Target, paths: list[str], options: argparse.Namespace) -> Latencies:
    """One run."""
    found = open_loop(target.port, paths, options.rate, options.seconds)
    if found.failed:
        raise SystemExit(f"{found.failed} requests failed")
    return found


def described(found: Latencies, is_of_phase: Callable[[int], bool] = lambda _: True) -> Found:
    """Percentiles of the requests of a phase, which are told by their numbers."""
    of_kind: dict[str, list[float]] = {kind: [] for kind in CASES}
    for number, latency in zip(found.numbers, found.latencies, strict=True):
        if is_of_phase(number):
            of_kind[kind_of(number)].append(latency)
    return {
        kind: {"p50": milliseconds(of, 50.0), "p99": milliseconds(of, 99.0), "slowest": 1e3 * max(of)}
        for kind, of in of_kind.items()
    }


def one_round(
    target: Target, home: Home, paths: Paths, options: argparse.Namespace
) -> tuple[dict[str, Found], float]:
    """A run without an exchange and one with: what was found of each phase, and how long the opening took."""
    version = prepare(home)
    warm_up(target, CASES["folded_in"], paths)
    found = {"without": described(measured(target, mixed(paths), options))}
    asked = mixed(paths)
    publish(home.data, version, clock=SystemClock())
    run = measured(target, asked, options)
    opening = answers_at(home.logs / f"{LOG_ROLE}.jsonl", version) - run.began
    prune(home.bundles, 0, bundles_in_use(home.data))  # of all rounds' bundles they would fill the disk
    seconds = max(1, math.ceil(opening))
    if seconds >= options.seconds:
        raise SystemExit(f"the new bundle answered after {opening:.1f} s: ask for longer (--seconds)")
    found["opening"] = described(run, lambda number: number < seconds * options.rate)
    found["after"] = described(run, lambda number: number >= seconds * options.rate)
    return found, opening


def main() -> None:
    """Measure, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=1_000, help="requests a second")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="of each run")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--home", type=Path, help="keep the home here, and use one that is there")
    options = parser.parse_args()
    if options.seconds <= GRACE_SECONDS:
        parser.error(f"a bundle stays open for {GRACE_SECONDS:g} s: a run takes longer")
    rounds: list[dict[str, Found]] = []
    openings: list[float] = []
    with tempfile.TemporaryDirectory(prefix="matinee-benchmark-") as scratch:
        told(f"home of {options.users} users")
        home = open_home(options.home or Path(scratch) / "home", options.users)
        configure_logging("benchmark", home.logs, LoggingSettings())
        paths = Paths(options.users)
        with running("matinee", home, min(os.sched_getaffinity(0))) as target:
            to_last_core()
            for number in range(options.rounds + 1):
                told(f"round {number} of {options.rounds}")
                found, opening = one_round(target, home, paths, options)
                if number:  # the first round warms up
                    rounds.append(found)
                    openings.append(opening)
    show({
        "users": options.users,
        "requests_per_second": options.rate,
        "openings": len(openings),  # each found in the server's log
        "opening_seconds": spread(openings),
        "milliseconds": {
            phase: {
                kind: {label: spread([of[phase][kind][label] for of in rounds]) for label in rounds[0][phase][kind]}
                for kind in CASES
            }
            for phase in PHASES
        },
    }, as_json=options.json)  # fmt: skip


def show(report: dict[str, Any], *, as_json: bool) -> None:
    """Print for programs or for people."""
    if as_json:
        print(json.dumps(report))
        return
    for phase, kinds in report["milliseconds"].items():
        for kind, found in kinds.items():
            of = ", ".join(
                f"{label} {v['median']:.2f} ms ({v['least']:.2f} to {v['greatest']:.2f})"
                for label, v in found.items()
            )
            print(f"{phase:8} {kind:10} {of}")
    took = report["opening_seconds"]
    print(
        f"{report['openings']} bundles verified, opened and exchanged, each within {took['median']:.2f} s"
        f" ({took['least']:.2f} to {took['greatest']:.2f}) of its publication; no request failed"
    )


if __name__ == "__main__":
    main()
