"""Lines at a steady rate into an event log, from a process of their own. See `freshness.py`.

    python benchmarks/stream_load.py URL --rate 10000

Made-up viewers, of a million, watch and rate; every tenth of a second that second's share is appended, and what an
append took too long is made up for. Ends when its parent closes its standard input.
"""

import argparse
import select
import sys
import time
from datetime import UTC, datetime

import numpy as np

from matinee.core.clock import SystemClock
from matinee.log.open import open_log

TICK_SECONDS = 0.1
VIEWERS, ITEMS = 1_000_000, 27_000
FIRST_VIEWER = 50_000_000
"""Beyond the users that are measured."""


def lines(count: int, random: np.random.Generator) -> list[bytes]:
    """So many lines of now: mostly minutes watched, a thirtieth ratings."""
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    users = (FIRST_VIEWER + random.integers(VIEWERS, size=count)).tolist()
    items = (ITEMS * random.random(count) ** 3).astype(int).tolist()
    return [
        f"{now},{user},GET {_request(item, number)}".encode()
        for number, (user, item) in enumerate(zip(users, items, strict=True))
    ]


def _request(item: int, number: int) -> str:
    movie = f"some+title+of+a+movie+{item}+1999"
    return f"/rate/{movie}={number % 5 + 1}" if number % 30 == 0 else f"/data/m/{movie}/{number % 90}.mpg"


def main() -> None:
    """Append until the parent is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--rate", type=int, default=10_000, help="lines a second")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    share = round(arguments.rate * TICK_SECONDS)
    with open_log(arguments.url, SystemClock()) as log:
        partitions = sorted(log.ends()) or [0]
        began, ticks = time.monotonic(), 0
        while True:
            log.append(lines(share, random), partition=partitions[ticks % len(partitions)])
            ticks += 1
            wait = max(0.0, began + ticks * TICK_SECONDS - time.monotonic())
            if select.select([sys.stdin], [], [], wait)[0]:
                break
        print(round(ticks * share / (time.monotonic() - began)))


if __name__ == "__main__":
    main()
