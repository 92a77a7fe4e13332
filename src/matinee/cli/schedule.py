"""`matinee schedule`: training at set times, so that what people do comes back as what they are shown."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]

from matinee.cli.context import Context, HomeOption, open_context
from matinee.core.clock import HOUR, SECOND
from matinee.core.erasures import ERASED, read_erasures
from matinee.core.errors import ConfigurationError, MatineeError
from matinee.core.logging import get_logger
from matinee.core.signals import ended_by_signals

LOOK_SECONDS = 5.0
"""Between two looks at whether there is something to learn from, until there is."""
FIRST_PAUSE_SECONDS = 30.0
"""After which a stopgap is to be replaced; each further try waits twice as long, and none beyond the schedule."""
ERASE_LOOK_SECONDS = 60.0
"""Between two looks at whether bundles may hold an erased user."""
ERASE_AFTER_US = HOUR
"""How old an erasure is when bundles are written again without the user: those of an hour cost as much as one."""
ERASE_LATE_US = 12 * HOUR
"""How old it is when runs that keep `matinee train` busy are no longer an excuse."""
ERASE_AGAIN_SECONDS = 600.0
"""After which erasing from bundles is tried again where it failed."""
_POLITENESS = 10
_POLL_SECONDS = 0.2
_log = get_logger(__name__)


def run(
    train: Annotated[
        str | None,
        typer.Option("--train", help="When to train: a crontab's five fields, UTC.", show_default="0 * * * *"),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Train and release at set times (`schedule.train`), until Ctrl-C or SIGTERM.

    In a home without a release the first run comes as soon as there is something to learn from. If no candidate
    passes the gate then, popularity is released as a stopgap, and candidates are tried again after half a minute, a
    minute, two, and so on. Later, what does not pass changes nothing. Each run is `matinee train --model auto` in a
    process of its own; what it said is in `logs/schedule.jsonl`, and a failure is an alarm.

    Within two hours of `matinee erase` it makes `matinee release erase`, too.
    """
    context = open_context("schedule", home)
    when = trigger(train or context.settings.schedule.train)
    os.nice(_POLITENESS)  # answers come first
    with ended_by_signals() as told:
        Schedule(context, when, told).run()


def trigger(text: str) -> Any:
    """What gives the times of a crontab's five fields, UTC; APScheduler's."""
    try:
        return CronTrigger.from_crontab(text, timezone=UTC)
    except ValueError as error:
        raise ConfigurationError(
            f"schedule.train: {text!r} is no crontab's five fields: {error}",
            remedy="Write minute, hour, day, month, weekday: `0 * * * *` is every full hour.",
        ) from error


class Schedule:
    """When the next run is due, and making it.

    Args:
        context: the home to train in.
        when: gives the next time.
        told: set when it is to end.
    """

    def __init__(self, context: Context, when: Any, told: threading.Event) -> None:
        self._context = context
        self._when = when
        self._told = told
        self._resume = float("-inf")

    def run(self) -> None:
        """Make runs until told to end."""
        from matinee.release.plan import read_plan  # noqa: PLC0415 - a verb imports what it uses

        stopgap = read_plan(self._context.home.data) is None
        while stopgap and not self._context.lake.sources():
            if self._told.wait(LOOK_SECONDS):
                return
        pause = 0.0 if stopgap else None
        while not self._wait(self.seconds(pause)):
            released = self._train("auto") is not None
            if pause is None:
                continue
            if not released and pause == 0:
                self._train("popularity")
            pause = None if released else max(FIRST_PAUSE_SECONDS, 2 * pause)

    def seconds(self, pause: float | None) -> float:
        """Until the next run: what the schedule says, or the pause if that is shorter."""
        now = datetime.fromtimestamp(self._context.clock.now_us() / SECOND, UTC)
        scheduled = self._when.get_next_fire_time(None, now)
        seconds = float((scheduled - now).total_seconds()) if scheduled else threading.TIMEOUT_MAX
        return seconds if pause is None else min(seconds, pause)

    def _wait(self, seconds: float) -> bool:
        """Wait, and erase from bundles meanwhile what is to be erased; whether it is to end."""
        clock = self._context.clock
        end = clock.monotonic() + seconds
        while (left := end - clock.monotonic()) > 0:
            self.erase()
            if self._told.wait(min(left, ERASE_LOOK_SECONDS)):
                return True
        return self._told.is_set()

    def erase(self) -> None:
        """Let bundles be written again without who is to be erased, once that was asked for long enough ago."""
        clock, home = self._context.clock, self._context.home
        try:
            waiting = read_erasures(home.data / ERASED).pending("bundles")
        except MatineeError as error:
            self._not_erased({"kind": type(error).__name__, "error": str(error), "remedy": error.remedy})
            return
        age_us = clock.now_us() - waiting[0].asked_us if waiting else 0
        if age_us < ERASE_AFTER_US or clock.monotonic() < self._resume:
            return
        ran = self._run("release", "erase")
        if ran is None or ran[0] == 0:
            return
        said = _document(*ran)
        if said["kind"] == "Locked" and age_us < ERASE_LATE_US:
            _log.warning("not_erased_yet", error=said["error"])
            self._resume = clock.monotonic() + ERASE_AGAIN_SECONDS
        else:
            self._not_erased(said)

    def _not_erased(self, said: dict[str, Any]) -> None:
        clock = self._context.clock
        if clock.monotonic() >= self._resume:
            self._resume = clock.monotonic() + ERASE_AGAIN_SECONDS
            evidence = {name: said.get(name) for name in ("kind", "error")}
            with self._context.alarms() as alarms:
                alarms.raise_alarm("erasure_failed", "warning", evidence, str(said.get("remedy", "")))

    def _train(self, model: str) -> str | None:
        """Make one run; the version of the bundle that it released."""
        ran = self._run("train", "--model", model)
        return None if ran is None else self.note(model, *ran)

    def _run(self, *words: str) -> tuple[int, bytes] | None:
        """Run a verb in a process of its own: its status and output; nothing where it was told to end."""
        command = [sys.executable, "-m", "matinee", *words, "--json", "--home", str(self._context.home.path)]
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(command, stdout=output)  # noqa: S603 - our own words
            while process.poll() is None:
                if self._told.wait(_POLL_SECONDS):
                    process.terminate()
                    process.wait()
                    return None
            output.seek(0)
            return process.returncode, output.read()

    def note(self, model: str, status: int, output: bytes) -> str | None:
        """Log what a run said, or raise an alarm; the version of the bundle that it released."""
        document = _document(status, output)
        if status == 0:
            _log.info("released", bundle=document["bundle"], model=document["model"])
            return str(document["bundle"])
        kind, error, remedy = (str(document.get(name, "")) for name in ("kind", "error", "remedy"))
        if "candidates" in document or kind in {"Locked", "Unsuitable"}:  # the gate, or nothing wrong at all
            _log.warning("not_released", asked=model, kind=kind or "GateRefused", error=error)
            return None
        with self._context.alarms() as alarms:
            alarms.raise_alarm("training_failed", "warning", {"asked": model, "kind": kind, "error": error}, remedy)
        return None


def _document(status: int, output: bytes) -> dict[str, Any]:
    """What a verb said, or that it said nothing."""
    try:
        document: dict[str, Any] = json.loads(output)
    except ValueError:
        return {"kind": "Crashed", "error": f"it ended with status {status}"}
    return document
