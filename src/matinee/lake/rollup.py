"""Single watch events of days past become `watch_days`: of a user, an item and a day, the distinct minutes.

    events (kind watch) of a closed day ─► union with what the day holds ─► overwrite the day ─► delete the events

A day is closed when it is over, in UTC; its single events are kept for a stated time after they were received. The
minutes are stored before the events go, and storing them again changes nothing (a union of sets): so a crash
between the two steps costs only the second look. The events are deleted against exactly the version of the table
that the minutes were read from. A late event is one more that is due, whatever was gathered of its day before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl
from deltalake import DeltaTable, write_deltalake

from matinee.core.errors import InvalidInput, StoreUnavailable
from matinee.events.offsets import Source
from matinee.events.schema import TIME
from matinee.lake.lake import Lake
from matinee.lake.schemas import DATE, EVENTS, WATCH_DAYS, check_frame
from matinee.lake.storage import NO_HOOKS, ZSTD, exactly_here, store_errors

ROLLED_UP = Source("file-rolled-up", 0)
"""The source that gathered minutes count as where history is filled from them: its end in `events` is the number of
events that were ever gathered, so a bundle trained since then knows what it covers."""

_KEY = ["user", "item", "day"]
_TRIES = 10


@dataclass(frozen=True, slots=True)
class RolledUp:
    """What one round did."""

    events: int = 0
    """Single events that were gathered and are gone."""
    days: int = 0
    """Days whose minutes changed."""


@dataclass(frozen=True, slots=True)
class _Due:
    """The events of one partition that are to be gathered."""

    partition: date
    received_before: datetime

    def rows(self, table: DeltaTable) -> pl.LazyFrame:
        cutoff = pl.lit(self.received_before).cast(TIME)
        whole = [pl.col(name).is_not_null() for name in ("user", "item", "time", "minute")]
        due = pl.col("received_at").is_null() | (pl.col("received_at") < cutoff)
        here = (pl.col(DATE) == self.partition) & (pl.col("kind") == "watch")
        return pl.scan_delta(table).filter(here, due, *whole)

    def sql(self) -> str:
        """The same rows, for Delta."""
        cutoff = f"'{self.received_before:%Y-%m-%dT%H:%M:%S.%fZ}'"
        whole = " AND ".join(f"{name} IS NOT NULL" for name in ('"user"', "item", "time", "minute"))
        due = f"(received_at IS NULL OR received_at < {cutoff})"
        return f"{DATE} = '{self.partition.isoformat()}' AND kind = 'watch' AND {due} AND {whole}"


def roll_up(
    lake: Lake, keep_days: int, *, on_gathered: Callable[[date], None] = lambda _partition: None
) -> RolledUp:
    """Gather the watch events of closed days that were received more than `keep_days` whole days ago.

    Args:
        lake: the lake. May run beside other writers; what they add meanwhile is looked at again, or next time.
        keep_days: whole days of UTC, at least 1, that single events stay after the day they were received on.
        on_gathered: called with a partition between storing its minutes and deleting its events; for tests.

    Raises:
        InvalidInput: `keep_days` is below 1.
        StoreUnavailable: the store failed, or other writers were always quicker.
        OutOfRoom: the disk is full.
    """
    if keep_days < 1:
        raise InvalidInput(
            f"single watch events for {keep_days} days: expected at least 1",
            remedy="Duplicates of a day are found by them; see lake.keep_watches_days.",
        )
    today = datetime.fromtimestamp(lake.clock.now_us() / 1_000_000, UTC).date()
    midnight = datetime(today.year, today.month, today.day, tzinfo=UTC) - timedelta(days=keep_days)
    events = days = 0
    for partition in _due_partitions(lake.table(EVENTS.name), today, midnight):
        gone, changed = _roll_up_partition(lake, _Due(partition, midnight), on_gathered)
        events, days = events + gone, days + changed
    return RolledUp(events, days)


def rolled_up_end(lake: Lake) -> int:
    """How many single events were ever gathered."""
    return lake.table(EVENTS.name).transaction_version(str(ROLLED_UP)) or 0


def _due_partitions(table: DeltaTable, today: date, received_before: datetime) -> list[date]:
    """Partitions of closed days with a file that may hold a watch event that is due, by the files' statistics."""
    files = pl.DataFrame(table.get_add_actions(flatten=True))
    if files.is_empty():
        return []
    may_be = pl.lit(value=True)
    if "max.kind" in files.columns:
        may_be &= (pl.col("max.kind") >= "watch").fill_null(value=True)
    if "min.received_at" in files.columns:
        oldest = pl.col("min.received_at").cast(pl.Datetime("us", "UTC"), strict=False)
        may_be &= (oldest < pl.lit(received_before)).fill_null(value=True)
    closed = pl.col(f"partition.{DATE}").cast(pl.Date) < today
    return files.filter(closed & may_be)[f"partition.{DATE}"].cast(pl.Date).unique().sort().to_list()


def _roll_up_partition(lake: Lake, due: _Due, on_gathered: Callable[[date], None]) -> tuple[int, int]:
    changed = 0
    for _ in range(_TRIES):
        table = lake.table(EVENTS.name)
        with store_errors(f"gathering {due.partition}"):
            count = int(due.rows(table).select(pl.len()).collect().item())
            gathered = _gather(due.rows(table)) if count else None
        if gathered is None:
            return 0, changed
        changed += lake.transact(WATCH_DAYS.name, _storing(gathered))
        on_gathered(due.partition)
        lake.register(ROLLED_UP)
        if lake.transact(EVENTS.name, _deleting(due, table.version(), count)):
            return count, changed
    raise StoreUnavailable(
        f"lake, table events: it was changed {_TRIES} times in a row while {due.partition} was gathered",
        remedy="The next maintenance tries again. See who else writes to this lake: one owner should.",
    )


def _gather(rows: pl.LazyFrame) -> pl.DataFrame:
    """The distinct minutes of each user, item and day, ascending."""
    by_day = rows.select("user", "item", pl.col("time").dt.date().alias("day"), "minute")
    return by_day.group_by(_KEY).agg(pl.col("minute").unique().sort().alias("minutes")).collect(engine="streaming")


def _storing(gathered: pl.DataFrame) -> Callable[[DeltaTable], int]:
    first, last = gathered["day"].min(), gathered["day"].max()
    assert isinstance(first, date)
    assert isinstance(last, date)

    def attempt(table: DeltaTable) -> int:
        """Overwrite the days with the union of what they hold and what was gathered; how many changed."""
        held = pl.scan_delta(table).filter(pl.col("day").is_between(first, last)).collect()
        both = pl.concat([held.select(*_KEY, "minutes"), gathered.select(*_KEY, "minutes")]).explode("minutes")
        merged = both.group_by(_KEY).agg(pl.col("minutes").unique().sort()).sort("day", "user", "item")
        before = held.select(*_KEY, "minutes").sort("day", "user", "item")
        changed = merged.join(before, on=[*_KEY, "minutes"], how="anti")["day"].n_unique()
        if changed:
            write_deltalake(
                table,
                check_frame(WATCH_DAYS, merged.select(WATCH_DAYS.columns.names())),
                mode="overwrite",
                predicate=f"day >= '{first.isoformat()}' AND day <= '{last.isoformat()}'",
                writer_properties=ZSTD,
                commit_properties=exactly_here(),
                post_commithook_properties=NO_HOOKS,
            )
        return changed

    return attempt


def _deleting(due: _Due, version: int, count: int) -> Callable[[DeltaTable], bool]:
    def attempt(table: DeltaTable) -> bool:
        """Delete what was gathered, unless the table is no longer the one that it was gathered from."""
        if table.version() != version:
            return False
        end = (table.transaction_version(str(ROLLED_UP)) or 0) + count
        properties = exactly_here(str(ROLLED_UP), end)
        done = table.delete(due.sql(), commit_properties=properties, post_commithook_properties=NO_HOOKS)
        assert done["num_deleted_rows"] == count, f"{done['num_deleted_rows']} events deleted, {count} gathered"
        return True

    return attempt
