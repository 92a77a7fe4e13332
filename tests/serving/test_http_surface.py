import re
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from serving_samples import N_ITEMS, SNAPSHOT_END, act, make_bundle, new_home, settings

from matinee.bundle.attributes import ItemAttributes
from matinee.core.breaker import FAILURES
from matinee.core.clock import SystemClock
from matinee.core.errors import StoreUnavailable
from matinee.core.home import Home
from matinee.events.envelope import unwrap
from matinee.history.lmdb import LmdbHistory
from matinee.log.sqlite import SqliteLog
from matinee.release.plan import publish
from matinee.serving.answer import Answer
from matinee.serving.app import create_app
from matinee.serving.headers import SECURITY_HEADERS
from matinee.serving.load import Load, Shed
from matinee.serving.recommender import Recommender
from matinee.serving.request import new_request_id

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette would rather have the successor of httpx
    from starlette.testclient import TestClient

CLOCK = SystemClock()


@contextmanager
def serving(home: Home, *, ready: bool = True, **options: Any) -> Iterator[TestClient]:
    app = create_app(settings(home, **options.pop("settings", {})), home, CLOCK, **options)
    with TestClient(app, client=("127.0.0.1", 50_000)) as client:
        end = time.monotonic() + 20
        while ready and client.get("/readyz").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.01)
        yield client


@pytest.fixture
def published(home: Home) -> str:
    version = make_bundle(home)
    publish(home.data, version, clock=CLOCK)
    return version


@pytest.fixture
def client(home: Home, published: str) -> Iterator[TestClient]:
    with serving(home) as opened:
        yield opened


def assert_common_headers(response, version: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["X-Request-Id"])
    assert response.headers["X-Model-Version"] == version
    assert response.headers["X-Matinee-Step"] in {
        "none",
        "personal",
        "folded_in",
        "popular_in_segment",
        "popular",
    }


def test_an_answer_is_one_line_of_item_ids(client: TestClient, published: str):
    response = client.get("/recommend/u001")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["X-Matinee-Step"] == "personal"
    # u001 has seen item 0, is recommended 1 to 10, and its segment's order is 0, 1, 2, …
    assert response.text == ",".join(f"a+{index}" for index in range(1, 21))
    assert_common_headers(response, published)


def test_n_may_be_chosen(client: TestClient):
    assert client.get("/recommend/u001?n=1").text == "a+1"
    assert len(client.get("/recommend/u001?n=100").text.split(",")) == 39


def test_a_percent_encoded_user_is_the_same_user(client: TestClient):
    assert client.get("/recommend/%75001?n=1").headers["X-Matinee-Step"] == "personal"


def test_the_request_id_begins_with_the_time_and_is_never_the_same(client: TestClient):
    before = time.time_ns() // 1_000_000
    ids = [client.get("/recommend/u001").headers["X-Request-Id"] for _ in range(20)]
    after = time.time_ns() // 1_000_000
    assert all(before <= int(text[:12], 16) <= after for text in ids)
    assert len({text[12:] for text in ids}) == 20


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/recommend/", "empty"),
        ("/recommend/a/b", "'/'"),
        ("/recommend/u001/", "'/'"),
        ("/recommend/a%20b", "' '"),
        ("/recommend/" + "x" * 201, "201 characters"),
        ("/recommend/%ff", "cannot be a user id"),
        ("/recommend/a%00", "cannot be a user id"),
        ("/recommend/u?n=0", "n is '0'"),
        ("/recommend/u?n=101", "n is '101'"),
        ("/recommend/u?n=-1", "n is '-1'"),
        ("/recommend/u?n=1.5", "n is '1.5'"),
        ("/recommend/u?n=%D9%A3", "n is"),
        ("/recommend/u?n=", "n is ''"),
        ("/recommend/u?n=2&n=3", "more than once"),
        ("/recommend/u?count=3", "unknown parameter 'count'"),
        ("/recommend/u?n", "cannot be read"),
        ("/recommend/u?n=" + "0" * 300, "has 302 bytes"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_a_sentence(client: TestClient, published: str, path: str, says: str):
    response = client.get(path)
    assert response.status_code == 400
    assert says in response.text
    assert "Traceback" not in response.text
    assert_common_headers(response, published)


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/", 404), ("GET", "/recommend", 404), ("POST", "/recommend/u001", 405), ("DELETE", "/healthz", 405),
    ("GET", "/healthz", 200), ("GET", "/readyz", 200), ("GET", "/metrics", 200), ("HEAD", "/recommend/u001", 200),
])  # fmt: skip
def test_every_answer_of_every_route_carries_the_headers(
    client: TestClient, published: str, method: str, path: str, status: int
):
    response = client.request(method, path)
    assert response.status_code == status
    assert_common_headers(response, published)


@pytest.fixture(scope="module")
def lasting_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home = new_home(tmp_path_factory.mktemp("surface"))
    publish(home.data, make_bundle(home), clock=CLOCK)
    with serving(home) as opened:
        yield opened


ANYTHING = st.text(max_size=250)


@given(user=ANYTHING, query=st.one_of(st.none(), ANYTHING, st.integers().map(lambda n: f"n={n}")))
@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_input_whatever_is_answered_with_a_server_error(
    lasting_client: TestClient, user: str, query: str | None
):
    from urllib.parse import quote

    safe = quote(user.encode("utf-8", "surrogatepass"), safe="")
    path = f"/recommend/{safe}" + (
        "" if query is None else "?" + quote(query.encode("utf-8", "replace"), safe="=&%+")
    )
    response = lasting_client.get(path)
    assert response.status_code in {
        200,
        400,
        404,
    }  # 404: the client takes a user `.` or `..` for a step in the path
    assert response.headers["X-Request-Id"]


HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"content-length", b"transfer-encoding", b"connection", b"x-api-key", b"accept"]),
        st.binary(max_size=20) | st.sampled_from([b"0", b"10000000", b"chunked", b"close"]),
    ),
    max_size=4,
)


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "BREW"]),
    prefix=st.sampled_from(["/recommend/", "/recommend", "/", "/healthz", "/readyz", ""]),
    path=st.binary(max_size=60),
    query=st.binary(max_size=300),
    headers=HEADERS,
)
@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_bytes_whatever_are_answered_with_a_server_error(
    lasting_client: TestClient, method: str, prefix: str, path: bytes, query: bytes, headers
):
    # Below the client library, which would refuse to send such a thing: straight to the application.
    import asyncio

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("there is no body to wait for")

    scope = {
        "type": "http", "method": method, "path": prefix + path.decode("utf-8", "surrogateescape"),
        "query_string": query, "headers": headers, "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    asyncio.run(lasting_client.app(scope, receive, send))
    assert sent[0]["status"] in {200, 400, 404, 405, 413}
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize("headers", [{"content-length": "5"}, {"transfer-encoding": "chunked"}])
def test_a_body_is_refused_and_the_connection_closed(client: TestClient, published: str, headers: dict[str, str]):
    response = client.request("GET", "/recommend/u001", headers=headers)
    assert response.status_code == 400
    assert "body" in response.text
    assert response.headers["Connection"] == "close"
    assert_common_headers(response, published)
    assert client.request("GET", "/recommend/u001", headers={"content-length": "0"}).status_code == 200


def test_what_is_too_large_is_refused_before_anything_looks_at_it(client: TestClient, published: str):
    for status, options in (
        (413, {"headers": {"content-length": "10000000"}}),
        (431, {"headers": {"x-large": "x" * 20_000}}),
        (414, {"params": {"q": "x" * 9_000}}),
    ):
        for path in ("/recommend/u001", "/healthz", "/nowhere"):
            response = client.get(path, **options)
            assert (response.status_code, response.headers["Connection"]) == (status, "close")
            assert_common_headers(response, published)


@pytest.mark.parametrize("path", ["/recommend/u001", "/recommend/", "/healthz", "/nowhere", "/v1/trending"])
def test_every_answer_carries_the_security_headers_once(client: TestClient, path: str):
    response = client.get(path)
    for name, value in SECURITY_HEADERS:
        assert response.headers.get_list(name.decode()) == [value.decode()]


def test_the_api_stands_beside_the_plain_endpoints(client: TestClient, published: str):
    for path in ("/v1/users/u001/recommendations", "/docs", "/openapi.json"):
        response = client.get(path)
        assert response.status_code == 401
        assert_common_headers(response, published)


def test_a_key_may_be_required_everywhere(home: Home, published: str):
    with serving(home, ready=False, settings={"require_key_everywhere": True}) as client:
        response = client.get("/recommend/u001")
        assert response.status_code == 401
        assert "matinee keys create" in response.text
        assert response.headers["WWW-Authenticate"]
        assert client.get("/readyz").status_code in {200, 503}  # asked from here, health needs none


def test_before_the_end_it_says_so_and_answers(client: TestClient, published: str):
    client.app.drain()
    refused = client.get("/readyz")
    assert (refused.status_code, refused.headers["Connection"]) == (503, "close")
    assert "about to stop" in refused.text
    for path in ("/recommend/u001", "/healthz", "/openapi.json", "/recommend/u?n=x"):
        response = client.get(path)
        assert response.status_code in {200, 400, 401}
        assert response.headers.get_list("connection") == ["close"]
        assert response.headers["X-Request-Id"]


def test_rules_hold_from_the_first_answer_on_and_change_live(home: Home, published: str):
    (home.data / "rules.toml").write_text('blocked = ["a+1"]')
    with serving(home) as client:
        assert client.get("/recommend/u001?n=2").text == "a+2,a+3"
        (home.data / "rules.toml").write_text('blocked = ["a+2"]')
        end = time.monotonic() + 20
        while client.get("/recommend/u001?n=2").text != "a+1,a+3":
            assert time.monotonic() < end
            time.sleep(0.01)


def test_under_load_answers_are_simpler_and_never_errors(home: Home, published: str, history: LmdbHistory):
    act(history, "u000", ["a+1"], position=SNAPSHOT_END)
    with serving(home, open_live_history=lambda: history, settings={"fold_in_cache_megabytes": 0}) as client:
        wait_until_metric(client, "matinee_history_open", 1)
        assert client.get("/recommend/u000").headers["X-Matinee-Step"] == "folded_in"
        for shed in (Shed.SCORING, Shed.HISTORY):
            # The real one would see that nothing is the matter.
            client.app.service.load = SimpleNamespace(shed_at=lambda _, shed=shed: shed)
            response = client.get("/recommend/u000?n=2")
            assert (response.status_code, response.headers["X-Matinee-Step"]) == (200, "personal")
        client.app.service.load = Load(1.0)
        assert metric(client, 'matinee_answers_without_total{part="fold_in",reason="overload"}') == 1
        assert metric(client, 'matinee_answers_without_total{part="history",reason="overload"}') == 1


def test_breakers_show_in_the_metrics(home: Home, published: str, monkeypatch):
    with serving(home) as client:

        def broken(user):
            raise StoreUnavailable("away")

        release = client.app.service.releases.current
        monkeypatch.setattr(release.bundles[published], "user", broken)
        for _ in range(2 * FAILURES):
            assert client.get("/recommend/u001").headers["X-Matinee-Step"] == "popular"
        assert metric(client, 'matinee_breaker_opened_total{store="bundle"}') >= 1
        assert metric(client, 'matinee_breaker_state{store="bundle"}') >= 1
        assert metric(client, 'matinee_breaker_state{store="fold_cache"}') == 0
        assert metric(client, 'matinee_answers_without_total{part="bundle_user",reason="error"}') >= FAILURES


def test_without_a_release_it_says_when_to_come_again(home: Home):
    with serving(home, ready=False) as client:
        response = client.get("/recommend/u001")
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        assert "no release was published yet" in client.get("/readyz").text
        assert_common_headers(response, "none")
        assert client.get("/healthz").status_code == 200
        assert client.get("/metrics").status_code == 200
        version = make_bundle(home)
        publish(home.data, version, clock=CLOCK)
        end = time.monotonic() + 20
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert client.get("/recommend/u001").headers["X-Model-Version"] == version


def test_it_is_not_ready_before_it_has_answered_itself_from_the_bundle(
    home: Home, published: str, monkeypatch: pytest.MonkeyPatch
):
    asks, may_go_on = threading.Event(), threading.Event()
    answer = Recommender.answer

    def held_up(*arguments: Any, **named: Any) -> Answer:
        asks.set()
        assert may_go_on.wait(60)
        return answer(*arguments, **named)

    monkeypatch.setattr(Recommender, "answer", held_up)
    with serving(home, ready=False) as client:
        assert asks.wait(60)  # and nobody else has
        assert [client.get(path).status_code for path in ("/readyz", "/recommend/u001")] == [503, 503]
        may_go_on.set()
        end = time.monotonic() + 60
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert client.get("/recommend/u001").headers["X-Model-Version"] == published


def test_an_event_changes_the_next_answer(home: Home, published: str, history: LmdbHistory):
    with serving(home, open_live_history=lambda: history) as client:
        wait_until_metric(client, "matinee_history_open", 1)
        assert client.get("/recommend/u000?n=3").text == "a+0,a+1,a+2"
        act(history, "u000", ["a+1"], position=SNAPSHOT_END)
        changed = client.get("/recommend/u000?n=3")
    assert (changed.text, changed.headers["X-Matinee-Step"]) == ("a+3,a+5,a+7", "folded_in")


def test_each_answer_is_in_the_log_as_it_was_given(home: Home, published: str):
    users = [f"u{row:03d}" for row in range(12)]
    answers, seconds = [], [0.0]
    with serving(home) as client:
        for user in users:
            answers.append(client.get(f"/recommend/{user}?n=5"))
            seconds.append(metric(client, "matinee_answer_seconds_sum"))
        client.head("/recommend/u001")
        client.get("/recommend/u001?n=0")
    records = read_log(home)
    assert [event_id for event_id, _ in records] == [answer.headers["X-Request-Id"] for answer in answers]
    for user, answer, (request_id, served) in zip(users, answers, records, strict=True):
        assert (served["user"], served["request_id"]) == (user, request_id)
        assert ",".join(served["items"]) == answer.text
        assert (served["model_version"], served["step"]) == (published, answer.headers["X-Matinee-Step"])
        # Scores of a list that was looked up stand in the bundle; nothing of it was left to chance.
        assert (served["arm"], served["scores"], served["propensities"]) == ("main", [], [])
        assert served["time_us"] // 1_000 == int(request_id[:12], 16)
    assert [served["latency_ms"] for _, served in records] == pytest.approx((1e3 * np.diff(seconds)).tolist())


def test_with_what_probability_each_item_was_shown_is_in_the_log(home: Home):
    few = np.where(np.arange(N_ITEMS) >= 38, 0, 100).astype(np.int32)
    publish(
        home.data,
        make_bundle(home, attributes=replace(ItemAttributes.unknown(N_ITEMS), interactions=few)),
        clock=CLOCK,
    )
    with serving(home, settings={"explore_share": 0.5, "deadline_ms": 60_000.0}) as client:
        shown = [client.get("/recommend/u001?n=2").text for _ in range(20)]
    records = [served for _, served in read_log(home)]
    assert [",".join(served["items"]) for served in records] == shown
    # One slot of the two, either with the same chance, explores 38 or 39; the other shows the best.
    chance = {"a+1": 1 / 2, "a+38": 1 / 4, "a+39": 1 / 4}
    for served in records:
        assert served["propensities"] == pytest.approx([chance[item] for item in served["items"]])


def read_log(home: Home) -> list[tuple[str, dict[str, Any]]]:
    import msgspec

    with SqliteLog(home.data / "log.sqlite", CLOCK) as log:
        batches = log.reader(lambda partition: 0).poll(max_records=10_000, timeout=0)
    envelopes = [unwrap(value) for batch in batches for value in batch.values]
    return [(envelope.event_id or "", msgspec.json.decode(envelope.payload)) for envelope in envelopes]


def metric(client: TestClient, name: str) -> float:
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name} ")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def wait_until_metric(client: TestClient, name: str, value: float) -> None:
    end = time.monotonic() + 20
    while metric(client, name) != value:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_log_that_stalls_delays_no_answer(home: Home, published: str):
    stalled = threading.Event()

    class Stalling(SqliteLog):
        def append(self, values, *, partition=0):
            stalled.wait()
            return super().append(values, partition=partition)

    def open_log():
        return Stalling(home.data / "log.sqlite", CLOCK)

    with serving(home, open_event_log=open_log, settings={"telemetry_queue": 30}) as client:
        assert all(client.get("/recommend/u001").status_code == 200 for _ in range(100))
        assert metric(client, "matinee_telemetry_offered_total") == 100
        assert metric(client, "matinee_telemetry_dropped_total") == 70
        assert metric(client, "matinee_telemetry_queued") == 30
        stalled.set()
        wait_until_metric(client, "matinee_telemetry_written_total", 30)
    assert len(read_log(home)) == 30


def test_a_history_that_breaks_down_breaks_no_answer(home: Home, published: str):
    class Broken(LmdbHistory):
        def glance(self, user):
            raise RuntimeError("the disk is on fire")

    def open_history():
        return Broken(home.data / "history", map_bytes=1 << 24)

    with serving(home, open_live_history=open_history) as client:
        wait_until_metric(client, "matinee_history_open", 1)
        assert client.get("/recommend/u001?n=2").text == "a+1,a+2"
        assert metric(client, 'matinee_answers_without_total{part="history",reason="error"}') == 1


def test_what_nobody_expected_is_logged_and_not_shown(client: TestClient, published: str, monkeypatch):
    def broken(*arguments, **named):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(client.app.service.telemetry, "offer", broken)
    response = client.get("/recommend/u001")
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert response.headers["X-Request-Id"]


def test_metrics_count_what_was_asked_and_answered(client: TestClient, published: str):
    for path in ("/recommend/u001", "/recommend/nobody", "/recommend/u001?n=x"):
        client.get(path)
    text = client.get("/metrics").text
    assert f'matinee_answers_total{{model_version="{published}",step="personal"}} 1.0' in text
    assert f'matinee_answers_total{{model_version="{published}",step="popular"}} 1.0' in text
    assert 'matinee_responses_total{status="400"} 1.0' in text
    assert "matinee_answer_seconds_count 2.0" in text
    assert f'matinee_bundle_info{{arm="main",model="als",model_version="{published}"}} 1.0' in text
    assert metric(client, "matinee_release_swaps_total") == 1


def test_metrics_survive_a_part_that_cannot_be_read(client: TestClient, monkeypatch):
    monkeypatch.setattr(client.app.service.counters, "answers", None)
    response = client.get("/metrics")
    assert response.status_code == 200
    assert "matinee_metric_failures_total 1.0" in response.text
    assert "matinee_answers_total" not in response.text
    assert 'matinee_responses_total{status="200"}' in response.text


def test_a_request_id_sorts_by_time():
    early, late = new_request_id(1_700_000_000_000_000), new_request_id(1_700_000_000_001_000)
    assert early[:12] < late[:12]
    assert len(early) == 32
    assert int(early[:12], 16) == 1_700_000_000_000
