"""`POST /v1/events`: whatever the body, all of it is durable or nothing; and what is repeated counts once."""

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_samples import make_bundle, new_home, server, wait_for
from structlog.testing import capture_logs

from matinee.core.breaker import FAILURES, LONGEST_PAUSE, State
from matinee.core.clock import DAY, HOUR, ManualClock, SystemClock
from matinee.core.errors import OutOfRoom, RetryableError, StoreUnavailable
from matinee.core.home import Home
from matinee.core.ids import is_id
from matinee.core.settings import LakeSettings, Settings
from matinee.events.envelope import unwrap, wrap_event
from matinee.events.lines import read_line
from matinee.events.schema import Outcome
from matinee.events.types import Rating, Watch
from matinee.ingest.service import Ingest
from matinee.ingest.stores import stores_of
from matinee.log.sqlite import SqliteLog
from matinee.release.plan import publish
from matinee.serving import event_sink
from matinee.serving import service as service_module
from matinee.serving.event_sink import EventSink
from matinee.serving.key_file import Scope, create_key
from matinee.serving.posted import MAX_EVENTS, Post, Unacceptable, read_post
from matinee.serving.service import Service

CLOCK = SystemClock()
NOW = 1_700_000_000_000_000
WATCH = {"kind": "watch", "user": "u1", "item": "a+1", "minute": 3}
RATING = {"kind": "rating", "user": "u1", "item": "a+1", "rating": 4.5}


def read(body: object, **options):
    return read_post(json.dumps(body).encode(), NOW, **options)


def faults(body: object) -> list[tuple[str, str]]:
    with pytest.raises(Unacceptable) as refused:
        read(body)
    assert refused.value.is_json
    return [(fault.where, fault.message) for fault in refused.value.faults]


def test_one_event_or_many_become_the_streams_own():
    assert read(WATCH).events == [Watch(time_us=NOW, user="u1", item="a+1", minute=3)]
    post = read([RATING, WATCH])
    assert post.events == [Rating(time_us=NOW, user="u1", item="a+1", rating=4.5), *read(WATCH).events]
    assert len(set(post.ids)) == 2
    assert all(is_id(event_id) for event_id in post.ids)


@pytest.mark.parametrize(
    ("time_sent", "time_us"),
    [
        (None, NOW),
        (NOW - 1, NOW - 1),
        (0, 0),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T23:13:20+01:00", NOW),
        ("2023-11-14t22:13:20.000001z", NOW + 1),
        (NOW + DAY, NOW + DAY),
    ],
)
def test_a_time_is_iso_with_an_offset_or_microseconds_or_now(time_sent, time_us):
    assert read({**WATCH, "time": time_sent}).events[0].time_us == time_us


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"minute": 1_440}, "body.minute", "<= 1439"),
        ({"minute": "3"}, "body.minute", "got `str`"),
        ({"user": "a b"}, "body.user", "an id is 1 to 200"),
        ({"user": "../../etc"}, "body.user", "an id is"),
        ({"user": "u\t"}, "body.user", "an id is"),
        ({"item": ""}, "body.item", "an id is"),
        ({"id": "a\tb"}, "body.id", "an id is"),
        ({"id": 7}, "body.id", "got `int`"),
        ({"time": "2023-11-14T22:13:20"}, "body.time", "timezone"),
        ({"time": "yesterday"}, "body.time", "RFC3339"),
        ({"time": -1}, "body.time", ">= 0"),
        ({"time": 1.5}, "body.time", "got `float`"),
        ({"time": "0001-01-01T00:00:00+10:00"}, "body.time", "between 1970 and 9999"),
        ({"time": NOW + DAY + 1}, "body.time", "24.0 hours ahead"),
        ({"kind": "served"}, "body.kind", "served"),
        ({"colour": "red"}, "body.colour", "no such field"),
        ({"rating": 3}, "body.rating", "no such field"),
        ({"time_us": 3}, "body.time_us", "no such field"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(changes, where, what):
    ((place, message),) = faults({**WATCH, **changes})
    assert place == where
    assert what in message


def test_each_events_fault_is_told_and_none_is_taken():
    missing = {key: value for key, value in RATING.items() if key != "rating"}
    assert [place for place, _ in faults([WATCH, {**WATCH, "minute": -1}, missing, 7, WATCH, None])] == [
        "body[1].minute", "body[2].rating", "body[3]", "body[5]",
    ]  # fmt: skip
    assert faults([]) == [("body", "a post has 1 to 1000 events, not 0")]
    assert len(read([WATCH] * MAX_EVENTS).events) == MAX_EVENTS
    assert faults([WATCH] * (MAX_EVENTS + 1)) == [("body", "a post has 1 to 1000 events, not 1001")]


NO_JSON = [b"", b"{", b"[", b"\xff", b"[1,]", b"{}{}", b"[" * 100_000, b"nan", b'{"a":"\\ud800"}']


@pytest.mark.parametrize("body", NO_JSON, ids=range(len(NO_JSON)))
def test_no_json_is_told_from_wrong_json(body):
    with pytest.raises(Unacceptable) as refused:
        read_post(body, NOW)
    assert not refused.value.is_json


def test_ids_are_the_clients_or_made_from_the_posts_name():
    mine = {**WATCH, "id": "mine"}
    assert read([mine, WATCH], idempotency_key="post-7").ids == ["mine", "post-7:1"]
    assert read([WATCH], idempotency_key="post-7").ids == read([WATCH], idempotency_key="post-7").ids
    assert read(WATCH).ids != read(WATCH).ids


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
nearly = st.builds(
    lambda event, name, value: {**event, name: value},
    st.sampled_from([WATCH, RATING]),
    st.sampled_from(["kind", "user", "item", "minute", "rating", "time", "id", "more"]),
    json_values | st.integers(0, 2_000) | st.datetimes().map(lambda t: t.replace(tzinfo=UTC).isoformat()),
)
bodies = (
    st.binary(max_size=200)
    | json_values.map(json.dumps).map(str.encode)
    | (nearly | st.lists(nearly, max_size=4)).map(json.dumps).map(str.encode)
)


@given(bodies)
def test_any_body_is_taken_or_refused_and_what_is_taken_ingest_accepts(body):
    try:
        post = read_post(body, NOW)
    except Unacceptable as refused:
        post = Post([], [])
        told = refused.faults or not refused.is_json
    else:
        told = bool(post.events)
    assert told
    for event, event_id in zip(post.events, post.ids, strict=True):
        record = wrap_event(event, received_us=NOW, event_id=event_id, producer="key:0123456789ab")
        reading = read_line(record, appended_us=NOW)
        assert (reading.outcome, reading.event, reading.event_id) == (Outcome.ACCEPTED, event, event_id)


class Log:
    """A log that does as it is told."""

    def __init__(self, error=None, partitions=1):
        self.error = error
        self.partitions = partitions
        self.appended = []
        self.go = threading.Event()
        self.go.set()
        self.writing = threading.Event()
        self.closed = 0

    def ends(self):
        return dict.fromkeys(range(self.partitions), 1)

    def append(self, values, *, partition=0):
        self.writing.set()
        assert self.go.wait(30)
        if self.error is not None:
            raise self.error
        self.appended.append((partition, list(values)))
        return 1

    def close(self):
        self.closed += 1


@contextmanager
def sink_of(log, clock=CLOCK):
    sink = EventSink(lambda: log, clock)
    sink.start()
    try:
        yield sink
    finally:
        log.go.set()
        sink.close(60)


def test_a_log_that_is_away_at_first_is_opened_without_any_post(monkeypatch):
    monkeypatch.setattr(event_sink, "REOPEN_SECONDS", 0.01)
    tries, opened = iter(range(3)), threading.Event()

    def open_log():
        if next(tries) < 2:
            raise StoreUnavailable("it is away", remedy="")
        opened.set()
        return Log()

    sink = EventSink(open_log, CLOCK)
    with capture_logs() as logs:
        sink.start()
        assert opened.wait(30)
        sink.close(60)
    assert [line["event"] for line in logs] == ["event_log_not_opened"]  # it is told of once


def test_a_post_waits_for_the_opening_and_then_has_its_turn(monkeypatch):
    monkeypatch.setattr(event_sink, "TURN_SECONDS", 0.2)
    log, go = Log(), threading.Event()
    sink = EventSink(lambda: go.wait(30) and log, CLOCK)
    sink.start()

    async def post():
        waiting = asyncio.create_task(sink.append("key:a", [b"1"]))
        await asyncio.sleep(3 * event_sink.TURN_SECONDS)
        assert not waiting.done()
        go.set()
        await waiting

    asyncio.run(post())
    sink.close(60)
    assert log.appended == [(0, [b"1"])]


def test_a_service_opens_the_log_at_its_start_and_says_what_for(tmp_path: Path, monkeypatch):
    opened, told = threading.Event(), []
    monkeypatch.setattr(
        service_module, "open_log", lambda *_, **what_for: told.append(what_for) or opened.set() or Log()
    )
    home = new_home(tmp_path)
    service = Service(Settings(home=home.path), home, CLOCK)
    service.start()
    try:
        assert opened.wait(30)
    finally:
        service.stop()
    assert told == [{"appends": True}]


def test_closing_waits_no_longer_than_it_is_told_and_what_had_no_turn_is_refused():
    log = Log()
    log.go.clear()

    async def post_and_close(sink):
        first, second = (asyncio.create_task(sink.append("key:a", [text])) for text in (b"1", b"2"))
        while not log.writing.is_set() or sink._posts.qsize() != 1:  # the first is being written
            await asyncio.sleep(0.001)
        sink.close(0.01)
        with pytest.raises(StoreUnavailable, match="stopping"):
            await sink.append("key:a", [b"3"])
        log.go.set()
        with pytest.raises(StoreUnavailable, match="stopping"):
            await second
        await first

    with sink_of(log) as sink, capture_logs() as logs:
        asyncio.run(post_and_close(sink))
        sink.close(60)
    assert log.appended == [(0, [b"1"])]
    assert log.closed == 1
    assert [line["event"] for line in logs] == ["events_left"]


def test_a_keys_posts_are_all_in_one_partition_and_keys_are_spread():
    log = Log(partitions=8)
    with sink_of(log) as sink:
        for number in range(200):
            asyncio.run(sink.append(f"key:{number % 50:012x}", [str(number % 50).encode()]))
    of_key = {}
    for partition, (value,) in log.appended:
        of_key.setdefault(value, set()).add(partition)
    assert all(len(partitions) == 1 for partitions in of_key.values())
    assert len({partition for partition, _ in log.appended}) == 8


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StoreUnavailable("/secret/path"), StoreUnavailable),
        (OutOfRoom("/secret/path is full"), OutOfRoom),
        (ValueError("/secret/path"), StoreUnavailable),
    ],
)
def test_a_log_that_fails_is_opened_again_and_its_path_is_not_told(error, told):
    log = Log(error)
    with sink_of(log) as sink:
        with pytest.raises(told) as refused:
            asyncio.run(sink.append("key:a", [b"1", b"2"]))
        assert type(refused.value) is told
        assert "/secret" not in str(refused.value)
        assert (sink.accepted, sink.refused, log.closed) == (0, 2, 1)
        log.error = None
        asyncio.run(sink.append("key:a", [b"1", b"2"]))
        assert (sink.accepted, sink.refused) == (2, 2)


def test_while_the_log_hangs_posts_are_refused_and_nothing_of_them_is_written(monkeypatch):
    monkeypatch.setattr(event_sink, "TURN_SECONDS", 0.05)
    monkeypatch.setattr(event_sink, "MAX_WAITING", 3)
    log = Log()
    log.go.clear()

    async def posts(sink):
        first = asyncio.create_task(sink.append("key:a", [b"first"]))
        await asyncio.sleep(0)
        others = await asyncio.gather(*(sink.append("key:a", [b"other"]) for _ in range(4)), return_exceptions=True)
        assert [type(other) for other in others] == [StoreUnavailable] * 4
        assert not first.done()  # it is being written: whether it will be is not known yet
        log.go.set()
        await first

    with sink_of(log) as sink:
        asyncio.run(posts(sink))
        assert log.appended == [(0, [b"first"])]
        assert (sink.accepted, sink.refused) == (1, 4)


def test_a_log_that_fails_again_and_again_is_left_alone_and_then_one_post_tries_it():
    log, clock = Log(StoreUnavailable("away")), ManualClock()

    async def refused(sink, why):
        with pytest.raises(StoreUnavailable, match=why) as told:
            await sink.append("key:a", [b"lost"])
        assert "same ids" in told.value.remedy

    async def posts(sink):
        for _ in range(FAILURES):
            await refused(sink, "does not answer")
        await refused(sink, "left alone")
        assert log.closed == FAILURES  # it was not opened again
        log.go.clear()
        clock.sleep(LONGEST_PAUSE)
        trying = asyncio.create_task(refused(sink, "does not answer"))
        await asyncio.sleep(0)
        await refused(sink, "left alone")  # meanwhile
        log.go.set()
        await trying
        await refused(sink, "left alone")
        log.error = None
        clock.sleep(LONGEST_PAUSE)
        await sink.append("key:a", [b"kept"])

    with sink_of(log, clock) as sink:
        asyncio.run(posts(sink))
        assert (sink.accepted, sink.refused) == (1, FAILURES + 4)
        assert (sink.breaker.state, sink.breaker.opened) == (State.CLOSED, 2)
    assert log.appended == [(0, [b"kept"])]


def test_posts_that_have_no_turn_while_the_log_hangs_are_failures_of_it(monkeypatch):
    monkeypatch.setattr(event_sink, "TURN_SECONDS", 0.05)
    log, clock = Log(), ManualClock()
    log.go.clear()

    async def posts(sink):
        first = asyncio.create_task(sink.append("key:a", [b"first"]))
        await asyncio.sleep(0)
        await asyncio.gather(*(sink.append("key:a", [b"late"]) for _ in range(FAILURES)), return_exceptions=True)
        with pytest.raises(StoreUnavailable, match="left alone"):
            await sink.append("key:a", [b"refused"])
        log.go.set()
        await first
        await sink.append("key:a", [b"next"])  # one that was written says that the log is back

    with sink_of(log, clock) as sink:
        asyncio.run(posts(sink))
    assert log.appended == [(0, [b"first"]), (0, [b"next"])]


def test_stopping_refuses_what_waits_and_finishes_what_is_being_written():
    log = Log()
    log.go.clear()

    async def posts(sink):
        tasks = [asyncio.create_task(sink.append("key:a", [b"%d" % n])) for n in range(3)]
        await asyncio.sleep(0.05)
        closing_ = asyncio.get_running_loop().run_in_executor(None, sink.close, 60)
        await asyncio.sleep(0.05)
        log.go.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        await closing_
        with pytest.raises(RetryableError):
            await sink.append("key:a", [b"late"])
        return [type(one) for one in found]

    with sink_of(log) as sink:
        assert asyncio.run(posts(sink)) == [type(None), StoreUnavailable, StoreUnavailable]
    assert log.appended == [(0, [b"0"])]


# By a real server, with a real log and a real ingest.


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[Home, httpx.Client]]:
    home = new_home(tmp_path_factory.mktemp("events"))
    _, key = create_key(home, "tests", Scope.WRITE, clock=CLOCK)
    publish(home.data, make_bundle(home), clock=CLOCK)
    with server(home) as (url, process):
        wait_for(url)
        with httpx.Client(base_url=url, headers={"X-Api-Key": key}, timeout=60) as client:
            yield home, client
        assert process.poll() is None
    secret = key[-43:].encode()
    assert not [path for path in home.path.rglob("*") if path.is_file() and secret in path.read_bytes()]


def ingest(home: Home):
    """One run of ingest; what it counted."""
    settings = Settings(home=home.path, lake=LakeSettings(commit_seconds=0.05))
    stores = stores_of(settings, home, CLOCK)
    service = Ingest(settings=settings, home=home, clock=CLOCK, raise_alarm=lambda *_: None, stores=stores)
    return service.run(until_idle=True).counts


def in_log(home: Home) -> list[bytes]:
    """What was posted and is in the log."""
    with SqliteLog(home.data / "log.sqlite", CLOCK) as log:
        batches = log.reader(lambda _: 0).poll(max_records=1_000_000, timeout=0)
    return [value for batch in batches for value in batch.values if b"\tkey:" in value]


def assert_problem(answer: httpx.Response, status: int) -> dict:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert (problem["status"], problem["request_id"]) == (status, answer.headers["X-Request-Id"])
    return problem


def test_what_is_answered_202_is_in_the_log_under_the_ids_that_are_told(served):
    home, client = served
    before = len(in_log(home))
    answer = client.post("/v1/events", json=[{**WATCH, "id": "client-1", "time": "2024-05-01T20:15:00Z"}, RATING])
    assert answer.status_code == 202
    told = answer.json()
    assert told["accepted"] == 2
    assert told["ids"][0] == "client-1"
    records = [unwrap(value) for value in in_log(home)[before:]]
    assert [record.event_id for record in records] == told["ids"]
    assert [record.kind for record in records] == ["watch", "rating"]
    assert {record.producer[:4] for record in records} == {"key:"}
    event = msgspec.json.decode(records[0].payload, type=Watch)
    assert event.time_us == 1_714_594_500_000_000


def test_nothing_of_a_wrong_post_is_in_the_log(served):
    home, client = served
    before = len(in_log(home))
    problem = assert_problem(client.post("/v1/events", json=[WATCH, {**WATCH, "minute": 2_000}]), 422)
    assert [mistake["where"] for mistake in problem["errors"]] == ["body[1].minute"]
    ahead = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    assert_problem(client.post("/v1/events", json=[WATCH, {**WATCH, "time": ahead}]), 409)
    assert_problem(client.post("/v1/events", content=b"{", headers={"Content-Type": "application/json"}), 400)
    assert_problem(client.post("/v1/events", content=json.dumps(WATCH)), 415)
    assert_problem(client.post("/v1/events?dry=1", json=WATCH), 422)
    assert_problem(client.post("/v1/events", json=WATCH, headers={"Idempotency-Key": "a b"}), 422)
    assert_problem(client.get("/v1/events"), 405)
    assert len(in_log(home)) == before


def test_a_key_that_may_only_read_and_no_key(served):
    home, client = served
    _, reader = create_key(home, "reader", Scope.READ, clock=CLOCK)
    url = str(client.base_url)
    end = time.monotonic() + 20
    while httpx.get(f"{url}/v1/trending", headers={"X-Api-Key": reader}).status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.02)
    before = len(in_log(home))
    refused = httpx.post(f"{url}/v1/events", json=WATCH, headers={"X-Api-Key": reader})
    assert "scope read" in assert_problem(refused, 403)["detail"]
    refused = httpx.post(f"{url}/v1/events", json=WATCH)
    assert "matinee keys create" in assert_problem(refused, 401)["detail"]
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert len(in_log(home)) == before


@given(bodies)
def test_no_body_makes_the_server_fail(served, body):
    _, client = served
    answer = client.post("/v1/events", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {202, 400, 409, 422}
    assert answer.status_code == 202 or answer.headers["content-type"] == "application/problem+json"


def test_a_locked_log_is_503_with_nothing_taken_and_then_goes_on(served):
    home, client = served
    before = len(in_log(home))
    with closing(sqlite3.connect(home.data / "log.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            answer = client.post("/v1/events", json={**WATCH, "id": "locked-1"})
            assert_problem(answer, 503)
            assert int(answer.headers["Retry-After"]) > 0
            assert client.get("/recommend/u001").status_code == 200
        finally:
            other.execute("ROLLBACK")
    assert len(in_log(home)) == before
    assert client.post("/v1/events", json={**WATCH, "id": "locked-1"}).status_code == 202
    assert len(in_log(home)) == before + 1


def test_what_is_posted_again_is_counted_as_duplicate_and_nothing_is_lost(tmp_path: Path):
    home = new_home(tmp_path)
    (_, one), (_, two) = (create_key(home, name, Scope.WRITE, clock=CLOCK) for name in ("one", "two"))
    publish(home.data, make_bundle(home), clock=CLOCK)
    # Half of the times are weeks back: what counts is when a post came.
    old = CLOCK.now_us() - 500 * HOUR
    events = [{**WATCH, "user": f"u{n}", "id": f"e{n}", **({"time": old + n} if n % 2 else {})} for n in range(40)]
    with server(home) as (url, _):
        wait_for(url)
        for key in (one, two):
            for _ in range(3):
                answer = httpx.post(f"{url}/v1/events", json=events, headers={"X-Api-Key": key})
                assert answer.status_code == 202
        for _ in range(2):
            headers = {"X-Api-Key": one, "Idempotency-Key": "post-1"}
            assert httpx.post(f"{url}/v1/events", json=[RATING, RATING], headers=headers).status_code == 202
        counts = ingest(home)
        assert (counts.read, counts.accepted, counts.duplicate) == (244, 82, 162)
        again = httpx.post(f"{url}/v1/events", json=[*events, RATING], headers={"X-Api-Key": one})
        assert again.status_code == 202
        counts = ingest(home)  # another ingest, which knows the ids from the lake
        assert (counts.read, counts.accepted, counts.duplicate) == (41, 1, 40)
    rows = stores_of(Settings(home=home.path), home, CLOCK).lake().read("events").collect()
    own = rows.filter(rows["event_id"].str.starts_with("e") & (rows["event_id"].str.len_chars() <= 3))
    assert own.group_by("producer").len()["len"].to_list() == [40, 40]
    assert rows.height == 83


def test_a_log_that_was_taken_away_is_503_once_and_then_a_new_one(tmp_path: Path):
    path = tmp_path / "log.sqlite"
    sink = EventSink(lambda: SqliteLog(path, CLOCK), CLOCK)
    sink.start()
    try:
        asyncio.run(sink.append("key:a", [b"one"]))
        for file in tmp_path.iterdir():
            file.unlink()
        with pytest.raises(StoreUnavailable):
            asyncio.run(sink.append("key:a", [b"two"]))
        asyncio.run(sink.append("key:a", [b"two"]))
    finally:
        sink.close(60)
    with SqliteLog(path, CLOCK) as log:
        assert [batch.values for batch in log.reader(lambda _: 0).poll(max_records=9, timeout=0)] == [[b"two"]]


def test_a_full_disk_takes_nothing_and_goes_on_when_there_is_room(small_disk: Path):
    sink = EventSink(lambda: SqliteLog(small_disk / "log.sqlite", CLOCK), CLOCK)
    sink.start()
    try:
        asyncio.run(sink.append("key:a", [b"one"]))
        ballast = small_disk / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4_096)) == 4_096:
                pass
        for _ in range(2):
            with pytest.raises(OutOfRoom):
                asyncio.run(sink.append("key:a", [bytes(100_000), b"lost"]))
        ballast.unlink()
        asyncio.run(sink.append("key:a", [b"two"]))
    finally:
        sink.close(60)
    with SqliteLog(small_disk / "log.sqlite", CLOCK) as log:
        found = [
            value for batch in log.reader(lambda _: 0).poll(max_records=9, timeout=0) for value in batch.values
        ]
    assert found == [b"one", b"two"]
