"""Batches: in every column the same as the plain reader, whatever the bytes."""

from itertools import combinations, pairwise, product

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from matinee.core.clock import DAY, SECOND
from matinee.core.errors import ConfigurationError, InvalidInput
from matinee.events import frames
from matinee.events.envelope import wrap_event, wrap_line
from matinee.events.frames import read_records
from matinee.events.lines import read_line
from matinee.events.rows import to_frame
from matinee.events.schema import READ_SCHEMA, Outcome
from matinee.events.types import Rating, Served

NOON = 1_668_427_200 * SECOND
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"])

# Each field's values: the first is sound, the others stand at or beyond an edge.
DATES = ["2022-11-14", "2022-02-29", "2022-13-01", "2022-03-27", "2022-10-30", "2022-04-03", "2022-10-02"]
DATES += ["1969-12-31", "1970-01-01", "0000-01-01", "2022-11-15", "22-11-14", ""]
CLOCKS = ["T12:00:05", "T12:00", "T02:30:00", "T01:45", "T02:15:59", "T24:00", "T23:59:60", "T12:60:00", "t12:00"]
CLOCKS += [
    "T00:00:00.123456789",
    "T12:00:05.2",
    "T12:00:05.123456",
    "T12:00:05.1234567",
    "T12:00:05.",
    "T12:00:05Z",
]
USERS = ["7", "", "007", "x", "9" * 18, "9" * 19, "٣", "1\u00a0", " 7", "7x"]
MOVIES = ["up+2009", "endeavour+", "++++2013", "+2013", "++", "", "m*a*s*h+1970", "GkDjzER51", "1999+", "Up+2009"]
MOVIES += ["a" * 195 + "+1999", "a" * 196 + "+1999", "amélie+2001", "u p+2009", "jurassic+p", "a+20091", "a,b+1999"]
MINUTES = ["0", "7", "007", "1439", "1440", "9999", "00001", "-1", "1.5", "", "٣", "1 2"]
RATINGS = ["5", "1", "0", "6", "D", "15", "4.5", "", "D4", " 4"]
RESULTS = ["up+2009, heat+1995, 102 ms", "12 ms", ", 12 ms", ", , 12 ms", "up+2009,12 ms", "java.X: after 800 ms"]
RESULTS += [
    "12.5 ms",
    "1e3 ms",
    "ms",
    "",
    "up+2009, 3 ms, 4 ms",
    "up+2009, , 4 ms",
    "up+2009, 4 ms ",
    "up+2009, 4, 4 ms",
]
RESULTS += [f"up+2009, {movie}, 4 ms" for movie in MOVIES]
HOSTS = ["h:80", "a.b-c:8082", "h", "h x:80", "é:80", "h\x1c:80", "h:123456", ":80", "", "a:b:80", "h:80 "]
STATUSES = ["200", "204", "299", "300", "0", "500", "20x", "2000", "99", "", "199"]
FORMS = {
    "{}{},{},GET /data/m/{}/{}.mpg": (DATES, CLOCKS, USERS, MOVIES, MINUTES),
    "{}{},{},GET /rate/{}={}": (DATES, CLOCKS, USERS, MOVIES, RATINGS),
    "{}{},{},recommendation request {}, status {}, result: {}": (DATES, CLOCKS, USERS, HOSTS, STATUSES, RESULTS),
}


def odd_lines(form):
    """Every line of a form with at most two fields that are not the sound ones."""
    sound = [values[0] for values in FORMS[form]]
    for one, two in combinations(range(len(sound)), 2):
        for first, second in product(FORMS[form][one], FORMS[form][two]):
            fields = list(sound)
            fields[one], fields[two] = first, second
            yield form.format(*fields)


movies = st.one_of(st.sampled_from(MOVIES), st.from_regex(r"[a-z0-9*+_.-]{1,12}(\+|\+[0-9]{4})?", fullmatch=True))


@st.composite
def lines(draw):
    """A line of which most fields are sound."""
    form = draw(st.sampled_from(list(FORMS)))
    odd = draw(st.sets(st.integers(0, 5), max_size=2))
    return form.format(
        *(
            draw(movies if values is MOVIES else st.sampled_from(values)) if place in odd else values[0]
            for place, values in enumerate(FORMS[form])
        )
    )


@st.composite
def mutated(draw):
    """A line with a few characters inserted, deleted or replaced."""
    line = draw(lines())
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(line)))
        line = line[:at] + draw(st.sampled_from(" xZ4,+/=.\té\0\n")) + line[at + draw(st.integers(0, 1)) :]
    return line + draw(st.sampled_from(["", "\n", "\r\n", "\r"]))


@st.composite
def enveloped(draw):
    header = draw(st.sampled_from(["m1", "m1", "m1", "m01", "m2", "m0"]))
    kind = draw(st.sampled_from(["line", "line", "line", "watch", "served", "poem", ""]))
    received = draw(st.sampled_from([str(NOON), "0", "", "x", "999999999999999999", "1234567890123456789"]))
    event_id, producer = draw(st.sampled_from(["", "e1", "é", "\0"])), draw(st.sampled_from(["", "p", "key:p"]))
    return "\t".join([header, kind, event_id, producer, received, draw(mutated())])


records = st.one_of(
    mutated().map(str.encode),
    enveloped().map(str.encode),
    st.binary(max_size=80),
    st.builds(bytes.__add__, st.binary(max_size=2), mutated().map(str.encode)),
)


def assert_agrees(values, timezone="UTC", received_us=NOON):
    frame = read_records(values, np.full(len(values), received_us), timezone=timezone)
    plain = to_frame([read_line(value, appended_us=received_us, timezone=timezone) for value in values])
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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin"])
def test_agrees_at_every_edge_of_every_pair_of_fields(form, timezone):
    values = [line.encode() for line in odd_lines(form)]
    frame = assert_agrees(values, timezone)
    assert set(frame["outcome"].unique()) == {"accepted", "repaired", "quarantined"}


@pytest.mark.parametrize("form", FORMS)
def test_sound_lines_never_reach_the_plain_reader(form, monkeypatch):
    """Otherwise the agreement would hold of the plain reader with itself."""
    monkeypatch.setattr(frames, "read_line", None)
    sound = form.format(*(values[0] for values in FORMS[form]))
    values = [
        sound,
        sound.replace(":05", ""),
        sound.replace(":05", ":05.1234567"),
        wrap_line(sound, received_us=NOON),
    ]
    records = [value if isinstance(value, bytes) else value.encode() for value in values]
    frame = frames.read_records(records, np.full(4, NOON))
    assert frame["outcome"].to_list() == ["accepted", "repaired", "accepted", "accepted"]
    assert frame["raw"].to_list() == [None, records[1], records[2], None]


@pytest.mark.parametrize(("ahead", "outcome"), [(0, "accepted"), (1, "quarantined")])
def test_an_event_a_day_ahead_is_the_last_believed(ahead, outcome):
    received_us = NOON + 5 * SECOND - DAY - ahead
    assert (
        assert_agrees([b"2022-11-14T12:00:05,7,GET /rate/up+2009=4"], "UTC", received_us)["outcome"][0] == outcome
    )


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


@pytest.mark.parametrize(
    ("timezone", "day", "missing"),
    [
        ("Europe/Berlin", "2022-03-27", 60),
        ("Europe/Berlin", "2022-10-30", 0),
        ("Australia/Lord_Howe", "2022-04-03", 0),
        ("Australia/Lord_Howe", "2022-10-02", 30),
        ("Asia/Pyongyang", "2018-05-04", 30),  # the clock was set forward in the middle of an hour
        ("Asia/Pyongyang", "2015-08-14", 0),
    ],
)
def test_the_days_on_which_a_clock_is_set(timezone, day, missing):
    values = [
        f"{day}T{hour:02}:{minute:02}:00,1,GET /rate/up+2009=4".encode()
        for hour in range(24)
        for minute in range(60)
    ]
    frame = assert_agrees(values, timezone)
    assert (frame["reason"] == "impossible_time").sum() == missing
    times = frame["time"].drop_nulls().to_physical().to_list()
    assert all(
        later - earlier in {60 * SECOND, 1_860 * SECOND, 3_660 * SECOND} for earlier, later in pairwise(times)
    )


def test_no_records():
    assert_frame_equal(read_records([], np.empty(0, np.int64)), pl.DataFrame(schema=READ_SCHEMA))


def test_arguments_that_do_not_fit():
    with pytest.raises(InvalidInput):
        read_records([b"x"], np.empty(0, np.int64))
    with pytest.raises(ConfigurationError):
        read_records([b"2022-11-14T12:00:05,1,GET /rate/up+2009=4"], np.zeros(1, np.int64), timezone="Nowhere/None")
