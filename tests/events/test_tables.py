"""Tables of ratings and of watched minutes."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from matinee.core.clock import SECOND
from matinee.core.errors import InvalidInput
from matinee.events.frames import read_columns
from matinee.events.schema import READ_SCHEMA, TIME, Outcome

NOON = 1_668_427_200 * SECOND
AT_NOON = datetime.fromtimestamp(NOON // SECOND, UTC)


def one(**cells: object) -> dict[str, object]:
    schema = {"user": pl.String, "item": pl.String, "rating": pl.Float64, "minute": pl.Int64, "time": TIME}
    row = {"user": "u", "item": "i", "rating": 4.0, "minute": None, "time": AT_NOON} | cells
    return read_columns(pl.DataFrame([row], schema=schema), received_us=NOON, producer="p").row(0, named=True)


def test_ratings_without_a_time():
    frame = pl.DataFrame({"user": ["1", "2"], "item": ["a", "b"], "rating": [0.5, 5.0]})
    rows = read_columns(frame, received_us=NOON, producer="file")
    assert rows.schema == READ_SCHEMA
    assert rows["outcome"].to_list() == ["accepted", "accepted"]
    assert rows["kind"].to_list() == ["rating", "rating"]
    assert rows["time"].null_count() == 2
    assert rows["rating"].to_list() == [0.5, 5.0]
    assert rows["producer"].to_list() == ["file", "file"]
    assert rows["received_at"].to_physical().to_list() == [NOON, NOON]
    assert rows["raw"].null_count() == 2


def test_ids_that_are_numbers_become_text():
    frame = pl.DataFrame({"user": [1], "item": [2], "rating": [3]})
    assert read_columns(frame, received_us=NOON, producer="p").select("user", "item", "rating").row(0) == (
        "1",
        "2",
        3.0,
    )


def test_a_watch():
    row = one(rating=None, minute=7)
    assert (row["kind"], row["minute"], row["rating"], row["time"]) == ("watch", 7, None, AT_NOON)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"user": None}, "missing_field"),
        ({"user": ""}, "missing_field"),
        ({"user": "a b"}, "bad_user_id"),
        ({"user": "a\n"}, "bad_user_id"),
        ({"item": None}, "missing_field"),
        ({"item": "a,b"}, "bad_item_id"),
        ({"item": "x" * 201}, "bad_item_id"),
        ({"rating": None}, "missing_field"),
        ({"rating": 5.5}, "bad_rating"),
        ({"rating": 0.0}, "bad_rating"),
        ({"rating": float("nan")}, "bad_rating"),
        ({"rating": float("inf")}, "bad_rating"),
        ({"rating": None, "minute": 1440}, "bad_minute"),
        ({"rating": None, "minute": -1}, "bad_minute"),
        ({"rating": None, "minute": 2**40}, "bad_minute"),
        ({"rating": None, "minute": 1, "time": None}, "missing_field"),
        ({"rating": 4.0, "minute": 1}, "bad_payload"),
        ({"time": AT_NOON + timedelta(hours=24, seconds=1)}, "future_time"),
        ({"time": datetime(1969, 12, 31, tzinfo=UTC)}, "impossible_time"),
    ],
)
def test_rows_that_cannot_be_right(cells, reason):
    row = one(**cells)
    assert (row["outcome"], row["reason"]) == (Outcome.QUARANTINED.value, reason)
    assert row["raw"].startswith(b'{"user":')
    assert (row["kind"], row["user"], row["item"], row["rating"], row["minute"]) == (None,) * 5


def test_the_key_is_that_of_the_content():
    keys = [one()["dedup_key"], one()["dedup_key"], one(user="v")["dedup_key"], one(time=None)["dedup_key"]]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert all(len(key) == 16 for key in keys)


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame({"user": ["u"], "rating": [4.0]}),
        pl.DataFrame({"user": ["u"], "item": ["i"]}),
        pl.DataFrame({"user": ["u"], "item": ["i"], "rating": ["good"]}),
        pl.DataFrame({"user": ["u"], "item": ["i"], "rating": [4.0], "time": [datetime(2022, 1, 1)]}),  # noqa: DTZ001
    ],
)
def test_tables_that_cannot_be_read(frame):
    with pytest.raises(InvalidInput):
        read_columns(frame, received_us=NOON, producer="p")
