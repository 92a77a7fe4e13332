"""`matinee metadata`: describes the items and users of the lake, in the background, by asking two HTTP APIs.

    events in the lake ─► ids that are new ─► asked for at a steady pace ─► data/metadata.sqlite ─► items, users

A role and a process of its own, so that ingest never waits for it. An id that cannot be described is recommended,
or served, all the same: nothing waits for an answer. What is asked, when, and what became of it stands in
`data/metadata.sqlite`, so that what was killed goes on where it was.
"""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from matinee.core.alarms import RaiseAlarm
from matinee.core.budget import REMEDY, data_gate
from matinee.core.clock import DAY, SECOND, Clock
from matinee.core.errors import ConfigurationError, RetryableError
from matinee.core.home import Home
from matinee.core.logging import get_logger
from matinee.core.settings import Settings
from matinee.ingest.metadata_client import Api, Failure, NoAnswer, Pace, http_client
from matinee.ingest.metadata_lake import described_since, ids_of_days, new_ids, write_rows
from matinee.ingest.metadata_reading import Described, Kind, Unknown
from matinee.ingest.metadata_state import Noted, State
from matinee.ingest.waiting import Patience
from matinee.lake.lake import Lake

LOOK_SECONDS = 10.0
"""How often the lake is looked through for new ids."""
WRITE_SECONDS = 60.0
"""After which answers are written to the lake: each write is a commit."""
WRITE_ROWS = 1_000
"""Answers that are written before that."""
ROUND_SECONDS = 2.0
"""Worth of requests that are asked between two looks at the clock and the lake."""
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 2.0, 86_400.0
"""Until an id that failed is asked for again: doubled with each failure in a row, drawn from its upper half."""
AWAY_ALARM_SECONDS = 600.0
GIVE_UP_SECONDS = 60.0
"""Of nothing but failures, after which a run that is to end does not wait for an API."""
_IDLE_SECONDS = 0.5
_STEP_SECONDS = 0.1

_log = get_logger(__name__)


@dataclass(slots=True)
class MetadataReport:
    """What was done.

    Attributes:
        results: of each kind, how many requests came to what: `described`, `unknown`, or a reason of failure.
        rows: new or changed in the lake.
        due: of each API, how many ids were due at the last look.
        away: of each API, whether it is left alone just now, since it failed too often.
    """

    results: dict[Kind, Counter[str]] = field(default_factory=lambda: {"item": Counter(), "user": Counter()})
    rows: int = 0
    due: dict[Kind, int] = field(default_factory=dict)
    away: dict[Kind, bool] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For people and programs."""
        asked = sum(counts.total() for counts in self.results.values())
        results = {f"{kind}s": dict(counts) for kind, counts in self.results.items()}
        return {"asked": asked, "rows": self.rows, **results, "due": dict(self.due)}


class Describer:
    """One owner of a home's metadata.

    Args:
        settings: which APIs, how often, and for how long what they say holds.
        home: only one works on each.
        clock: to wait by, and to date answers.
        raise_alarm: told of an API that is away for long, and of a lake that does not answer.
        lake: to read ids from, and to write to.
        stopping: set by whoever wants the work to end.
        rng: draws when to try again.

    Raises:
        ConfigurationError: no API is set.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        home: Home,
        clock: Clock,
        raise_alarm: RaiseAlarm,
        lake: Lake,
        stopping: threading.Event | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if not (settings.metadata.item_url or settings.metadata.user_url):
            raise ConfigurationError(
                "metadata.item_url and metadata.user_url are empty: there is nobody to ask",
                remedy="Set one or both, such as http://host/movie/{id}; docs/metadata.md says what is asked.",
            )
        self.report = MetadataReport()
        self._settings = settings.metadata
        self._home = home
        self._clock = clock
        self._raise_alarm = raise_alarm
        self._lake = lake
        self._rng = rng or random.Random()  # noqa: S311 - no secret
        self._stopping = stopping or threading.Event()
        self._patience = Patience(clock, self._stopping, self._long_wait)
        self._told_away: set[Kind] = set()
        self._looked_at = self._wrote_at = float("-inf")
        self._gate = data_gate(
            home, settings.budget, clock, lambda state, _: _log.warning("data_root", state=state), REMEDY
        )

    def run(self, *, until_idle: bool = False) -> MetadataReport:
        """Work until asked to stop; or until nothing is due at an API that answers.

        Raises:
            Locked: another one works on this home.
            FatalError: something must be changed first.
        """
        with self._home.lock("metadata"), ExitStack() as stack:
            state = stack.enter_context(State(self._home))
            apis = self._open(stack)
            pool = stack.enter_context(ThreadPoolExecutor(self._settings.connections, "metadata"))
            try:
                self._patience.call("lake", lambda: self._look_back(state, apis))
                while not self._stopping.is_set():
                    asked = self._patience.call("lake", lambda: self._step(state, apis, pool))
                    if until_idle and not asked and self._is_idle(state, apis):
                        break
                    if not asked:
                        self._sleep(_IDLE_SECONDS)
            except RetryableError:
                if not self._stopping.is_set():
                    raise
            self._stopping.set()
            with suppress(RetryableError):  # what cannot be written now is kept, and written next time
                self._write(state)
        _log.info("metadata_ended", **self.report.as_dict())
        return self.report

    def _open(self, stack: ExitStack) -> dict[Kind, Api]:
        of = self._settings
        http = stack.enter_context(http_client(of.connections))
        pace = Pace(of.requests_per_second, self._clock, self._stopping)
        urls: dict[Kind, str] = {"item": of.item_url, "user": of.user_url}
        return {
            kind: Api(kind, url, http, timeout_seconds=of.timeout_seconds, pace=pace, clock=self._clock)
            for kind, url in urls.items()
            if url
        }

    def _step(self, state: State, apis: dict[Kind, Api], pool: ThreadPoolExecutor) -> int:
        """Write what is to be written, look what is new, and ask for some. Returns how many were asked for."""
        now = self._clock.monotonic()
        if now - self._wrote_at >= WRITE_SECONDS or state.waiting() >= WRITE_ROWS:
            self._write(state)
            self._wrote_at = now
        if now - self._looked_at >= LOOK_SECONDS:
            self._look(state, apis)
            self._looked_at = now
        asked = self._ask_some(state, apis, pool)
        self._tell_of_away(apis)
        return asked

    def _look_back(self, state: State, apis: dict[Kind, Api]) -> None:
        """Note the ids of the days that were gathered."""
        for kind in apis:
            state.add(kind, self._due_of(state, kind, ids_of_days(self._lake, kind)))

    def _look(self, state: State, apis: dict[Kind, Api]) -> None:
        """Note the ids of the events that came since the last look."""
        for kind in apis:
            for source, end, ids in new_ids(self._lake, kind, state.ends(kind), self._stopping.is_set):
                state.add(kind, self._due_of(state, kind, ids), {source: end})
            self.report.due[kind] = state.count_due(kind, self._clock.now_us())

    def _due_of(self, state: State, kind: Kind, ids: list[str]) -> dict[str, int]:
        """When to ask for those of the ids that are new: at once, unless the lake describes them already."""
        new = state.unseen(kind, ids)
        since = described_since(self._lake, kind, new)
        now_us = self._clock.now_us()
        return {key: self._due_again(since[key]) if key in since else now_us for key in new}

    def _due_again(self, at_us: int) -> int:
        """When what was described at a moment is to be asked for again.

        At the end of its day: a change rewrites files of the table, so that it is better done once a day for all.
        """
        age = round(self._settings.max_age_days * DAY)
        step = min(age, DAY)
        return -(-(at_us + age) // step) * step

    def _ask_some(self, state: State, apis: dict[Kind, Api], pool: ThreadPoolExecutor) -> int:
        """Ask for some of what is due, items first, and note what came of it."""
        n, now_us = ceil(self._settings.requests_per_second * ROUND_SECONDS), self._clock.now_us()
        due: list[tuple[Kind, str, int]] = []
        for kind, api in apis.items():
            if api.may_be_asked and len(due) < n:
                due += [(kind, *one) for one in state.due(kind, now_us, n - len(due))]
        results = list(pool.map(lambda one: self._ask(apis[one[0]], one[1], one[2]), due))
        noted = [result for result in results if result is not None]
        state.note(noted)
        for result in noted:
            self.report.results[result.kind][result.outcome] += 1
        return len(noted)

    def _ask(self, api: Api, key: str, failures: int) -> Noted | None:
        """What came of asking for one id; nothing if it was not asked for."""
        try:
            reading = api.ask(key)
        except NoAnswer as error:
            return self._failed(api.kind, key, error.why, failures)
        now_us = self._clock.now_us()
        if reading is None:
            return None
        if isinstance(reading, Described):
            return Noted(api.kind, key, "described", now_us, self._due_again(now_us), row=reading.row)
        if isinstance(reading, Unknown):
            again = now_us + round(self._settings.unknown_days * DAY)
            return Noted(api.kind, key, "unknown", now_us, again)
        return self._failed(api.kind, key, reading.reason, failures)

    def _failed(self, kind: Kind, key: str, why: str, failures: int) -> Noted:
        """Later: after 2 s, 4 s, … up to a day. That an API has too many requests is not the id's fault."""
        now_us = self._clock.now_us()
        if why == Failure.BUSY:
            return Noted(kind, key, str(why), now_us, now_us, failures)
        longest = min(FIRST_RETRY_SECONDS * 2 ** min(failures, 30), LONGEST_RETRY_SECONDS)
        wait = round(longest * self._rng.uniform(0.5, 1.0) * SECOND)
        return Noted(kind, key, str(why), now_us, now_us + wait, failures + 1)

    def _write(self, state: State) -> None:
        """Give the lake the answers that it does not hold."""
        kinds: tuple[Kind, Kind] = ("item", "user")
        for kind in kinds:
            while self._write_some(state, kind):
                pass

    def _write_some(self, state: State, kind: Kind) -> int:
        with state.handing_over(kind, 10 * WRITE_ROWS) as rows:
            if not rows:
                return 0
            self._gate.require()
            changed = write_rows(self._lake, kind, rows)
        self.report.rows += changed
        _log.info("metadata_written", kind=kind, rows=len(rows), changed=changed)
        return len(rows)

    def _is_idle(self, state: State, apis: dict[Kind, Api]) -> bool:
        now_us = self._clock.now_us()
        return all(
            api.failing_seconds >= GIVE_UP_SECONDS or not state.count_due(kind, now_us)
            for kind, api in apis.items()
        )

    def _tell_of_away(self, apis: dict[Kind, Api]) -> None:
        """An alarm, once, for an API that has been failing for long."""
        for kind, api in apis.items():
            self.report.away[kind] = api.is_away
            if api.failing_seconds < AWAY_ALARM_SECONDS:
                self._told_away.discard(kind)
            elif kind not in self._told_away:
                self._told_away.add(kind)
                evidence = {"api": kind, "url": api.name, "seconds": round(api.failing_seconds)}
                evidence |= {"results": dict(self.report.results[kind])}
                self._raise_alarm("metadata_api_away", "warning", evidence, _AWAY)

    def _long_wait(self, what: str, error: RetryableError) -> None:
        evidence = {"waiting_for": what, "error": str(error), "kind": type(error).__name__}
        self._raise_alarm("metadata_waiting", "warning", evidence, error.remedy or "It goes on by itself.")

    def _sleep(self, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        while not self._stopping.is_set() and (left := until - self._clock.monotonic()) > 0:
            self._clock.sleep(min(left, _STEP_SECONDS))


_AWAY = (
    "Nothing waits for it, and it is asked again by itself. See whether metadata.item_url and metadata.user_url "
    "still lead to it; docs/metadata.md says what each reason means."
)
