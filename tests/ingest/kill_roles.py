"""The two processes of the kill test: `produce FOLDER` appends lines, `kill FOLDER TIMES SEED` kills ingest.

A killed ingest is a fork of a process that has imported everything and used none of it, so that a start costs some
milliseconds. Polars and Delta start their threads when first used: only in the fork.
"""

import json
import os
import random
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.core.settings import HistorySettings, IngestSettings, LakeSettings, Settings
from matinee.log.open import open_log

BEGIN = datetime(2022, 1, 1, tzinfo=UTC)
SETTINGS = Settings(
    # Short steps, so that kills fall into all of them: commits, compaction, trimming, waiting.
    lake=LakeSettings(commit_seconds=0.1, commit_rows=300, compact_after_commits=5, retention_days=100_000),
    history=HistorySettings(poll_seconds=0.01),
    ingest=IngestSettings(quarantine_share=1),  # a tenth is, on purpose
)
STOP = "stop"


def line(n):
    """The n-th line, one second of event time after the one before, and what must become of it."""
    time_of = BEGIN + timedelta(seconds=n)
    user = n % 300
    if n % 10 == 3:
        return f"{time_of:%Y-%m-%dT%H:%M},{user},GET /rate/film+{n % 97}+1999={1 + n % 5}", "repaired"
    if n % 25 == 7:
        return f"{time_of:%Y-%m-%dT%H:%M:%S},{user},GET /rate/film+{n % 97}+1999=17", "quarantined"
    if n % 25 == 8:
        return f"complete nonsense {n}", "quarantined"
    if n % 10 == 4:
        answer = "recommendation request h:8082, status 200, result: film+1+1999, film+2+1999, 12 ms"
        return f"{time_of:%Y-%m-%dT%H:%M:%S},{user},{answer}", "accepted"
    return f"{time_of:%Y-%m-%dT%H:%M:%S},{user},GET /data/m/film+{n % 97}+1999/{n % 120}.mpg", "accepted"


def stream(seed):
    """Lines with repetitions: recent ones must be found, those long past must be kept again."""
    chance = random.Random(seed)
    n = 0
    while True:
        text, outcome = line(n)
        yield text, outcome
        if chance.random() < 0.05:
            again, was = line(n - chance.randrange(min(n + 1, 100)))
            yield again, "quarantined" if was == "quarantined" else "duplicate"
        if n > 1_500 and chance.random() < 0.02:
            yield line(n - 1_000)
        n += 1


def produce(folder):
    home = Home(folder)
    lines = stream(seed=1)
    log = open_log(home.resolve(SETTINGS.log.url), SystemClock())
    with log, (folder / "acknowledged").open("a") as told:
        while not (folder / STOP).exists():
            batch = [next(lines) for _ in range(25)]
            last = log.append([text.encode() for text, _ in batch])
            told.writelines(
                json.dumps([last - len(batch) + 1 + i, text, outcome]) + "\n"
                for i, (text, outcome) in enumerate(batch)
            )
            told.flush()
            time.sleep(0.03)


def kill(folder, times, seed):
    import matinee.ingest.service  # noqa: F401 - paid for once, before the first fork

    chance = random.Random(seed)
    ended = 0
    for _ in range(times):
        heard, told = os.pipe()
        child = os.fork()
        if child == 0:
            run(folder, told)
        os.close(told)
        # One in four dies while it starts, the others after some turns of the loop: however slow the machine is,
        # kills then fall into all that ingest does, and it gets on between them.
        for _ in range(chance.choice([0, chance.randrange(15), chance.randrange(30), chance.randrange(45)])):
            if not os.read(heard, 1):
                break
        time.sleep(chance.uniform(0, 0.08))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(heard)
        ended += os.WIFEXITED(status)  # before the kill: it must not have
    (folder / "ended_by_itself").write_text(str(ended))


def run(folder, told):
    from matinee.ingest.service import ingest

    try:
        ingest(
            settings=SETTINGS,
            home=Home(folder),
            clock=SystemClock(),
            raise_alarm=alarm_to(folder),
            progress=lambda *_: os.write(told, b"."),
        )
    except BaseException:
        import traceback

        (folder / "failure").write_text(traceback.format_exc())
        raise
    finally:
        os._exit(1)


def alarm_to(folder):
    def raise_alarm(*alarm):
        with (folder / "alarms").open("a") as file:
            file.write(json.dumps(alarm) + "\n")

    return raise_alarm


if __name__ == "__main__":
    role, where = sys.argv[1], Path(sys.argv[2])
    if role == "produce":
        produce(where)
    else:
        kill(where, int(sys.argv[3]), int(sys.argv[4]))
