"""The figures of 50,000 real lines: 99 seconds of a streaming service, dirt and all."""

import gzip
from collections import Counter

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from matinee.core.clock import SECOND
from matinee.events.frames import read_records
from matinee.events.lines import read_line
from matinee.events.rows import to_frame

RECEIVED_US = 1_668_500_000 * SECOND


@pytest.fixture(scope="module")
def values(real_data) -> list[bytes]:
    with gzip.open(real_data / "movielog" / "movielog.csv.gz") as file:
        return file.readlines()


@pytest.fixture(scope="module")
def frame(values) -> pl.DataFrame:
    return read_records(values, np.full(len(values), RECEIVED_US))


@pytest.mark.real_data
def test_the_figures(frame):
    def count(column):
        return {value: n for value, n in Counter(frame[column].to_list()).items() if value is not None}

    assert count("outcome") == {"accepted": 49_419, "repaired": 561, "quarantined": 20}
    assert count("reason") == {"bad_item_id": 20}
    assert count("repairs") == {"seconds": 528, "stray": 33}
    assert count("kind") == {"watch": 49_289, "rating": 266, "received": 425}
    assert len(frame.filter(pl.col("outcome") != "quarantined")) >= 49_950


@pytest.mark.real_data
def test_times_without_seconds_are_those_of_second_zero(values, frame):
    """The ground of that repair: they fill exactly the gap that lines with seconds leave."""
    per_second = frame.group_by(pl.col("time").dt.truncate("1s")).agg(
        (pl.col("repairs") == "seconds").sum().alias("without"), pl.len().alias("all")
    )
    zero = pl.col("time").dt.second() == 0
    assert per_second.filter(zero & pl.col("time").is_not_null())["without"].to_list() == [528]
    assert per_second.filter(~zero)["without"].sum() == 0
    assert not any(b"T12:24:00," in value for value in values)


@pytest.mark.real_data
def test_agrees_with_the_plain_reader(values, frame):
    assert_frame_equal(frame, to_frame([read_line(value, appended_us=RECEIVED_US) for value in values]))
