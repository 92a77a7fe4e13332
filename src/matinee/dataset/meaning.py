"""What the events of a user and an item mean together: one row per pair, whatever came how often."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

_Value = TypeVar("_Value", bound=np.generic)
_PAIR = ["user", "item"]
_LATEST_LAST = ["time", "generation", "partition", "position"]


@dataclass(frozen=True, slots=True)
class Pairs:
    """One row per pair of a user and an item, in the order of user index, then item index.

    Attributes:
        users: ids of the users, ascending.
        items: ids of the items, ascending.
        user_index: int32, shape (n,).
        item_index: int32, shape (n,).
        rating: float32, shape (n,); the latest, NaN where there is none.
        minutes_seen: float32, shape (n,); distinct minutes watched, NaN where none was.
        time_us: int64, shape (n,), the last event; None where any pair has no time.
    """

    users: list[str]
    items: list[str]
    user_index: NDArray[np.int32]
    item_index: NDArray[np.int32]
    rating: NDArray[np.float32]
    minutes_seen: NDArray[np.float32]
    time_us: NDArray[np.int64] | None


def pairs_of(events: pl.LazyFrame, watch_days: pl.LazyFrame) -> Pairs:
    """The meaning of events.

    Of a pair's ratings the latest counts: by event time, one without a time before any with one, then by offset
    (generation, partition, position). Of watching count the distinct minutes, from single events and from the
    days that they were gathered into; a gathered day's time is its first moment. Rows without a user or an item
    have no meaning and are left out. Neither the order of rows nor a row that comes twice changes the result.

    Args:
        events: the lake's table `events`.
        watch_days: the lake's table `watch_days`.
    """
    known = events.filter(pl.col("user").is_not_null() & pl.col("item").is_not_null())
    found = (
        _rated(known)
        .join(_watched(known, watch_days), on=_PAIR, how="full", coalesce=True)
        .select(*_PAIR, "rating", "minutes_seen", pl.max_horizontal("rated_at", "watched_at").alias("time"))
        .collect(engine="streaming")
    )
    users = found["user"].unique().sort()
    items = found["item"].unique().sort()
    pairs = found.with_columns(_index("user", users), _index("item", items)).sort(_PAIR)
    timed = pairs["time"].null_count() == 0
    return Pairs(
        users=users.to_list(),
        items=items.to_list(),
        user_index=_array(pairs["user"], np.int32),
        item_index=_array(pairs["item"], np.int32),
        rating=_array(pairs["rating"].cast(pl.Float32).fill_null(np.nan), np.float32),
        minutes_seen=_array(pairs["minutes_seen"].cast(pl.Float32).fill_null(np.nan), np.float32),
        time_us=_array(pairs["time"].dt.epoch("us"), np.int64) if timed else None,
    )


def _rated(events: pl.LazyFrame) -> pl.LazyFrame:
    return (
        events.filter((pl.col("kind") == "rating") & pl.col("rating").is_not_null())
        .group_by(_PAIR)
        .agg(
            pl.col("rating").sort_by(_LATEST_LAST, nulls_last=False).last(),
            pl.col("time").max().alias("rated_at"),
        )
    )


def _watched(events: pl.LazyFrame, watch_days: pl.LazyFrame) -> pl.LazyFrame:
    single = events.filter((pl.col("kind") == "watch") & pl.col("minute").is_not_null())
    gathered = watch_days.explode("minutes", empty_as_null=False, keep_nulls=False).select(
        *_PAIR,
        pl.col("minutes").alias("minute"),
        pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("time"),
    )
    return (
        pl.concat([single.select(*_PAIR, "minute", "time"), gathered])
        .group_by(_PAIR)
        .agg(pl.col("minute").n_unique().alias("minutes_seen"), pl.col("time").max().alias("watched_at"))
    )


def _index(column: str, ids: pl.Series) -> pl.Expr:
    return pl.col(column).cast(pl.Enum(ids)).to_physical().cast(pl.Int32)


def _array(values: pl.Series, dtype: type[_Value]) -> NDArray[_Value]:
    return np.ascontiguousarray(values.to_numpy(), dtype=dtype)
