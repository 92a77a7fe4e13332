"""The lake: Delta tables in which rows and the offset they reach commit together.

Each ingest table holds, as a Delta application transaction, its own offset per source: the app id is
`str(source)`, the version is the *end*, the position below which everything is in. A writer loads the table,
drops rows below that end, and commits against exactly that snapshot. On a conflict it loads and filters again:
Delta itself would accept the same transaction version twice.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from deltalake import DeltaTable

from matinee.core.clock import Clock
from matinee.core.errors import InvalidInput, StoreUnavailable
from matinee.events.offsets import Source
from matinee.events.schema import TIME
from matinee.lake.batch import append_rows, check_fence, checked_batch
from matinee.lake.lookup import find_served, recent_keys
from matinee.lake.schemas import (
    INGEST_TABLES,
    SOURCES,
    TABLES,
    check_frame,
    table_schema,
)
from matinee.lake.storage import (
    lake_folder,
    open_table,
    store_errors,
)
from matinee.lake.upsert import merge_rows
from matinee.lake.writer import TableWriter

Result = TypeVar("Result")


class Lake:
    """The tables of one lake. May be shared by threads; each commit and each read is atomic per table.

    Args:
        url: a local folder; tables are made in it when first used.
        clock: gives batches their time of commit, and waits between tries.
        on_loaded: called with a table's name between loading it and committing to it; for tests.

    Raises:
        ConfigurationError: the URL is not a folder.
    """

    def __init__(self, url: str, clock: Clock, *, on_loaded: Callable[[str], None] = lambda _table: None) -> None:
        self.folder: Path = lake_folder(url)
        self.clock = clock
        self._writer = TableWriter(self.folder, clock, on_loaded)
        self._known_sources: set[Source] = set()

    def table(self, name: str, version: int | None = None) -> DeltaTable:
        """A handle of a table's newest version, or of version `version`, that nobody else holds.

        Raises:
            InvalidInput: there is no such table or version.
            FormatTooNew: a newer matinee made the table.
            StoreUnavailable: the store failed.
        """
        table = open_table(self.folder, table_schema(name))
        if version is None or version == table.version():
            return table
        try:
            with store_errors(f"table {name} at version {version}"):
                table.load_as_version(version)
        except StoreUnavailable as error:
            raise InvalidInput(
                f"table {name} cannot be read at version {version}: {error.__cause__}",
                remedy="Only recent versions and those behind kept bundles are kept; see lake.keep_versions_days.",
            ) from error
        return table

    def versions(self) -> dict[str, int]:
        """The newest version of every table."""
        return {name: self.table(name).version() for name in TABLES}

    def read(
        self,
        table: str,
        version: int | None = None,
        columns: list[str] | None = None,
        predicate: pl.Expr | None = None,
    ) -> pl.LazyFrame:
        """A table's rows at a version (newest by default), in no particular order.

        A predicate on the partition column (`date`) opens only the files of those dates.

        Raises:
            InvalidInput: there is no such table, version or column.
            StoreUnavailable: the store failed.
        """
        schema = table_schema(table)
        unknown = [column for column in columns or () if column not in schema.columns]
        if unknown:
            raise InvalidInput(
                f"table {table} has no column {unknown[0]!r}",
                remedy=f"Its columns: {', '.join(schema.columns)}.",
            )
        frame = pl.scan_delta(self.table(table, version))
        if predicate is not None:
            frame = frame.filter(predicate)
        return frame.select(columns or schema.columns.names())

    def committed_ends(self, table: str, version: int | None = None) -> dict[Source, int]:
        """Of each source, the position below which an ingest table holds everything, at a version."""
        handle = self.table(table, version)
        ends = {source: handle.transaction_version(str(source)) for source in self.sources()}
        return {source: end for source, end in ends.items() if end is not None}

    def sources(self) -> list[Source]:
        """Every source that was ever committed, in order."""
        frame = self.read(SOURCES.name, columns=["generation", "partition"]).unique().collect()
        return sorted(Source(generation, partition) for generation, partition in frame.iter_rows())

    def resume_position(self, source: Source) -> int:
        """Where to read on: the least end of all ingest tables; 0 for a source that is new."""
        return min(self.table(name).transaction_version(str(source)) or 0 for name in INGEST_TABLES)

    def commit(self, source: Source, tables: Mapping[str, pl.DataFrame], *, start: int, end: int) -> dict[str, int]:
        """Write what was read of `source` from position `start` up to before `end`.

        Tables commit one after the other, `batches` last. Rows that a table already holds are dropped; a table
        that is not given commits its offset alone. What returned survives a power cut. May be called again with
        the same arguments after any error that is retryable.

        Args:
            source: what the positions are counted within.
            tables: by name of an ingest table, a frame of its columns without those that the lake fills.
            start: where the reader stood before the batch; not the position of its first record.
            end: where the reader stands now.

        Returns:
            Rows written, by table.

        Raises:
            InvalidInput: a table is unknown, a frame does not fit its schema, or a position is outside the batch.
            Fenced: a table ends before `start`, so that something between would be missing; or a newer owner
                has committed a part of this batch.
            StoreUnavailable: the store failed, or other writers were always quicker.
            OutOfRoom: the disk is full.
        """
        frames = checked_batch(source, tables, start, end, self.clock.now_us())
        self.register(source)
        return {name: self._commit_table(name, source, frame, start, end) for name, frame in frames.items()}

    def _commit_table(self, name: str, source: Source, frame: pl.DataFrame | None, start: int, end: int) -> int:
        def attempt(table: DeltaTable) -> int | None:
            committed = table.transaction_version(str(source)) or 0
            if committed >= end:
                return None
            check_fence(name, source, committed, start, end, has_rows=frame is not None and len(frame) > 0)
            rows = None if frame is None else frame.filter(pl.col("position") >= committed)
            return append_rows(table, INGEST_TABLES[name], rows, str(source), end)

        return self.transact(name, attempt) or 0

    def transact(self, table: str, attempt: Callable[[DeltaTable], Result]) -> Result:
        """Load a table and change it; on a conflict load it and try again. See `TableWriter.transact`."""
        return self._writer.transact(table, attempt)

    def upsert(self, table: str, frame: pl.DataFrame) -> int:
        """Merge rows of `items` or `users` by key: values that are not null win, the others stay.

        The same rows again change nothing. Of a key that comes several times, each column's last value wins.

        Returns:
            How many rows were new or changed.

        Raises:
            InvalidInput: the table has no key, or the frame does not fit its schema.
            StoreUnavailable: the store failed, or other writers were always quicker.
            OutOfRoom: the disk is full.
        """
        schema = table_schema(table)
        return self.transact(table, merge_rows(schema, frame, self.clock.now_us()))

    def recent_keys(self, source: Source, since_us: int) -> pl.DataFrame:
        """The accepted records of a source at event times since `since_us` (UTC µs): dedup_key, time."""
        return recent_keys(self.read, source, since_us)

    def find_served(self, request_id: str) -> dict[str, Any] | None:
        """The record of one answer, as a row of `served`, or nothing.

        A request id whose first 12 hexadecimal digits are the time in milliseconds leads to that day's files,
        and to all others only when it is not there.
        """
        return find_served(self.read, request_id)

    def register(self, source: Source) -> None:
        """Note a source before its first commit, once."""
        if source in self._known_sources:
            return

        def attempt(table: DeltaTable) -> int | None:
            if table.transaction_version(str(source)) is not None:
                return None
            row = {
                "generation": source.generation,
                "partition": source.partition,
                "first_seen": self.clock.now_us(),
            }
            frame = pl.DataFrame([row]).cast({"partition": pl.Int32, "first_seen": TIME})
            return append_rows(table, SOURCES, check_frame(SOURCES, frame), str(source), 0)

        self.transact(SOURCES.name, attempt)
        self._known_sources.add(source)
