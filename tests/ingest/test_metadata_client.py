"""Asking an API: over real sockets one that misbehaves, and made-up answers where these say more."""

import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.core.breaker import FAILURES
from matinee.core.clock import SECOND, ManualClock, SystemClock
from matinee.ingest.metadata_client import (
    BUSY_SECONDS,
    LARGEST_ANSWER,
    LONGEST_PAUSE_SECONDS,
    PAUSES,
    Api,
    Failure,
    NoAnswer,
    Pace,
    http_client,
)
from matinee.ingest.metadata_reading import Described, Reason, Unknown, Unreadable
from matinee.simulation.apis import Fault, Manners
from metadata_samples import ITEMS, apis


class Asking:
    """An API, and what it is asked through."""

    def __init__(self, url, clock=None, timeout=5.0, transport=None):
        self.url = url
        self.clock = clock or ManualClock()
        self.timeout = timeout
        self.stopping = threading.Event()
        self.pace = Pace(1_000, self.clock, self.stopping)
        self._opened = http_client(1, transport)

    def __enter__(self):
        self.http = self._opened.__enter__()
        self.api = self.another("item", self.url, self.timeout)
        return self

    def __exit__(self, *raised):
        self._opened.__exit__(*raised)

    def another(self, kind, url, timeout=5.0):
        """Another API, through the same connection."""
        return Api(kind, url, self.http, timeout_seconds=timeout, pace=self.pace, clock=self.clock)

    def why_not(self, key=ITEMS[0]):
        with pytest.raises(NoAnswer) as caught:
            self.api.ask(key)
        return caught.value.why


def asking(its, timeout=5.0):
    """Over real sockets."""
    return Asking(its.item_url, timeout=timeout)


def answered_by(answer, clock=None):
    """By a function of the request, or always the same."""
    handler = answer if callable(answer) else lambda _request: answer
    return Asking("http://host/movie/{id}", clock, transport=httpx.MockTransport(handler))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_it_reads_what_the_api_says():
    with apis() as its, asking(its) as client:
        assert client.api.ask(ITEMS[0]).row["item"] == ITEMS[0]
        assert client.api.ask("nothing+1990") == Unknown()
        assert its.answers == {"found": 1, "unknown": 1}


@given(st.from_regex(r"[!#$&'()*+.0-9:;<=>@A-Z\[\]^_`a-z{|}~-]{1,40}", fullmatch=True))
def test_every_id_arrives_as_it_is(key):
    if set(key) == {"."}:
        return  # a path of dots means a folder, whatever one does
    paths = []

    def answer(request):
        paths.append(request.url.path)
        return httpx.Response(404, json={"message": "not found"})

    with answered_by(answer) as client:
        assert client.api.ask(key) == Unknown()
    assert paths == [f"/movie/{key}"]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault.HTML, Reason.HTML),
        (Fault.TOO_MANY, Failure.BUSY),
        (Fault.RETRY_AFTER, Failure.BUSY),
        (Fault.SERVER_ERROR, Failure.SERVER),
        (Fault.CLOSED, Failure.CONNECTION),
        (Fault.CUT, Failure.CONNECTION),
    ],
)
def test_each_fault_of_the_api_has_its_reason(fault, why):
    with apis(Manners(faults={fault: 1.0})) as its, asking(its) as client:
        assert client.why_not() == why
        assert its.requests == 1


@pytest.mark.parametrize(("fault", "why"), [(Fault.BROKEN_JSON, Reason.NOT_JSON), (Fault.MESSAGE, Reason.MESSAGE)])
def test_what_may_be_the_fault_of_one_id_never_opens_the_breaker(fault, why):
    with apis(Manners(faults={fault: 1.0})) as its, asking(its) as client:
        for _ in range(2 * FAILURES):
            assert client.api.ask(ITEMS[0]) == Unreadable(why)
        assert not client.api.is_away


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.TRICKLE, Fault.DRIP])
def test_silence_trickling_and_dripping_end_with_the_time_limit_and_open_the_breaker(fault):
    # 600 s, and 20 s for 400 bytes, it would have taken otherwise
    manners = Manners(faults={fault: 1.0}, hang_seconds=600, trickle_seconds=0.05)
    with apis(manners) as its, asking(its, timeout=0.2) as client:
        for _ in range(FAILURES):
            assert not client.api.is_away
            assert client.why_not() == Failure.TIMEOUT
        assert client.api.is_away
        its.manners = Manners()
        assert client.another("item", its.item_url, timeout=60).ask(ITEMS[0]).row["item"] == ITEMS[0]


class Dripping:
    """Sends whoever asks a beginning, and then the same bytes again and again, for a minute or until they leave."""

    def __init__(self, begins, goes_on, pause=0.05, scheme="http"):
        self.says = begins, goes_on, pause
        self.was_left = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(60)  # for who never comes
        self._thread = threading.Thread(target=self._serve)
        self.url = f"{scheme}://127.0.0.1:{self._listening.getsockname()[1]}/movie/{{id}}"

    def _serve(self):
        begins, goes_on, pause = self.says
        connection, _ = self._listening.accept()
        until = time.monotonic() + 60
        with connection:
            connection.recv(65_536)
            try:
                connection.sendall(begins)
                while time.monotonic() < until:
                    connection.sendall(goes_on)
                    time.sleep(pause)
            except OSError:
                self.was_left = True

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join()
        self._listening.close()


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [
        (b"HTTP/1.1 200 OK\r\nServer: ", b"a"),
        (b"HTTP/1.1 200 OK\r\n", b"Set-Cookie: a\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1", b"0"),
    ],
    ids=["header", "headers", "informational", "body", "chunks", "length of a chunk"],
)
def test_no_part_of_an_answer_may_drip_for_longer_than_the_time_limit(begins, goes_on):
    with Dripping(begins, goes_on) as server, Asking(server.url, timeout=0.5) as client:
        assert client.why_not() == Failure.TIMEOUT
    assert server.was_left


def test_neither_may_a_handshake():
    hello = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"  # a record of 16 KB with a ServerHello as long as that
    with Dripping(hello, b"\x03", scheme="https") as server, Asking(server.url, timeout=0.5) as client:
        assert client.why_not() == Failure.TIMEOUT
    assert server.was_left


def test_what_is_no_tls_in_the_middle_of_it_has_failed_as_a_connection_does(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    pem = tmp_path / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout", pem, "-out", tmp_path / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", pem)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with context.wrap_socket(listening.accept()[0], server_side=True) as connection:
                connection.recv(65_536)
                os.write(connection.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))  # a record nobody encrypted

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/movie/{{id}}"
        with Asking(url, transport=httpx.AsyncHTTPTransport(verify=False)) as client:
            assert client.why_not() == Failure.CONNECTION
        thread.join()


def test_neither_may_connecting():
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.create_connection(full.getsockname()),
        Asking(f"http://127.0.0.1:{full.getsockname()[1]}/movie/{{id}}", timeout=0.5) as client,
    ):
        assert client.why_not() == Failure.TIMEOUT


def test_a_flood_without_an_end_is_not_waited_for_either():
    """There is always something to read: nobody ever waits for the socket."""
    flood = b"HTTP/1.1 100 Continue\r\n\r\n" * 100
    with Dripping(b"", flood, pause=0) as server, Asking(server.url, timeout=0.5) as client:
        assert client.why_not() == Failure.TIMEOUT
    assert server.was_left


def test_nobody_there():
    with apis() as its:
        url = its.item_url
    with Asking(url) as client:
        assert client.why_not() == Failure.CONNECTION


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (httpx.Response(404, text="no such page"), Failure.REFUSED),
        (httpx.Response(404, json={"message": "no route"}), Failure.REFUSED),
        (httpx.Response(403, json={"message": "key not found"}), Failure.REFUSED),
        (httpx.Response(302, headers={"Location": "http://elsewhere/"}), Failure.ODD_STATUS),
        (httpx.Response(500, json={"message": "not found"}), Failure.SERVER),
        (httpx.Response(200, content=b" " * (LARGEST_ANSWER + 1)), Failure.TOO_LARGE),
    ],
)
def test_other_answers(answer, why):
    with answered_by(answer) as client:
        assert client.why_not() == why


def test_a_damaged_compression():
    def answer(_request):
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"not gzip"))

    with answered_by(answer) as client:
        assert client.why_not() == Failure.ENCODING


class Raw:
    """Sends the same bytes to whoever connects and asks, whatever these bytes are, and closes."""

    def __init__(self):
        self.says = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/movie/{{id}}"

    def _serve(self):
        while True:
            connection, _ = self._listening.accept()
            with connection, suppress(OSError):  # the other side may have read enough
                if not connection.recv(65_536):
                    return
                connection.sendall(self.says)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        with socket.create_connection(self._listening.getsockname()):
            pass  # who connects and asks nothing ends it
        self._thread.join(timeout=60)
        self._listening.close()


@pytest.fixture(scope="module")
def raw():
    with Raw() as server:
        yield server


names = st.sampled_from(
    [
        b"Content-Length",
        b"Content-Type",
        b"Location",
        b"Set-Cookie",
        b"Transfer-Encoding",
        b"Retry-After",
        b"Content-Encoding",
    ]
)
heads = st.builds(
    lambda status, headers: (
        b"HTTP/1.1 %d x\r\n" % status + b"".join(b"%s: %s\r\n" % one for one in headers) + b"\r\n"
    ),
    st.integers(0, 999),
    st.lists(
        st.tuples(
            names,
            st.sampled_from([b"3", b"-1", b"chunked", b"gzip", b"http://[", b"a=b", b"x" * 70_000])
            | st.binary(max_size=9),
        ),
        max_size=3,
    ),
)


@given(
    st.binary()
    | st.builds(lambda head, body: head + body, heads, st.binary() | st.just(b'{"id": "x", "title": "X"}'))
)
def test_whatever_bytes_the_socket_brings_come_to_something(raw, says):
    raw.says = says
    transport = httpx.AsyncHTTPTransport(verify=False)  # to read certificates each time would take longest
    with Asking(raw.url, transport=transport) as client, suppress(NoAnswer):
        assert isinstance(client.api.ask("x"), Described | Unknown | Unreadable)


def test_neither_a_key_nor_an_id_is_told():
    with answered_by(httpx.Response(500)) as client:
        api = client.another("user", "http://me:secret@host/user/{id}?key=secret")
        with pytest.raises(NoAnswer, match=r"http://host/user/\{id\}: http_5xx") as caught:
            api.ask("somebody")
    assert "secret" not in str(caught.value)
    assert "somebody" not in str(caught.value)


def test_an_api_that_fails_is_left_alone_and_tried_again_with_growing_pauses():
    with apis(Manners(faults={Fault.SERVER_ERROR: 1.0})) as its, asking(its) as client:
        for _ in range(FAILURES):
            assert client.why_not() == Failure.SERVER
        for asked in range(FAILURES, FAILURES + 12):
            assert client.api.is_away
            assert client.api.ask(ITEMS[0]) is None
            assert its.requests == asked
            client.clock.sleep(PAUSES[1])
            assert not client.api.is_away
            assert client.why_not() == Failure.SERVER
        assert client.api.failing_seconds >= 12 * PAUSES[1]
        client.clock.sleep(PAUSES[0])
        assert client.api.is_away  # the pauses have grown


def test_when_it_answers_again_all_is_well():
    answers = [httpx.Response(500)] * FAILURES + [httpx.Response(200, json={"id": "x", "title": "X"})] * 2
    with answered_by(lambda _request: answers.pop(0)) as client:
        for _ in range(FAILURES):
            client.why_not("x")
        client.clock.sleep(PAUSES[1])
        assert isinstance(client.api.ask("x"), Described)
        assert client.api.failing_seconds == 0
        assert isinstance(client.api.ask("x"), Described)


def test_retry_after_is_honoured():
    with apis(Manners(faults={Fault.RETRY_AFTER: 1.0}, retry_after=30)) as its, asking(its) as client:
        for asked in range(1, FAILURES):
            assert client.why_not() == Failure.BUSY
            client.clock.sleep(29.9)
            assert not client.api.may_be_asked
            assert client.api.ask(ITEMS[0]) is None
            assert its.requests == asked
            client.clock.sleep(0.2)
            assert client.api.may_be_asked


def _in_a_minute(clock):
    return format_datetime(
        datetime.fromtimestamp(clock.now_us() / SECOND, UTC) + timedelta(seconds=60), usegmt=True
    )


@pytest.mark.parametrize(
    ("status", "says", "seconds"),
    [
        (429, "7", 7),
        (503, "7", 7),
        (503, None, 0),
        (429, None, BUSY_SECONDS),
        (429, "0", BUSY_SECONDS),
        (429, "-5", BUSY_SECONDS),
        (429, "soon", BUSY_SECONDS),
        (429, "9" * 300, LONGEST_PAUSE_SECONDS),
        (429, "9" * 5_000, BUSY_SECONDS),
        (429, "Wed, 21 Oct 2015 07:28:00 GMT", BUSY_SECONDS),
        (429, "Wed, 99 Oct 9999 07:28:00 GMT", BUSY_SECONDS),
        (429, "in a minute", 60),
    ],
)
def test_how_long_a_pause_is(status, says, seconds):
    clock = ManualClock()
    says = _in_a_minute(clock) if says == "in a minute" else says
    with answered_by(
        httpx.Response(status, headers={} if says is None else {"Retry-After": says}), clock
    ) as client:
        client.why_not()
        began = clock.monotonic()
        while not client.api.may_be_asked:
            clock.sleep(0.25)
        assert clock.monotonic() - began == pytest.approx(seconds, abs=0.26)


def test_the_pace_is_even_on_a_clock_that_is_told():
    clock = ManualClock()
    pace = Pace(5, clock, threading.Event())
    turns = []
    for number in range(60):
        assert pace.take()
        turns.append(clock.monotonic())
        if number == 30:
            clock.sleep(10)  # what was not used is not made up for
    gaps = [b - a for a, b in pairwise(turns)]
    assert min(gaps) > 0.2 - 1e-9
    assert sum(gap > 0.2 + 1e-9 for gap in gaps) == 1


def test_the_pace_is_kept_by_many_threads():
    clock = SystemClock()
    pace = Pace(200, clock, threading.Event())
    began = time.monotonic()
    threads = [threading.Thread(target=lambda: [pace.take() for _ in range(5)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= 39 / 200


def test_who_waits_for_a_turn_hears_that_an_end_was_asked_for():
    stopping = threading.Event()
    pace = Pace(0.001, SystemClock(), stopping)
    assert pace.take()
    threading.Timer(0.05, stopping.set).start()
    assert not pace.take()
