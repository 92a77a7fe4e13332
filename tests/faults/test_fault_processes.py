"""Server processes that die or stand still, behind the balancer of `matinee up`."""

import os
import signal
import time

import httpx
from fault_samples import all_answered, measured, named, seconds_until, stopped

from operation.operation_samples import until, up


def test_a_killed_server_and_one_that_stands_still_cost_no_answer(home, released):
    with up(home) as running:
        first, second = (running.processes()[name].pid for name in ("server1", "server2"))
        with all_answered(running.url) as killed:
            os.kill(first, signal.SIGKILL)
            noticed = seconds_until(lambda: running.entries()["server1"].status == "DOWN", "server1 is missed")
            back = seconds_until(lambda: running.entries()["server1"].is_up, "server1 has its full share again")
        with all_answered(running.url) as halted, stopped(second):
            still = seconds_until(lambda: running.entries()["server2"].status == "DOWN", "server2 is missed")
        assert running.processes()["server2"].pid == second  # it was waited for, not ended
        until(lambda: running.entries()["server2"].is_up, "server2 has its full share again")
        said = (home.logs / "supervisord.log").read_text()
    assert "exited: server1 (terminated by SIGKILL; not expected)" in said
    measured(
        fault="SIGKILL", noticed=noticed, back=noticed + back, requests=killed["good"],
        slowest=killed["slowest"], gap=killed["worst_gap"],
    )  # fmt: skip
    measured(fault="SIGSTOP", noticed=still, requests=halted["good"], slowest=halted["slowest"])


def test_only_when_every_server_is_gone_is_the_answer_503_and_it_says_when_to_come_back(home, released):
    with up(home) as running:
        pids = [running.processes()[name].pid for name in ("server1", "server2")]
        began = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: all(entry.status == "DOWN" for entry in running.entries().values()), "both are missed")
        refused = httpx.get(f"{running.url}/recommend/u003")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        until(lambda: httpx.get(f"{running.url}/recommend/u003").status_code == 200, "one answers again")
        measured(fault="all servers killed", seconds_without=time.monotonic() - began)
        until(lambda: all(entry.is_up for entry in running.entries().values()), "both are back")
    assert [len(named(home, "listening", name)) for name in ("server1", "server2")] == [2, 2]
