"""What the metadata client needs of the lake: the ids in it, since when they are described, and writing rows."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import polars as pl

from matinee.events.offsets import Source
from matinee.ingest.metadata_reading import Kind, Row
from matinee.lake.lake import Lake
from matinee.lake.schemas import EVENTS, ITEMS, USERS, WATCH_DAYS
from matinee.lake.storage import store_errors
from matinee.lake.upsert import UPDATED_AT

READ_POSITIONS = 500_000
"""Positions looked through at a time."""
TABLE_OF = {"item": ITEMS, "user": USERS}


def ids_of_days(lake: Lake, kind: Kind) -> list[str]:
    """Every item, or user, of the days whose single events were gathered."""
    return _distinct(lake.read(WATCH_DAYS.name, columns=[kind]))


def new_ids(
    lake: Lake, kind: Kind, seen: Mapping[Source, int], stopping: Callable[[], bool]
) -> Iterator[tuple[Source, int, list[str]]]:
    """Items, or users, of the events beyond `seen`, piece by piece.

    Yields:
        Of each piece its source, its end, and its distinct ids.
    """
    for source, end in sorted(lake.committed_ends(EVENTS.name).items()):
        for low in range(seen.get(source, 0), end, READ_POSITIONS):
            if stopping():
                return
            high = min(low + READ_POSITIONS, end)
            wanted = (
                (pl.col("generation") == source.generation)
                & (pl.col("partition") == source.partition)
                & pl.col("position").is_between(low, high, closed="left")
            )
            yield source, high, _distinct(lake.read(EVENTS.name, columns=[kind], predicate=wanted))


def _distinct(rows: pl.LazyFrame) -> list[str]:
    with store_errors("reading ids"):
        return rows.select(pl.all().drop_nulls().unique()).collect().to_series().to_list()


def described_since(lake: Lake, kind: Kind, ids: list[str]) -> dict[str, int]:
    """Of those of the ids that the lake describes, when they were written last, UTC microseconds."""
    if not ids:
        return {}
    wanted = pl.LazyFrame({kind: ids}, schema={kind: pl.String})
    with store_errors("reading what is described"):
        stored = (
            lake.read(TABLE_OF[kind].name, columns=[kind, UPDATED_AT]).join(wanted, on=kind, how="semi").collect()
        )
    at = stored[UPDATED_AT].to_physical()
    return dict(zip(stored[kind].to_list(), at.to_list(), strict=True))


def write_rows(lake: Lake, kind: Kind, rows: list[Row]) -> int:
    """Merge rows into the lake's table, and return how many were new or changed.

    Of the attributes in `extra`, those that the rows lack stay as they are: an import may have brought them.

    Raises:
        StoreUnavailable: the store failed, or other writers were always quicker.
        OutOfRoom: the disk is full.
    """
    schema = TABLE_OF[kind]
    columns = pl.Schema({name: dtype for name, dtype in schema.columns.items() if name not in schema.filled})
    stored = _stored_extra(lake, kind, [row[kind] for row in rows])
    merged = [row | {"extra": merged_extra(stored.get(row[kind]), row["extra"])} for row in rows]
    texts = pl.Schema({name: pl.String if dtype == pl.Date else dtype for name, dtype in columns.items()})
    frame = pl.DataFrame(merged, schema=texts, orient="row")
    dates = [pl.col(name).str.to_date("%Y-%m-%d") for name, dtype in columns.items() if dtype == pl.Date]
    return lake.upsert(schema.name, frame.with_columns(dates))


def _stored_extra(lake: Lake, kind: Kind, ids: list[str]) -> dict[str, str]:
    wanted = pl.LazyFrame({kind: ids}, schema={kind: pl.String})
    with store_errors("reading attributes"):
        stored = lake.read(TABLE_OF[kind].name, columns=[kind, "extra"]).join(wanted, on=kind, how="semi").collect()
    return {key: text for key, text in stored.iter_rows() if text}


def merged_extra(stored: str | None, given: str | None) -> str | None:
    """The attributes of both, as the text of a JSON object; of what both have, what is given."""
    both = _object(stored) | _object(given)
    if given is None or both == _object(stored):
        return stored
    return json.dumps(both, sort_keys=True, ensure_ascii=False)


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
