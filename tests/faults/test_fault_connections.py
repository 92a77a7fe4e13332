"""Connections that are opened and left, and clients that send a byte now and then."""

import logging
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from types import SimpleNamespace

import httpx
import pytest
from fault_samples import CLOCK, all_answered, measured, metrics

from matinee.serving.key_file import Scope, create_key
from operation.operation_samples import balanced, in_service, until, up
from serving.serving_samples import server, wait_for

WANTED = 10_000
ASK = b"GET /recommend/u003 HTTP/1.1\r\nHost: x\r\n\r\n"
OTHERS = 600
"""Open files of this process besides."""


@contextmanager
def left_open(url, first=b""):
    """As many connections as the system lets one process have, up to `WANTED`; each sent something, or nothing."""
    host, _, port = url.removeprefix("http://").partition(":")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard - OTHERS)
    if most < 1_000:
        pytest.skip(f"open files are limited to {hard}")
    if most < WANTED:
        logging.getLogger(__name__).warning("open files are limited to %d, connections to %d", hard, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most + OTHERS) if soft != -1 else soft, hard))
    try:
        with ExitStack() as stack:
            made = []
            for _ in range(most):
                one = stack.enter_context(closing(socket.create_connection((host, int(port)), timeout=30)))
                one.sendall(first)
                made.append(one)
            yield made
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_behind_the_balancer_idle_connections_cost_nobody_an_answer(home, released):
    with up(home) as running:
        with left_open(running.url) as made, all_answered(running.url, at_least=500) as counted:
            assert in_service(running.administration) == ["server1", "server2"]
            assert metrics(running.statistics)['haproxy_frontend_current_sessions{proxy="people"}'] >= len(made)
        assert in_service(running.administration) == ["server1", "server2"]
    measured(fault="idle connections, balancer", connections=len(made), requests=counted["good"],
             slowest=counted["slowest"])  # fmt: skip


class Newcomers(threading.Thread):
    """Asks again and again, each time over a connection of its own; keeps how long each answer took."""

    def __init__(self, url):
        super().__init__()
        self.url, self.took, self.failed, self.done = url, [], [], threading.Event()

    def run(self):
        while not self.done.wait(0.02):
            began = time.monotonic()
            try:
                httpx.get(f"{self.url}/recommend/u003", timeout=60).raise_for_status()
            except httpx.HTTPError as error:
                self.failed.append(repr(error))
            self.took.append(time.monotonic() - began)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()


@pytest.mark.parametrize("first", [b"", ASK], ids=["silent", "asked once"])
def test_a_server_by_itself_makes_newcomers_wait_until_idle_connections_have_had_their_time(home, released, first):
    with server(home, MATINEE_SERVING__RECEIVE_SECONDS="2") as (url, process):
        wait_for(url)
        with all_answered(url, at_least=500) as counted, Newcomers(url) as newcomers, left_open(url, first) as made:
            until(lambda: len(newcomers.took) > 50, "newcomers are answered")
        assert process.poll() is None
    assert newcomers.failed == []
    measured(fault="idle connections, server", connections=len(made), longest_wait=max(newcomers.took),
             kept_slowest=counted["slowest"])  # fmt: skip


SLOW = {
    "head": (b"GET /recommend/u003 HTTP/1.1\r\nHost: x\r\n", b"X-A: b\r\n"),
    "body": (b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n", b"x"),
}
"""What a slow client begins with, and what it then sends again and again."""


def dribble(url, begun, more):
    """Send a little ten times a second until one is sent away; (status or nothing, after how many seconds)."""
    host, _, port = url.removeprefix("http://").partition(":")
    began = time.monotonic()
    with closing(socket.create_connection((host, int(port)), timeout=0.1)) as connection:
        connection.sendall(begun)
        while time.monotonic() < began + 60:
            try:
                told = connection.recv(4_096)
            except TimeoutError:
                with suppress(ConnectionError):
                    connection.sendall(more)
                continue
            except ConnectionError:
                told = b""
            return told[9:12].decode(), time.monotonic() - began
    raise AssertionError("a slow client was kept for a minute")


def drip_all(url, token):
    """Fifty slow clients of each kind at once: what each kind was told, and the longest that one was kept."""
    body = (
        SLOW["body"][0] + f"Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n\r\n".encode(),
        SLOW["body"][1],
    )
    told = {"head": [], "body": []}
    with ThreadPoolExecutor(100) as pool:
        futures = [(name, pool.submit(dribble, url, *parts)) for name, parts in
                   [("head", SLOW["head"]), ("body", body)] for _ in range(50)]  # fmt: skip
        for name, future in futures:
            told[name].append(future.result())
    return {name: (sorted({status for status, _ in all_told}), max(seconds for _, seconds in all_told))
            for name, all_told in told.items()}  # fmt: skip


def test_slow_clients_are_sent_away_by_the_balancer_and_cost_nobody_an_answer(home, released):
    _, token = create_key(home, "test", Scope.WRITE, clock=CLOCK)
    with up(home) as running, all_answered(running.url, at_least=500) as counted:
        told = drip_all(running.url, token)
        reached = [metrics(f"http://{entry.address}") for entry in running.entries().values()]
    assert {name: statuses for name, (statuses, _) in told.items()} == {"head": ["408"], "body": ["408"]}
    assert not any(name.startswith('matinee_responses_total{status="4') for shown in reached for name in shown)
    measured(fault="slow clients, balancer", kept={name: round(seconds, 1) for name, (_, seconds) in told.items()},
             requests=counted["good"], slowest=counted["slowest"])  # fmt: skip


def test_slow_clients_are_sent_away_by_a_server_and_cost_nobody_an_answer(home, released):
    _, token = create_key(home, "test", Scope.WRITE, clock=CLOCK)
    with server(home, MATINEE_SERVING__RECEIVE_SECONDS="2") as (url, _):
        wait_for(url)
        with all_answered(url, at_least=500) as counted:
            told = drip_all(url, token)
        assert metrics(url)['matinee_responses_total{status="408"}'] == 50
    assert told["head"][0] in (["408"], [""])  # Granian may close without a word
    assert told["body"][0] == ["408"]
    measured(fault="slow clients, server", kept={name: round(seconds, 1) for name, (_, seconds) in told.items()},
             requests=counted["good"], slowest=counted["slowest"])  # fmt: skip


def test_a_body_of_ten_megabytes_is_the_clients_mistake_behind_the_balancer_too(folder, home, released):
    _, token = create_key(home, "test", Scope.WRITE, clock=CLOCK)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    asked = [("POST", "/v1/events"), ("POST", "/v1/recommendations"), ("GET", "/recommend/u003")]

    def send(url, method, path, content):
        return httpx.request(method, url + path, content=content, headers=headers, timeout=30)

    with server(home) as (behind, _):
        wait_for(behind)
        ports = [SimpleNamespace(port=int(behind.rpartition(":")[2]))]
        with balanced(folder, ports) as (url, administration, statistics):
            for method, path in asked:
                refused = send(url, method, path, bytes(10_000_000))
                assert (refused.status_code, "10000000 bytes; up to 1000000" in refused.text) == (413, True)
                # What does not say how long it is the server refuses half-read. HAProxy 2.6 may lose that answer.
                with suppress(httpx.TransportError):
                    assert send(url, method, path, iter([bytes(65_536)] * 160)).status_code in {400, 413}
            assert httpx.get(f"{url}/recommend/u003").status_code == 200
            assert in_service(administration) == ["toy1"]
            shown = metrics(statistics)
        assert shown['haproxy_frontend_http_responses_total{proxy="people",code="4xx"}'] >= len(asked)
        assert not [name for name in metrics(behind) if 'status="500"' in name]
