"""What the events of a pair mean, against a plain reading of the same rules."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from matinee.dataset.meaning import pairs_of
from matinee.lake.schemas import EVENTS, WATCH_DAYS

ids = st.sampled_from(["a", "b", "c"])
rating_or_minute = st.tuples(st.just("rating"), st.integers(1, 5)) | st.tuples(st.just("watch"), st.integers(0, 3))
event = st.tuples(
    ids, ids, rating_or_minute, st.none() | st.integers(0, 3), st.sampled_from("gh"), st.integers(0, 1)
)


def table(events):
    """Events as rows of the lake's table; the place in the list is the position."""
    rows = [
        {"user": user, "item": item, "kind": kind, "rating" if kind == "rating" else "minute": value,
         "time": time, "generation": generation, "partition": partition, "position": position}
        for position, (user, item, (kind, value), time, generation, partition) in enumerate(events)
    ]  # fmt: skip
    wanted = ["user", "item", "kind", "rating", "minute", "time", "generation", "partition", "position"]
    plain = {name: pl.Int64 if name == "time" else EVENTS.columns[name] for name in wanted}
    return pl.DataFrame(rows, schema=plain).cast({"time": EVENTS.columns["time"]})


def days(*rows):
    return pl.DataFrame(rows, schema=WATCH_DAYS.columns, orient="row").lazy()


def read(frame, watch_days=None):
    """Pairs as (user, item) -> (rating, minutes, time), with None for NaN."""
    pairs = pairs_of(frame.lazy(), days() if watch_days is None else watch_days)
    times = [None] * len(pairs.user_index) if pairs.time_us is None else pairs.time_us.tolist()
    return {
        (pairs.users[user], pairs.items[item]): (*(None if np.isnan(x) else x for x in (rating, minutes)), time)
        for user, item, rating, minutes, time in zip(
            pairs.user_index, pairs.item_index, pairs.rating, pairs.minutes_seen, times, strict=True
        )
    }


def plainly(events):
    """The same by the rules, one pair at a time."""
    found = {}
    for pair in {(user, item) for user, item, *_ in events}:
        mine = [(position, *e) for position, e in enumerate(events) if (e[0], e[1]) == pair]
        order = [(-1 if time is None else time, generation, partition, position, what[1])
                 for position, _, _, what, time, generation, partition in mine if what[0] == "rating"]  # fmt: skip
        minutes = {what[1] for _, _, _, what, *_ in mine if what[0] == "watch"}
        times = [time for *_, time, _, _ in mine if time is not None]
        found[pair] = (max(order)[-1] if order else None, len(minutes) or None, max(times, default=None))
    timed = all(time is not None for *_, time in found.values())
    return found if timed else {pair: (*rest, None) for pair, (*rest, _) in found.items()}


@given(st.lists(event, max_size=25))
def test_pairs_are_what_the_rules_say(events):
    assert read(table(events)) == plainly(events)


@given(st.lists(event, min_size=1, max_size=25), st.randoms(use_true_random=False))
def test_neither_order_nor_what_comes_twice_through_another_partition_changes_the_pairs(events, random):
    frame = table(events)
    again = frame.with_columns(partition=pl.lit(7, pl.Int32))
    twice = pl.concat([frame.filter(pl.col("time").is_not_null()), frame.filter(pl.col("time").is_null())])
    shuffled = twice.sample(fraction=1.0, shuffle=True, seed=random.randint(0, 99))
    assert read(shuffled) == read(frame)
    distinct = frame.unique(["user", "item", "time"], keep="first", maintain_order=True)
    assert read(pl.concat([distinct, again.join(distinct, on="position", how="semi")])) == read(distinct)


def test_rows_are_in_the_order_of_sorted_ids():
    frame = table([("b", "a", ("rating", 1), 1, "g", 0), ("a", "b", ("rating", 2), 1, "g", 0),
                   ("a", "a", ("rating", 3), 1, "g", 0), ("B", "a", ("rating", 4), 1, "g", 0)])  # fmt: skip
    pairs = pairs_of(frame.lazy(), days())
    assert pairs.users == ["B", "a", "b"]
    assert pairs.user_index.tolist() == [0, 1, 1, 2]
    assert pairs.item_index.tolist() == [0, 0, 1, 0]
    assert pairs.rating.tolist() == [4, 3, 2, 1]


def test_gathered_days_and_single_minutes_count_each_minute_once():
    from datetime import date

    events = table([("a", "x", ("watch", 5), 3 * 86_400_000_000, "g", 0)])
    gathered = days(("a", "x", date(1970, 1, 2), [4, 5, 6]), ("a", "x", date(1970, 1, 3), [6]),
                    ("b", "x", date(1970, 1, 3), [0]), ("c", "x", date(1970, 1, 3), []))  # fmt: skip
    assert read(events, gathered) == {
        ("a", "x"): (None, 3, 3 * 86_400_000_000),
        ("b", "x"): (None, 1, 2 * 86_400_000_000),
    }


def test_rows_without_a_user_item_or_value_have_no_meaning():
    frame = table([("a", "b", ("rating", 1), 1, "g", 0)] * 4).with_columns(
        user=pl.when(pl.col("position") != 0).then("user"),
        item=pl.when(pl.col("position") != 1).then("item"),
        rating=pl.when(pl.col("position") != 2).then(pl.col("rating") + pl.col("position")),
    )
    assert read(frame) == {("a", "b"): (4, None, 1)}
    assert read(frame.clear()) == {}
