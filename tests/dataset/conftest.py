"""Lakes and snapshots for the tests of datasets."""

from pathlib import Path

import polars as pl
import pytest

from matinee.core.clock import ManualClock
from matinee.events.offsets import Source
from matinee.lake.lake import Lake
from matinee.lake.schemas import BATCHES, EVENTS, ITEMS, USERS

LOG = Source("log", 0)


def _frame(table, rows, start=0):
    columns = {name: dtype for name, dtype in table.columns.items() if name not in table.filled}
    filled = [{"position": start + number, **row} for number, row in enumerate(rows)]
    if table is EVENTS:
        for row in filled:
            row.setdefault("kind", "rating" if "rating" in row else "watch")
            row.setdefault("received_at", 0)
            row.setdefault("dedup_key", repr(sorted((k, v) for k, v in row.items() if k != "position")).encode())
    integers = {name: pl.Int64 if dtype.is_temporal() and name != "release_date" else dtype
                for name, dtype in columns.items()}  # fmt: skip
    return pl.DataFrame(filled, schema=integers).cast(columns)


@pytest.fixture
def frame():
    """Rows of a lake table from dicts: times are microseconds, what is not given is null."""
    tables = {table.name: table for table in (EVENTS, BATCHES)}
    return lambda name, rows, start=0: _frame(tables[name], rows, start)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"), ManualClock())


@pytest.fixture
def put(lake: Lake, frame):
    """Commit event rows (and batch counts) to the lake as what follows in a source."""
    ends: dict[Source, int] = {}

    def put_rows(*rows, source=LOG, batch=None):
        start = ends.get(source, 0)
        end = ends[source] = start + max(1, len(rows))
        tables = {"events": frame("events", rows, start)}
        if batch is not None:
            tables["batches"] = frame("batches", [{"start": start, "end": end, **batch}], start)
        lake.commit(source, tables, start=start, end=end)

    return put_rows


@pytest.fixture
def describe(lake: Lake):
    """Upsert rows of `items` or `users`."""

    def upsert(name, *rows):
        table = {"items": ITEMS, "users": USERS}[name]
        columns = {column: dtype for column, dtype in table.columns.items() if column not in table.filled}
        lake.upsert(name, pl.DataFrame(rows, schema=columns))

    return upsert
