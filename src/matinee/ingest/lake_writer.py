"""Commits to the lake beside the loop that keeps history fresh: one thread, one piece of work at a time."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass

from matinee.core.errors import Fenced, GenerationChanged, RetryableError
from matinee.core.logging import get_logger
from matinee.events.offsets import Source
from matinee.ingest.counts import Counts
from matinee.ingest.pipeline import Batch, lake_tables
from matinee.ingest.stores import Opened
from matinee.ingest.waiting import Patience

_log = get_logger(__name__)

Work = Mapping[Source, list[Batch]]
"""Of each source, consecutive batches."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What one piece of work wrote to the lake."""

    counts: Counts
    rows: Mapping[str, int]
    fenced: bool = False
    """Whether another owner had gone on in some source: what was given of it is not counted here."""


class LakeWriter:
    """Writes batches to the lake in a thread of its own.

    History is forced to the disk first, so that after a power cut it is never behind the lake without knowing. The
    log is trimmed last, behind what the lake holds.

    Args:
        stores: the open stores.
        patience: of this thread.
        upkeep: called in the thread after each commit, with the number of commits so far: maintenance of the
            lake must never run beside a commit.
        require_room: called in the thread before each try of a commit; raises `OutOfRoom` where it must wait.
        shared: whether sources may become another process's, so that being fenced is no error.
    """

    def __init__(
        self,
        stores: Opened,
        patience: Patience,
        upkeep: Callable[[int], None],
        require_room: Callable[[], None],
        *,
        shared: bool = False,
    ) -> None:
        self._stores = stores
        self._patience = patience
        self._upkeep = upkeep
        self._require_room = require_room
        self._shared = shared
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lake")
        self._work: Future[Committed | None] | None = None
        self.commits = 0

    @property
    def busy(self) -> bool:
        """Whether a piece of work was given and not yet collected."""
        return self._work is not None

    @property
    def struggling(self) -> bool:
        """Whether it waits for a store that does not answer."""
        return self._patience.waiting

    def submit(self, work: Work) -> None:
        """Begin to commit. Only when not `busy`."""
        self._submit(lambda: self._commit(work))

    def run(self, job: Callable[[], None]) -> None:
        """Run something that must not run beside a commit. Only when not `busy`."""

        def body() -> None:
            job()

        self._submit(body)

    def collect(self, *, timeout: float | None = 0) -> Committed | None:
        """What the work committed, if it ended; nothing if it goes on, or committed nothing.

        Args:
            timeout: seconds to wait for its end; without end if None.

        Raises:
            RetryableError: the lake does not answer, and somebody asked to stop.
            FatalError: the commit cannot go through.
        """
        if self._work is None:
            return None
        wait_for([self._work], timeout)
        if not self._work.done():
            return None
        work, self._work = self._work, None
        return work.result()

    def close(self) -> None:
        """Wait for the work at hand, and end the thread."""
        self._thread.shutdown()

    def _submit(self, body: Callable[[], Committed | None]) -> None:
        assert self._work is None, "one piece of work at a time"
        self._work = self._thread.submit(body)

    def _commit(self, work: Work) -> Committed:
        self._patience.call("history", self._stores.history.sync)
        counts, rows = Counts(), dict[str, int]()
        ends: dict[Source, int] = {}
        for source, batches in work.items():
            try:
                written = self._commit_source(source, batches)
            except Fenced as error:
                if not self._shared:
                    raise
                _log.warning("fenced", source=str(source), error=str(error))
                continue
            ends[source] = batches[-1].end
            counts = sum((batch.counts for batch in batches), counts)
            rows = {name: rows.get(name, 0) + written.get(name, 0) for name in {**rows, **written}}
        self.commits += 1
        self._trim(ends)
        self._upkeep(self.commits)
        _log.info("committed", **counts.as_dict(), rows=rows)
        return Committed(counts, rows, fenced=len(ends) < len(work))

    def _commit_source(self, source: Source, batches: list[Batch]) -> dict[str, int]:
        tables = lake_tables(batches)
        start, end = batches[0].start, batches[-1].end

        def commit() -> dict[str, int]:
            self._require_room()
            return self._stores.lake.commit(source, tables, start=start, end=end)

        return self._patience.call("lake", commit)

    def _trim(self, ends: Mapping[Source, int]) -> None:
        """What is not trimmed now is trimmed with the next commit; a log made again is the reader's to notice."""
        before = {source.partition: end for source, end in ends.items()}
        try:
            self._stores.log.trim(before)
        except (RetryableError, GenerationChanged) as error:
            _log.warning("not_trimmed", error=str(error))
