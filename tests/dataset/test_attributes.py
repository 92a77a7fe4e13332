"""What the catalogue says of items, read into arrays."""

import json
from datetime import date

import numpy as np
import polars as pl
import pytest

from matinee.dataset.attributes import attributes_of
from matinee.lake.schemas import ITEMS

DAY_US = 86_400_000_000
OPEN = (-(2**63), 2**63 - 1)


def catalogue(*rows):
    return pl.LazyFrame(list(rows), schema=ITEMS.columns)


def extra(**attributes):
    """The attributes of one item whose `extra` holds these."""
    return attributes_of(catalogue({"item": "x", "extra": json.dumps(attributes)}), ["x"])


def test_each_item_gets_its_own_and_what_is_not_known_stays_open():
    table = catalogue(
        {"item": "b", "title": "Bee", "genres": ["Drama", "Comedy", "Drama", ""], "year": 1999},
        {"item": "elsewhere", "title": "Not Asked For", "genres": ["Western"]},
        {"item": "a", "release_date": date(1984, 5, 6), "genres": ["Comedy"], "extra": '{"adult": true}'},
    )
    found = attributes_of(table, ["a", "b", "c"])
    assert found.titles == ("", "Bee", "")
    assert found.genres == ("Comedy", "Drama")
    assert found.genre_mask.tolist() == [[True, False], [True, True], [False, False]]
    assert found.year.tolist() == [1984, 1999, 0]
    assert found.age_limit.tolist() == [18, 0, 0]
    assert found.available_from_us.tolist() == [OPEN[0]] * 3
    assert found.available_until_us.tolist() == [OPEN[1]] * 3
    dtypes = {name: array.dtype.name for name, array in found.arrays().items()}
    assert dtypes == {
        "genre_mask": "bool",
        "year": "int16",
        "age_limit": "uint8",
        "available_from_us": "int64",
        "available_until_us": "int64",
    }


def test_nothing_asked_gives_nothing():
    found = attributes_of(catalogue(), [])
    assert (found.titles, found.genres, found.genre_mask.shape) == ((), (), (0, 0))


@pytest.mark.parametrize("year", [-5, 0, 10_000, None])
def test_a_year_that_cannot_be_is_not_known(year):
    assert attributes_of(catalogue({"item": "x", "year": year}), ["x"]).year.tolist() == [0]


@pytest.mark.parametrize(
    ("attributes", "limit"),
    [
        ({"age_limit": 16}, 16),
        ({"age_limit": 12.5}, 13),
        ({"age_limit": "16"}, 16),
        ({"age_limit": 1e9}, 255),
        ({"age_limit": -3}, 0),
        ({"adult": True}, 18),
        ({"adult": "True"}, 18),
        ({"adult": "true"}, 18),
        ({"adult": "False"}, 0),
        ({"adult": False}, 0),
        ({"adult": None}, 0),
        ({"age_limit": 6, "adult": True}, 6),
        ({"age_limit": "all", "adult": True}, 18),
        ({"age_limit": None, "adult": True}, 18),
        ({"age_limit": float("nan"), "adult": True}, 18),
        ({"age_limit": True}, 0),
        ({"age_limit": [16]}, 0),
    ],
)
def test_age_limits(attributes, limit):
    assert extra(**attributes).age_limit.tolist() == [limit]


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("1970-01-02", DAY_US, 2 * DAY_US),  # on that day it is available, whichever end it is
        ("19700102", DAY_US, 2 * DAY_US),
        ("1970-01-02T00:00", DAY_US, DAY_US),
        ("1970-01-02T01:00+01:00", DAY_US, DAY_US),
        ("1970-01-01T00:00:00.000001Z", 1, 1),
        ("1969-12-31T23:59:59", -1_000_000, -1_000_000),
        ("soon", *OPEN),
        ("", *OPEN),
        ("9999-12-31", 253_402_214_400_000_000, OPEN[1]),  # there is no day after
        (5, *OPEN),
        (None, *OPEN),
    ],
)
def test_windows(text, start, end):
    found = extra(available_from=text, available_until=text)
    assert (found.available_from_us.tolist(), found.available_until_us.tolist()) == ([start], [end])


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", '{"age_limit": 1e999}'])
def test_an_extra_that_is_no_object_or_no_number_stops_nothing(text):
    found = attributes_of(catalogue({"item": "x", "extra": text}), ["x"])
    assert found.age_limit.tolist() in ([0], [255])
    np.testing.assert_array_equal(found.available_from_us, OPEN[0])
