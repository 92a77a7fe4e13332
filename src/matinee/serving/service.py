"""The service behind the routes: all its parts, put together and looked after."""

import os
import socket
from collections.abc import Callable
from functools import partial
from math import inf

import msgspec

from matinee.bundle.open import Bundle
from matinee.core.breaker import Breaker
from matinee.core.clock import Clock
from matinee.core.erasures import ERASED
from matinee.core.home import Home
from matinee.core.logging import get_logger
from matinee.core.settings import Settings
from matinee.events.types import Served
from matinee.history.base import History
from matinee.history.open import data_file, open_history
from matinee.log.base import EventLog
from matinee.log.open import open_log
from matinee.serving.answer import Answer, Budget, Part, Reason, Step
from matinee.serving.arrange import Style
from matinee.serving.background import Background
from matinee.serving.crashes import Crashes
from matinee.serving.erased import LiveErasures
from matinee.serving.event_sink import EventSink
from matinee.serving.families import families
from matinee.serving.fold_cache import FoldCache
from matinee.serving.key_file import KEYS
from matinee.serving.keys import Guard
from matinee.serving.limits import Limits
from matinee.serving.live_history import LiveHistory
from matinee.serving.load import Load
from matinee.serving.metrics import Exposition, HotCounters
from matinee.serving.recommender import Recommender
from matinee.serving.release import Release, ReleaseHolder
from matinee.serving.request import Question
from matinee.serving.rules import RULES, LiveRules
from matinee.serving.telemetry import Telemetry
from matinee.serving.telemetry_writer import ReopenedLog, Sink
from matinee.serving.writer_process import WriterProcess

STOP_SECONDS = 5.0
"""How long stopping may take to write what is queued."""
HISTORY_LOOK_SECONDS = 0.1
ERASED_LOOK_SECONDS = 0.1
RULES_LOOK_SECONDS = 0.5
TOLD_AGAIN_SECONDS = 60.0
"""A kind of error that answers did without is logged once in so long; all are counted."""
CACHE_WRITE_SECONDS = 0.05
"""Seconds between two writes of fold-ins: until then a process that did not make one makes it again."""

_log = get_logger(__name__)


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """When a request arrived, and the id it was given."""

    request_id: str
    time_us: int
    monotonic: float


class Service:
    """Answers questions. One for each process.

    Args:
        settings: queue, deadline, intervals, and how answers are arranged.
        home: where bundles, rules and keys are, and what the URLs are relative to.
        clock: the clock of everything in here.
        open_event_log: opens the log for telemetry and posted events, both within this process; where none is
            given, it is the settings' URL's, and a process beside this one writes telemetry.
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
        log_url = home.resolve(settings.log.url)
        sink: Sink = ReopenedLog(open_event_log) if open_event_log else WriterProcess(log_url)
        open_event_log = open_event_log or partial(open_log, log_url, clock, appends=True)
        self.clock = clock
        self.draining = False
        """Whether the end was announced: requests are still answered, but no more are asked for."""
        self._deadline = serving.deadline_ms / 1e3
        self.releases = ReleaseHolder(home, clock, self._warm_up)
        self._followed: Release | None = None
        self.crashes = Crashes(home.run, {"history": "/matinee/history/", "fold_cache": "/fold_cache.py"})
        """To be started and stopped by the process that this service is alone in."""
        history_url = home.resolve(settings.history.url)
        self.history = LiveHistory(open_live_history or partial(self._open_history, history_url), clock)
        self.rules = LiveRules(home.data / RULES, clock)
        megabytes = serving.fold_in_cache_megabytes
        self.folded = (
            FoldCache(home.run, megabytes, partial(self.crashes.admit, "fold_cache")) if megabytes else None
        )
        leave_out = (lambda _: None) if self.folded is None else self.folded.leave_out
        self.erased = LiveErasures(home.data / ERASED, leave_out)
        self.recommender = Recommender(
            self.history.glance,
            users_breaker=Breaker("bundle", clock),
            cache_breaker=Breaker("fold_cache", clock),
            rules=self.rules,
            folded=self.folded,
            style=Style.of(serving),
        )
        self.load = Load(serving.shed_late_ms / 1e3)
        self.guard = Guard(home.data / KEYS, clock, everywhere=serving.require_key_everywhere)
        self.limits = Limits(serving)
        self.events = EventSink(open_event_log, clock)
        self.telemetry = Telemetry(
            sink,
            clock,
            capacity=serving.telemetry_queue,
            seconds=serving.telemetry_seconds,
            producer=f"serve-{socket.gethostname()}-{os.getpid()}",
        )
        self.counters = HotCounters()
        self._told: dict[tuple[Part, type[Exception] | type[None]], float] = {}
        self.exposition = Exposition(families(self))
        self._needed = (
            Background("releases", self._look, serving.reload_seconds),
            Background("history", self.history.tend, HISTORY_LOOK_SECONDS),
            Background("rules", self.rules.look, RULES_LOOK_SECONDS),
            Background("erasures", self.erased.look, ERASED_LOOK_SECONDS),
        )
        # The cache is waited for by nobody: its writer may hang for as long as another process is stopped.
        cached = () if self.folded is None else (Background("fold_cache", self.folded.tend, CACHE_WRITE_SECONDS),)
        self._background: tuple[Background, ...] = (*self._needed, *cached)

    def start(self) -> None:
        """Begin to look for a release and all the rest, and to write telemetry. Once only."""
        self.rules.look()  # before anybody is answered: what is blocked is never shown
        self.erased.look()
        for background in self._background:
            background.start()
        self.guard.start()
        self.telemetry.start()
        self.events.start()

    def stop(self) -> None:
        """Write what is queued, within `STOP_SECONDS`, and let go of everything."""
        end = self.clock.monotonic() + STOP_SECONDS
        self.telemetry.stop(STOP_SECONDS)
        self.events.close(max(0.0, end - self.clock.monotonic()))
        self.guard.stop()
        for background in self._background:
            background.stop(1.0)
        if not any(background.is_alive for background in self._background):
            self.releases.close()
            self.history.close()
            if self.folded is not None:
                self.folded.close()

    @property
    def breakers(self) -> tuple[Breaker, ...]:
        """One for each store."""
        by = self.recommender
        return self.history.breaker, by.users_breaker, by.cache_breaker, self.events.breaker

    @property
    def why_not_ready(self) -> str:
        """Why no requests should come now; empty where they may."""
        if self.draining:
            return "it is about to stop"
        if self.releases.current is None:
            return self.releases.why_not
        waiting = [background.name for background in self._needed if not background.has_run]
        return f"it has not yet looked for {', '.join(waiting)}" if waiting else ""

    @property
    def model_version(self) -> str:
        """The version that answers which concern no user name as their model; `none` where there is none."""
        release = self.releases.current
        return "none" if release is None else release.main_version

    def recommend(self, question: Question, arrival: Arrival, *, record: bool = True) -> Answer | None:
        """The answer to a question, or nothing while no release is open.

        Hands the record of it to telemetry, unless it was an anonymous session's: what is nobody's teaches nothing.
        An erased user is nobody, too, but for the arm, which follows from the id alone as any stranger's does.
        """
        release = self.releases.current
        if release is None:
            return None
        user, strangers = question.user, self.erased.strangers
        arm, bundle = release.choose(user)
        if strangers is not None and user is not None and user in strangers:
            user, question = None, msgspec.structs.replace(question, user=None)
        chosen = self.recommender.answer(
            question,
            arm=arm,
            bundle=bundle,
            budget=Budget(self.clock, arrival.monotonic + self._deadline),
            without=self._without,
            shed=self.load.shed_at(arrival.monotonic),
            seed=arrival.request_id,
        )
        took = self.clock.monotonic() - arrival.monotonic
        counters = self.counters
        counters.latency.observe(took)
        counters.answers[chosen.step, chosen.model_version] += 1
        if record and user is not None:
            self.telemetry.offer(_served(user, chosen, arrival, took))
        return chosen

    def _open_history(self, url: str) -> History:
        data = data_file(url)
        if data is not None:
            self.crashes.admit("history", data)
        return open_history(url, read_only=True, follow=False)

    def _look(self) -> None:
        self.releases.look()
        release = self.releases.current
        if release is not self._followed and release is not None and self.folded is not None:
            self.folded.follow(set(release.bundles))
        self._followed = release

    def _warm_up(self, bundle: Bundle) -> None:
        """The first answers from a bundle are slow: rules are put on it, linear algebra starts, pages are read."""
        most_popular = bundle.items[int(bundle.popular()[0])]  # something was learnt of it
        newcomer = Question(None, session=(most_popular,))
        for question in (newcomer, Question(None)):
            self.recommender.answer(
                question, arm="", bundle=bundle, budget=Budget(self.clock, inf), without=lambda *_: None
            )

    def _without(self, part: Part, reason: Reason, error: Exception | None) -> None:
        self.counters.without[part, reason] += 1
        if reason is Reason.ERROR:
            kind, now = (part, type(error)), self.clock.monotonic()
            if now >= self._told.get(kind, -inf) + TOLD_AGAIN_SECONDS:
                self._told[kind] = now
                _log.error("answered_without", part=str(part), exc_info=error)


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
        scores=() if chosen.step is Step.PERSONAL else chosen.scores,  # those stand in the bundle
        propensities=chosen.propensities,
    )
