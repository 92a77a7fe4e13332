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
from matinee.core.clock import SECOND
from matinee.core.errors import ConfigurationError
from matinee.core.logging import get_logger
from matinee.core.signals import ended_by_signals

LOOK_SECONDS = 5.0
"""Between two looks at whether there is something to learn from, until there is."""
FIRST_PAUSE_SECONDS = 30.0
"""After which a stopgap is to be replaced; each further try waits twice as long, and none beyond the schedule."""
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

    def run(self) -> None:
        """Make runs until told to end."""
        from matinee.release.plan import read_plan  # noqa: PLC0415 - a verb imports what it uses

        stopgap = read_plan(self._context.home.data) is None
        while stopgap and not self._context.lake.sources():
            if self._told.wait(LOOK_SECONDS):
                return
        pause = 0.0 if stopgap else None
        while not self._told.wait(self.seconds(pause)):
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

    def _train(self, model: str) -> str | None:
        """Make one run; the version of the bundle that it released."""
        words = ["-m", "matinee", "train", "--model", model, "--json", "--home", str(self._context.home.path)]
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen([sys.executable, *words], stdout=output)  # noqa: S603 - our own words
            while process.poll() is None:
                if self._told.wait(_POLL_SECONDS):
                    process.terminate()
                    process.wait()
                    return None
            output.seek(0)
            return self.note(model, process.returncode, output.read())

    def note(self, model: str, status: int, output: bytes) -> str | None:
        """Log what a run said, or raise an alarm; the version of the bundle that it released."""
        try:
            document = json.loads(output)
        except ValueError:
            document = {"kind": "Crashed", "error": f"matinee train ended with status {status}"}
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
