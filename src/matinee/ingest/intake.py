"""From the reader to history, and on to the buffer that the lake is written from."""

from collections.abc import Callable

from matinee.core.clock import Clock
from matinee.core.errors import GenerationChanged
from matinee.core.logging import get_logger
from matinee.core.settings import Settings
from matinee.events.offsets import Source
from matinee.ingest.counts import Counts
from matinee.ingest.lake_writer import LakeWriter
from matinee.ingest.pipeline import Batch, Pipeline
from matinee.ingest.rebuild import catch_up
from matinee.ingest.report import IngestReport
from matinee.ingest.stores import Opened
from matinee.ingest.waiting import Patience
from matinee.ingest.window import open_posted_ids, open_window
from matinee.log.base import Reader, Records

_log = get_logger(__name__)
POLL_RECORDS = 50_000
"""Records of a poll at most: history follows in steps of half a second while a long log is caught up with. Larger
steps are quicker, because a user's actions are then folded in together."""
_BUFFERED_COMMITS = 2
"""How many commits' worth of rows may wait in memory while the lake does not take them."""


class Intake:
    """What has been read and is not yet in the lake.

    While the lake does not answer, rows wait in memory up to a bound. Beyond it they are dropped, history alone
    goes on, and when the lake answers again, reading begins again where the lake ends: the log still holds it all.

    Args:
        stores: the open stores.
        writer: commits to the lake.
        patience: of the thread that polls.
        settings: of the stream and the lake.
        clock: says when a commit is due.
        stopping: whether an end was asked for.
    """

    def __init__(
        self,
        stores: Opened,
        writer: LakeWriter,
        patience: Patience,
        settings: Settings,
        clock: Clock,
        stopping: Callable[[], bool],
    ) -> None:
        self._stores = stores
        self._writer = writer
        self._patience = patience
        self._settings = settings
        self._clock = clock
        self._stopping = stopping
        self._reader: Reader | None = None
        self._starts: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._pipelines: dict[int, Pipeline] = {}
        self._buffer: dict[Source, list[Batch]] = {}
        self._buffered = 0
        self._buffered_since = 0.0
        self._committing = 0
        self._behind = False
        self._counts = Counts()
        self._rows: dict[str, int] = {}
        self._commits = 0
        self.polled = 0
        """Records of the latest poll."""
        self.caught_up = 0
        """Actions of this log that history had missed."""

    def resume(self) -> None:
        """Begin to read where the lake ends; first give history what the lake has and it lacks.

        Raises:
            GenerationChanged: the log ends before the lake does.
        """
        self._patience.call("lake", self._resume)

    def poll(self, *, timeout: float) -> bool:
        """Take in one poll of the log. Returns whether there is likely more at once."""
        reader = self._reader
        assert reader is not None, "resume() comes first"
        read = self._patience.call("event log", lambda: reader.poll(max_records=POLL_RECORDS, timeout=timeout))
        self.polled = sum(map(len, read))
        for records in read:
            self._take(records)
        return self.polled >= POLL_RECORDS

    def commit_if_due(self, *, now: bool) -> None:
        """Give the buffer to the lake's writer when it is time, or at once if `now`."""
        limit = self._settings.lake.commit_rows
        waited = self._clock.monotonic() - self._buffered_since
        due = now or self._buffered >= limit or waited >= self._settings.lake.commit_seconds
        if self._writer.busy:
            if self._buffered >= _BUFFERED_COMMITS * limit:
                self._make_room()
        elif due and self._buffered:
            self._committing, self._buffered = self._buffered, 0
            buffer, self._buffer = self._buffer, {}
            self._writer.submit(buffer)

    def collect(self, *, timeout: float | None = 0) -> None:
        """Note what the lake's writer has done; if it fell behind, begin again where the lake ends."""
        done = self._writer.collect(timeout=timeout)
        if done is None:
            return
        self._committing = 0
        self._commits += 1
        self._counts += done.counts
        self._rows = {name: self._rows.get(name, 0) + rows for name, rows in {**self._rows, **done.rows}.items()}
        self._ends = self._patience.call("event log", self._stores.log.ends)
        if self._behind:
            self._behind = False
            self.resume()

    def flush(self) -> None:
        """Commit all that is buffered, and wait for it.

        Raises:
            RetryableError: the lake does not answer.
        """
        self.collect(timeout=None)
        self.commit_if_due(now=True)
        self.collect(timeout=None)

    @property
    def settled(self) -> bool:
        """Whether everything that was read is in the lake."""
        return not (self._buffered or self._writer.busy or self._behind)

    def at_end(self) -> bool:
        """Whether everything that the log holds has been read."""
        ends = self._patience.call("event log", self._stores.log.ends)
        return all(self._next(partition) >= end for partition, end in ends.items())

    def position(self) -> tuple[int, int]:
        """Positions passed since the start, and how many there are to pass as far as is known."""
        first = {p: self._starts.get(p, 0) for p in {*self._ends, *self._pipelines}}
        done = sum(self._next(p) - start for p, start in first.items())
        return done, sum(max(self._ends.get(p, 0), self._next(p)) - start for p, start in first.items())

    def report(self, *, seconds: float, waits: int, caught_up: int) -> IngestReport:
        """What has been committed so far."""
        left = self._buffered + self._committing
        return IngestReport(self._counts, self._rows, self._commits, seconds, waits, left, caught_up)

    def close(self) -> None:
        """Let go of the reader."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _resume(self) -> None:
        log, lake, history = self._stores.log, self._stores.lake, self._stores.history
        self.close()
        self._pipelines.clear()
        self._buffer.clear()
        self._buffered = 0
        self._starts.clear()
        mine = log.generation
        self.caught_up += catch_up(
            lake, history, only=lambda source: source.generation == mine, stopping=self._stopping
        )
        self._reader = log.reader(self._start)
        self._ends = log.ends()
        for partition, start in self._starts.items():
            if self._ends.get(partition, 0) < start:
                raise GenerationChanged(
                    f"partition {partition} of the event log ends at {self._ends.get(partition, 0)}, but the lake "
                    f"holds it up to {start}: an older copy of the log was put back",
                    remedy="Put the newer log back, or move this one away: the log then begins anew, with a "
                    "generation of its own.",
                )
        _log.info("reading_from", positions=dict(self._starts))

    def _start(self, partition: int) -> int:
        start = self._stores.lake.resume_position(Source(self._stores.log.generation, partition))
        self._starts[partition] = start
        return start

    def _next(self, partition: int) -> int:
        pipeline = self._pipelines.get(partition)
        return self._starts.get(partition, 0) if pipeline is None else pipeline.next

    def _take(self, records: Records) -> None:
        pipeline = self._pipelines.get(records.partition)
        if pipeline is None:
            source = Source(records.generation, records.partition)
            pipeline = self._patience.call("lake", lambda: self._pipeline(source))
            self._pipelines[records.partition] = pipeline
        batch = pipeline.read(records)
        if not self._behind:
            if not self._buffered:
                self._buffered_since = self._clock.monotonic()
            self._buffer.setdefault(batch.source, []).append(batch)
            self._buffered += len(records)
        actions = batch.actions()
        history = self._stores.history
        self._patience.call("history", lambda: history.apply(batch.source, actions, end=batch.end))

    def _pipeline(self, source: Source) -> Pipeline:
        start = self._starts.get(source.partition)
        if start is None:
            start = self._start(source.partition)
        lake = self._stores.lake
        window, posted = open_window(lake, source, start), open_posted_ids(lake, source, start)
        return Pipeline(source, start, window, posted, timezone=self._settings.stream.timezone)

    def _make_room(self) -> None:
        """The lake takes less than the log gives. Wait for it; go on without if it does not answer."""
        if not self._writer.struggling:
            self.collect(timeout=None if self._stopping() else 0.1)
            return
        _log.warning("behind", dropped_from_memory=self._buffered)
        self._behind = True
        self._buffer.clear()
        self._buffered = 0
