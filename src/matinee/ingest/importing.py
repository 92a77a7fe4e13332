"""`matinee import`: a file or a table as a source of its own, on the path that the stream takes.

The source's generation is the hash of the content, a record's position is its row. So the lake's fences hold for
files too: an import that was killed goes on where the lake ends, and a second import of the same content, whatever
the file is called by then, changes nothing.

An import runs beside an ingest that works on the log: both write to the lake, whose fenced commits take turns.
History has one writing process at a time. So an import leaves history out until all is in the lake, and then gives
it what it lacks; where ingest holds history, ingest does that within seconds by itself. Of two imports on one
home the second is told who is at it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from matinee.core.clock import Clock
from matinee.core.erasures import ERASED, read_erasures
from matinee.core.errors import InvalidInput, Locked
from matinee.core.home import Home
from matinee.core.logging import get_logger
from matinee.events.frames import read_columns, read_records
from matinee.events.offsets import Source
from matinee.events.schema import Outcome
from matinee.history.base import History
from matinee.ingest.counts import Counts
from matinee.ingest.files import Content, content_of, read_lines
from matinee.ingest.generations import FILE_GENERATION
from matinee.ingest.pipeline import Pipeline, lake_tables
from matinee.ingest.rebuild import catch_up
from matinee.ingest.report import Progress, no_progress
from matinee.ingest.tables import map_columns, open_table, standard_columns
from matinee.ingest.window import open_posted_ids, open_window
from matinee.lake.lake import Lake
from matinee.lake.storage import store_errors

CHUNK_ROWS = 500_000
"""Rows read, classified and committed at a time. Affects speed and memory, and no result."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        counts: records by class, the whole file. Records that an earlier import of the same content had brought
            count as duplicates.
        already_imported: whether that was all of them.
        resumed_at: how many they were; 0 for content that is new.
        timed: whether any record of this content in the lake has a time.
        history: `applied`, or `left_to_ingest` where a running ingest holds history and does it within seconds.
        generation: the source's; names it in the lake.
        seconds: how long it took.
    """

    counts: Counts
    already_imported: bool
    resumed_at: int
    timed: bool
    history: Literal["applied", "left_to_ingest"]
    generation: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The report, flat and ready for JSON."""
        return {
            **self.counts.as_dict(),
            "already_imported": self.already_imported,
            "resumed_at": self.resumed_at,
            "timed": self.timed,
            "history": self.history,
            "generation": self.generation,
            "seconds": round(self.seconds, 3),
        }


class Importer:
    """Imports into one home.

    Args:
        home: whose imports take turns.
        lake: where the records go.
        history: opens the history for writing.
        clock: dates what is taken in.
        timezone: of lines and of tables' times that name none.
        progress: told of the rows done.
        require_room: asked before each commit; raises `OutOfRoom` where the lake may take no more.
    """

    def __init__(
        self,
        *,
        home: Home,
        lake: Lake,
        history: Callable[[], History],
        clock: Clock,
        timezone: str = "UTC",
        progress: Progress = no_progress,
        require_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._home = home
        self._lake = lake
        self._history = history
        self._clock = clock
        self._timezone = timezone
        self._progress = progress
        self._require_room = require_room

    def lines(self, path: Path) -> ImportReport:
        """Import a file of records, one a line: lines of the scenario, plain or gzip.

        Raises:
            InvalidInput: the file cannot be read.
            Locked: another import is running.
            RetryableError: the lake did not answer, or there is no room; the same import goes on where this one
                ended.
        """
        began = self._clock.monotonic()
        content = content_of(path, self._progress)

        def frames(start: int) -> Iterator[pl.DataFrame]:
            for values in read_lines(path, skip=start, at_most=CHUNK_ROWS):
                taken_us = np.full(len(values), self._clock.now_us(), dtype=np.int64)
                yield read_records(values, taken_us, timezone=self._timezone)

        return self._run(content.generation, content.lines, frames, began)

    def table(self, path: Path, columns: Mapping[str, str] | None = None) -> ImportReport:
        """Import a CSV, TSV or Parquet file of ratings or watched minutes, plain or gzip.

        Args:
            path: the file.
            columns: which column is the `user`, `item`, `rating`, `minute` or `time`, where its name does not tell.

        Raises:
            InvalidInput: the file cannot be read, or its columns cannot be told.
            Locked: another import is running.
            RetryableError: see `lines`.
        """
        began = self._clock.monotonic()
        content: Content = content_of(path, self._progress)
        with open_table(path, self._home.run) as table:
            mapping = map_columns(table.collect_schema().names(), columns)
            n_rows: int = table.select(pl.len()).collect().item()
            wanted = table.select(*dict.fromkeys(mapping.values()))

            def frames(start: int) -> Iterator[pl.DataFrame]:
                for rows in wanted.slice(start).collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True):
                    yield self._read_rows(rows, standard_columns(rows, mapping, timezone=self._timezone), path.name)

            return self._run(content.generation, n_rows, frames, began)

    def frame(
        self,
        frame: pl.DataFrame,
        *,
        name: str,
        content_hash: str,
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
    ) -> ImportReport:
        """Import a table that is in memory, such as a public data set's ratings.

        Args:
            frame: `user`, `item`, `rating` and/or `minute`, and `time` (UTC) where it is known.
            name: who it comes from; kept with every record.
            content_hash: the same for the same rows.
            items: rows for the lake's `items`.
            users: rows for the lake's `users`.

        Raises:
            InvalidInput: a column is missing or of a wrong type.
            Locked: another import is running.
            RetryableError: see `lines`.
        """
        began = self._clock.monotonic()
        if users is not None and (erased := read_erasures(self._home.data / ERASED)):
            users = users.remove(pl.Series(user in erased for user in users["user"]))
        for table, rows in (("items", items), ("users", users)):
            if rows is not None and rows.height:
                self._require_room()
                self._lake.upsert(table, rows)

        def frames(start: int) -> Iterator[pl.DataFrame]:
            for rows in frame.slice(start).iter_slices(CHUNK_ROWS):
                yield self._read_rows(rows, rows, name)

        return self._run(FILE_GENERATION + content_hash, frame.height, frames, began)

    def records(self, generation: str, values: list[bytes], received_us: NDArray[np.int64]) -> ImportReport:
        """Import records as the log would have given them.

        Args:
            generation: the source's; it begins with `FILE_GENERATION`. The same records come with the same one.
            values: the records.
            received_us: int64, shape (n,): when each was received, UTC µs.

        Raises:
            Locked: another import is running.
            RetryableError: see `lines`.
        """
        began = self._clock.monotonic()

        def frames(start: int) -> Iterator[pl.DataFrame]:
            for at in range(start, len(values), CHUNK_ROWS):
                some = slice(at, at + CHUNK_ROWS)
                yield read_records(values[some], received_us[some], timezone=self._timezone)

        return self._run(generation, len(values), frames, began)

    def _read_rows(self, original: pl.DataFrame, rows: pl.DataFrame, producer: str) -> pl.DataFrame:
        """Classify rows; what is quarantined keeps the row as it was, not as it was understood."""
        read = read_columns(rows, received_us=self._clock.now_us(), producer=producer)
        if original is rows:
            return read
        quarantined = read["outcome"].cast(pl.String) == Outcome.QUARANTINED.value
        if not quarantined.any():
            return read
        texts = original.select(
            pl.struct(pl.all().cast(pl.String)).struct.json_encode().cast(pl.Binary)
        ).to_series()
        return read.with_columns(pl.when(quarantined).then(texts).otherwise("raw").alias("raw"))

    def _run(
        self, generation: str, n_rows: int, frames: Callable[[int], Iterator[pl.DataFrame]], began: float
    ) -> ImportReport:
        source = Source(generation, 0)
        with self._home.lock("import"):
            start = self._lake.resume_position(source)
            counts = Counts(read=start, duplicate=start)
            if start < n_rows:
                counts += self._take(source, start, n_rows, frames(start))
            history = self._fill_history(source)
            timed = self._is_timed(source)
        report = ImportReport(
            counts=counts,
            already_imported=0 < n_rows <= start,
            resumed_at=start,
            timed=timed,
            history=history,
            generation=generation,
            seconds=self._clock.monotonic() - began,
        )
        _log.info("imported", **report.as_dict())
        return report

    def _take(self, source: Source, start: int, n_rows: int, frames: Iterator[pl.DataFrame]) -> Counts:
        known = open_window(self._lake, source, start), open_posted_ids(self._lake, source, start)
        erased = read_erasures(self._home.data / ERASED)
        pipeline = Pipeline(source, start, *known, erased=lambda: erased)
        counts = Counts()
        for frame in frames:
            at = pipeline.next
            if not frame.height or at + frame.height > n_rows:
                break
            batch = pipeline.take(frame, np.arange(at, at + frame.height, dtype=np.int64))
            self._require_room()
            self._lake.commit(source, lake_tables([batch]), start=batch.start, end=batch.end)
            counts += batch.counts
            self._progress("importing", batch.end, n_rows)
        if pipeline.next != n_rows:
            raise InvalidInput(
                f"the content changed while it was being read: {pipeline.next} of {n_rows} rows came",
                remedy="Import the file again once nobody writes to it.",
            )
        return counts

    def _fill_history(self, source: Source) -> Literal["applied", "left_to_ingest"]:
        try:
            history = self._history()
        except Locked:
            return "left_to_ingest"
        with history:
            catch_up(self._lake, history, only=lambda other: other == source, progress=self._progress)
        return "applied"

    def _is_timed(self, source: Source) -> bool:
        of_source = (pl.col("generation") == source.generation) & pl.col("time").is_not_null()
        with store_errors("looking for times"):
            return self._lake.read("events", columns=["time"], predicate=of_source).head(1).collect().height > 0
