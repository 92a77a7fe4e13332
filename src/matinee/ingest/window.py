"""The duplicate windows after a restart, from what the lake holds."""

from collections.abc import Callable

import numpy as np
import polars as pl
from deltalake import DeltaTable

from matinee.core.clock import DAY
from matinee.events.envelope import KEY_PRODUCER
from matinee.events.offsets import Source
from matinee.events.schema import TIME
from matinee.ingest.duplicates import WINDOW_US, DuplicateWindow
from matinee.ingest.posted_ids import SPAN_US, PostedIds
from matinee.lake.lake import Lake
from matinee.lake.schemas import DATE, EVENTS, RECEIVED, SERVED
from matinee.lake.storage import store_errors

IS_POSTED = (pl.col("producer").str.starts_with(KEY_PRODUCER) & pl.col("event_id").is_not_null()).fill_null(
    value=False
)
"""Whether `PostedIds` decides about a record, by its id and receive time, and not the other window."""
_BELIEVED = pl.min_horizontal("time", "received_at").alias("time")
"""As `pipeline.Pipeline.take` gives times to the window."""
_LOOK_BACK_DAYS = (1, 30)
"""Days before now within which the source's latest record is looked for, before all days are."""
_RowsSince = Callable[[int], pl.LazyFrame]


def open_window(lake: Lake, source: Source, start: int) -> DuplicateWindow:
    """The duplicate window of a source as it was before position `start`.

    Rows at or above `start` are left out: a table may have been committed further than the others when the
    process ended, and what it holds is about to be read again.

    Raises:
        StoreUnavailable: the lake did not answer.
    """
    if start == 0:
        return DuplicateWindow()
    tables = [lake.table(table.name) for table in (EVENTS, RECEIVED, SERVED)]

    def since(since_us: int) -> pl.LazyFrame:
        day = (pl.col(DATE) >= _instant(since_us).dt.date()) & (pl.col("time") >= _instant(since_us))
        return _rows(tables, source, start, day & ~IS_POSTED, _BELIEVED)

    frame = _latest_rows(since, "time", lake.clock.now_us(), WINDOW_US)
    return DuplicateWindow(zip(frame["dedup_key"].to_list(), frame["time"].to_list(), strict=True))


def open_posted_ids(lake: Lake, source: Source, start: int) -> PostedIds:
    """The ids of a source's posted events as they were before position `start`; otherwise as `open_window`."""
    if start == 0:
        return PostedIds()
    tables = [lake.table(EVENTS.name)]  # nothing else is posted

    def since(since_us: int) -> pl.LazyFrame:
        # Not by date: an event may be posted long after it happened.
        wanted = IS_POSTED & (pl.col("received_at") >= _instant(since_us))
        return _rows(tables, source, start, wanted, pl.col("received_at"))

    frame = _latest_rows(since, "received_at", lake.clock.now_us(), SPAN_US)
    return PostedIds(frame["dedup_key"].to_list(), frame["received_at"].to_numpy().astype(np.int64))


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
