"""What a request may be, and what is answered to one that is more: by the functions, and by a real server."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_samples import make_bundle, new_home, server, wait_for
from starlette.exceptions import HTTPException

from matinee.core.clock import SystemClock
from matinee.core.settings import ServingSettings
from matinee.log.sqlite import SqliteLog
from matinee.release.plan import publish
from matinee.serving.headers import SECURITY_HEADERS, secured
from matinee.serving.key_file import Scope, create_key
from matinee.serving.limits import Limits

CLOCK = SystemClock()
LIMIT = 1_024


def limits(**changes) -> Limits:
    fields = {"max_body_bytes": LIMIT, "max_header_bytes": 1_024, "max_target_bytes": 256, "receive_seconds": 60.0}
    return Limits(ServingSettings(**(fields | changes)))


def scope(path="/v1/events", query=b"", headers=()) -> dict:
    return {
        "type": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": list(headers),
    }


def test_each_limit_to_the_byte():
    assert limits().refusal(scope("/" + "a" * 255)) is None
    assert limits().refusal(scope("/" + "a" * 256)).status == 414
    assert limits().refusal(scope("/" + "a" * 200, b"n" * 55)) is None
    assert limits().refusal(scope("/" + "a" * 200, b"n" * 56)).status == 414
    assert limits().refusal(scope(headers=[(b"a" * 24, b"b" * 1_000)])) is None
    assert limits().refusal(scope(headers=[(b"a" * 24, b"b" * 1_000), (b"c", b"")])).status == 431
    assert limits().refusal(scope(headers=[(b"content-length", b"1024")])) is None
    assert limits().refusal(scope(headers=[(b"content-length", b"1025")])).status == 413
    assert limits().refusal(scope(headers=[(b"content-length", b"9" * 300)])).status == 413


async def read(received, of=None) -> bytes:
    """The body that an application reads through the limits."""
    messages = iter(received)

    async def receive():
        return next(messages)

    limited = (of or limits()).receiving(receive)
    body, more = b"", True
    while more:
        message = await limited()
        body, more = body + message["body"], message["more_body"]
    return body


def chunks(body: bytes, cuts: list[int]) -> list[dict]:
    edges = sorted({0, len(body), *(min(cut, len(body)) for cut in cuts)})
    parts = [body[a:b] for a, b in pairwise(edges)] or [b""]
    return [
        {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]


@given(st.integers(0, 2 * LIMIT), st.lists(st.integers(0, 2 * LIMIT), max_size=5))
def test_a_body_up_to_the_limit_is_read_and_a_longer_one_refused_however_it_comes(size, cuts):
    body = bytes(size)
    if size <= LIMIT:
        assert asyncio.run(read(chunks(body, cuts))) == body
    else:
        with pytest.raises(HTTPException) as refused:
            asyncio.run(read(chunks(body, cuts)))
        assert refused.value.status_code == 413


def test_no_more_than_one_chunk_beyond_the_limit_is_read():
    received = []

    def endless():
        while True:
            received.append(1)
            yield {"type": "http.request", "body": bytes(600), "more_body": True}

    with pytest.raises(HTTPException):
        asyncio.run(read(endless()))
    assert len(received) == 2


def test_a_body_that_breaks_off_is_the_clients_fault():
    broken = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    with pytest.raises(HTTPException) as refused:
        asyncio.run(read(broken))
    assert refused.value.status_code == 400


def test_a_body_that_does_not_come_is_given_up():
    async def never():
        await asyncio.Event().wait()

    with pytest.raises(HTTPException) as refused:
        asyncio.run(limits(receive_seconds=0.01).receiving(never)())
    assert refused.value.status_code == 408


def test_after_the_body_the_clients_leaving_is_no_fault():
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}])

    async def both():
        async def receive():
            return next(messages)

        limited = limits().receiving(receive)
        return await limited(), await limited()

    assert asyncio.run(both())[1]["type"] == "http.disconnect"


def headers_of(answer_headers, scheme="http", request_headers=()) -> dict[bytes, bytes]:
    sent = []

    async def send(message):
        sent.append(message)

    start = {"type": "http.response.start", "status": 200, "headers": answer_headers}
    asyncio.run(secured({"scheme": scheme, "headers": list(request_headers)}, send)(start))
    assert len({name for name, _ in sent[0]["headers"]}) == len(sent[0]["headers"])
    return dict(sent[0]["headers"])


def test_security_headers_leave_an_answers_own_and_say_tls_only_behind_tls():
    assert headers_of([]) == dict(SECURITY_HEADERS)
    own = (b"Content-Security-Policy", b"default-src 'self'")
    assert headers_of([own]).keys() == {own[0], *dict(SECURITY_HEADERS)} - {b"content-security-policy"}
    assert b"strict-transport-security" in headers_of([], "https")
    assert b"strict-transport-security" in headers_of([], request_headers=[(b"x-forwarded-proto", b"https")])
    assert b"strict-transport-security" not in headers_of([], request_headers=[(b"x-forwarded-proto", b"http")])


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[tuple[str, str]]:
    """A server process with small limits, and a key for it."""
    home = new_home(tmp_path_factory.mktemp("limits"))
    _, key = create_key(home, "tests", Scope.WRITE, clock=CLOCK)
    publish(home.data, make_bundle(home), clock=CLOCK)
    with server(
        home,
        MATINEE_SERVING__MAX_BODY_BYTES="2048",
        MATINEE_SERVING__MAX_HEADER_BYTES="4096",
        MATINEE_SERVING__MAX_TARGET_BYTES="1024",
        MATINEE_SERVING__RECEIVE_SECONDS="1",
    ) as (url, process):
        wait_for(url)
        yield url, key
        assert process.poll() is None
        page = httpx.get(f"{url}/metrics").text
        assert 'matinee_responses_total{status="500"' not in page
        with SqliteLog(home.data / "log.sqlite", CLOCK) as log:
            assert not [v for b in log.reader(lambda _: 0).poll(max_records=10_000, timeout=0) for v in b.values
                        if b"\tkey:" in v]  # fmt: skip


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30) as connection:
        yield connection


def answer_to(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The answer that comes, until its length is there or the connection ends."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65_536)
        if not part:
            return 0, {}, data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65_536)
    return int(lines[0].split()[1]), headers, body


def head(key: str, *more: str, path: str = "/v1/events", method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"X-Api-Key: {key}", "Content-Type: application/json", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def assert_problem(answer: tuple[int, dict[str, str], bytes], status: int) -> None:
    assert (answer[0], answer[1]["content-type"]) == (status, "application/problem+json")
    problem = json.loads(answer[2])
    assert problem["status"] == status
    assert problem["request_id"] == answer[1]["x-request-id"]


def test_ten_megabytes_are_refused_before_they_are_sent(running):
    url, key = running
    with connected(url) as connection:
        connection.sendall(head(key, "Content-Length: 10000000"))
        assert_problem(answer_to(connection), 413)


def test_ten_megabytes_sent_all_the_same_get_that_answer_or_a_closed_connection(running):
    url, key = running
    try:
        answer = httpx.post(f"{url}/v1/events", content=bytes(10_000_000), headers={"X-Api-Key": key})
    except httpx.TransportError:
        return
    assert answer.status_code == 413


def test_a_chunked_body_is_refused_once_it_is_too_long(running):
    url, key = running
    with connected(url) as connection:
        connection.sendall(head(key, "Transfer-Encoding: chunked"))
        for _ in range(3):
            connection.sendall(b"400\r\n" + b" " * 1_024 + b"\r\n")
        assert_problem(answer_to(connection), 413)


def test_a_body_that_breaks_off_costs_nothing(running):
    url, key = running
    for framing in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
        with connected(url) as connection:
            connection.sendall(head(key, framing) + b"3e8\r\n[{"[-2 if "Length" in framing else 0 :])
            connection.shutdown(socket.SHUT_WR)
            status, _, _ = answer_to(connection)
            assert status in {0, 400}
    assert httpx.get(f"{url}/recommend/u001").status_code == 200


def test_a_body_that_trickles_is_given_up(running):
    url, key = running
    with connected(url) as connection:
        connection.sendall(head(key, "Content-Length: 1000"))
        began = time.monotonic()
        connection.sendall(b"[")
        assert_problem(answer_to(connection), 408)
        assert time.monotonic() - began >= 0.9


def test_headers_that_trickle_are_given_up(running):
    url, _ = running
    with connected(url) as connection:
        connection.sendall(b"GET /recommend/u001 HTTP/1.1\r\nHost: x\r\n")
        assert answer_to(connection)[0] in {0, 408}  # the server closes; it would wait for ever otherwise


def test_long_paths_and_headers_are_refused(running):
    url, key = running
    long, own = "a" * 1_100, {"X-Api-Key": key}
    for path in (
        f"/recommend/{long}",
        f"/recommend/u001?n={long}",
        f"/v1/users/{long}/recommendations",
        f"/{long}",
    ):
        assert httpx.get(url + path, headers=own).status_code == 414
    for path in ("/recommend/u001", "/v1/users/u001/recommendations", "/healthz"):
        assert httpx.get(url + path, headers=own | {"X-Long": "a" * 5_000}).status_code == 431
        assert httpx.get(url + path, headers=own | {"X-Long": "a" * 500_000}).status_code == 431


def test_every_answer_has_the_security_headers(running):
    url, key = running
    paths = ["/recommend/u001", "/recommend/,", "/healthz", "/readyz", "/metrics", "/nothing", "/v1/nothing",
             "/v1/users/u001/recommendations", "/openapi.json", "/docs"]  # fmt: skip
    for path in paths:
        for headers in ({}, {"X-Api-Key": key}):
            answer = httpx.get(url + path, headers=headers)
            for name, value in SECURITY_HEADERS:
                if path != "/docs" or not headers or name != b"content-security-policy":
                    assert answer.headers[name.decode()] == value.decode(), (path, name)
    page = httpx.get(f"{url}/docs", headers={"X-Api-Key": key})
    assert "script-src 'self'" in page.headers["content-security-policy"]
