"""Erases from the stores of a home, and is killed at a function: `erasing.py HOME OWNER FUNCTION before|after`."""

import contextlib
import os
import signal
import sys
from pathlib import Path

from ingest_world import World

from matinee.history import environment
from matinee.ingest.erasure import erase_now
from matinee.ingest.stores import Opened
from matinee.lake import erasure
from matinee.log.sqlite import SqliteLog

OWNERS = {"lake": erasure, "store": environment, "history": environment.Environment, "log": SqliteLog}


def main(folder: str, owner: str, function: str, when: str) -> None:
    """Go on until that function is called."""
    world = World(Path(folder))
    real = getattr(OWNERS[owner], function)

    def killed(*arguments, **options):
        if when == "after":
            real(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(OWNERS[owner], function, killed)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(world.stores.log())
        history = stack.enter_context(world.stores.history())
        erase_now(world.home, Opened(log, world.stores.lake(), history))


if __name__ == "__main__":
    main(*sys.argv[1:])
