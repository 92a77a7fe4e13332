"""Looking into the lake for few rows among many days."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

import polars as pl

from matinee.events.offsets import Source
from matinee.events.schema import TIME
from matinee.lake.schemas import DATE, EVENTS, RECEIVED, SERVED
from matinee.lake.storage import store_errors

_TIMED_ID = re.compile(r"[0-9a-f]{32}")


class Read(Protocol):
    """`Lake.read`."""

    def __call__(
        self, table: str, *, columns: list[str] | None = None, predicate: pl.Expr | None = None
    ) -> pl.LazyFrame:
        """See `Lake.read`."""


def recent_keys(read: Read, source: Source, since_us: int) -> pl.DataFrame:
    """See `Lake.recent_keys`."""
    since = pl.lit(since_us, dtype=pl.Int64).cast(TIME)
    here = (pl.col("generation") == source.generation) & (pl.col("partition") == source.partition)
    recent = (pl.col(DATE) >= since.dt.date()) & (pl.col("time") >= since)
    frames = [
        read(table.name, columns=["dedup_key", "time"], predicate=recent & here)
        for table in (EVENTS, RECEIVED, SERVED)
    ]
    with store_errors("reading recent records"):
        return pl.concat(frames).collect()


def find_served(read: Read, request_id: str) -> dict[str, Any] | None:
    """See `Lake.find_served`."""
    this = pl.col("request_id") == request_id
    days = _days_of(request_id)
    with store_errors("looking for an answer"):
        for where in ([this & pl.col(DATE).is_in(days)] if days else []) + [this]:
            found = read(SERVED.name, predicate=where).head(1).collect()
            if len(found):
                return found.row(0, named=True)
    return None


def _days_of(request_id: str) -> list[date]:
    """The day that the id tells, and its neighbours: clocks differ, and midnight passes while one answers."""
    if not _TIMED_ID.fullmatch(request_id):
        return []
    try:
        day = datetime.fromtimestamp(int(request_id[:12], 16) / 1_000, UTC).date()
        return [day + timedelta(days=step) for step in (-1, 0, 1)]
    except (ValueError, OverflowError, OSError):
        return []
