"""One batch of a source: what it may hold, where it may begin, and how it is appended."""

from collections.abc import Mapping

import polars as pl
from deltalake import DeltaTable, write_deltalake

from matinee.core.errors import Fenced, InvalidInput
from matinee.events.offsets import Source
from matinee.lake.schemas import BATCHES, INGEST_TABLES, TableSchema, ingest_frame
from matinee.lake.storage import NO_HOOKS, ZSTD, exactly_here, partition_columns


def checked_batch(
    source: Source, tables: Mapping[str, pl.DataFrame], start: int, end: int, now_us: int
) -> dict[str, pl.DataFrame | None]:
    """A frame for every ingest table that is given one, complete and checked; in the order of their commits.

    Raises:
        InvalidInput: a table is unknown, a frame does not fit its schema, or a position is outside the batch.
    """
    if not 0 <= start <= end:
        raise InvalidInput(f"a batch of {source} cannot go from {start} to {end}")
    unknown = [name for name in tables if name not in INGEST_TABLES]
    if unknown:
        raise InvalidInput(f"ingest does not write table {unknown[0]!r}")
    frames: dict[str, pl.DataFrame | None] = {}
    for name, schema in INGEST_TABLES.items():
        given = tables.get(name)
        frames[name] = None if given is None else ingest_frame(schema, given, source, now_us)
        if frames[name] is not None:
            _check_positions(schema, frames[name], start, end)
    return frames


def _check_positions(schema: TableSchema, frame: pl.DataFrame | None, start: int, end: int) -> None:
    assert frame is not None
    inside = frame["position"].is_between(start, end, closed="left")
    if frame["position"].null_count() or not inside.all():
        raise InvalidInput(f"table {schema.name}, column position: expected {start} to {end - 1}, found others")
    if frame["position"].n_unique() < len(frame):
        raise InvalidInput(f"table {schema.name}, column position: expected each once, found one twice")


def check_fence(name: str, source: Source, committed: int, start: int, end: int, *, has_rows: bool) -> None:
    """Refuse a batch that would leave a gap in a table, or counts that another owner has counted in part.

    Raises:
        Fenced: see `Lake.commit`.
    """
    if start > committed:
        raise Fenced(
            f"table {name} ends at position {committed} of {source}, and this batch begins at {start}: what lies "
            "between would be missing",
            remedy="Begin again from the position that the lake names (restart ingest).",
        )
    if name == BATCHES.name and has_rows and committed > start:
        # A batch's counts cannot be filtered by position: counting a part of it twice would be wrong.
        raise Fenced(
            f"table {name} already ends at position {committed} of {source}, inside this batch ({start} to {end})",
            remedy="Another owner has gone on from there; this one must stop.",
        )


def append_rows(table: DeltaTable, schema: TableSchema, rows: pl.DataFrame | None, app_id: str, end: int) -> int:
    """Commit rows and an offset against exactly the snapshot that `table` holds."""
    properties = exactly_here(app_id, end)
    if rows is None or rows.is_empty():
        table.create_write_transaction(
            [],
            "append",
            table.schema(),
            partition_by=partition_columns(schema),
            commit_properties=properties,
            post_commithook_properties=NO_HOOKS,
        )
        return 0
    write_deltalake(
        table,
        rows,
        mode="append",
        writer_properties=ZSTD,
        commit_properties=properties,
        post_commithook_properties=NO_HOOKS,
    )
    return len(rows)
