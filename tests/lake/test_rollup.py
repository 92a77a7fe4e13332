"""Single watch events of closed days become minutes: none is lost, whatever is late, repeated or killed."""

import signal
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matinee.core.clock import DAY, ManualClock
from matinee.core.errors import InvalidInput
from matinee.dataset.meaning import pairs_of
from matinee.dataset.quality import check
from matinee.dataset.snapshot import take_snapshot
from matinee.events.offsets import Source
from matinee.lake.lake import Lake
from matinee.lake.rollup import ROLLED_UP, RolledUp, roll_up, rolled_up_end
from matinee.lake.schemas import EVENTS

TODAY = datetime(2024, 3, 20, 6, tzinfo=UTC)
SOURCE = Source("a1b2c3", 0)
NOW = int(TODAY.timestamp() * 1_000_000)
KILLED = """
import os, signal, sys
from matinee.core.clock import ManualClock
from matinee.lake.lake import Lake
from matinee.lake.rollup import roll_up
lake = Lake(sys.argv[1], ManualClock(int(sys.argv[2])))
roll_up(lake, 2, on_gathered=lambda _partition: os.kill(os.getpid(), signal.SIGKILL))
"""


def at(days_ago, minute=0):
    """A time of day, that many days ago."""
    return TODAY - timedelta(days=days_ago) + timedelta(minutes=minute)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"), ManualClock(NOW))


def add(lake, *events):
    """Events as (user, item, minute or None for a rating, time, received) at the next positions."""
    start = lake.resume_position(SOURCE)
    rows = [
        {"position": start + n, "kind": "rating" if minute is None else "watch", "user": user, "item": item,
         "minute": minute, "rating": 4.0 if minute is None else None, "time": time, "received_at": received,
         "dedup_key": (start + n).to_bytes(16, "big")}
        for n, (user, item, minute, time, received) in enumerate(events)
    ]  # fmt: skip
    columns = {name: kind for name, kind in EVENTS.columns.items() if name not in EVENTS.filled}
    frame = pl.DataFrame([{name: row.get(name) for name in columns} for row in rows], schema=columns)
    lake.commit(SOURCE, {"events": frame}, start=start, end=start + len(rows))


def days(lake):
    rows = lake.read("watch_days").collect().sort("day", "user", "item").iter_rows()
    return [(user, item, (TODAY.date() - day).days, minutes) for user, item, day, minutes in rows]


def left(lake):
    """Events that are still there, as (user, minute)."""
    return sorted((row["user"], row["minute"]) for row in lake.read("events").collect().iter_rows(named=True))


def meaning(lake):
    pairs = pairs_of(lake.read("events"), lake.read("watch_days"))
    return [
        (pairs.users[u], pairs.items[i], str(rating), str(minutes))
        for u, i, rating, minutes in zip(
            pairs.user_index, pairs.item_index, pairs.rating, pairs.minutes_seen, strict=True
        )
    ]


def test_training_sees_the_same_before_between_and_after_the_two_steps(lake):
    """Interactions, the volume of days and the check of rows miss none of the events that were gathered."""
    watched = (("ann", "x", minute, at(ago), at(ago)) for ago in (9, 8, 7, 6) for minute in (ago, 20, 20, 21))
    add(lake, *watched, ("bob", "x", None, at(8), at(8)), ("bob", "y", 5, at(1), at(1)))
    seen = [take_snapshot(lake)]
    roll_up(lake, 2, on_gathered=lambda _partition: seen.append(take_snapshot(lake)))
    seen.append(take_snapshot(lake))
    assert [len(snapshot.interactions) for snapshot in seen] == [3] * 6
    assert len({snapshot.interactions.watched.tobytes() for snapshot in seen}) == 1
    assert {snapshot.profile.daily_events for snapshot in seen} == {(3, 4, 3, 3, 0, 0, 0, 0)}
    assert seen[-1].profile.events == 2 < seen[0].profile.events
    rows = next(one for one in check(seen[-1], check(seen[0]).statistics).checks if one.name == "rows")
    assert (rows.verdict, rows.value) == ("ok", 0)
    again = take_snapshot(lake, versions=seen[0].lake_versions)
    assert again.content_hash == seen[0].content_hash


def test_a_closed_day_becomes_minutes_and_ratings_stay(lake):
    add(
        lake,
        *(("ann", "up", minute, at(5, minute), at(5)) for minute in (3, 4, 3, 95)),
        ("ann", "up", None, at(5), at(5)),
        ("bob", "jaws", 1, at(5), at(5)),
        ("bob", "jaws", 2, at(4), at(4)),
    )
    before = meaning(lake)
    assert roll_up(lake, 2) == RolledUp(events=6, days=2)
    assert days(lake) == [("ann", "up", 5, [3, 4, 95]), ("bob", "jaws", 5, [1]), ("bob", "jaws", 4, [2])]
    assert left(lake) == [("ann", None)]
    assert meaning(lake) == before
    assert rolled_up_end(lake) == 6
    versions = lake.versions()
    assert roll_up(lake, 2) == RolledUp()
    assert lake.versions() == versions


def test_raw_rows_stay_for_the_stated_time_after_their_receipt_and_today_is_open(lake):
    add(
        lake,
        ("ann", "up", 1, at(9), at(4)),  # late, but received long ago: due
        ("ann", "up", 2, at(9), at(1)),  # late, received yesterday: stays
        ("ann", "up", 3, at(0), at(4)),  # of today, whatever it says of its receipt
    )
    assert roll_up(lake, 3).events == 1
    assert days(lake) == [("ann", "up", 9, [1])]
    assert left(lake) == [("ann", 2), ("ann", 3)]


def test_a_late_row_reopens_its_day(lake):
    add(lake, ("ann", "up", 1, at(9), at(9)), ("bob", "up", 7, at(9), at(9)))
    roll_up(lake, 2)
    add(lake, ("ann", "up", 2, at(9), at(8)), ("ann", "up", 1, at(9), at(8)), ("cat", "up", 5, at(9), at(8)))
    assert roll_up(lake, 2) == RolledUp(events=3, days=1)
    assert days(lake) == [("ann", "up", 9, [1, 2]), ("bob", "up", 9, [7]), ("cat", "up", 9, [5])]


def test_a_late_row_that_brings_nothing_new_goes_all_the_same(lake):
    add(lake, ("ann", "up", 1, at(9), at(9)))
    roll_up(lake, 2)
    add(lake, ("ann", "up", 1, at(9), at(8)))
    assert roll_up(lake, 2) == RolledUp(events=1, days=0)
    assert left(lake) == []


def test_what_came_months_late_lies_in_a_months_partition_and_is_gathered_by_its_days(lake):
    add(
        lake,
        *(("ann", "up", n, at(300 + 3 * n), at(5)) for n in range(4)),
        ("ann", "up", 9, at(301), at(1)),
    )
    roll_up(lake, 2)
    assert days(lake) == [("ann", "up", 300 + 3 * n, [n]) for n in (3, 2, 1, 0)]
    assert left(lake) == [("ann", 9)]


def test_what_has_no_time_or_no_receipt(lake):
    add(lake, ("ann", "up", 1, None, at(9)), ("bob", "up", 2, at(9), None))
    assert roll_up(lake, 2).events == 1
    assert left(lake) == [("ann", 1)]


def test_rows_that_come_between_the_two_steps_are_not_lost(lake):
    other = Lake(str(lake.folder), lake.clock)
    add(lake, ("ann", "up", 1, at(9), at(9)))
    late = [("ann", "up", 2, at(9), at(9)), ("bob", "up", 1, at(9), at(9))]

    def meanwhile(_partition):
        if late:
            add(other, late.pop())

    assert roll_up(lake, 2, on_gathered=meanwhile).events == 3
    assert days(lake) == [("ann", "up", 9, [1, 2]), ("bob", "up", 9, [1])]
    assert left(lake) == []
    assert rolled_up_end(lake) == 3


def test_a_process_killed_between_the_two_steps_loses_nothing_and_doubles_nothing(lake):
    add(lake, *((f"u{n % 7}", "up", n, at(9, n), at(9)) for n in range(40)))
    before = meaning(lake)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(lake.folder), str(NOW)], check=False)
    assert ended.returncode == -signal.SIGKILL
    survivor = Lake(str(lake.folder), lake.clock)
    stored = days(survivor)
    assert len(left(survivor)) == 40  # the minutes are stored, and the events are still there
    assert sum(len(minutes) for *_, minutes in stored) == 40
    assert meaning(survivor) == before
    assert roll_up(survivor, 2) == RolledUp(events=40, days=0)
    assert days(survivor) == stored
    assert left(survivor) == []
    assert meaning(survivor) == before


event = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from("xy"),
    st.none() | st.integers(0, 3),
    st.integers(0, 4),
    st.integers(0, 4),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(st.lists(event, min_size=1, max_size=6), min_size=1, max_size=3))
def test_the_meaning_never_changes(tmp_path_factory, rounds):
    clock = ManualClock(NOW)
    lake = Lake(str(tmp_path_factory.mktemp("lake") / "lake"), clock)
    for events in rounds:
        add(lake, *((u, i, minute, at(day), at(received)) for u, i, minute, day, received in events))
        before = meaning(lake)
        roll_up(lake, 1)
        assert meaning(lake) == before
        clock.step(DAY / 1_000_000)
    clock.step(9 * DAY / 1_000_000)
    roll_up(lake, 1)
    raw = [(u, i, minute, day) for events in rounds for u, i, minute, day, _ in events if minute is not None]
    found = [(u, i, minute, day) for u, i, day, minutes in days(lake) for minute in minutes]
    assert sorted(found) == sorted(set(raw))
    assert all(minute is None for _, minute in left(lake))


def test_less_than_a_day_is_refused(lake):
    with pytest.raises(InvalidInput, match="at least 1"):
        roll_up(lake, 0)


def test_the_source_of_gathered_minutes_is_registered(lake):
    add(lake, ("ann", "up", 1, at(9), at(9)))
    assert ROLLED_UP not in lake.sources()
    roll_up(lake, 2)
    assert lake.committed_ends("events")[ROLLED_UP] == 1
    assert isinstance(days(lake)[0], tuple)
    assert lake.read("watch_days").collect()["day"].to_list() == [date(2024, 3, 11)]
