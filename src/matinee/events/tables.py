"""Rows of a table to the frame of `READ_SCHEMA`: ratings or watched minutes, whole columns at a time."""

from functools import reduce

import polars as pl

from matinee.core.errors import InvalidInput
from matinee.core.ids import ID_PATTERN
from matinee.events.lines import dedup_key
from matinee.events.rows import complete
from matinee.events.schema import TIME, Outcome, Reason
from matinee.events.types import LAST_US, MAX_AHEAD_US, MAX_MINUTE, MAX_RATING, MIN_RATING

_ID = f"^(?:{ID_PATTERN})$"


def read_columns(frame: pl.DataFrame, *, received_us: int, producer: str) -> pl.DataFrame:
    """Read a table of ratings (`rating`), watched minutes (`minute`), or both in different rows.

    Args:
        frame: columns `user` and `item`; `rating` in 0.5..5 and/or `minute` in 0..1439, of which each row has
            one; `time` (a datetime with a zone) or null where a rating is untimed. Other columns are ignored.
        received_us: when the table was taken in, UTC microseconds.
        producer: who it came from; on every row.

    Returns:
        The schema `READ_SCHEMA`, one row per row in order. Rows that cannot be right are quarantined with their
        content as JSON in `raw`. The deduplication key is that of the row's content.

    Raises:
        InvalidInput: a column is missing, or has a type that cannot be read.
    """
    content = _content(frame)
    reason = _reason(received_us)
    bad = pl.col("reason").is_not_null()
    rows = content.with_columns(reason.alias("reason")).with_columns(
        pl.when(bad)
        .then(pl.lit(Outcome.QUARANTINED.value))
        .otherwise(pl.lit(Outcome.ACCEPTED.value))
        .alias("outcome"),
        pl.when(bad).then(pl.struct(content.columns).struct.json_encode().cast(pl.Binary)).alias("raw"),
        pl.when(pl.col("minute").is_null()).then(pl.lit("rating")).otherwise(pl.lit("watch")).alias("kind"),
        pl.lit(received_us, pl.Int64).alias("received_at"),
        pl.lit(producer).alias("producer"),
        _dedup_keys(content),
    )
    kept = [pl.when(~bad).then(name).alias(name) for name in (*content.columns, "kind")]
    return complete(rows.with_columns(kept))


def _content(frame: pl.DataFrame) -> pl.DataFrame:
    """`user`, `item`, `rating`, `minute` and `time` (µs as an integer); what the table lacks is null."""
    present = set(frame.columns)
    if not {"user", "item"} <= present or not {"rating", "minute"} & present:
        raise InvalidInput(
            f"the table has the columns {', '.join(frame.columns)}",
            remedy="It needs user and item, and rating or minute; time if it is known.",
        )
    time = frame.schema.get("time", pl.Null())
    if not (time == pl.Null or (isinstance(time, pl.Datetime) and time.time_zone)):
        raise InvalidInput(
            f"the table's time is {time}, without a zone", remedy="Give it as a datetime in UTC, or leave it out."
        )
    wanted: dict[str, pl.DataType | type[pl.DataType]] = {
        "user": pl.String,
        "item": pl.String,
        "rating": pl.Float64,
        "minute": pl.Int64,
        "time": TIME,
    }
    try:
        content = frame.select(
            pl.col(name).cast(dtype) if name in present else pl.lit(None, dtype).alias(name)
            for name, dtype in wanted.items()
        )
    except pl.exceptions.PolarsError as error:
        raise InvalidInput(f"a column of the table cannot be read: {error}") from error
    return content.with_columns(pl.col("time").to_physical())


def _reason(received_us: int) -> pl.Expr:
    """The first reason, field by field, for which a row cannot be right; null if none."""
    user, item, time = pl.col("user"), pl.col("item"), pl.col("time")
    rating, minute = pl.col("rating"), pl.col("minute")
    watch = minute.is_not_null()
    checks = [
        (rating.is_not_null() & watch, Reason.BAD_PAYLOAD),
        (rating.is_null() & ~watch, Reason.MISSING_FIELD),
        (watch & time.is_null(), Reason.MISSING_FIELD),
        (~time.is_between(0, LAST_US), Reason.IMPOSSIBLE_TIME),
        (user.fill_null("") == "", Reason.MISSING_FIELD),
        (~user.str.contains(_ID), Reason.BAD_USER_ID),
        (item.fill_null("") == "", Reason.MISSING_FIELD),
        (~item.str.contains(_ID), Reason.BAD_ITEM_ID),
        (~minute.is_between(0, MAX_MINUTE), Reason.BAD_MINUTE),
        (rating.is_nan() | ~rating.is_between(MIN_RATING, MAX_RATING), Reason.BAD_RATING),
        (time > received_us + MAX_AHEAD_US, Reason.FUTURE_TIME),
    ]
    otherwise: pl.Expr = pl.lit(None, pl.String)
    return reduce(
        lambda rest, check: pl.when(check[0]).then(pl.lit(check[1].value)).otherwise(rest), checks[::-1], otherwise
    )


def _dedup_keys(content: pl.DataFrame) -> pl.Series:
    texts = (pl.col(name).cast(pl.String).fill_null("") for name in content.columns)
    joined = content.select(pl.concat_str(list(texts), separator="\t").cast(pl.Binary)).to_series()
    return pl.Series("dedup_key", [dedup_key(value) for value in joined.to_list()], dtype=pl.Binary)
