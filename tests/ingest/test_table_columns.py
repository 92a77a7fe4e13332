"""Which column is which, and what times and numbers of other people's tables say."""

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest

from matinee.core.errors import InvalidInput
from matinee.ingest.tables import map_columns, standard_columns

NOON = datetime(2017, 7, 14, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "found",
    [
        ["user", "item", "rating", "time"],
        ["userId", "movieId", "rating", "timestamp"],
        ["user_id:token", "item_id:token", "rating:float", "timestamp:float"],
        ["User ID", "Movie-ID", "Rating", "Date"],
    ],
)
def test_usual_names_are_understood(found):
    assert map_columns(found) == dict(zip(["user", "item", "rating", "time"], found, strict=True))


def test_what_the_caller_says_wins():
    found = ["user", "kunde", "film", "rating"]
    assert map_columns(found, {"user": "kunde", "item": "film"}) == {
        "user": "kunde", "item": "film", "rating": "rating",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("found", "given", "why"),
    [
        (["kunde", "item", "rating"], None, "no column is the user; the table has 'kunde', 'item', 'rating'"),
        (["user", "item", "note"], None, "no column is the rating"),
        (["user", "user_id", "item", "rating"], None, "both 'user' and 'user_id' could be the user"),
        (["user", "item", "rating"], {"time": "when"}, "there is no column 'when'"),
        (["user", "item", "rating"], {"stars": "rating"}, "there is no column 'stars'"),
    ],
)
def test_what_cannot_be_told_is_refused_with_what_is_expected(found, given, why):
    with pytest.raises(InvalidInput, match=why) as caught:
        map_columns(found, given)
    assert "userid" in caught.value.remedy


def times_of(values, timezone="UTC"):
    n = len(values)
    frame = pl.DataFrame({"user": ["1"] * n, "item": ["1"] * n, "rating": [1.0] * n, "time": values})
    mapping = {name: name for name in frame.columns}
    return standard_columns(frame, mapping, timezone=timezone)["time"].to_list()


@pytest.mark.parametrize(
    "value",
    [
        "1500033600", "1500033600.0", "1500033600000", "1500033600000000", "2017-07-14T12:00:00Z",
        "2017-07-14 12:00:00", "2017-07-14T12:00", "2017-07-14T12:00:00.000", "2017-07-14T14:00:00+02:00",
        " 1500033600 ",        1500033600, 1500033600.0, 1500033600000, NOON, NOON.replace(tzinfo=None),
        NOON.astimezone(timezone(timedelta(hours=5))),
    ],
)  # fmt: skip
def test_one_moment_in_many_forms(value):
    assert times_of([value]) == [NOON]


def test_days():
    assert times_of(["2017-07-14", "x"])[0] == times_of([date(2017, 7, 14)])[0] == NOON.replace(hour=0)


def test_local_times_get_their_zone():
    assert times_of(["2017-07-14 14:00:00"], "Europe/Berlin") == [NOON]
    assert times_of([NOON.replace(hour=14, tzinfo=None)], "Europe/Berlin") == [NOON]
    # Set back: 02:30 comes twice, and the earlier is meant.
    assert times_of(["2017-10-29T02:30:00"], "Europe/Berlin") == [datetime(2017, 10, 29, 0, 30, tzinfo=UTC)]


@pytest.mark.parametrize("value", ["yesterday", "2017-13-14T12:00:00", "nan"])
def test_times_that_cannot_be_read_are_before_all_others(value):
    assert times_of([value, "", None]) == [datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), None, None]


def test_a_time_that_never_was_is_impossible():
    assert times_of(["2017-03-26T02:30:00"], "Europe/Berlin")[0].year == 1969


def test_numbers_that_cannot_be_read():
    frame = pl.DataFrame({"user": [1, 2], "item": ["a", "b"], "rating": ["good", ""], "minute": ["soon", "12"]})
    rows = standard_columns(frame, {name: name for name in frame.columns})
    assert rows["user"].to_list() == ["1", "2"]
    assert rows["rating"].is_nan().to_list() == [True, None]
    assert rows["minute"].to_list() == [-1, 12]
