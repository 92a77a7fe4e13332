"""From the reader to history, and on to the buffer that the lake is written from."""

from collections.abc import Callable, Mapping

from matinee.core.clock import Clock
from matinee.core.erasures import Erasures
from matinee.core.errors import RetryableError
from matinee.core.logging import get_logger
from matinee.core.settings import Settings
from matinee.events.offsets import Source
from matinee.ingest.counts import Counts
from matinee.ingest.lake_writer import LakeWriter
from matinee.ingest.metrics import Watch
from matinee.ingest.pipeline import Batch, Pipeline
from matinee.ingest.rebuild import catch_up
from matinee.ingest.report import IngestReport
from matinee.ingest.stores import Opened, group_of
from matinee.ingest.waiting import Patience
from matinee.ingest.window import open_posted_ids, open_window
from matinee.log.base import Reader, Records, Sharing

_log = get_logger(__name__)
POLL_RECORDS = 50_000
"""Records of a poll at most: history follows in steps of half a second while a long log is caught up with. Larger
steps are quicker, because a user's actions are then folded in together."""
ENDS_SECONDS = 1.0
"""How old the log's ends may be by which it is told how much is left to read."""
_BUFFERED_COMMITS = 2
"""How many commits' worth of rows may wait in memory while the lake does not take them."""
RELEASE_SECONDS = 10.0
"""How long partitions are kept from their next reader while the lake is slow to take what was read of them."""


class Intake:
    """What has been read and is not yet in the lake.

    While the lake does not answer, rows wait in memory up to a bound. Beyond it they are dropped, history alone
    goes on, and when the lake answers again, reading begins again where the lake ends: the log still holds it all.

    Of a log that several processes take in, each has some partitions for a while. What was read of one is
    committed before it becomes another's. Where it was another's already, because this process slept, the lake's
    fence decides whose rows are taken, and whoever comes too late begins again where the lake ends.

    Args:
        stores: the open stores.
        writer: commits to the lake.
        patience: of the thread that polls.
        settings: of the stream and the lake.
        clock: says when a commit is due.
        stopping: whether an end was asked for.
        watch: told how far reading has come, and what was committed.
        shared: whether other processes take in this log too.
        erased: says whose records are to be dropped.
    """

    def __init__(
        self,
        stores: Opened,
        writer: LakeWriter,
        patience: Patience,
        settings: Settings,
        clock: Clock,
        stopping: Callable[[], bool],
        watch: Watch,
        *,
        shared: bool = False,
        erased: Callable[[], Erasures] = Erasures.nobody,
    ) -> None:
        self._watch = watch
        self._erased = erased
        self._stores = stores
        self._writer = writer
        self._patience = patience
        self._settings = settings
        self._clock = clock
        self._stopping = stopping
        self._shared = shared
        self._reader: Reader | None = None
        self._starts: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._ends_at = 0.0
        self._pipelines: dict[int, Pipeline] = {}
        self._buffer: dict[Source, list[Batch]] = {}
        self._buffered = 0
        self._buffered_since = 0.0
        self._committing = 0
        self._behind = False
        self._age_seconds = 0.0
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
        self._drop()
        self._patience.call("lake", self._catch_up)
        self._patience.call("event log", self._read_on)
        _log.info("reading_from", positions=dict(self._starts))

    def poll(self, *, timeout: float) -> bool:
        """Take in one poll of the log. Returns whether there is likely more at once."""
        reader = self._reader
        assert reader is not None, "resume() comes first"
        read = self._patience.call("event log", lambda: reader.poll(max_records=POLL_RECORDS, timeout=timeout))
        self.polled = sum(map(len, read))
        for records in read:
            self._take(records)
        self._tell(read)
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
        """Note what the lake's writer has done; if it fell behind or was fenced, begin where the lake ends."""
        self._note(timeout)
        if self._behind and not (self._writer.busy or self._stopping()):
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
        """Whether everything that the log holds has been read, or is in the lake: others may have a part of it."""
        mine = self._positions()
        if mine is None:
            return False
        ends = self._patience.call("event log", self._stores.log.ends)
        left = [partition for partition, end in ends.items() if mine.get(partition, 0) < end]
        return all(partition not in mine and self._lake_end(partition) >= ends[partition] for partition in left)

    def position(self) -> tuple[int, int]:
        """Positions passed since the start, and how many there are to pass as far as is known."""
        mine = self._positions() or {}
        first = {p: min(self._starts.get(p, at), at) for p, at in mine.items()}
        done = sum(mine[p] - start for p, start in first.items())
        return done, sum(max(self._ends.get(p, 0), mine[p]) - start for p, start in first.items())

    def report(self, *, seconds: float, waits: int, caught_up: int) -> IngestReport:
        """What has been committed so far."""
        left = self._buffered + self._committing
        return IngestReport(self._counts, self._rows, self._commits, seconds, waits, left, caught_up)

    def close(self) -> None:
        """Let go of the reader."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _note(self, timeout: float | None) -> None:
        done = self._writer.collect(timeout=timeout)
        if done is None:
            return
        self._committing = 0
        self._commits += 1
        self._counts += done.counts
        self._watch.committed(done.counts)
        self._rows = {name: self._rows.get(name, 0) + rows for name, rows in {**self._rows, **done.rows}.items()}
        if done.fenced:
            self._fall_behind()

    def _tell(self, read: list[Records]) -> None:
        if self._clock.monotonic() - self._ends_at >= ENDS_SECONDS:
            self._patience.call("event log", self._look_ahead)
        mine = self._positions() or {}
        lag = {partition: max(self._ends.get(partition, 0) - at, 0) for partition, at in mine.items()}
        if read:
            oldest = min(int(records.appended_us[-1]) for records in read)
            self._age_seconds = max(self._clock.now_us() - oldest, 0) / 1e6
        elif not any(lag.values()):
            self._age_seconds = 0.0
        self._watch.read(lag, self._age_seconds)
        self._watch.remembered({p: pipeline.held for p, pipeline in self._pipelines.items()})

    def _catch_up(self) -> None:
        mine = self._stores.log.generation
        self.caught_up += catch_up(
            self._stores.lake,
            self._stores.history,
            only=lambda source: source.generation == mine,
            stopping=self._stopping,
        )

    def _read_on(self) -> None:
        log = self._stores.log
        if self._reader is None:
            self._reader = log.reader(self._start, sharing=self._sharing() if self._shared else None)
        else:
            self._reader.rewind()
        self._look_ahead()

    def _look_ahead(self) -> None:
        self._ends, self._ends_at = self._stores.log.ends(), self._clock.monotonic()

    def _sharing(self) -> Sharing:
        group = self._patience.call("lake", lambda: group_of(self._stores.lake))
        return Sharing(group, self._release, self._forget)

    def _start(self, partition: int) -> int:
        """Where the lake ends. It insists: whoever gives out partitions does not ask twice."""
        self._pipelines.pop(partition, None)
        start = self._starts[partition] = self._patience.call("lake", lambda: self._lake_end(partition))
        return start

    def _lake_end(self, partition: int) -> int:
        return self._stores.lake.resume_position(Source(self._stores.log.generation, partition))

    def _release(self, partitions: frozenset[int]) -> None:
        """These become another's: commit what was read, unless the lake keeps us waiting: then it is read again.

        Nothing is read meanwhile, of no partition; so a lake that is known to be away is not waited for.
        """
        try:
            if not self._writer.struggling:
                self._note(RELEASE_SECONDS)
            if not self._writer.busy:
                self.commit_if_due(now=True)
                self._note(RELEASE_SECONDS)
        except RetryableError as error:
            _log.warning("not_committed", partitions=sorted(partitions), error=str(error))
        self._forget(partitions)

    def _forget(self, partitions: frozenset[int]) -> None:
        """These are another's: what is buffered of them is the other's to read again."""
        for partition in partitions:
            self._pipelines.pop(partition, None)
            self._starts.pop(partition, None)
        for source in [source for source in self._buffer if source.partition in partitions]:
            self._buffered -= sum(batch.counts.read for batch in self._buffer.pop(source))

    def _fall_behind(self) -> None:
        """Drop what is buffered, to read it again from where the lake ends."""
        self._behind = True
        self._buffer.clear()
        self._buffered = 0

    def _drop(self) -> None:
        self._fall_behind()
        self._pipelines.clear()
        self._starts.clear()
        self._behind = False

    def _positions(self) -> Mapping[int, int] | None:
        return None if self._reader is None else self._reader.positions

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
        timezone = self._settings.stream.timezone
        return Pipeline(source, start, window, posted, timezone=timezone, erased=self._erased)

    def _make_room(self) -> None:
        """The lake takes less than the log gives. Wait for it; go on without if it does not answer."""
        if not self._writer.struggling:
            self.collect(timeout=None if self._stopping() else 0.1)
            return
        _log.warning("behind", dropped_from_memory=self._buffered)
        self._fall_behind()
