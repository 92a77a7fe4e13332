"""Catalogue rows merge by key; few rows are found among many days."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from lake_frames import SOURCE, batch, request_id, rows, time_of

from matinee.core.clock import ManualClock, SystemClock
from matinee.core.errors import InvalidInput
from matinee.events.offsets import Source
from matinee.lake.lake import Lake
from matinee.lake.schemas import ITEMS, SERVED, USERS, TableSchema


def given_rows(schema: TableSchema, *values: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(
        list(values), schema={name: kind for name, kind in schema.columns.items() if name not in schema.filled}
    )


def stored(lake: Lake, table: str) -> list[dict[str, object]]:
    key = {"items": "item", "users": "user"}[table]
    return [
        {name: value for name, value in row.items() if value is not None and name != "updated_at"}
        for row in lake.read(table).sort(key).collect().iter_rows(named=True)
    ]


def test_new_values_win_and_nulls_take_nothing_away(lake: Lake):
    first = {"item": "alien+1979", "title": "Alien", "genres": ["Horror"], "minutes": 117.0}
    assert lake.upsert("items", given_rows(ITEMS, first, {"item": "up+2009"})) == 2
    second = {"item": "alien+1979", "genres": ["Horror", "Sci-Fi"], "year": 1979}
    assert lake.upsert("items", given_rows(ITEMS, second)) == 1
    assert stored(lake, "items") == [
        {"item": "alien+1979", "title": "Alien", "genres": ["Horror", "Sci-Fi"], "minutes": 117.0, "year": 1979},
        {"item": "up+2009"},
    ]


def test_the_same_rows_again_change_nothing(lake: Lake):
    frame = given_rows(USERS, {"user": "1", "age": 30, "extra": "{}"}, {"user": "2"})
    assert lake.upsert("users", frame) == 2
    version = lake.versions()["users"]
    assert lake.upsert("users", frame) == 0
    assert lake.versions()["users"] == version


def test_only_changed_rows_are_stamped(tmp_path: Path):
    clock = ManualClock(1_000_000)
    lake = Lake(str(tmp_path), clock)
    lake.upsert("users", given_rows(USERS, {"user": "1", "age": 30}, {"user": "2", "age": 40}))
    clock.step(5)
    lake.upsert("users", given_rows(USERS, {"user": "1", "age": 31}, {"user": "2", "age": 40}))
    stamps = lake.read("users").sort("user").collect()["updated_at"].dt.epoch("us")
    assert stamps.to_list() == [6_000_000, 1_000_000]


def test_of_a_key_that_repeats_the_last_value_of_each_column_wins(lake: Lake):
    frame = given_rows(USERS, {"user": "1", "age": 30}, {"user": "1", "gender": "F"}, {"user": "1", "age": 31})
    assert lake.upsert("users", frame) == 1
    assert stored(lake, "users") == [{"user": "1", "age": 31, "gender": "F"}]


def test_writers_that_merge_at_once_lose_nothing(tmp_path: Path):
    def merge(column: str) -> None:
        lake = Lake(str(tmp_path), SystemClock())
        users = [str(u) for u in range(30)]
        random.Random(column).shuffle(users)
        for first in range(0, 30, 10):
            values = [{"user": u, column: 7 if column == "age" else column} for u in users[first : first + 10]]
            lake.upsert("users", given_rows(USERS, *values))

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(merge, ["age", "gender", "occupation"]))
    found = Lake(str(tmp_path), SystemClock()).read("users").collect()
    assert found.height == 30
    assert found.select("age", "gender", "occupation").unique().row(0) == (7, "gender", "occupation")
    assert found.select("age", "gender", "occupation").unique().height == 1


def test_a_table_without_a_key_and_a_row_without_one_are_refused(lake: Lake):
    with pytest.raises(InvalidInput, match="table events has no key"):
        lake.upsert("events", pl.DataFrame())
    with pytest.raises(InvalidInput, match="table users, column user: expected an id, found null"):
        lake.upsert("users", given_rows(USERS, {"age": 3}))


def test_recent_keys_are_of_the_source_and_since_the_time(lake: Lake):
    lake.commit(SOURCE, batch(0, 40), start=0, end=40)
    lake.commit(Source("other", 0), batch(0, 40), start=0, end=40)
    found = lake.recent_keys(SOURCE, time_of(31))
    accepted = [p for p in range(31, 40) if p % 4 != 3]
    assert sorted(int.from_bytes(key, "big") for key in found["dedup_key"]) == accepted
    assert sorted(found["time"].dt.epoch("us")) == [time_of(p) for p in accepted]
    assert lake.recent_keys(SOURCE, time_of(1_000)).is_empty()


def test_recent_keys_reach_across_midnight(lake: Lake):
    lake.commit(SOURCE, batch(700, 740), start=0, end=740)  # one a minute from noon: position 720 is midnight
    found = lake.recent_keys(SOURCE, time_of(718))
    assert found.height == len([p for p in range(718, 740) if p % 4 != 3])


def test_an_answer_is_found_by_its_request_id(lake: Lake):
    days = [p + 1_440 * day for day in range(3) for p in range(2, 22, 4)]
    lake.commit(SOURCE, {"served": rows(SERVED, days)}, start=0, end=5_000)
    for position in (2, 1_446, 2_898):
        found = lake.find_served(request_id(position))
        assert found is not None
        assert (found["position"], found["user"]) == (position, f"u{position % 7}")
    assert lake.find_served(request_id(3)) is None


@pytest.mark.parametrize("odd", ["f" * 32, "0" * 32, "not an id", ""])
def test_an_answer_whose_id_tells_no_time_is_found_too(lake: Lake, odd: str):
    frame = rows(SERVED, [2]).with_columns(pl.lit(odd).alias("request_id"))
    lake.commit(SOURCE, {"served": frame}, start=0, end=3)
    found = lake.find_served(odd)
    assert found is not None
    assert found["position"] == 2


def test_an_answer_opens_the_files_of_its_days_only(lake: Lake):
    days = [2 + 1_440 * day for day in range(0, 40, 4)]
    lake.commit(SOURCE, {"served": rows(SERVED, days)}, start=0, end=100_000)
    other_days = [f for f in (lake.folder / "served").rglob("*.parquet") if "date=2024-03-01" not in str(f)]
    for file in other_days:
        file.unlink()
    assert len(other_days) == 9
    assert lake.find_served(request_id(2)) is not None
