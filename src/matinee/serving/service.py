"""The service behind the routes: release, history and telemetry, put together and looked after."""

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from matinee.core.clock import Clock
from matinee.core.home import Home
from matinee.core.settings import Settings
from matinee.events.types import Served
from matinee.history.base import History
from matinee.history.open import open_history
from matinee.log.base import EventLog
from matinee.log.open import open_log
from matinee.serving.answer import Answer, Budget, Part, answer
from matinee.serving.background import Background
from matinee.serving.families import families
from matinee.serving.live_history import LiveHistory
from matinee.serving.metrics import Exposition, HotCounters
from matinee.serving.release import ReleaseHolder
from matinee.serving.request import Question
from matinee.serving.telemetry import Telemetry

STOP_SECONDS = 5.0
"""How long stopping may take to write what is queued."""
HISTORY_LOOK_SECONDS = 0.1


class Arrival(NamedTuple):
    """When a request arrived, and the id it was given."""

    request_id: str
    time_us: int
    monotonic: float


class Service:
    """Answers questions. One for each process.

    Args:
        settings: queue, deadline and intervals.
        home: where bundles are, and what the URLs are relative to.
        clock: the clock of everything in here.
        open_event_log: opens the log for telemetry; from the settings' URL where none is given.
        open_live_history: opens the history read-only; likewise.
    """

    def __init__(
        self,
        settings: Settings,
        home: Home,
        clock: Clock,
        *,
        open_event_log: Callable[[], EventLog] | None = None,
        open_live_history: Callable[[], History] | None = None,
    ) -> None:
        serving = settings.serving
        self.clock = clock
        self._deadline = serving.deadline_ms / 1e3
        self.releases = ReleaseHolder(home, clock)
        self.history = LiveHistory(
            open_live_history or partial(open_history, home.resolve(settings.history.url), read_only=True), clock
        )
        self.telemetry = Telemetry(
            open_event_log or partial(open_log, home.resolve(settings.log.url), clock),
            clock,
            capacity=serving.telemetry_queue,
            seconds=serving.telemetry_seconds,
            producer=f"serve-{socket.gethostname()}-{os.getpid()}",
        )
        self.counters = HotCounters()
        self.exposition = Exposition(families(self.counters, self.releases, self.history, self.telemetry))
        self._background = (
            Background("releases", self.releases.look, serving.reload_seconds),
            Background("history", self.history.tend, HISTORY_LOOK_SECONDS),
        )

    def start(self) -> None:
        """Begin to look for a release and a history, and to write telemetry. Once only."""
        for background in self._background:
            background.start()
        self.telemetry.start()

    def stop(self) -> None:
        """Write what is queued, within `STOP_SECONDS`, and let go of everything."""
        self.telemetry.stop(STOP_SECONDS)
        for background in self._background:
            background.stop(1.0)
        if not any(background.is_alive for background in self._background):
            self.releases.close()
            self.history.close()

    @property
    def model_version(self) -> str:
        """The version that answers which concern no user name as their model; `none` where there is none."""
        release = self.releases.current
        return "none" if release is None else release.main_version

    def recommend(self, question: Question, arrival: Arrival, *, record: bool = True) -> Answer | None:
        """The answer to a question, or nothing while no release is open. Hands the record of it to telemetry."""
        release = self.releases.current
        if release is None:
            return None
        arm, bundle = release.choose(question.user)
        chosen = answer(
            question.user,
            question.n,
            arm=arm,
            bundle=bundle,
            history=self.history.get,
            budget=Budget(self.clock, arrival.monotonic + self._deadline),
            without=self._without,
        )
        took = self.clock.monotonic() - arrival.monotonic
        counters = self.counters
        counters.latency.observe(took)
        counters.answers[chosen.step, chosen.model_version] += 1
        if record:
            self.telemetry.offer(_served(question.user, chosen, arrival, took))
        return chosen

    def _without(self, part: Part, error: Exception | None) -> None:
        self.counters.without[part, "deadline" if error is None else "error"] += 1


def _served(user: str, chosen: Answer, arrival: Arrival, took: float) -> Served:
    return Served(
        time_us=arrival.time_us,
        request_id=arrival.request_id,
        user=user,
        items=chosen.items,
        model_version=chosen.model_version,
        arm=chosen.arm,
        step=chosen.step,
        latency_ms=took * 1e3,
        scores=chosen.scores,
    )
