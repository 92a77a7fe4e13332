"""Server processes that die or stand still, behind the balancer of `matinee up`."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import polars as pl
from fault_samples import CLOCK, all_answered, measured, metrics, named, seconds_until, stopped

from matinee.lake.lake import Lake
from matinee.serving.key_file import Scope, create_key
from operation.operation_samples import until, up


def is_missed(running, name):
    """Whether the balancer's metrics tell that a server is out."""
    shown = metrics(running.statistics)
    return shown[f'haproxy_server_status{{proxy="answers",server="{name}",state="DOWN"}}'] == 1


def times_asked_again(running):
    return metrics(running.statistics)['haproxy_backend_retry_warnings_total{proxy="answers"}']


def times_without_server(home):
    return (home.logs / "haproxy.out").read_text().count("backend answers has no server available")


def test_a_killed_server_and_one_that_stands_still_cost_no_answer(home, released):
    with up(home) as running:
        first, second = (running.processes()[name].pid for name in ("server1", "server2"))
        with all_answered(running.url) as killed:
            os.kill(first, signal.SIGKILL)
            noticed = seconds_until(lambda: is_missed(running, "server1"), "server1 is missed")
            back = seconds_until(lambda: running.entries()["server1"].is_up, "server1 has its full share again")
        with all_answered(running.url) as halted, stopped(second):
            still = seconds_until(lambda: is_missed(running, "server2"), "server2 is missed")
            assert running.entries()["server2"].status == "DOWN"
            again = times_asked_again(running)
        assert running.processes()["server2"].pid == second  # it was waited for, not ended
        until(lambda: running.entries()["server2"].is_up, "server2 has its full share again")
        said = (home.logs / "supervisord.log").read_text()
    assert "exited: server1 (terminated by SIGKILL; not expected)" in said
    assert again > 0
    measured(
        fault="SIGKILL", noticed=noticed, back=noticed + back, requests=killed["good"],
        slowest=killed["slowest"], gap=killed["worst_gap"],
    )  # fmt: skip
    measured(fault="SIGSTOP", noticed=still, requests=halted["good"], again=again,
             slowest=halted["slowest"])  # fmt: skip


def test_only_when_every_server_is_gone_is_the_answer_503_and_it_says_when_to_come_back(home, released):
    with up(home) as running:
        pids = [running.processes()[name].pid for name in ("server1", "server2")]
        before = times_without_server(home)  # when it started there was none either
        began = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: all(entry.status == "DOWN" for entry in running.entries().values()), "both are missed")
        refused = httpx.get(f"{running.url}/recommend/u003")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        until(lambda: httpx.get(f"{running.url}/recommend/u003").status_code == 200, "one answers again")
        measured(fault="all servers killed", seconds_without=time.monotonic() - began)
        until(lambda: all(entry.is_up for entry in running.entries().values()), "both are back")
    assert times_without_server(home) > before
    assert [len(named(home, "listening", name)) for name in ("server1", "server2")] == [2, 2]


def test_posts_that_meet_a_server_that_stands_still_are_taken_by_the_other_and_count_once(home, released):
    _, token = create_key(home, "test", Scope.WRITE, clock=CLOCK)
    users = [f"poster{number}" for number in range(8)]
    headers = {"Authorization": f"Bearer {token}"}

    def post(user):
        event = {"kind": "rating", "user": user, "item": "b+30", "rating": 5, "id": user}
        began = time.monotonic()
        status = httpx.post(f"{running.url}/v1/events", json=event, headers=headers, timeout=60).status_code
        return status, time.monotonic() - began

    with up(home) as running, ThreadPoolExecutor(len(users)) as pool:
        with stopped(running.processes()["server2"].pid):
            told = list(pool.map(post, users))
            again = times_asked_again(running)
        until(lambda: running.entries()["server2"].is_up, "it goes on, with what it was sent meanwhile")
    assert [status for status, _ in told] == [202] * len(users)
    assert again > 0
    stored = Lake(str(home.data / "lake"), CLOCK).read("events").filter(pl.col("user").is_in(users)).collect()
    assert sorted(stored["user"]) == sorted(users)
    measured(fault="SIGSTOP, posts", posts=len(users), again=again, slowest=max(seconds for _, seconds in told))
