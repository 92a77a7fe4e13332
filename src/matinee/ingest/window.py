"""The duplicate windows after a restart, from what the lake holds."""

from collections.abc import Callable

import polars as pl
from deltalake import DeltaTable

from matinee.core.clock import DAY
from matinee.events.envelope import KEY_PRODUCER
from matinee.events.offsets import Source
from matinee.events.schema import TIME
from matinee.ingest.duplicates import POSTED_US, WINDOW_US, DuplicateWindow
from matinee.lake.lake import Lake
from matinee.lake.schemas import DATE, EVENTS, RECEIVED, SERVED
from matinee.lake.storage import store_errors

IS_POSTED = (pl.col("producer").str.starts_with(KEY_PRODUCER) & pl.col("event_id").is_not_null()).fill_null(
    value=False
)
"""Whether a record's id and receive time decide whether it comes again, and not the window of event time."""
_BELIEVED = pl.min_horizontal("time", "received_at").alias("time")
"""As `pipeline.Pipeline.take` gives times to the window."""
_LOOK_BACK_DAYS = (1, 30)
"""Days before now within which the source's latest record is looked for, before all days are."""
_ROWS = 1 << 18
"""Rows taken into a window at once."""
_RowsSince = Callable[[int], pl.LazyFrame]


def open_window(lake: Lake, source: Source, start: int) -> DuplicateWindow:
    """The duplicate window of a source as it was before position `start`.

    Rows at or above `start` are left out: a table may have been committed further than the others when the
    process ended, and what it holds is about to be read again.

    Raises:
        StoreUnavailable: the lake did not answer.
    """
    window = DuplicateWindow(WINDOW_US)
    if start == 0:
        return window
    tables = [lake.table(table.name) for table in (EVENTS, RECEIVED, SERVED)]

    def since(since_us: int) -> pl.LazyFrame:
        day = (pl.col(DATE) >= _instant(since_us).dt.date()) & (pl.col("time") >= _instant(since_us))
        return _rows(tables, source, start, day & ~IS_POSTED, _BELIEVED)

    return _filled(window, _latest_rows(since, "time", lake.clock.now_us(), WINDOW_US), "time")


def open_posted_ids(lake: Lake, source: Source, start: int) -> DuplicateWindow:
    """The ids of a source's posted events as they were before position `start`; otherwise as `open_window`."""
    window = DuplicateWindow(POSTED_US)
    if start == 0:
        return window
    tables = [lake.table(EVENTS.name)]  # nothing else is posted

    def since(since_us: int) -> pl.LazyFrame:
        # Not by date: an event may be posted long after it happened.
        wanted = IS_POSTED & (pl.col("received_at") >= _instant(since_us))
        return _rows(tables, source, start, wanted, pl.col("received_at"))

    return _filled(window, _latest_rows(since, "received_at", lake.clock.now_us(), POSTED_US), "received_at")


def _filled(window: DuplicateWindow, rows: pl.DataFrame, time: str) -> DuplicateWindow:
    """The window with those rows, a part at a time: all at once, as Python objects, take many times the room."""
    for part in rows.iter_slices(_ROWS):
        window.remember(part["dedup_key"].to_list(), part[time].to_numpy())
    return window


def _latest_rows(since: _RowsSince, time: str, now_us: int, span_us: int) -> pl.DataFrame:
    """The rows within `span_us` of the latest one; `time` as an integer."""
    latest: int | None = None
    for from_us in (*(now_us - days * DAY for days in _LOOK_BACK_DAYS), 0):
        with store_errors("looking for the latest record"):
            latest = since(from_us).select(pl.col(time).to_physical().max()).collect().item()
        if latest is not None:
            break
    rows = since(0).clear() if latest is None else since(latest - span_us)
    with store_errors("reading recent records"):
        return rows.with_columns(pl.col(time).to_physical()).collect()


def _rows(tables: list[DeltaTable], source: Source, start: int, wanted: pl.Expr, time: pl.Expr) -> pl.LazyFrame:
    below = (
        wanted
        & (pl.col("generation") == source.generation)
        & (pl.col("partition") == source.partition)
        & (pl.col("position") < start)
    )
    return pl.concat([pl.scan_delta(table).filter(below).select("dedup_key", time) for table in tables])


def _instant(time_us: int) -> pl.Expr:
    return pl.lit(time_us, dtype=pl.Int64).cast(TIME)
