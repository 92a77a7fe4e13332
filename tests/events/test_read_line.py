"""The plain reader: what each form says, and the reason when it cannot be read."""

import pytest

from matinee.core.clock import DAY, SECOND
from matinee.events.envelope import MAX_RECORD_BYTES, wrap_event, wrap_line
from matinee.events.lines import dedup_key, read_line
from matinee.events.reading import Reading
from matinee.events.schema import Outcome, Reason
from matinee.events.types import Rating, Received, Served, Watch

NOON = 1_668_427_200 * SECOND  # 2022-11-14T12:00:00Z
WATCH = "2022-11-14T12:00:05,596363,GET /data/m/snowpiercer+2013/16.mpg"
RECEIVED = "2022-11-14T12:00:05.2,7,recommendation request h.example:8082, status 200, result: "


def read(record: str | bytes, timezone: str = "UTC") -> Reading:
    data = record.encode() if isinstance(record, str) else record
    return read_line(data, appended_us=NOON, timezone=timezone)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_watch_whatever_its_line_end(end):
    reading = read(WATCH + end)
    assert reading.event == Watch(time_us=NOON + 5 * SECOND, user="596363", item="snowpiercer+2013", minute=16)
    assert reading.outcome is Outcome.ACCEPTED
    assert reading.raw is None
    assert reading.dedup_key == dedup_key(WATCH.encode())


def test_a_rating():
    event = read("2022-11-14T12:00:05,7,GET /rate/m*a*s*h+1970=4").event
    assert event == Rating(time_us=NOON + 5 * SECOND, user="7", item="m*a*s*h+1970", rating=4.0)


@pytest.mark.parametrize(
    ("result", "items"),
    [
        ("up+2009, +nos+amours+1983, endeavour+, 102 ms", ("up+2009", "+nos+amours+1983", "endeavour+")),
        ("102 ms", ()),
        (", 102 ms", ()),
    ],
)
def test_an_answer_received(result, items):
    event = read(RECEIVED + result).event
    assert event == Received(
        time_us=NOON + 5_200_000, user="7", host="h.example:8082", status=200, items=items, latency_ms=102.0
    )


def test_a_failed_request_is_a_valid_event_of_failure():
    error = "java.util.concurrent.TimeoutException: Request timeout to h/10.0.0.1:8082 after 800 ms"
    reading = read(RECEIVED.replace("200", "0") + error)
    assert reading.outcome is Outcome.ACCEPTED
    assert reading.event == Received(
        time_us=NOON + 5_200_000, user="7", host="h.example:8082", status=0, error=error
    )
    timed = read(RECEIVED.replace("200", "500") + "Internal Server Error, 12 ms").event
    assert isinstance(timed, Received)
    assert (timed.error, timed.latency_ms, timed.items) == ("Internal Server Error", 12.0, ())


@pytest.mark.parametrize(
    "movie",
    [
        "endeavour+",
        ".45+2006",
        "...and+justice+for+all+1979",
        "+nos+amours+1983",
        "jails_+hospitals++hip-hop+",
        "++++2013",
        "amlie+2001",
        "a" * 195 + "+1999",
    ],
)
def test_movies_that_are(movie):
    assert read(f"2022-11-14T12:00:05,7,GET /data/m/{movie}/0.mpg").event.item == movie


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", Reason.UNKNOWN_FORM),
        ("hello, world, again", Reason.UNKNOWN_FORM),
        ("2022-11-14T12:00:05,7,POST /data/m/up+2009/1.mpg", Reason.UNKNOWN_FORM),
        ("2022-11-14T12:00:05,7,GET /data/m/up+2009/1.mp4", Reason.UNKNOWN_FORM),
        ("2022-11-14T12:00:05,7", Reason.MISSING_FIELD),
        ("2022-11-14T12:00:05,7,", Reason.MISSING_FIELD),
        ("2022-11-14T12:00:05", Reason.MISSING_FIELD),
        ("2022-11-14T12:00:05,,GET /data/m/up+2009/1.mpg", Reason.MISSING_FIELD),
        (",7,GET /data/m/up+2009/1.mpg", Reason.MISSING_FIELD),
        ("7,GET /data/m/up+2009/1.mpg", Reason.MISSING_FIELD),
        ("2022-11-14T12:00:05,GET /rate/up+2009=1", Reason.MISSING_FIELD),
        ("2022-11-14T12:00:05,7,GET /rate/up+2009=", Reason.MISSING_FIELD),
        ("2022-11-14T12:00:05,7,GET /rate/up+2009", Reason.MISSING_FIELD),
        ("2022-11-14T12:00:05,7,GET /rate/=4", Reason.MISSING_FIELD),
        ("2022-11-14T12:00:05,7,GET /data/m//4.mpg", Reason.MISSING_FIELD),
        ("2022-11-14T12:00:05,7,GET /data/m/up+2009/.mpg", Reason.MISSING_FIELD),
        ("2022-11-14T12:00:05,7,GET /data/m/up+2009", Reason.MISSING_FIELD),
        (RECEIVED + "up+2009", Reason.MISSING_FIELD),
        (RECEIVED.partition(", status")[0], Reason.MISSING_FIELD),
        ("2022-11-14T12:00:05,7,recommendation request h, status 200, result: 1 ms", Reason.UNKNOWN_FORM),
        ("2022-02-30T12:00:05,7,GET /rate/up+2009=4", Reason.IMPOSSIBLE_TIME),
        ("2022-11-14T24:00:05,7,GET /rate/up+2009=4", Reason.IMPOSSIBLE_TIME),
        ("2022-11-14T24:00,7,GET /rate/up+2009=4", Reason.IMPOSSIBLE_TIME),
        ("2022-11-14T12:00:60,7,GET /rate/up+2009=4", Reason.IMPOSSIBLE_TIME),
        ("2022-11-14T12:60:00,7,GET /rate/up+2009=4", Reason.IMPOSSIBLE_TIME),
        ("2022-11-14T12:00:05.,7,GET /rate/up+2009=4", Reason.IMPOSSIBLE_TIME),
        ("2022-11-14T12:00:05.1234567890,7,GET /rate/up+2009=4", Reason.IMPOSSIBLE_TIME),
        ("0000-11-14T12:00:05,7,GET /rate/up+2009=4", Reason.IMPOSSIBLE_TIME),
        ("1969-12-31T23:59:59,7,GET /rate/up+2009=4", Reason.IMPOSSIBLE_TIME),
        ("2022-11-15T12:00:01,7,GET /rate/up+2009=4", Reason.FUTURE_TIME),
        ("2022-11-14T12:00:05,-7,GET /rate/up+2009=4", Reason.BAD_USER_ID),
        ("2022-11-14T12:00:05,x,GET /rate/up+2009=4", Reason.BAD_USER_ID),
        ("2022-11-14T12:00:05,1234567890123456789,GET /rate/up+2009=4", Reason.BAD_USER_ID),
        ("2022-11-14T12:00:05,٧,GET /rate/up+2009=4", Reason.BAD_USER_ID),
        ("2022-11-14T12:00:05,7,GET /data/m/GkDjzER51Qx8LYZ/43.mpg", Reason.BAD_ITEM_ID),
        ("2022-11-14T12:00:05,7,GET /data/m/+2013/43.mpg", Reason.BAD_ITEM_ID),
        ("2022-11-14T12:00:05,7,GET /data/m/++/43.mpg", Reason.BAD_ITEM_ID),
        ("2022-11-14T12:00:05,7,GET /data/m/amélie+2001/43.mpg", Reason.BAD_ITEM_ID),
        (f"2022-11-14T12:00:05,7,GET /data/m/{'a' * 196}+1999/43.mpg", Reason.BAD_ITEM_ID),
        (RECEIVED + "up+2009, 3pDhryZRox, 12 ms", Reason.BAD_ITEM_ID),
        (RECEIVED + "up+2009, , 12 ms", Reason.BAD_ITEM_ID),
        ("2022-11-14T12:00:05,7,GET /data/m/up+2009/1440.mpg", Reason.BAD_MINUTE),
        ("2022-11-14T12:00:05,7,GET /data/m/up+2009/-1.mpg", Reason.BAD_MINUTE),
        *(
            (f"2022-11-14T12:00:05,7,GET /rate/up+2009={rating}", Reason.BAD_RATING)
            for rating in ["D", "0", "6", "15", "4.5"]
        ),
    ],
)
def test_reasons(line, reason):
    reading = read(line)
    assert (reading.outcome, reading.reason) == (Outcome.QUARANTINED, reason)
    assert reading.detail
    assert reading.event is None
    assert reading.raw == line.encode()
    assert len(reading.dedup_key) == 16


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"\xff" + WATCH.encode(), Reason.NOT_TEXT),
        (WATCH.encode() + b"\0", Reason.NOT_TEXT),
        (b"x" * (MAX_RECORD_BYTES + 1), Reason.TOO_LONG),
        (b"m2\tline\t\t\t0\t" + WATCH.encode(), Reason.FORMAT_TOO_NEW),
        (b"m1\tline\t\t\tx\t" + WATCH.encode(), Reason.BAD_ENVELOPE),
        (b"m1\tline\t", Reason.BAD_ENVELOPE),
        (b"m1\tline\t\t\t999999999999999999\t" + WATCH.encode(), Reason.BAD_ENVELOPE),
        (b"m1\tpoem\t\t\t0\t" + WATCH.encode(), Reason.BAD_ENVELOPE),
        (b"m1\twatch\t\t\t0\t{", Reason.BAD_PAYLOAD),
        (b"m1\twatch\t\t\t0\t" + b'{"x":' + b"[" * 60_000, Reason.BAD_PAYLOAD),
        (b"m1\twatch\t\t\t0\t[]", Reason.BAD_PAYLOAD),
        (b'm1\twatch\t\t\t0\t{"user":"u","item":"i","minute":3}', Reason.MISSING_FIELD),
        (b'm1\twatch\t\t\t0\t{"time_us":1,"user":"u v","item":"i","minute":3}', Reason.BAD_USER_ID),
        (b'm1\twatch\t\t\t0\t{"time_us":1,"user":"u\\n","item":"i","minute":3}', Reason.BAD_USER_ID),
        (b'm1\twatch\t\t\t0\t{"time_us":1,"user":"u","item":"","minute":3}', Reason.BAD_ITEM_ID),
        (b'm1\twatch\t\t\t0\t{"time_us":1,"user":"u","item":"i","minute":1440}', Reason.BAD_MINUTE),
        (b'm1\twatch\t\t\t0\t{"time_us":-1,"user":"u","item":"i","minute":1}', Reason.IMPOSSIBLE_TIME),
        (b'm1\twatch\t\t\t0\t{"time_us":86400000001,"user":"u","item":"i","minute":1}', Reason.FUTURE_TIME),
        (b'm1\trating\t\t\t0\t{"user":"u","item":"i","rating":5.5}', Reason.BAD_RATING),
        (b'm1\treceived\t\t\t0\t{"time_us":1,"user":"u","host":"h","status":99999999999}', Reason.BAD_PAYLOAD),
        (
            b'm1\treceived\t\t\t0\t{"time_us":1,"user":"u","host":"h","status":0,"items":["a,b"]}',
            Reason.BAD_ITEM_ID,
        ),
    ],
)
def test_reasons_of_records(record, reason):
    reading = read(record)
    assert (reading.outcome, reading.reason) == (Outcome.QUARANTINED, reason)
    assert reading.raw == record[:MAX_RECORD_BYTES]


def test_an_envelope_brings_its_id_producer_and_receive_time():
    reading = read(wrap_line(WATCH, received_us=NOON - DAY + 5 * SECOND, event_id="e1", producer="p"))
    assert (reading.event_id, reading.producer, reading.received_us) == ("e1", "p", NOON - DAY + 5 * SECOND)
    assert reading.outcome is Outcome.ACCEPTED
    assert reading.dedup_key == dedup_key(b"id:e1")
    early = read(wrap_line(WATCH, received_us=NOON - DAY + 5 * SECOND - 1))
    assert early.reason is Reason.FUTURE_TIME
    assert early.dedup_key == read(WATCH).dedup_key


def test_an_id_in_the_payload_is_not_taken_for_the_event_id():
    assert dedup_key(b"id:e1") != read(wrap_line("e1", received_us=0)).dedup_key


@pytest.mark.parametrize(
    "event",
    [
        Watch(time_us=NOON, user="u", item="i", minute=0),
        Rating(user="u", item="any_id:of|ours", rating=0.5),
        Received(time_us=NOON, user="u", host="h", status=0, error="two\nlines"),
        Served(
            time_us=NOON, request_id="r", user="u", items=("a", "b"), model_version="m", arm="a", step="popular",
            latency_ms=1.5, scores=(0.5, 0.25),
        ),
    ],
)  # fmt: skip
def test_our_own_events_come_back_as_they_went(event):
    assert read(wrap_event(event, received_us=NOON)).event == event


def test_digits_past_the_microsecond_are_cut_and_the_raw_line_is_kept():
    line = WATCH.replace(":05,", ":05.123456789,")
    reading = read(line)
    assert reading.event.time_us == NOON + 5_123_456
    assert (reading.outcome, reading.raw) == (Outcome.ACCEPTED, line.encode())


@pytest.mark.parametrize(
    ("local", "utc_seconds"),
    [
        ("2022-07-01T12:00:00", 1_656_669_600),  # summer: UTC+2
        ("2022-10-30T02:30:00", 1_667_089_800),  # twice that night: the first is still UTC+2
        ("2022-10-30T03:00:00", 1_667_095_200),  # UTC+1 again
        ("2022-03-27T02:30:00", None),  # never was
    ],
)
def test_local_time(local, utc_seconds):
    reading = read(f"{local},7,GET /rate/up+2009=4", timezone="Europe/Berlin")
    if utc_seconds is None:
        assert reading.reason is Reason.IMPOSSIBLE_TIME
    else:
        assert reading.event.time_us == utc_seconds * SECOND


def test_a_reading_can_be_told_in_json():
    told = read("2022-11-14T12:00,7,GET /rate/up+2009=4").as_dict()
    assert told["repairs"] == ["seconds"]
    assert (told["kind"], told["user"], told["rating"]) == ("rating", "7", 4.0)
    assert read(b"\xff").as_dict()["reason"] == "not_text"
