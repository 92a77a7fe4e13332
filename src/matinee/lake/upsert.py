"""Merging rows into a table by key."""

from collections.abc import Callable

import polars as pl
from deltalake import DeltaTable

from matinee.core.errors import InvalidInput
from matinee.events.schema import TIME
from matinee.lake.schemas import TableSchema, check_frame
from matinee.lake.storage import NO_HOOKS, ZSTD, exactly_here

UPDATED_AT = "updated_at"


def merge_rows(schema: TableSchema, frame: pl.DataFrame, now_us: int) -> Callable[[DeltaTable], int]:
    """A change that merges rows into the table it is given and says how many rows were new or changed.

    Raises:
        InvalidInput: the table has no key, a key is null, or the frame does not fit the schema.
    """
    key = schema.key
    if key is None:
        raise InvalidInput(f"table {schema.name} has no key to merge by", remedy="Only items and users have one.")
    stamped = frame.with_columns(pl.lit(now_us, dtype=pl.Int64).cast(TIME).alias(UPDATED_AT))
    rows = check_frame(schema, stamped)
    if rows[key].null_count():
        raise InvalidInput(f"table {schema.name}, column {key}: expected an id, found null")
    values = [name for name in schema.columns if name != key]
    merged = rows.group_by(key, maintain_order=True).agg(pl.col(values).drop_nulls().last())

    def attempt(table: DeltaTable) -> int:
        changed = _changed(table, merged, key, values)
        if len(changed):
            _merge(table, changed.select(schema.columns.names()), key, values)
        return len(changed)

    return attempt


def _changed(table: DeltaTable, rows: pl.DataFrame, key: str, values: list[str]) -> pl.DataFrame:
    """The rows that are new or bring a value that the table does not hold."""
    stored = pl.scan_delta(table).join(rows.lazy().select(key), on=key, how="semi")
    pairs = rows.lazy().join(
        stored.with_columns(pl.lit(True).alias("_known")), on=key, how="left", suffix="_stored"
    )
    new = pl.col("_known").is_null()
    brings = [
        pl.col(name).is_not_null() & pl.col(name).ne_missing(pl.col(f"{name}_stored"))
        for name in values
        if name != UPDATED_AT
    ]
    return pairs.filter(pl.any_horizontal(new, *brings)).select(rows.columns).collect()


def _merge(table: DeltaTable, rows: pl.DataFrame, key: str, values: list[str]) -> None:
    merger = table.merge(
        rows,
        f"stored.{key} = given.{key}",
        source_alias="given",
        target_alias="stored",
        writer_properties=ZSTD,
        commit_properties=exactly_here(),
        post_commithook_properties=NO_HOOKS,
    )
    merger.when_matched_update(
        {name: f"coalesce(given.{name}, stored.{name})" for name in values}
    ).when_not_matched_insert_all().execute()
