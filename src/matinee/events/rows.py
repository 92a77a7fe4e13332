"""Readings to rows: the frame of `READ_SCHEMA` that the same readings give."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from matinee.events.reading import Reading
from matinee.events.schema import READ_SCHEMA, TIME
from matinee.events.types import KINDS, Event

_KIND_OF: dict[type[Event], str] = {event_type: kind for kind, event_type in KINDS.items()}
_OF_RECORD = {
    "outcome",
    "reason",
    "repairs",
    "kind",
    "time",
    "received_at",
    "event_id",
    "producer",
    "dedup_key",
    "raw",
}
_OF_EVENT = [name for name in READ_SCHEMA if name not in _OF_RECORD]


def to_frame(readings: Sequence[Reading]) -> pl.DataFrame:
    """One row per reading, in order."""
    columns: dict[str, list[Any]] = {
        "outcome": [reading.outcome.value for reading in readings],
        "reason": [reading.reason and reading.reason.value for reading in readings],
        "repairs": [",".join(reading.repairs) or None for reading in readings],
        "kind": [reading.event and _KIND_OF[type(reading.event)] for reading in readings],
        "time": [getattr(reading.event, "time_us", None) for reading in readings],
        "received_at": [reading.received_us for reading in readings],
        "event_id": [reading.event_id for reading in readings],
        "producer": [reading.producer for reading in readings],
        "dedup_key": [reading.dedup_key for reading in readings],
        "raw": [reading.raw for reading in readings],
    }
    for name in _OF_EVENT:
        columns[name] = [getattr(reading.event, name, None) for reading in readings]
    series = []
    for name, dtype in READ_SCHEMA.items():
        values = pl.Series(name, columns[name], dtype=pl.Int64 if dtype == TIME else dtype)
        series.append(values.cast(dtype))
    return pl.DataFrame(series)


def complete(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns of `READ_SCHEMA` in order, those that `frame` lacks being null."""
    return frame.select(
        pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in READ_SCHEMA.items()
    )
