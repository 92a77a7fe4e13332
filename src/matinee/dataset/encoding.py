"""A table of ratings, user, item, rating, as `Interactions`: for whoever has a table and no lake."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from matinee.core.errors import InvalidInput
from matinee.dataset.interactions import Interactions
from matinee.dataset.vocabulary import Vocabulary

_Value = TypeVar("_Value", bound=np.generic)
_PAIR = ["user", "item"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A table as models take it, and what its indices stand for.

    Attributes:
        interactions: one row per pair, in the order of user index, then item index; nothing is watched.
        users: ids of the users, ascending.
        items: ids of the items, ascending.
    """

    interactions: Interactions
    users: Vocabulary
    items: Vocabulary


def encode(ratings: pl.DataFrame) -> Encoded:
    """Number the users and items of a table and make `Interactions` of it.

    Of a pair that stands there several times the latest rating counts: by time, one without a time before any
    with one, then by place in the table. The result is timed where every row that counts has a time. O(n log n)
    time and O(n) memory for n rows.

    Args:
        ratings: columns `user` and `item` (texts or whole numbers, which become texts), `rating` (a finite
            number), and, where known, `time` (a date, a date with time, or seconds since 1970). Others are passed
            over. `PublicDataset.ratings` is such a table.

    Raises:
        InvalidInput: a column is missing, or a user, item or rating is; says in which row.
    """
    missing = [name for name in ("user", "item", "rating") if name not in ratings.columns]
    if missing:
        raise InvalidInput(
            f"the table has no column {missing[0]!r}; it has {', '.join(map(repr, ratings.columns))}",
            remedy="Rename its columns to user, item, rating and, where known, time.",
        )
    rows = ratings.select(
        pl.col("user").cast(pl.String), pl.col("item").cast(pl.String), _rating(ratings["rating"]), _time(ratings)
    )
    _require_values(rows)
    latest = (
        rows.lazy()
        .with_row_index("place")
        .sort("time", "place", nulls_last=False)
        .unique(_PAIR, keep="last", maintain_order=True)
        .collect()
    )
    users, items = latest["user"].unique().sort(), latest["item"].unique().sort()
    pairs = latest.with_columns(_index("user", users), _index("item", items)).sort(_PAIR)
    n = len(pairs)
    interactions = Interactions(
        n_users=len(users),
        n_items=len(items),
        user_index=_array(pairs["user"], np.int32),
        item_index=_array(pairs["item"], np.int32),
        rating=_array(pairs["rating"], np.float32),
        watched=np.full(n, np.nan, dtype=np.float32),
        time_us=_array(pairs["time"], np.int64) if n and pairs["time"].null_count() == 0 else None,
    )
    return Encoded(interactions, Vocabulary(users), Vocabulary(items))


def _rating(values: pl.Series) -> pl.Series:
    return values.cast(pl.Float32, strict=False).alias("rating")


def _time(ratings: pl.DataFrame) -> pl.Series:
    """Microseconds since 1970; null where not known."""
    if "time" not in ratings.columns:
        return pl.Series("time", [None] * len(ratings), dtype=pl.Int64)
    times = ratings["time"]
    if times.dtype == pl.Date or isinstance(times.dtype, pl.Datetime):
        return times.cast(pl.Datetime("us")).to_physical().alias("time")
    if times.dtype.is_numeric() or times.dtype == pl.Null:
        return (times.cast(pl.Float64) * 1e6).round().cast(pl.Int64, strict=False).alias("time")
    raise InvalidInput(
        f"the column 'time' holds {times.dtype}; expected dates, or numbers of seconds since 1970",
        remedy="Convert it, or leave it out.",
    )


def _require_values(rows: pl.DataFrame) -> None:
    for name, what in (("user", "value"), ("item", "value"), ("rating", "finite number")):
        column = rows[name]
        good = column.is_finite().fill_null(value=False) if name == "rating" else column.is_not_null()
        wrong = np.flatnonzero(~good.to_numpy())
        if wrong.size:
            raise InvalidInput(
                f"row {wrong[0]} (from 0) has no {what} as {name}", remedy="Mend the row, or leave it out."
            )


def _index(column: str, ids: pl.Series) -> pl.Expr:
    return pl.col(column).cast(pl.Enum(ids)).to_physical().cast(pl.Int32)


def _array(values: pl.Series, dtype: type[_Value]) -> NDArray[_Value]:
    return np.ascontiguousarray(values.to_numpy(), dtype=dtype)
