"""`matinee ingest`: the loop that takes the log into history at every poll, and into the lake every few seconds.

    poll ─► classify ─► history            at once, every `history.poll_seconds`
                └─────► buffer ─► lake     in a thread of its own, every `lake.commit_seconds` or `commit_rows`

It resumes where the lake ends. History may be ahead of that: it passes over what it has applied. What is in memory
is always still in the log, which is trimmed only behind the lake; so a process that is killed loses nothing.
"""

import gc
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

from matinee.core.alarms import RaiseAlarm
from matinee.core.clock import Clock
from matinee.core.erasures import ERASED
from matinee.core.errors import FatalError, Fenced, GenerationChanged, RetryableError
from matinee.core.home import Home
from matinee.core.logging import get_logger
from matinee.core.metrics import exposed
from matinee.core.settings import Settings
from matinee.ingest.erased import Tombstones
from matinee.ingest.generations import KnownGenerations
from matinee.ingest.intake import Intake
from matinee.ingest.lake_writer import LakeWriter
from matinee.ingest.metrics import Watch
from matinee.ingest.report import IngestReport, Progress, no_progress
from matinee.ingest.stores import Opened, Stores, stores_of
from matinee.ingest.upkeep import Protected, Upkeep
from matinee.ingest.waiting import Patience

_log = get_logger(__name__)


def ingest(
    *,
    settings: Settings,
    home: Home,
    clock: Clock,
    raise_alarm: RaiseAlarm,
    stores: Stores | None = None,
    until_idle: bool = False,
    accept_new_generation: bool = False,
    protected: Protected = tuple,
    progress: Progress = no_progress,
) -> IngestReport:
    """Take in the log until SIGTERM or SIGINT; then finish what is at hand, commit, and say what was done.

    Args:
        settings: where the stores are, and how often to poll and to commit.
        home: whose ingest this is; only one runs at a time, unless the log is one that several may share.
        clock: to wait by and to date commits.
        raise_alarm: told of what stops ingest or keeps it waiting for long.
        stores: how to open the stores; from the settings unless given.
        until_idle: end when everything in the log is in the lake.
        accept_new_generation: go on with a log that was lost or made again, from its beginning.
        protected: says which versions of the lake maintenance must leave readable.
        progress: told of the records taken in.

    Raises:
        Locked: another ingest works on this home.
        GenerationChanged: the log was lost or made again.
        Fenced: another owner has gone on in the lake, of a log that is not shared.
        FatalError: something must be changed first.
    """
    service = Ingest(
        settings=settings,
        home=home,
        clock=clock,
        raise_alarm=raise_alarm,
        stores=stores or stores_of(settings, home, clock),
        protected=protected,
        progress=progress,
    )
    with _ended_by_signals(service.stop), _calm_collector():
        return service.run(until_idle=until_idle, accept_new_generation=accept_new_generation)


class Ingest:
    """One owner of a home's ingest. See `ingest` for the arguments."""

    def __init__(
        self,
        *,
        settings: Settings,
        home: Home,
        clock: Clock,
        raise_alarm: RaiseAlarm,
        stores: Stores,
        protected: Protected = tuple,
        progress: Progress = no_progress,
    ) -> None:
        self._settings = settings
        self._home = home
        self._clock = clock
        self._raise_alarm = raise_alarm
        self._stores = stores
        self._protected = protected
        self._progress = progress
        self._stopping = threading.Event()
        self._patience = self._new_patience()

    def stop(self) -> None:
        """Ask for an end; safe from any thread and from a signal handler."""
        self._stopping.set()

    def run(self, *, until_idle: bool = False, accept_new_generation: bool = False) -> IngestReport:
        """Work until asked to stop, or until everything is in. Returns what was done."""
        try:
            with self._home.lock("ingest", shared=self._stores.shared), ExitStack() as stack:
                return self._run(stack, until_idle, accept_new_generation)
        except FatalError as error:
            self._alarm(error)
            raise

    def _run(self, stack: ExitStack, until_idle: bool, accept_new_generation: bool) -> IngestReport:
        began = self._clock.monotonic()
        limits, waiting, shared = self._settings.ingest, self._new_patience(), self._stores.shared
        watch = Watch(limits, self._raise_alarm, (self._patience, waiting))
        # Before the stores are open: a store that is away from the start is seen too.
        stack.enter_context(exposed(watch, limits.metrics_port, setting="ingest.metrics_port"))
        stores = self._open(stack, accept_new_generation)
        stopping = self._stopping.is_set
        upkeep = Upkeep(stores, self._settings, self._home, self._raise_alarm, self._protected, stopping)
        stack.callback(upkeep.close)
        writer = LakeWriter(stores, waiting, upkeep.after_commit, upkeep.require_room, shared=shared)
        stack.callback(writer.close)
        intake = Intake(
            stores, writer, self._patience, self._settings, self._clock, stopping, watch,
            shared=shared, erased=Tombstones(self._home.data / ERASED).current,
        )  # fmt: skip
        stack.callback(intake.close)
        _log.info("ingest_started", generation=stores.log.generation)
        try:
            self._loop(intake, writer, upkeep, until_idle)
        finally:
            self._finish(intake)
        done = intake.report(
            seconds=self._clock.monotonic() - began,
            waits=self._patience.waits + waiting.waits,
            caught_up=upkeep.caught_up + intake.caught_up,
        )
        _log.info("ingest_ended", **done.as_dict())
        return done

    def _open(self, stack: ExitStack, accept_new_generation: bool) -> Opened:
        """Open the stores, each as soon as it answers; the log only if it is the one that was read before."""
        url = self._stores.log_url
        log = stack.enter_context(self._patience.call("event log", self._stores.log))
        lake = self._patience.call("lake", self._stores.lake)
        generations = KnownGenerations(self._home.data)
        if not accept_new_generation:
            generations.check(url, log.generation, self._patience.call("lake", lake.sources))
        history = stack.enter_context(self._patience.call("history", self._stores.history))
        generations.remember(url, log.generation)
        return Opened(log, lake, history)

    def _loop(self, intake: Intake, writer: LakeWriter, upkeep: Upkeep, until_idle: bool) -> None:
        poll_seconds = self._settings.history.poll_seconds
        intake.resume()
        tended = False
        while not self._stopping.is_set():
            began = self._clock.monotonic()
            intake.collect()
            full = intake.poll(timeout=poll_seconds)
            done = until_idle and not intake.polled and intake.at_end()
            if not writer.busy:  # in turns with commits, which leave no gap while the lake is behind
                tended = not (tended or until_idle) and upkeep.due(self._clock.monotonic())
                if tended:
                    writer.run(upkeep.between_commits)
            intake.commit_if_due(now=done)
            self._progress("taking in the log", *intake.position())
            if done and intake.settled:
                return
            left = poll_seconds - (self._clock.monotonic() - began)
            if not full and left > 0:
                self._clock.sleep(left)

    def _finish(self, intake: Intake) -> None:
        """Commit what is buffered. Where the lake does not answer, it stays in the log."""
        self._stopping.set()  # from here on every store is asked once
        with suppress(RetryableError):
            intake.flush()

    def _new_patience(self) -> Patience:
        return Patience(self._clock, self._stopping, self._long_wait)

    def _long_wait(self, what: str, error: RetryableError) -> None:
        self._raise_alarm(
            "ingest_waiting",
            "warning",
            {"waiting_for": what, "error": str(error), "kind": type(error).__name__},
            error.remedy or "Nothing is lost, and ingest goes on by itself. See why the store does not answer.",
        )

    def _alarm(self, error: FatalError) -> None:
        name = "ingest_stopped"
        if isinstance(error, GenerationChanged):
            name = "log_generation_changed"
        elif isinstance(error, Fenced):
            name = "ingest_fenced"
        evidence = {"error": str(error), "kind": type(error).__name__, "log": self._stores.log_url}
        self._raise_alarm(
            name, "critical", evidence, error.remedy or "Mend what the error names, then start again."
        )


@contextmanager
def _calm_collector() -> Iterator[None]:
    """Spare the garbage collector what is loaded already.

    A poll makes many small objects, which make it look through everything else again: a tenth of the time.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _ended_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT ask for an end while the block lasts; the second one kills, as always."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    numbers: tuple[int, ...] = (signal.SIGTERM, signal.SIGINT)

    def ask(number: int, _frame: FrameType | None) -> None:
        stop()
        signal.signal(number, before[number])

    for number in numbers:
        before[number] = signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
