"""What the generated configuration makes a real HAProxy do, before servers that misbehave."""

import json
import socket
import ssl
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from types import SimpleNamespace

import httpx
import pytest
from operation_samples import OK, RETRIES, Toy, balanced, field, until

from matinee.core.clock import SystemClock
from matinee.core.errors import StoreUnavailable
from matinee.core.settings import ServingSettings
from matinee.log.sqlite import SqliteLog
from matinee.operation.haproxy import Administration
from matinee.serving.headers import SECURITY_HEADERS
from matinee.serving.key_file import Scope, create_key
from serving.serving_samples import server, wait_for


@pytest.mark.parametrize("bad", [lambda head: None, lambda head: "wait"], ids=["closes", "waits"])
def test_a_get_that_a_server_loses_is_asked_of_another(folder, haproxy, bad):
    with Toy(bad) as one, Toy() as other, balanced(folder, [one, other], haproxy=haproxy) as (url, *_):
        statuses = [httpx.get(f"{url}/recommend/u").status_code for _ in range(6)]
        assert statuses == [200] * 6
        assert one.asked  # it was asked, and did lose them
        assert len(other.asked) == 6


def test_a_get_that_every_server_loses_is_tried_often_enough_to_outlast_the_checks(folder, haproxy):
    with Toy(lambda head: None) as toy, balanced(folder, [toy], haproxy=haproxy) as (url, *_):
        assert httpx.get(f"{url}/recommend/u").status_code == 502
        assert len(toy.asked) == 1 + RETRIES


def test_three_checks_in_a_row_take_a_server_out_and_two_do_not(folder, haproxy):
    def is_down():
        return "toy1 is DOWN" in (folder / "haproxy.out").read_text()

    with Toy() as toy, balanced(folder, [toy], haproxy=haproxy) as (url, administration, _):
        toy.failing_checks = 2
        until(lambda: toy.failing_checks == 0, "two checks have failed")
        assert httpx.get(url).status_code == 200
        until(lambda: administration.entries()[0].is_up, "a check has succeeded")
        assert not is_down()
        toy.failing_checks = 3
        until(is_down, "the toy is down")


def test_a_server_that_does_not_listen_costs_nothing(folder, haproxy):
    with Toy() as one, Toy() as other, balanced(folder, [one, other], haproxy=haproxy) as (url, *_):
        one.close()
        assert [httpx.get(f"{url}/recommend/u").status_code for _ in range(10)] == [200] * 10


@pytest.mark.parametrize(
    ("path", "headers", "again"),
    [
        ("/v1/events", {"Idempotency-Key": "post-1"}, True),
        ("/v1/events", {}, True),
        ("/v1/recommendations", {}, True),
        ("/v1/sessions/recommendations", {}, True),
        ("/v1/predictions", {}, True),
        ("/v1/others", {"Idempotency-Key": "post-1"}, False),
        ("/v1/others", {}, False),
    ],
)
def test_a_post_is_repeated_only_where_it_asks_or_ids_tell_a_repeat(folder, haproxy, path, headers, again):
    with (
        Toy(lambda head: None) as one,
        Toy() as other,
        balanced(folder, [one, other], haproxy=haproxy) as (url, *_),
    ):
        bodies = [f"event {number}".encode() for number in range(8)]
        statuses = [httpx.post(url + path, headers=headers, content=body).status_code for body in bodies]
        seen = Counter(body for toy in (one, other) for _, body in toy.asked)
        assert one.asked
    if again:
        assert statuses == [200] * 8
        assert {body for _, body in other.asked} == set(bodies)
    else:
        assert seen == Counter(bodies)  # each came to one server, once
        assert Counter(statuses) == {200: len(other.asked), 502: len(one.asked)}


def names_of_posts(toys):
    """The `Idempotency-Key` that each body came with, as often as it came."""
    found = {}
    for head, body in (asked for toy in toys for asked in toy.asked):
        found.setdefault(body, []).append(field(head, "idempotency-key"))
    return found


def test_a_post_that_names_itself_keeps_its_name_and_every_other_has_one_that_a_repeat_keeps(folder, haproxy):
    with (
        Toy(lambda head: None) as one,
        Toy() as other,
        balanced(folder, [one, other], haproxy=haproxy) as (url, *_),
    ):
        for number in range(8):
            httpx.post(f"{url}/v1/events", content=f"event {number}".encode())
        httpx.post(f"{url}/v1/events", content=b"named", headers={"Idempotency-Key": "post-1"})
        httpx.get(f"{url}/v1/events")
        httpx.post(f"{url}/v1/predictions", content=b"asks")
        found = names_of_posts([one, other])
    assert {found.pop(body, [None])[0] for body in (b"", b"asks")} == {None}
    assert set(found.pop(b"named")) == {"post-1"}
    assert any(len(names) > 1 for names in found.values())  # some were lost, and sent again
    assert all(len(set(names)) == 1 for names in found.values())
    assert len({names[0] for names in found.values()} - {None}) == 8


@pytest.mark.parametrize(
    ("bad", "status"), [(lambda head: None, 502), (lambda head: "wait", 504)], ids=["closes", "waits"]
)
def test_events_that_do_not_fit_into_the_buffer_are_not_sent_again(folder, haproxy, bad, status):
    def post(body):
        return httpx.post(f"{url}/v1/events", content=body, timeout=60).status_code

    with (
        Toy(bad) as one,
        Toy() as other,
        balanced(folder, [one, other], haproxy=haproxy) as (url, *_),
        ThreadPoolExecutor(6) as pool,
    ):
        bodies = [b"%d" % number * 20_000 for number in range(6)]
        statuses = list(pool.map(post, bodies))
        seen = Counter(body for toy in (one, other) for _, body in toy.asked)
        assert one.asked
    assert seen == Counter(bodies)
    assert Counter(statuses) == {200: len(other.asked), status: len(one.asked)}


def test_posts_of_every_length_that_a_server_takes_reach_it(folder, haproxy, home, released):
    _, key = create_key(home, "test", Scope.WRITE, clock=SystemClock())
    headers = {"X-Api-Key": key, "Content-Type": "application/json"}
    user = "u" * 190
    with server(home) as (direct, _):
        wait_for(direct)
        behind = SimpleNamespace(port=int(direct.rpartition(":")[2]))
        with balanced(folder, [behind], haproxy=haproxy) as (url, *_):
            for length in (20_000, 300_000, ServingSettings().max_body_bytes):
                ids = [f"{length}-{number}" for number in range(min(1_000, length // 300))]
                post = [{"kind": "rating", "user": user, "item": "a+1", "rating": 5, "id": name} for name in ids]
                body = json.dumps(post).ljust(length)
                assert len(body) == length
                answer = httpx.post(f"{url}/v1/events", content=body, headers=headers, timeout=60)
                assert (answer.status_code, answer.json()) == (202, {"accepted": len(ids), "ids": ids})
    with SqliteLog(home.data / "log.sqlite", SystemClock()) as log:
        batches = log.reader(lambda partition: 0).poll(max_records=10_000, timeout=0)
        assert sum(user.encode() in value for batch in batches for value in batch.values) == 66 + 1_000 + 1_000


def test_a_body_that_is_announced_too_long_meets_no_server(folder, haproxy):
    with Toy() as toy, balanced(folder, [toy], haproxy=haproxy, body_bytes=5_000) as (url, *_):
        answers = [httpx.post(f"{url}/v1/events", content=b"x" * size) for size in (5_000, 5_001, 10_000_000)]
        assert [len(body) for _, body in toy.asked] == [5_000]
    assert [answer.status_code for answer in answers] == [200, 413, 413]
    assert answers[-1].text == "The body has 10000000 bytes; up to 5000 are taken.\n"
    assert_secured(answers[-1])


def test_a_client_is_who_it_is_seen_to_be(folder, haproxy):
    with Toy() as toy, balanced(folder, [toy], haproxy=haproxy) as (url, *_):
        forged = {"X-Forwarded-For": "8.8.8.8", "Forwarded": "for=8.8.8.8", "X-Forwarded-Proto": "https"}
        httpx.get(url, headers=forged)
        head, _ = toy.asked[0]
    assert field(head, "x-forwarded-for") == "127.0.0.1"
    assert field(head, "x-forwarded-proto") == "http"
    assert field(head, "forwarded") is None


def test_a_client_that_asks_too_often_is_told_to_wait_and_others_are_not(folder, haproxy):
    def ask(address, forged):
        with httpx.Client(transport=httpx.HTTPTransport(local_address=address)) as client:
            return client.get(url, headers={"X-Forwarded-For": forged})

    with Toy() as toy, balanced(folder, [toy], haproxy=haproxy, client_requests_per_second=1) as (url, *_):
        # The window of ten seconds slides: a slow machine may let one more through.
        answers = [ask("127.0.0.1", f"10.0.0.{number}") for number in range(30)]
        other = ask("127.0.0.2", "10.0.0.1")
    assert [answer.status_code for answer in answers[:10]] == [200] * 10
    assert answers[-1].status_code == 429
    assert answers[-1].headers["retry-after"] == "10"
    assert "at most 1 a second" in answers[-1].text
    assert_secured(answers[-1])
    assert other.status_code == 200


def assert_secured(answer):
    """The balancer's own answer tells a browser what a server's does."""
    for name, value in SECURITY_HEADERS:
        assert answer.headers.get_list(name.decode()) == [value.decode()]


def test_a_server_s_own_headers_are_left_alone(folder, haproxy):
    own = OK.replace(b"\r\n\r\n", b"\r\nX-Request-Id: 1\r\nContent-Security-Policy: default-src 'self'\r\n\r\n")
    with Toy(lambda head: own) as toy, balanced(folder, [toy], haproxy=haproxy) as (url, *_):
        answer = httpx.get(url)
    assert answer.headers.get_list("content-security-policy") == ["default-src 'self'"]
    assert "cache-control" not in answer.headers


def test_without_a_server_it_says_so_and_when_to_come_back(folder, haproxy):
    with Toy() as toy, balanced(folder, [toy], haproxy=haproxy) as (url, administration, statistics):
        assert httpx.get(f"{statistics}/alive").status_code == 200
        toy.ready = False
        until(lambda: administration.entries()[0].status == "DOWN", "the toy is down")
        answer = httpx.get(f"{url}/recommend/u")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert_secured(answer)
        assert httpx.get(f"{statistics}/alive").status_code == 200  # it is: keepalived leaves the address here
        assert "haproxy_server_status" in httpx.get(f"{statistics}/metrics").text
        assert "answers" in httpx.get(f"{statistics}/").text
        toy.ready = True
        until(lambda: administration.entries()[0].is_up, "the toy is back")
        assert httpx.get(f"{url}/recommend/u").status_code == 200


def test_a_server_that_comes_back_gets_a_small_share_at_first(folder, haproxy):
    def lasting(text):  # so long that the share does not grow while it is looked at
        assert " slowstart 2s " in text
        return text.replace(" slowstart 2s ", " slowstart 1h ")

    with (
        Toy(lambda head: "wait") as one,
        Toy(lambda head: "wait") as other,
        balanced(folder, [one, other], haproxy=haproxy, edit=lasting) as (url, administration, _),
        ExitStack() as stack,
    ):
        one.ready = False
        until(lambda: administration.entries()[0].status == "DOWN", "the toy is down")
        one.ready = True
        until(lambda: administration.entries()[0].status == "UP", "the toy is back")
        assert [entry.warming for entry in administration.entries()] == [True, False]
        where = "127.0.0.1", int(url.rpartition(":")[2])
        for _ in range(20):
            client = stack.enter_context(closing(socket.create_connection(where)))
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        until(lambda: len(one.asked) + len(other.asked) == 20, "all are under way")
        assert 0 < len(one.asked) < 5  # the fewest under way, at a sixteenth of the weight


def test_what_the_balancer_logs_names_no_user(folder, haproxy):
    with Toy() as toy, balanced(folder, [toy], haproxy=haproxy) as (url, administration, _):
        assert httpx.get(f"{url}/recommend/who-is-it").status_code == 200
        toy.ready = False
        until(lambda: administration.entries()[0].status == "DOWN", "the toy is down")
        assert httpx.get(f"{url}/recommend/who-is-it").status_code == 503
    logged = (folder / "haproxy.out").read_text()
    assert "toy1 is DOWN" in logged
    assert "who-is-it" not in logged


def test_a_drained_server_is_asked_nothing_until_it_is_taken_back(folder, haproxy):
    with Toy() as one, Toy() as other, balanced(folder, [one, other], haproxy=haproxy) as (url, administration, _):
        administration.drain("toy1")
        assert administration.entries()[0].status == "DRAIN"
        for _ in range(6):
            httpx.get(url)
        assert (len(one.asked), len(other.asked)) == (0, 6)
        administration.take_back("toy1")
        until(lambda: administration.entries()[0].is_up, "toy1 is up")
        until(lambda: httpx.get(url) and one.asked, "toy1 is asked again")


def test_a_command_that_is_refused_is_an_error(folder):
    with (
        Toy() as toy,
        balanced(folder, [toy]) as (_, administration, _),
        pytest.raises(StoreUnavailable, match="nobody"),
    ):
        administration.drain("nobody")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        Administration(folder / "nothing.sock").entries()


def test_slow_clients_are_sent_away_and_no_server_meets_them(folder, haproxy):
    slow = {
        "head": b"GET /recommend/u HTTP/1.1\r\nHost: x\r\n",
        "body": b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nten bytes.",
    }

    def send(part):
        with closing(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))) as connection:
            connection.sendall(part)
            connection.settimeout(60)
            return connection.recv(4096)

    with Toy() as toy, balanced(folder, [toy], haproxy=haproxy) as (url, *_), ThreadPoolExecutor() as pool:
        told = dict(zip(slow, pool.map(send, slow.values()), strict=True))
        assert toy.asked == []
    assert {name: answer.split()[1] for name, answer in told.items()} == {"head": b"408", "body": b"408"}
    for name, value in SECURITY_HEADERS:
        assert b"\r\n%s: %s\r\n" % (name, value) in told["body"]


def test_ten_thousand_idle_connections_keep_nobody_from_an_answer(folder, haproxy):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 12_000:
        pytest.skip(f"open files are limited to {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 12_000), hard))
    with (
        Toy() as toy,
        balanced(folder, [toy], haproxy=haproxy, connections=11_000) as (url, *_),
        ExitStack() as stack,
    ):
        where = "127.0.0.1", int(url.rpartition(":")[2])
        idle = [stack.enter_context(closing(socket.create_connection(where))) for _ in range(10_000)]
        assert [httpx.get(f"{url}/recommend/u").status_code for _ in range(20)] == [200] * 20
        assert len(idle) == 10_000


def test_tls_is_spoken_where_there_is_a_certificate(folder, haproxy):
    pem = folder / "certificate.pem"
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", str(folder / "key"), "-out", str(folder / "chain")],
            check=True, capture_output=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    pem.write_text((folder / "chain").read_text() + (folder / "key").read_text())
    trusted = ssl.create_default_context(cafile=str(pem))
    with Toy() as toy, balanced(folder, [toy], haproxy=haproxy, tls_certificate=pem) as (url, administration, _):
        answer = httpx.get(url, verify=trusted)
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert field(toy.asked[0][0], "x-forwarded-proto") == "https"
        old = ssl.create_default_context(cafile=str(pem))
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.TransportError):
            httpx.get(url, verify=old)
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http"))
        toy.ready = False
        until(lambda: administration.entries()[0].status == "DOWN", "the toy is down")
        answer = httpx.get(url, verify=trusted)
        assert (answer.status_code, answer.headers["strict-transport-security"]) == (503, "max-age=31536000")
