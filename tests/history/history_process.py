"""A process of its own with a history store open, told what to do on standard input.

Usage: history_process.py PATH MAP_BYTES write|read

A writer applies batch after batch, in each of which each of 40 users watches one minute, and tells the end of each.
A reader answers each line `USER` with how many minutes of `alien` that user has seen, `hold` by staying in a read
transaction.
"""

import sys
from itertools import count
from pathlib import Path

from matinee.events.offsets import Source
from matinee.history.base import Actions
from matinee.history.lmdb import LmdbHistory

USERS = [str(n) for n in range(40)]
SOURCE = Source("g", 0)


def tell(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def batch(number: int) -> Actions:
    positions = list(range(number * 40, number * 40 + 40))
    return Actions(positions, USERS, ["alien"] * 40, positions, [number % 1_440] * 40, [None] * 40)


def write(history: LmdbHistory) -> None:
    for number in count():
        history.apply(SOURCE, batch(number), end=number * 40 + 40)
        tell(number * 40 + 40)


def read(history: LmdbHistory) -> None:
    for line in sys.stdin:
        if line == "hold\n":
            held = history._store._env.begin()
            held.get(b"format", db=history._store.meta)
            tell("held")
            continue
        kept = history.get(line.strip())
        tell("stranger" if kept is None else kept.entries[0].minutes_seen)


if __name__ == "__main__":
    path, map_bytes, role = sys.argv[1:]
    store = LmdbHistory(Path(path), role == "read", map_bytes=int(map_bytes))
    tell("ready")
    {"write": write, "read": read}[role](store)
