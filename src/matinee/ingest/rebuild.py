"""History from the lake: what a history lacks, or all of it.

A rebuild folds everything into a fresh store beside the old one, and puts it in the old one's place when it is
whole. Clearing the old one and filling it again would leave every server, for minutes, with users who seem to have
done almost nothing. This way servers read the old history until the moment at which they read the new one.
"""

from collections.abc import Callable, Iterable
from typing import Any

import polars as pl

from matinee.core.home import Home
from matinee.events.offsets import Source
from matinee.history.base import History
from matinee.history.replacement import replacement
from matinee.ingest.pipeline import to_actions
from matinee.ingest.report import Progress, no_progress
from matinee.lake.lake import Lake
from matinee.lake.rollup import ROLLED_UP, rolled_up_end
from matinee.lake.schemas import EVENTS

READ_ROWS = 500_000
"""Positions read from the lake at a time."""
APPLY_ROWS = 50_000
"""Actions folded in at a time."""
GENTLE_ROWS = 5_000
"""The same beside a writer of fresh events, which waits for no longer than these take."""
_COLUMNS = ["position", "user", "item", "time", "minute", "rating"]
_ACTION_SCHEMA = {name: EVENTS.columns[name] for name in _COLUMNS}


def missing(lake: Lake, history: History) -> dict[Source, tuple[int, int]]:
    """Of each source, the positions (from, to before) that the lake holds and history has not applied."""
    applied = history.applied()
    ends = lake.committed_ends("events")
    spans = {source: (applied.get(source, 0), end) for source, end in sorted(ends.items())}
    return {source: (start, end) for source, (start, end) in spans.items() if start < end}


def catch_up(
    lake: Lake,
    history: History,
    *,
    only: Callable[[Source], bool] = lambda _source: True,
    at_most: int | None = None,
    stopping: Callable[[], bool] = lambda: False,
    progress: Progress = no_progress,
) -> int:
    """Fold into history what the lake holds and history lacks, source by source in the order of the positions.

    Idempotent, and may be broken off at any point: the next call goes on from there. A history that has nothing of
    any other source first gets the minutes of the days that were gathered; one that has, had their single events.

    Args:
        lake: to read `events` from.
        history: to fold into.
        only: which sources.
        at_most: break off after so many positions, roughly, and take small steps: for calls beside a writer of
            fresh events.
        stopping: asked between reads; true breaks off.
        progress: told of the positions done.

    Returns:
        How many actions were new to history.

    Raises:
        RetryableError: the lake or history did not answer.
    """
    new = _fold_gathered(lake, history, stopping) if not set(history.applied()) - {ROLLED_UP} else 0
    spans = {source: span for source, span in missing(lake, history).items() if only(source)}
    total = sum(end - start for start, end in spans.values())
    step = min(READ_ROWS, at_most or READ_ROWS)
    done = 0
    for source, (start, end) in spans.items():
        for low in range(start, end, step):
            if stopping() or (at_most is not None and done >= at_most):
                return new
            high = min(low + step, end)
            new += _fold(lake, history, source, low, high, APPLY_ROWS if at_most is None else GENTLE_ROWS)
            done += high - low
            progress("folding the lake into history", done, total)
    return new


def _fold(lake: Lake, history: History, source: Source, low: int, high: int, apply_rows: int) -> int:
    wanted = (
        (pl.col("generation") == source.generation)
        & (pl.col("partition") == source.partition)
        & pl.col("position").is_between(low, high, closed="left")
    )
    rows = lake.read("events", columns=_COLUMNS, predicate=wanted).collect().sort("position")
    new = 0
    for piece in rows.iter_slices(apply_rows):
        new += history.apply(source, to_actions(piece), end=piece["position"][-1] + 1)
    history.apply(source, to_actions(rows.clear()), end=high)
    return new


def _fold_gathered(lake: Lake, history: History, stopping: Callable[[], bool]) -> int:
    """Fold `watch_days` into an empty history, each minute at its day's first moment, oldest days first."""
    end, position, new = rolled_up_end(lake), 0, 0
    if history.applied().get(ROLLED_UP, 0) >= end:
        return 0
    days = lake.read("watch_days", columns=["day"]).unique().collect()["day"].sort()
    for day in days:
        rows = (
            lake.read("watch_days", predicate=pl.col("day") == day)
            .explode("minutes", empty_as_null=False, keep_nulls=False)
            .sort("user", "item", "minutes")
            .select(
                "user",
                "item",
                pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("time"),
                pl.col("minutes").alias("minute"),
                pl.lit(None, pl.Float32).alias("rating"),
            )
            .collect()
            .with_row_index("position", offset=position)
        )
        position += len(rows)
        for piece in rows.iter_slices(APPLY_ROWS):
            if stopping():
                return new
            new += history.apply(ROLLED_UP, to_actions(piece), end=int(piece["position"][-1]) + 1)
    history.apply(ROLLED_UP, to_actions(pl.DataFrame(schema=_ACTION_SCHEMA)), end=max(position, end))
    return new


def rebuild_history(home: Home, lake: Lake, history_url: str, *, progress: Progress = no_progress) -> int:
    """Make history anew from the lake, and put it in the place of the old one.

    Args:
        home: whose ingest must not run meanwhile.
        lake: to read from.
        history_url: of the history to replace, resolved.
        progress: told of the positions done.

    Returns:
        How many actions were folded in.

    Raises:
        Locked: ingest is running; stop it first.
        RetryableError: the lake or history did not answer; the old history stays.
    """
    with home.lock("ingest"), replacement(history_url) as fresh:
        return catch_up(lake, fresh, progress=progress)


def differences(one: History, other: History) -> Iterable[tuple[str, Any, Any]]:
    """Users whose entries differ between two histories, with what each has. Holds both in memory."""
    left, right = dict(one.items()), dict(other.items())
    for user in sorted({*left, *right}):
        a, b = left.get(user), right.get(user)
        if a is None or b is None or a.entries != b.entries:
            yield user, a, b
