"""Lines read and checked per second on one core, beside a bare Polars regular expression over the same lines.

    python benchmarks/read.py --path movielog.csv.gz

The lines are repeated with times an hour apart and other users, so that no cache helps that a stream would not
fill. The expression only takes lines apart, and checks nothing. Both run in turns in one process held to one core
and one Polars thread, and are timed by the processor, so that other programs on the core do not count; given are
the median and the spread. The scenario has 500 lines/s; the target is 500,000.
"""

import argparse
import gzip
import json
import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["POLARS_MAX_THREADS"] = "1"  # read when Polars is imported

import numpy as np
import polars as pl

from matinee.core.clock import SECOND
from matinee.events.frames import read_records

BARE = r"^([^,]+),([0-9]+),GET /(?:data/m|rate)/([^/=]+)[/=]([0-9]+)"
HEAD = re.compile(rb"(\d{4}-\d{2}-\d{2}T)(\d{2})(:[^,]*,)(\d+)(,.*)", re.DOTALL)


def repeated(lines: list[bytes], copies: int) -> list[bytes]:
    """`copies` times the lines, each copy an hour and 1,000,003 users on."""
    return [_shifted(line, copy) for copy in range(copies) for line in lines]


def _shifted(line: bytes, copy: int) -> bytes:
    match = HEAD.fullmatch(line)
    if match is None:
        return line
    day, hour, rest, user, request = match.groups()
    return b"%s%02d%s%d%s" % (day, (int(hour) + copy) % 24, rest, int(user) + 1_000_003 * copy, request)


def seconds(call: Callable[[], object]) -> float:
    """Processor time that the call takes."""
    start = time.process_time()
    call()
    return time.process_time() - start


def measure(lines: list[bytes], batch: int, repeat: int) -> dict[str, list[float]]:
    """Lines per second of each contestant in each of `repeat` rounds."""
    batches = [lines[start : start + batch] for start in range(0, len(lines), batch)]
    times = [np.full(len(values), 1_668_500_000 * SECOND) for values in batches]
    text = [pl.Series([value.decode().rstrip("\r\n") for value in values]) for values in batches]
    rounds: dict[str, list[float]] = {"matinee": [], "bare regex": []}
    for _ in range(repeat + 1):
        read = seconds(lambda: [read_records(*pair) for pair in zip(batches, times, strict=True)])
        bare = seconds(lambda: [series.str.extract_groups(BARE) for series in text])
        rounds["matinee"].append(len(lines) / read)
        rounds["bare regex"].append(len(lines) / bare)
    return {name: rates[1:] for name, rates in rounds.items()}  # the first round warms up


def summary(rounds: dict[str, list[float]], lines: int) -> dict[str, object]:
    """Median, lowest and highest rate of each, and of their ratio pair by pair."""
    ratios = [read / bare for read, bare in zip(rounds["matinee"], rounds["bare regex"], strict=True)]
    columns = {**rounds, "ratio": ratios}
    spread = {n: {"median": statistics.median(v), "min": min(v), "max": max(v)} for n, v in columns.items()}
    return {"lines": lines, "rounds": len(ratios), **spread}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=Path, required=True, help="lines of the scenario, plain or gzip")
    parser.add_argument("--repeat", type=int, default=7, help="rounds (7)")
    parser.add_argument("--copies", type=int, default=10, help="times the lines are repeated, shifted (10)")
    parser.add_argument("--batch", type=int, default=50_000, help="records read at once (50,000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    opener = gzip.open if arguments.path.suffix == ".gz" else open
    with opener(arguments.path, "rb") as file:
        lines = repeated(file.readlines(), arguments.copies)
    result = summary(measure(lines, arguments.batch, arguments.repeat), len(lines))
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{len(lines):,} lines, {arguments.repeat} rounds, one core; lines/s as median (lowest to highest)")
    for name in ("matinee", "bare regex", "ratio"):
        form = ",.2f" if name == "ratio" else ",.0f"
        low, middle, high = (format(result[name][key], form) for key in ("min", "median", "max"))
        print(f"{name:>12}  {middle:>12}  ({low} to {high})")


if __name__ == "__main__":
    main()
