"""A producer process: appends batches `NAME:batch:k` and says which it was told are durable.

Usage: producer.py PATH NAME BATCHES SIZE. Waits for a line on standard input before it begins.
"""

import sys
from pathlib import Path

from matinee.core.clock import SystemClock
from matinee.log.sqlite import SqliteLog


def tell(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


path, name, batches, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
tell("ready")
sys.stdin.readline()
with SqliteLog(Path(path), SystemClock()) as log:
    for batch in range(batches):
        log.append([f"{name}:{batch}:{k}".encode() for k in range(size)])
        tell(batch)
