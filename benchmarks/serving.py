"""Answers per second and latency of the service, against the same server answering a constant.

    python benchmarks/serving.py [--users 1000000] [--rounds 5] [--seconds 4] [--rate N] [--stall 10] [--json]
                                 [--picture FILE.png] [--only peak latency steps fold_in] [--realtime]
                                 [--cases look_up mix …] [--home FOLDER]

Makes a home with a synthetic bundle (27,000 items with attributes, everyone's top 100, seen set and age, fold-in of
64 factors), ten items of history for every user, and a file of rules that blocks 200 popular items and sets the age
of those whose age is not known: every answer below is filtered by it. Each server is a Granian with the same
options, held to the first core with the process that writes its telemetry; what asks is held to the last core.

    matinee     telemetry on, as it is set by default
    reranking   the same with serving.diversity 0.3 (MMR over the best 100)
    quiet       the same as matinee, telemetry off; and quiet_reranking, as reranking
    uncached    the same as matinee, no fold-in is kept
    constant    a bare ASGI function that sends one answer made beforehand, headers and all
    starlette   the same from a Starlette route

peak: requests a second by `wrk`, where it is installed: each path through the service alone, and the mix (70%
    looked up, 25% folded in and cached, 5% folded in now, all re-ranked), each in interleaved pairs with the
    constants; the median of the pairs' ratios and their spread. Processor time for each answer stands beside: it
    says the same where other programs take turns on the core. At half of that rate, p50 and p99 by the generator
    described below; the look-up also with the log stalled for as long. All rates again with a second server on the
    last core, which then shares it with `wrk`: no core is left for the generator.
latency: of the look-up and of the mix, an open-loop generator at a fixed rate, timed from when each request was
    due. Half of the peak unless `--rate` says otherwise; 2,000 and 500 a second where that was not measured.
    Interleaved: telemetry on, telemetry off, and the log stalled for ten of twelve seconds (another process holds
    its write lock; `--stall` says how long, and the rest follows). Every answer must be counted as offered, and
    every one counted as written must be in the log, or the benchmark fails. `lag` is how late the generator
    itself was: where its p99 is more than a tenth of the answers', the machine is too busy to measure on, and the
    output says so. `--realtime` keeps what else runs on the core, kernel threads too, from lengthening the
    answers of either.
steps: a profile of the application without a server: processor time of each step of an answer.
fold_in: fold-ins a second in one thread, the best hundred included.
"""

import argparse
import itertools
import json
import math
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when NumPy is imported

from matinee.core.home import Home
from matinee.core.logging import configure_logging
from matinee.core.settings import LoggingSettings
from serving_home import folded_in, looked_up, open_home, user
from serving_latency import measure_latency, milliseconds, settled, stalled
from serving_load import have_wrk, open_loop, peak, to_last_core
from serving_report import divided, seconds_so_far, show, spread, told
from serving_servers import CONSTANTS, QUIET, SETTINGS, Target, run_variant, running
from serving_steps import draw, measure_fold_in, measure_steps

PARTS = ("peak", "latency", "steps", "fold_in")
LATENCY_RATES = {"look_up": 2_000, "mix": 500}
"""Cases whose latency is measured, and at how many requests a second where their peak was not."""
CACHED_USERS = 2_000
"""So few users are asked for where their fold-ins are to come from the cache."""
WARM_UP_RATE = 500
"""Requests a second by which they are brought there."""
LINES = 20_000
"""Paths that are gone through, again and again; as many are new users' in the mix as are asked for."""


class Paths:
    """What is asked for, path by path through the service."""

    def __init__(self, n_users: int) -> None:
        self._draw = random.Random(7)
        self._old, self._new = looked_up(n_users), folded_in(n_users)
        self._cached = self._new[:CACHED_USERS]
        self._fresh = itertools.cycle(self._new[CACHED_USERS:] or self._new)

    def of(self, case: str, n: int = LINES) -> list[str]:
        """So many paths of a case."""
        return [f"/recommend/{self._user(case)}" for _ in range(n)]

    def _user(self, case: str) -> str:
        if case == "mix":
            case = self._draw.choices(("look_up", "cached_fold_in", "fresh_fold_in"), (70, 25, 5))[0]
        if case == "cached_fold_in":
            return user(self._draw.choice(self._cached))
        if case == "fresh_fold_in":
            return user(next(self._fresh))
        if case == "popularity":
            return f"stranger{self._draw.randrange(10**9)}"
        return user(self._draw.choice(self._old))

    def warm_up(self) -> list[str]:
        """Paths that bring the fold-ins into the cache that are to be found there."""
        return [f"/recommend/{user(index)}" for index in self._cached]


STALLED = "look_up_stalled"
"""The look-up while nothing can be appended to the log."""
CASES = {
    "look_up": ("matinee", "personal"),
    "look_up_quiet": ("quiet", "personal"),
    STALLED: ("matinee", "personal"),
    "cached_fold_in": ("matinee", "folded_in"),
    "fresh_fold_in": ("uncached", "folded_in"),
    "re_ranked": ("reranking", "personal"),
    "popularity": ("matinee", "popular"),
    "mix": ("reranking", None),
}
"""Which server a case is asked of, and which step must answer it."""


# --- peak -----------------------------------------------------------------------------------------------------


def one_peak(
    targets: list[Target],
    paths: Sequence[str],
    file: Path,
    seconds: int,
    *,
    records: bool,
    meanwhile: AbstractContextManager[None],
) -> tuple[float, float, int]:
    """Requests a second of all targets together, processor microseconds for each, and records of answers lost.

    The processor time is that of the whole, so the records that still wait are waited for.
    """
    file.write_text("\n".join(paths) + "\n")
    recording = targets if records else []
    used = -sum(target.cpu_seconds() for target in targets)
    lost = -sum(settled(target)["dropped"] for target in recording)
    with meanwhile:
        found = peak([target.port for target in targets], file, seconds)
    lost += sum(settled(target)["dropped"] for target in recording)
    used += sum(target.cpu_seconds() for target in targets)
    return sum(rate for rate, _ in found), used / sum(n for _, n in found) * 1e6, lost


def measure_peak(
    servers: dict[str, list[Target]], home: Home, paths: Paths, scratch: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """For each case rates and processor times, of it and of the constants, and the ratios of each round."""
    report: dict[str, Any] = {}
    file = scratch / "paths.txt"
    for case in options.cases:
        told(f"peak of {case}, {len(servers['constant'])} at once")
        variant, step = CASES[case]
        check_step(servers[variant], paths.of(case)[:20], step)
        warm_up(servers[variant][0], case, paths)
        measured: dict[str, list[tuple[float, float, int]]] = {name: [] for name in (case, *CONSTANTS)}
        for number in range(options.rounds + 1):
            for name, values in measured.items():
                targets = servers[variant if name == case else name]
                found = one_peak(
                    targets,
                    paths.of(case),
                    file,
                    options.seconds,
                    records=name == case,
                    meanwhile=stalled(home) if name == STALLED else nullcontext(),
                )
                if number:  # the first round warms up
                    values.append(found)
        rates = {name: [rate for rate, _, _ in of] for name, of in measured.items()}
        costs = {name: [cost for _, cost, _ in of] for name, of in measured.items()}
        report[case] = {
            "requests_per_second": {name: spread(values) for name, values in rates.items()},
            "processor_microseconds": {name: spread(values) for name, values in costs.items()},
            "of_constant": {name: spread(divided(rates[case], rates[name])) for name in CONSTANTS},
            "of_constant_by_processor_time": {
                name: spread(divided(costs[name], costs[case])) for name in CONSTANTS
            },
            "records_lost": sum(lost for _, _, lost in measured[case]),
        }
    return report


def warm_up(target: Target, case: str, paths: Paths) -> None:
    """Bring into the cache what a case is to find there."""
    if case in {"mix", "cached_fold_in"}:
        open_loop(target.port, paths.warm_up(), WARM_UP_RATE, CACHED_USERS / WARM_UP_RATE)


def measure_half_load(
    servers: dict[str, list[Target]], paths: Paths, found: dict[str, Any], options: argparse.Namespace
) -> None:
    """Add to each case its milliseconds at half of its peak: the medians of the rounds, and their spread.

    But not to the one of the stalled log, which is open again.
    """
    for case, of in found.items():
        if case == STALLED:
            continue
        rate = math.floor(of["requests_per_second"][case]["median"] / 2)
        told(f"{case} at half load, {rate}/s")
        target = servers[CASES[case][0]][0]
        rounds = [open_loop(target.port, paths.of(case), rate, options.seconds) for _ in range(options.rounds)]
        if failed := sum(one.failed for one in rounds):
            raise SystemExit(f"{failed} requests failed at half load")
        of["milliseconds_at_half_load"] = {
            f"p{share:g}": spread([milliseconds(one.latencies, share) for one in rounds]) for share in (50.0, 99.0)
        }


def check_step(targets: Sequence[Target], paths: Sequence[str], step: str | None) -> None:
    """Fail where another step answers than the one that is to be measured."""
    found = {target.step(path) for target in targets for path in paths}
    if step is not None and found != {step}:
        raise SystemExit(f"answered by {sorted(found)}, not by {step}")


# --- all of it ------------------------------------------------------------------------------------------------


def start(servers: ExitStack, home: Home, variants: Sequence[str], cores: Sequence[int]) -> dict[str, list[Target]]:
    """Of each variant a server on each of the cores."""
    told(f"starting {', '.join(variants)} on cores {', '.join(map(str, cores))}")
    return {name: [servers.enter_context(running(name, home, core)) for core in cores] for name in variants}


def measure(home: Home, scratch: Path, options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """The parts that were asked for, by name."""
    paths = Paths(options.users)
    cores = sorted(os.sched_getaffinity(0))
    halves: dict[str, float] = {}
    variants = [name for name in SETTINGS if name in {CASES[case][0] for case in options.cases}] + [*CONSTANTS]
    if "peak" in options.only and not have_wrk():
        told("wrk is not on PATH (Debian's package of that name has it): no peak throughput")
    elif "peak" in options.only:
        with ExitStack() as stack:
            servers = start(stack, home, variants, cores[:1])
            found = measure_peak(servers, home, paths, scratch, options)
            to_last_core()
            measure_half_load(servers, paths, found, options)
        halves = {case: of["requests_per_second"][case]["median"] / 2 for case, of in found.items()}
        yield "peak", found
        if len(cores) > 1:
            with ExitStack() as stack:
                servers = start(stack, home, variants, (cores[0], cores[-1]))
                yield "peak_of_two", measure_peak(servers, home, paths, scratch, options)
    if "steps" in options.only:
        told("steps")
        cases = {case: (SETTINGS[CASES[case][0]], paths.of(case)[:CACHED_USERS], CASES[case][1])
                 for case in options.cases if case not in {"mix", "look_up_quiet", STALLED}}  # fmt: skip
        yield "steps", measure_steps(home, cases, options.seconds)
    if "fold_in" in options.only:
        told("fold-in")
        yield "fold_ins_per_second", measure_fold_in(options.seconds / 4, options.rounds)
    if "latency" in options.only:
        to_last_core()
        yield (
            "latency",
            {
                case: latency_of(case, home, paths, options.rate or halves.get(case, rate), cores[:1], options)
                for case, rate in LATENCY_RATES.items()
                if case in options.cases
            },
        )


def latency_of(
    case: str, home: Home, paths: Paths, rate: float, cores: Sequence[int], options: argparse.Namespace
) -> dict[str, Any]:
    """The latencies of a case at that rate."""
    with ExitStack() as stack:
        variant = CASES[case][0]
        servers = start(stack, home, (variant, QUIET[variant]), cores)
        on, off = (servers[name][0] for name in (variant, QUIET[variant]))
        warm_up(on, case, paths)
        settled(on)  # what follows counts the records of one server at a time
        if options.realtime:
            on.to_real_time()
            off.to_real_time()
        ask = partial(paths.of, case)
        return measure_latency(on, off, home, ask, math.floor(rate), options.rounds, options.stall)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement of the peak")
    parser.add_argument("--rate", type=float, help="requests a second of the open-loop generator")
    parser.add_argument("--stall", type=float, default=10.0, help="latency: seconds for which the log stalls")
    parser.add_argument("--realtime", action="store_true", help="latency: the servers go before all other programs")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="the parts to run")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="paths to take")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--picture", type=Path, help="draw the steps there")
    parser.add_argument("--home", type=Path, help="keep the home here, and use one that is there")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if list(options.only) == ["latency"] and not LATENCY_RATES.keys() & set(options.cases):
        parser.error(f"the latency is measured of {', '.join(LATENCY_RATES)} alone")
    if options.serve:
        run_variant(options.serve, Home(options.home), options.port, options.core)
        return
    with tempfile.TemporaryDirectory(prefix="matinee-benchmark-") as scratch:
        told(f"home of {options.users} users")
        home = open_home(options.home or Path(scratch) / "home", options.users)
        configure_logging("benchmark", home.logs, LoggingSettings())  # else it would stand among the results
        report: dict[str, Any] = {"users": options.users}
        report |= measure(home, Path(scratch), options)
    report["seconds"] = seconds_so_far()
    if options.picture and "steps" in report:
        peak_found = report.get("peak", {}).get("look_up", {}).get("processor_microseconds", {})
        draw(report["steps"], peak_found.get("constant", {}).get("median"), options.picture)
    if options.json:
        print(json.dumps(report))
    else:
        show(report)


if __name__ == "__main__":
    main()
