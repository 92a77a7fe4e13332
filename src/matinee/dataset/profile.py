"""The counts of a snapshot that the checks before training look at."""

from collections import Counter
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from matinee.dataset.interactions import Interactions

RECENT_DAYS = 7
EARLIER_DAYS = 28
BATCH_WINDOW = timedelta(days=1)

Histogram = dict[str, int]
"""Number of ratings by rating, written with one digit behind the point."""


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """What became of the records of the batches committed within a day of the newest one."""

    read: int = 0
    duplicate: int = 0
    quarantined: int = 0


@dataclass(frozen=True, slots=True)
class Profile:
    """Counts over the events and interactions of a snapshot.

    Attributes:
        events: rows of the table `events`: single events, which become fewer when days are gathered.
        missing: of these, rows that lack a user, an item, or what was rated or watched.
        repeated: of these, rows whose record is there already, through another partition or file.
        time_range_us: first and last event time in UTC microseconds, a gathered day's being its first moment; None
            where nothing has a time.
        daily_events: ratings, and distinct minutes of each user and item, by UTC day: the same before and after a
            day was gathered. 0 where a day has none, for at most `EARLIER_DAYS` + `RECENT_DAYS` days up to the day
            before that of the last event: that one is not over.
        ratings: the latest rating of every pair.
        recent_ratings: rating events of the last `RECENT_DAYS` of `daily_events`.
        earlier_ratings: rating events of the days before, at most `EARLIER_DAYS`.
        catalogue_items: rows of the table `items`.
        unknown_items: interactions with an item that the table `items` lacks.
        batches: see `BatchCounts`.
    """

    events: int
    missing: int
    repeated: int
    time_range_us: tuple[int, int] | None
    daily_events: tuple[int, ...]
    ratings: Histogram
    recent_ratings: Histogram
    earlier_ratings: Histogram
    catalogue_items: int
    unknown_items: int
    batches: BatchCounts


def profile_of(
    events: pl.LazyFrame,
    watch_days: pl.LazyFrame,
    items: pl.LazyFrame,
    batches: pl.LazyFrame,
    interactions: Interactions,
    item_ids: list[str],
) -> Profile:
    """Count.

    Args:
        events: the lake's table `events`.
        watch_days: the lake's table `watch_days`.
        items: the lake's table `items`.
        batches: the lake's table `batches`.
        interactions: what became of the events.
        item_ids: the ids of the interactions' items, by index.
    """
    totals = _totals(events)
    first, last = _time_range(totals, watch_days)
    catalogue = items.select(pl.col("item").unique()).collect()["item"]
    known = pl.Series(item_ids, dtype=pl.String).is_in(catalogue.implode()).to_numpy()
    days = _days(events, watch_days, last.date()) if last is not None else []
    return Profile(
        events=totals["events"],
        missing=totals["missing"],
        repeated=totals["events"] - totals["records"],
        time_range_us=None if first is None or last is None else (_microseconds(first), _microseconds(last)),
        daily_events=tuple(day.total() for day in days),
        ratings=_histogram(interactions.rating),
        recent_ratings=_sum_of_ratings(days[-RECENT_DAYS:]),
        earlier_ratings=_sum_of_ratings(days[:-RECENT_DAYS]),
        catalogue_items=len(catalogue),
        unknown_items=int(np.count_nonzero(~known[interactions.item_index])),
        batches=_recent_batches(batches),
    )


def _totals(events: pl.LazyFrame) -> dict[str, Any]:
    lacking = (
        pl.col("user").is_null()
        | pl.col("item").is_null()
        | pl.when(pl.col("kind") == "rating").then(pl.col("rating").is_null()).otherwise(pl.col("minute").is_null())
    )
    return (
        events.select(
            pl.len().alias("events"),
            lacking.sum().alias("missing"),
            pl.col("dedup_key").n_unique().alias("records"),
            pl.col("time").min().alias("first"),
            pl.col("time").max().alias("last"),
        )
        .collect(engine="streaming")
        .row(0, named=True)
    )


def _time_range(totals: dict[str, Any], watch_days: pl.LazyFrame) -> tuple[datetime | None, datetime | None]:
    gathered = watch_days.select(pl.col("day").min().alias("first"), pl.col("day").max().alias("last"))
    row = gathered.select(pl.all().cast(pl.Datetime("us")).dt.replace_time_zone("UTC")).collect().row(0)
    firsts = [time for time in (totals["first"], row[0]) if time is not None]
    lasts = [time for time in (totals["last"], row[1]) if time is not None]
    return min(firsts, default=None), max(lasts, default=None)


def _days(events: pl.LazyFrame, watch_days: pl.LazyFrame, last: date) -> list[Counter[float | None]]:
    """Events by rating (None: watching) of each day before `last`, oldest first, from the first day with any."""
    start = last - timedelta(days=RECENT_DAYS + EARLIER_DAYS)
    within = pl.col("day").is_between(start, last, closed="left")
    timed = (
        events.filter(pl.col("date") >= start)  # opens few files: a partition's date is never before its rows' days
        .with_columns(pl.col("time").dt.date().alias("day"))
        .filter(within)
    )
    rated = timed.filter(pl.col("kind") == "rating").group_by("day", "rating").len()
    watched = _minutes(timed, watch_days.filter(within)).select(
        "day", pl.lit(None, pl.Float32).alias("rating"), "len"
    )
    counted = pl.concat([rated.cast({"len": pl.Int64}), watched]).collect(engine="streaming")
    if counted.is_empty():
        return []
    oldest: date = counted["day"].min()  # type: ignore[assignment]  # a column of dates
    days: list[Counter[float | None]] = [Counter() for _ in range((last - oldest).days)]
    for day, rating, rows in counted.iter_rows():
        days[(day - oldest).days][rating] += rows
    return days


def _minutes(timed: pl.LazyFrame, watch_days: pl.LazyFrame) -> pl.LazyFrame:
    """Distinct minutes of each user and item, by `day` as `len`; one that is single and gathered counts once."""
    watch = ["user", "item", "day"]
    single = timed.filter(pl.col("kind") == "watch").group_by(watch).agg(pl.col("minute").unique().alias("single"))
    gathered = watch_days.select(*watch, "minutes")
    both = single.join(gathered, on=watch, how="full", coalesce=True, nulls_equal=True)
    empty = pl.lit([], pl.List(pl.Int32))
    minutes = pl.col("single").fill_null(empty).list.set_union(pl.col("minutes").fill_null(empty))
    return both.group_by("day").agg(minutes.list.len().sum().cast(pl.Int64).alias("len"))


def _sum_of_ratings(days: list[Counter[float | None]]) -> Histogram:
    total: Counter[float | None] = sum(days, Counter())
    return {f"{rating:.1f}": total[rating] for rating in sorted(r for r in total if r is not None)}


def _histogram(rating: NDArray[np.float32]) -> Histogram:
    values, counts = np.unique(rating[~np.isnan(rating)], return_counts=True)
    return {f"{value:.1f}": count for value, count in zip(values.tolist(), counts.tolist(), strict=True)}


def _recent_batches(batches: pl.LazyFrame) -> BatchCounts:
    committed = pl.col("committed_at")
    names = [field.name for field in fields(BatchCounts)]
    recent = batches.filter(committed >= committed.max() - BATCH_WINDOW).select(pl.col(names).sum()).collect()
    return BatchCounts(*recent.row(0))


def _microseconds(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
