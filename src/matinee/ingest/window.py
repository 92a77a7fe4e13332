"""The duplicate window after a restart, from what the lake holds."""

import polars as pl
from deltalake import DeltaTable

from matinee.core.clock import DAY
from matinee.events.offsets import Source
from matinee.events.schema import TIME
from matinee.ingest.duplicates import WINDOW_US, DuplicateWindow
from matinee.lake.lake import Lake
from matinee.lake.schemas import DATE, EVENTS, RECEIVED, SERVED
from matinee.lake.storage import store_errors

_BELIEVED = pl.min_horizontal("time", "received_at").alias("time")
"""As `pipeline.Pipeline.take` gives times to the window."""
_LOOK_BACK_DAYS = (1, 30)
"""Days before now within which the source's latest record is looked for, before all days are."""


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
    latest = _latest_us(tables, source, start, lake.clock.now_us())
    if latest is None:
        return DuplicateWindow()
    rows = _read(tables, source, start, latest - WINDOW_US).select("dedup_key", pl.col("time").to_physical())
    with store_errors("reading recent records"):
        frame = rows.collect()
    return DuplicateWindow(zip(frame["dedup_key"].to_list(), frame["time"].to_list(), strict=True))


def _latest_us(tables: list[DeltaTable], source: Source, start: int, now_us: int) -> int | None:
    """The latest event time of the source below position `start`."""
    for since_us in (*(now_us - days * DAY for days in _LOOK_BACK_DAYS), 0):
        rows = _read(tables, source, start, since_us).select(pl.col("time").to_physical().max())
        with store_errors("looking for the latest record"):
            latest: int | None = rows.collect().item()
        if latest is not None:
            return latest
    return None


def _read(tables: list[DeltaTable], source: Source, start: int, since_us: int) -> pl.LazyFrame:
    since = pl.lit(since_us, dtype=pl.Int64).cast(TIME)
    wanted = (
        (pl.col(DATE) >= since.dt.date())
        & (pl.col("time") >= since)
        & (pl.col("generation") == source.generation)
        & (pl.col("partition") == source.partition)
        & (pl.col("position") < start)
    )
    return pl.concat([pl.scan_delta(table).filter(wanted).select("dedup_key", _BELIEVED) for table in tables])
