"""An owner of the lake in a process of its own, with a fault at a chosen point.

    lake_owner.py FOLDER commit START END FAULT [TABLE]   one batch; FAULT: none, stop or kill, when TABLE is loaded
    lake_owner.py FOLDER race END SEED                    batches of random size until END is reached

Prints one JSON object on standard output.
"""

import json
import os
import random
import signal
import sys

from lake_frames import SOURCE, batch

from matinee.core.clock import SystemClock
from matinee.core.errors import Fenced
from matinee.lake.lake import Lake

FAULTS = {"stop": signal.SIGSTOP, "kill": signal.SIGKILL}


def commit(folder: str, start: int, end: int, fault: str, at_table: str = "") -> dict[str, object]:
    faults = [FAULTS[fault]] if fault in FAULTS else []

    def on_loaded(table: str) -> None:
        if table == at_table and faults:
            os.kill(os.getpid(), faults.pop())

    try:
        return {
            "written": Lake(folder, SystemClock(), on_loaded=on_loaded).commit(
                SOURCE, batch(start, end), start=start, end=end
            )
        }
    except Fenced as error:
        return {"fenced": str(error)}


def race(folder: str, end: int, seed: int) -> dict[str, object]:
    chance = random.Random(seed)
    lake = Lake(folder, SystemClock())
    fenced = 0
    position = lake.resume_position(SOURCE)
    while position < end:
        to = min(end, position + chance.randint(1, 30))
        try:
            lake.commit(SOURCE, batch(position, to), start=position, end=to)
            position = to if chance.random() < 0.8 else lake.resume_position(SOURCE)
        except Fenced:
            fenced += 1
            position = lake.resume_position(SOURCE)
    return {"fenced": fenced}


if __name__ == "__main__":
    folder, verb, *rest = sys.argv[1:]
    if verb == "commit":
        result = commit(folder, int(rest[0]), int(rest[1]), *rest[2:])
    else:
        result = race(folder, int(rest[0]), int(rest[1]))
    sys.stdout.write(json.dumps(result))
