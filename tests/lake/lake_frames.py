"""Frames whose every value follows from the position, so that a test can tell what the lake must hold."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from matinee.core.clock import DAY
from matinee.events.offsets import Source
from matinee.lake.lake import Lake
from matinee.lake.schemas import BATCHES, EVENTS, INGEST_TABLES, QUARANTINE, RECEIVED, SERVED, TableSchema

NOON = int(datetime(2024, 3, 1, 12, tzinfo=UTC).timestamp() * 1_000_000)
SOURCE = Source("a1b2c3", 0)
POSITION_TABLES = [EVENTS, RECEIVED, SERVED, QUARANTINE]
"""Position p belongs to the table p mod 4; every fourth event is untimed."""


def time_of(position: int) -> int:
    """One event a minute, from noon on."""
    return NOON + position * 60_000_000


def request_id(position: int) -> str:
    return f"{time_of(position) // 1_000:012x}{position:020x}"


def rows(table: TableSchema, positions: list[int]) -> pl.DataFrame:
    values = {
        "position": positions,
        "kind": ["watch"] * len(positions),
        "time": [time_of(p) for p in positions],
        "received_at": [time_of(p) for p in positions],
        "user": [f"u{p % 7}" for p in positions],
        "item": [f"movie+{p % 5}+1999" for p in positions],
        "items": [[f"movie+{p % 5}+1999", "alien+1979"] for p in positions],
        "request_id": [request_id(p) for p in positions],
        "dedup_key": [p.to_bytes(16, "big") for p in positions],
        "reason": ["unknown_form"] * len(positions),
    }
    columns = {name: kind for name, kind in table.columns.items() if name not in table.filled}
    frame = pl.DataFrame({name: values.get(name, [None] * len(positions)) for name in columns})
    return frame.cast(pl.Schema(columns))


def batch(start: int, end: int, *, counted: bool = True) -> dict[str, pl.DataFrame]:
    """Records at every position from `start` to before `end`, spread over the tables, with their counts."""
    tables = {
        table.name: rows(table, [p for p in range(start, end) if p % 4 == residue])
        for residue, table in enumerate(POSITION_TABLES)
    }
    quarantined = len(tables["quarantine"])
    read = end - start
    counts = [start, start, end, read, read - quarantined, 0, 0, quarantined]
    names = ["position", "start", "end", "read", "accepted", "repaired", "duplicate", "quarantined"]
    if counted:
        tables[BATCHES.name] = pl.DataFrame([counts], schema=dict.fromkeys(names, pl.Int64), orient="row")
    return tables


def assert_exactly_once(lake: Lake, end: int, source: Source = SOURCE, *, counted: bool = True) -> None:
    """Every position below `end` is in its table once, and the counts add up to them."""
    for residue, table in enumerate(POSITION_TABLES):
        found = lake.read(table.name).filter(pl.col("generation") == source.generation).collect()
        assert sorted(found["position"]) == [p for p in range(end) if p % 4 == residue], table.name
    for name in INGEST_TABLES:
        assert lake.committed_ends(name)[source] == end
    assert lake.resume_position(source) == end
    if counted:
        batches = lake.read("batches").sort("start").collect()
        assert batches["read"].sum() == end
        assert batches["end"].to_list()[:-1] == batches["start"].to_list()[1:]
        assert batches["start"][0] == 0


def age(folder: Path, days: int) -> None:
    """Make a table look as if all that happened to it had happened `days` days earlier."""
    before = {file: file.stat().st_mtime - days * 86_400 for file in folder.rglob("*")}
    for entry in (folder / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in entry.read_text().splitlines()]
        for action in actions:
            for field in (action.get("remove") or {}, action.get("commitInfo") or {}, action.get("add") or {}):
                for name in ("deletionTimestamp", "timestamp", "modificationTime"):
                    if name in field:
                        field[name] -= days * DAY // 1_000
        entry.write_text("\n".join(json.dumps(action) for action in actions))
    for checkpoint in (folder / "_delta_log").glob("*.checkpoint.parquet"):
        deleted = pl.field("deletionTimestamp") - days * DAY // 1_000
        pl.read_parquet(checkpoint).with_columns(pl.col("remove").struct.with_fields(deleted)).write_parquet(
            checkpoint
        )
    for file, seconds in before.items():
        os.utime(file, (seconds, seconds))
