"""Batches: in every column the same as the plain reader, whatever the bytes."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from matinee.core.clock import DAY, SECOND
from matinee.core.errors import ConfigurationError, InvalidInput
from matinee.events.envelope import wrap_event, wrap_line
from matinee.events.frames import read_records
from matinee.events.lines import read_line
from matinee.events.rows import to_frame
from matinee.events.schema import READ_SCHEMA, Outcome
from matinee.events.types import Rating, Served

NOON = 1_668_427_200 * SECOND
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"])

dates = st.sampled_from(
    [
        "2022-11-14",
        "2022-02-29",
        "2022-13-01",
        "2022-03-27",
        "2022-10-30",
        "2022-04-03",
        "2022-10-02",
        "1969-12-31",
        "0000-01-01",
    ]
)
clocks = st.sampled_from(
    [
        "T12:00:05",
        "T12:00",
        "T02:30:00",
        "T01:45",
        "T02:15:59",
        "T24:00",
        "T23:59:60",
        "T12:60:00",
        "T00:00:00.123456789",
        "T12:00:05.2",
        "T12:00:05.1234567",
        "T12:00:05.",
    ]
)
users = st.one_of(st.integers(0, 10**19).map(str), st.sampled_from(["", "007", "x", "٣", "1\u00a0"]))
movies = st.one_of(
    st.sampled_from(["up+2009", "endeavour+", "++++2013", "+2013", "++", "", "m*a*s*h+1970", "GkDjzER51", "1999+"]),
    st.from_regex(r"[a-z0-9*+_.-]{1,12}(\+|\+[0-9]{4})?", fullmatch=True),
    st.integers(194, 198).map(lambda n: "a" * n + "+1999"),
)
minutes = st.sampled_from(["0", "7", "007", "1439", "1440", "00001", "-1", "1.5"])
ratings = st.sampled_from(["0", "1", "5", "6", "D", "15", "4.5"])
results = st.one_of(
    st.lists(movies, max_size=4).map(lambda ids: ", ".join([*ids, "102 ms"])),
    st.sampled_from(
        ["12 ms", ", 12 ms", ", , 12 ms", "up+2009,12 ms", "java.X: after 800 ms", "12.5 ms", "1e3 ms", "ms"]
    ),
)
hosts = st.sampled_from(["h:80", "a.b-c:8082", "h", "h x:80", "é:80", "h\x1c:80", "h:123456", ":80"])
statuses = st.sampled_from(["200", "204", "0", "500", "20x", "2000", "99"])
requests = st.one_of(
    st.builds("GET /data/m/{}/{}.mpg".format, movies, minutes),
    st.builds("GET /rate/{}={}".format, movies, ratings),
    st.builds("recommendation request {}, status {}, result: {}".format, hosts, statuses, results),
)
lines = st.builds("{}{},{},{}".format, dates, clocks, users, requests)


@st.composite
def mutated(draw):
    """A line with a few characters inserted, deleted or replaced."""
    line = draw(lines)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(line)))
        line = line[:at] + draw(st.sampled_from(" xZ4,+/=.\té\0\n")) + line[at + draw(st.integers(0, 1)) :]
    return line + draw(st.sampled_from(["", "\n", "\r\n", "\r"]))


@st.composite
def enveloped(draw):
    header = draw(st.sampled_from(["m1", "m1", "m1", "m01", "m2", "m0"]))
    kind = draw(st.sampled_from(["line", "line", "line", "watch", "served", "poem", ""]))
    received = draw(st.sampled_from([str(NOON), "0", "", "x", "999999999999999999", "1234567890123456789"]))
    event_id, producer = draw(st.sampled_from(["", "e1", "é", "\0"])), draw(st.sampled_from(["", "p"]))
    return "\t".join([header, kind, event_id, producer, received, draw(mutated())])


records = st.one_of(
    mutated().map(str.encode),
    enveloped().map(str.encode),
    st.binary(max_size=80),
    st.builds(bytes.__add__, st.binary(max_size=2), mutated().map(str.encode)),
)


def assert_agrees(values, timezone="UTC", received_us=NOON):
    frame = read_records(values, np.full(len(values), received_us), timezone=timezone)
    plain = to_frame([read_line(value, received_us=received_us, timezone=timezone) for value in values])
    assert_frame_equal(frame, plain)
    assert frame.schema == READ_SCHEMA
    return frame


@given(st.lists(records, max_size=8), ZONES, st.sampled_from([NOON, NOON - DAY + 5 * SECOND, 0]))
@example([b"m1\tline\te1\tp\t1\t" + b"\xff"], "UTC", NOON)
@example([b"2022-11-14T12:00:05,7,GET /rate/up+2009=4\r\n"] * 2, "UTC", NOON)
def test_agrees_with_the_plain_reader_in_every_column(values, timezone, received_us):
    assert_agrees(values, timezone, received_us)


@given(st.lists(records, max_size=8))
def test_every_record_lands_in_exactly_one_class(values):
    frame = read_records(values, np.full(len(values), NOON))
    assert len(frame) == len(values)
    assert frame["outcome"].null_count() == 0
    quarantined = frame["outcome"] == Outcome.QUARANTINED.value
    assert (quarantined == frame["reason"].is_not_null()).all()
    assert (quarantined == frame["kind"].is_null()).all()
    assert ((frame["outcome"] == Outcome.REPAIRED.value) == frame["repairs"].is_not_null()).all()
    assert (frame["dedup_key"].bin.size() == 16).all()
    kept = frame.filter(quarantined | frame["repairs"].is_not_null())
    assert kept["raw"].null_count() == 0


@given(st.lists(lines, min_size=1, max_size=4))
def test_the_generator_reaches_the_fast_paths(values):
    """Otherwise the agreement above would hold of the plain reader alone."""
    well_formed = ["2022-11-14T12:00:05,7,GET /rate/up+2009=4", *values]
    assert_agrees([value.encode() for value in well_formed])


def test_order_and_columns():
    served = Served(
        time_us=NOON, request_id="r", user="u", items=("a", "b"), model_version="v", arm="x", step="popular",
        latency_ms=1.5, scores=(0.5, 0.25),
    )  # fmt: skip
    frame = assert_agrees(
        [
            b"rubbish",
            b"2022-11-14T12:00:05,1,GET /data/m/up+2009/16.mpg\r\n",
            wrap_event(served, received_us=NOON, event_id="e", producer="p"),
            b"2022-11-14T12:00,2,recommendation request h:80, status 200, result: up+2009, heat+1995, 12 ms",
            wrap_line("2022-11-14T12:00:05,3,GET /rate/up+2009=4", received_us=NOON + 1, event_id="f"),
            wrap_event(Rating(user="4", item="i", rating=3.5), received_us=NOON),
        ]
    )
    assert frame["kind"].to_list() == [None, "watch", "served", "received", "rating", "rating"]
    assert frame["user"].to_list() == [None, "1", "u", "2", "3", "4"]
    assert frame["items"].to_list() == [None, None, ["a", "b"], ["up+2009", "heat+1995"], None, None]
    assert frame["time"].to_physical().to_list() == [None, NOON + 5 * SECOND, NOON, NOON, NOON + 5 * SECOND, None]
    assert frame["event_id"].to_list() == [None, None, "e", None, "f", None]
    assert frame["received_at"].to_physical().to_list() == [NOON, NOON, NOON, NOON, NOON + 1, NOON]


def test_the_hours_in_which_a_clock_is_set():
    """Minute by minute around both changes of the clock, in a zone that shifts by an hour and one by half."""
    for timezone, days in (
        ("Europe/Berlin", ("2022-03-27", "2022-10-30")),
        ("Australia/Lord_Howe", ("2022-04-03", "2022-10-02")),
    ):
        for day in days:
            values = [
                f"{day}T{hour:02}:{minute:02}:00,1,GET /rate/up+2009=4".encode()
                for hour in range(5)
                for minute in range(60)
            ]
            frame = assert_agrees(values, timezone)
            times = frame["time"].drop_nulls().to_physical().to_list()
            assert all(
                later - earlier in {60 * SECOND, 1_860 * SECOND, 3_660 * SECOND}
                for earlier, later in pairwise(times)
            )


def test_no_records():
    assert_frame_equal(read_records([], np.empty(0, np.int64)), pl.DataFrame(schema=READ_SCHEMA))


def test_arguments_that_do_not_fit():
    with pytest.raises(InvalidInput):
        read_records([b"x"], np.empty(0, np.int64))
    with pytest.raises(ConfigurationError):
        read_records([b"2022-11-14T12:00:05,1,GET /rate/up+2009=4"], np.zeros(1, np.int64), timezone="Nowhere/None")
