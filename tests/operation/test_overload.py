"""What the balancer makes of servers that are late because there is much to do."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
from operation_samples import RETRIES, Toy, balanced, load, until

from matinee.operation.layout import CROWD, SERVER_CONNECTIONS


def test_what_is_late_where_many_are_under_way_is_not_asked_again(folder, haproxy):
    with (
        Toy(seconds=0.01) as one,  # for 50 that wait this is longer than the 400 ms that a lost server has
        Toy(seconds=0.01) as other,
        balanced(folder, [one, other], haproxy=haproxy) as (url, *_),
        load("127.0.0.1", int(url.rpartition(":")[2]), connections=100, timeout=30, at_least=300) as result,
    ):
        counted = result()
        asked = len(one.asked) + len(other.asked)
    assert (counted["errors"], set(counted["statuses"])) == ({}, {"200"})
    # Those that came before it was crowded may be; without the rule all are, and in vain.
    assert asked - counted["good"] <= 2 * CROWD * RETRIES


def test_what_is_too_much_for_a_server_waits_here_as_long_as_its_client_does(folder, haproxy):
    def one_at_a_time(text):
        assert f" maxconn {SERVER_CONNECTIONS}\n" in text
        return text.replace(f" maxconn {SERVER_CONNECTIONS}\n", " maxconn 1\n")

    def waiting():
        shown = httpx.get(f"{statistics}/metrics").text
        return int(shown.partition('haproxy_backend_current_queue{proxy="answers"} ')[2].partition("\n")[0])

    def post(body):
        return httpx.post(f"{url}/v1/others", content=body, timeout=30).status_code

    with (
        Toy(lambda head: "wait") as toy,
        balanced(folder, [toy], haproxy=haproxy, edit=one_at_a_time) as (url, _, statistics),
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(post, b"first")
        until(lambda: toy.asked, "the server has what it may have")
        with closing(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))) as leaves:
            leaves.sendall(b"POST /v1/others HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nleaves")
            until(lambda: waiting() == 1, "it waits")
        until(lambda: waiting() == 0, "who has left waits no longer", 5)  # it would for 10
        stays = pool.submit(post, b"stays")
        until(lambda: waiting() == 1, "it waits")
        time.sleep(1)  # longer than a connection may take, which is what counts where no time for the queue is set
        toy.go_on()
        assert (first.result(), stays.result()) == (200, 200)
    assert [body for _, body in toy.asked] == [b"first", b"stays"]
