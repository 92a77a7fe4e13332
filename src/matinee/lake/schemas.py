"""The schema of every table of the lake, declared once, and the check of each frame before it is written.

`LAKE_FORMAT` is stored in each table's configuration. Enumerations are stored as strings: a reader that does
not know a new value still reads the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from matinee.core.errors import InvalidInput
from matinee.events.offsets import Source
from matinee.events.schema import TIME

LAKE_FORMAT = 1
DATE = "date"
BY_MONTH_AFTER_DAYS = 62
"""What was received so long after it happened is kept by months."""

Columns = Mapping[str, pl.DataType | type[pl.DataType]]

_OFFSET: Columns = {
    "generation": pl.String,
    "partition": pl.Int32,
    "position": pl.Int64,
    DATE: pl.Date,
}
_PROVENANCE: Columns = {
    "event_id": pl.String,
    "producer": pl.String,
    "received_at": TIME,
    "dedup_key": pl.Binary,  # 16 bytes, see matinee.events.schema
    "repairs": pl.String,  # names joined by commas
    "raw": pl.Binary,  # where the typed columns do not say all that the record said
}


@dataclass(frozen=True, slots=True)
class TableSchema:
    """What a table holds and how.

    `filled` columns are set by the lake on every write and may be missing in the frame. `dated_by` is the
    column whose UTC day is the partition `date` (its month, for what came late: see `_date`); rows where it is null
    stay in the partition of no date.
    `key` is the column that an upsert merges by.
    """

    name: str
    columns: pl.Schema
    dated_by: str | None = None
    partition_by: str | None = None
    key: str | None = None
    filled: frozenset[str] = frozenset()


def _columns(columns: Columns) -> pl.Schema:
    return pl.Schema(columns)


def _ingested(name: str, dated_by: str, columns: Columns, filled: frozenset[str] = frozenset()) -> TableSchema:
    return TableSchema(
        name=name,
        columns=_columns({**columns, **_OFFSET}),
        dated_by=dated_by,
        partition_by=DATE,
        filled=frozenset({"generation", "partition", DATE}) | filled,
    )


EVENTS = _ingested(
    "events",
    "time",
    {
        "kind": pl.String,  # watch or rating
        "time": TIME,  # null where the source has no times
        "user": pl.String,
        "item": pl.String,
        "minute": pl.Int32,
        "rating": pl.Float32,
        **_PROVENANCE,
    },
)
RECEIVED = _ingested(
    "received",
    "time",
    {
        "time": TIME,
        "user": pl.String,
        "host": pl.String,
        "status": pl.Int32,  # 0 where the request failed
        "items": pl.List(pl.String),
        "latency_ms": pl.Float64,
        "error": pl.String,
        **_PROVENANCE,
    },
)
SERVED = _ingested(
    "served",
    "time",
    {
        "time": TIME,
        "request_id": pl.String,
        "user": pl.String,
        "items": pl.List(pl.String),
        "model_version": pl.String,
        "arm": pl.String,
        "step": pl.String,
        "latency_ms": pl.Float64,
        "scores": pl.List(pl.Float32),
        "propensities": pl.List(pl.Float32),
        **_PROVENANCE,
    },
)
QUARANTINE = _ingested(
    "quarantine",
    "received_at",
    {
        "reason": pl.String,
        "kind": pl.String,  # where it is known
        "raw": pl.Binary,
        "event_id": pl.String,
        "producer": pl.String,
        "received_at": TIME,
        "dedup_key": pl.Binary,
    },
)
BATCHES = _ingested(
    "batches",
    "committed_at",
    {
        "committed_at": TIME,
        "start": pl.Int64,  # the batch is the records at positions start to end, end exclusive
        "end": pl.Int64,
        "read": pl.Int64,  # = accepted + repaired + duplicate + quarantined
        "accepted": pl.Int64,
        "repaired": pl.Int64,
        "duplicate": pl.Int64,
        "quarantined": pl.Int64,
    },
    frozenset({"committed_at"}),
)
WATCH_DAYS = TableSchema(
    name="watch_days",
    columns=_columns(
        {"user": pl.String, "item": pl.String, "day": pl.Date, "minutes": pl.List(pl.Int32)},
    ),
    partition_by="day",
)
ITEMS = TableSchema(
    name="items",
    columns=_columns(
        {
            "item": pl.String,
            "title": pl.String,
            "genres": pl.List(pl.String),
            "year": pl.Int32,
            "minutes": pl.Float32,  # length
            "release_date": pl.Date,
            "extra": pl.String,  # further attributes as a JSON object
            "updated_at": TIME,
        }
    ),
    key="item",
    filled=frozenset({"updated_at"}),
)
USERS = TableSchema(
    name="users",
    columns=_columns(
        {
            "user": pl.String,
            "age": pl.Int32,
            "occupation": pl.String,
            "gender": pl.String,
            "extra": pl.String,  # further attributes as a JSON object
            "updated_at": TIME,
        }
    ),
    key="user",
    filled=frozenset({"updated_at"}),
)
SOURCES = TableSchema(
    name="sources",
    columns=_columns({"generation": pl.String, "partition": pl.Int32, "first_seen": TIME}),
)
"""Every source that was ever committed: a table's transactions can be looked up by name, not listed."""

INGEST_TABLES = {table.name: table for table in (EVENTS, RECEIVED, SERVED, QUARANTINE, BATCHES)}
"""The tables that ingest writes, in the order of their commits. `batches` is last, so that it never says of a
batch that it is in while another table still lacks it."""
TABLES = {**INGEST_TABLES, **{table.name: table for table in (WATCH_DAYS, ITEMS, USERS, SOURCES)}}


def table_schema(name: str) -> TableSchema:
    """The schema of a table, or `InvalidInput` where the lake has no such table."""
    if name not in TABLES:
        raise InvalidInput(f"the lake has no table {name!r}", remedy=f"Its tables: {', '.join(TABLES)}.")
    return TABLES[name]


def check_frame(table: TableSchema, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the table's columns in their order.

    Raises:
        InvalidInput: a column is missing, unknown or of another type; the message names the table, the column,
            what was expected and what was found.
    """
    for name, found in frame.schema.items():
        if name not in table.columns:
            raise _mismatch(table, name, "no such column", str(found))
    for name, expected in table.columns.items():
        if name not in frame.columns:
            raise _mismatch(table, name, str(expected), "no such column")
        if frame.schema[name] != expected:
            raise _mismatch(table, name, str(expected), str(frame.schema[name]))
    return frame.select(table.columns.names())


def _mismatch(table: TableSchema, column: str, expected: str, found: str) -> InvalidInput:
    return InvalidInput(
        f"table {table.name}, column {column}: expected {expected}, found {found}",
        remedy="Give the frame the columns and types that matinee.lake.schemas declares.",
    )


def ingest_frame(table: TableSchema, frame: pl.DataFrame, source: Source, now_us: int) -> pl.DataFrame:
    """The frame with the columns that the lake fills, checked.

    Raises:
        InvalidInput: see `check_frame`.
    """
    filled = frame.with_columns(
        pl.lit(source.generation, dtype=pl.String).alias("generation"),
        pl.lit(source.partition, dtype=pl.Int32).alias("partition"),
    )
    if "committed_at" in table.filled:
        filled = filled.with_columns(pl.lit(now_us, dtype=pl.Int64).cast(TIME).alias("committed_at"))
    assert table.dated_by is not None
    if table.dated_by not in filled.columns or filled.schema[table.dated_by] != TIME:
        found = str(filled.schema.get(table.dated_by, "no such column"))
        raise _mismatch(table, table.dated_by, str(TIME), found)
    return check_frame(table, filled.with_columns(_date(table.dated_by, filled.columns).alias(DATE)))


def _date(dated_by: str, columns: list[str]) -> pl.Expr:
    """The partition: the UTC day, or the month's last day for what was long past when it was received.

    An import of old data would else make thousands of tiny files in each commit (7,000 days of MovieLens 20M:
    measured at 24 s a commit, against 1 s by months). A date is never before the row's own day, so what looks for
    `date >= day`, and what deletes `date < day`, is right for both.
    """
    day = pl.col(dated_by).dt.date()
    if "received_at" not in columns or dated_by == "received_at":
        return day
    late = pl.col("received_at") - pl.col(dated_by) > pl.duration(days=BY_MONTH_AFTER_DAYS)
    return pl.when(late).then(day.dt.month_end()).otherwise(day)
