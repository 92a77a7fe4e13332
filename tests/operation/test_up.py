"""`matinee up` as people run it: real servers, real Supervisor, real HAProxy, and what is done to them."""

import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import httpx
import polars as pl
import psutil
import pytest
from operation_samples import end, environment_of, gone, load, until, up

from matinee.core.clock import SystemClock
from matinee.lake.lake import Lake
from matinee.operation.layout import free_ports
from matinee.operation.tied import PARENT
from matinee.release.plan import publish
from matinee.serving.key_file import Scope, create_key

REQUESTS = 100_000 if os.environ.get("MATINEE_LONG") else 10_000
"""That restarts and swaps go on for. `MATINEE_LONG=1` asks for what docs/deployment.md says was measured."""


def refused(home, *words, **settings):
    done = subprocess.run(
        [sys.executable, "-m", "matinee", "up", *words, "--json"],
        env=environment_of(home, **settings), cwd=home.path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    return json.loads(done.stdout)


def test_a_killed_and_a_stopped_server_cost_no_answer(home, released):
    with up(home) as running:
        before = running.processes()
        told = running.verb("status")
        assert {process["name"]: process["state"] for process in told["processes"]} == dict.fromkeys(
            before, "RUNNING"
        )
        assert [(server["name"], server["status"]) for server in told["servers"]] == [
            ("server1", "UP"),
            ("server2", "UP"),
        ]
        # Metrics are for this machine, and who comes through the balancer is not taken for it.
        assert httpx.get(f"http://{running.entries()['server1'].address}/metrics").status_code == 200
        assert httpx.get(f"{running.url}/metrics").status_code == 401
        with load("127.0.0.1", running.port, pause=0.002) as result:
            os.kill(before["server1"].pid, signal.SIGKILL)
            until(lambda: running.entries()["server1"].status == "DOWN", "the balancer misses server1")
            until(lambda: running.entries()["server1"].is_up, "the balancer took server1 back")
            os.kill(before["server2"].pid, signal.SIGSTOP)
            until(
                lambda: running.entries()["server2"].status == "DOWN",
                "the balancer noticed that server2 stands still",
            )
            os.kill(before["server2"].pid, signal.SIGCONT)
            until(lambda: running.entries()["server2"].is_up, "the balancer took server2 back")
            counted = result()
        assert running.processes()["server1"].pid != before["server1"].pid
        os.kill(before["haproxy"].pid, signal.SIGKILL)
        told = until(lambda: running.verb("status")["servers"], "the balancer is back as well")
        assert [server["name"] for server in told] == ["server1", "server2"]
    logging.getLogger(__name__).info("%s", counted)
    assert (counted["errors"], set(counted["statuses"])) == ({}, {"200"})
    assert counted["good"] > 200


class Swapping(threading.Thread):
    """Publishes one bundle and then the other, twice a second, until told to stop."""

    def __init__(self, home, versions):
        super().__init__()
        self.home, self.versions, self.done, self.published = home, versions, threading.Event(), 0

    def run(self):
        while not self.done.wait(0.5):
            self.published += 1
            publish(self.home.data, self.versions[self.published % 2], clock=SystemClock())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()


@pytest.mark.timeout(1_800)
def test_rolling_restarts_and_bundle_swaps_that_never_cease_fail_no_request(home, released):
    reached, restarts, swaps = home.path / "reached", 0, 0.0
    with up(home) as running:
        before = running.processes()
        with (
            load("127.0.0.1", running.port, at_least=REQUESTS, connections=16, reached=reached) as result,
            Swapping(home, released) as swapping,
        ):
            while not reached.exists():
                swaps += sum(swaps_of(entry) for entry in running.entries().values())
                assert running.verb("restart") == {"restarted": ["server1", "server2"]}
                restarts += 1
            counted = result()
        swaps += sum(swaps_of(entry) for entry in running.entries().values())
        after = running.processes()
    logging.getLogger(__name__).info("%s restarts, %s swaps, %s", restarts, swaps, counted)
    assert {name for name in before if before[name].pid != after[name].pid} == {"server1", "server2"}
    assert (counted["errors"], set(counted["statuses"])) == ({}, {"200"})
    assert counted["good"] >= REQUESTS
    assert swapping.published > 3
    assert swaps > 2 * (restarts + 1)  # each server opens one when it starts


def swaps_of(entry):
    """Releases that a server has taken up since it started."""
    lines = httpx.get(f"http://{entry.address}/metrics", timeout=10).text.splitlines()
    return float(next(line for line in lines if line.startswith("matinee_release_swaps_total ")).split()[1])


class Posting(threading.Thread):
    """Posts one event after another, each of a user of its own, and keeps who was acknowledged.

    A post is padded to `length` bytes.
    """

    def __init__(self, url, token, name, done, length=0):
        super().__init__()
        self.length = length
        self.client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        self.name, self.done = name, done
        self.acknowledged = []
        self.other = []

    def run(self):
        with self.client:
            for number in itertools.count():
                if self.done.wait(0.02):
                    return
                user = f"{self.name}-{number}"
                answer = self.post(user)
                while answer.status_code == 503:  # the log was busy: the same again, as the API says
                    self.done.wait(0.2)
                    answer = self.post(user)
                if answer.status_code == 202:
                    self.acknowledged.append(user)
                else:
                    self.other.append(answer.text)

    def post(self, user):
        """By turns the event has an id of its own, the post has a name, or neither has."""
        event = {"kind": "rating", "user": user, "item": "a+1", "rating": 5}
        named = len(self.acknowledged) % 3
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": user} if named == 1 else {})
        body = json.dumps(event | ({"id": user} if named == 0 else {})).ljust(self.length)
        return self.client.post("/v1/events", content=body, headers=headers)


@contextmanager
def posting_to(running, token, length=0):
    """Four that post while the block lasts, each of its connections kept open."""
    done = threading.Event()
    posting = [Posting(running.url, token, f"poster{number}", done, length) for number in range(4)]
    for thread in posting:
        thread.start()
    try:
        yield posting
    finally:
        done.set()
        for thread in posting:
            thread.join()


def acknowledged_by(posting):
    return [user for thread in posting for user in thread.acknowledged]


def test_a_server_that_is_told_to_end_without_a_drain_first_loses_nothing(home, released):
    """Not even what cannot be sent to another server: posts that are too long for the balancer's buffer."""
    _, token = create_key(home, "test", Scope.WRITE, clock=SystemClock())
    with (
        up(home) as running,
        load("127.0.0.1", running.port, pause=0.002) as result,
        posting_to(running, token, length=20_000) as posting,
    ):
        for name in ("server1", "server2"):
            before = running.processes()[name].pid
            os.kill(before, signal.SIGTERM)
            until(lambda name=name: running.entries()[name].status == "DOWN", f"{name} is taken out")
            until(lambda name=name: running.entries()[name].is_up, f"{name} is back")
            assert running.processes()[name].pid != before
        counted = result()
    logging.getLogger(__name__).info("%s; %d long posts", counted, len(acknowledged_by(posting)))
    assert (counted["errors"], set(counted["statuses"])) == ({}, {"200"})
    assert [told for thread in posting for told in thread.other] == []
    assert acknowledged_by(posting)


def test_a_killed_server_costs_no_acknowledged_event(home, released):
    _, token = create_key(home, "test", Scope.WRITE, clock=SystemClock())
    with up(home) as running, posting_to(running, token) as posting:
        for name in ("server1", "server2"):
            soon = 20 + len(acknowledged_by(posting))
            until(lambda soon=soon: len(acknowledged_by(posting)) > soon, "some are in")
            os.kill(running.processes()[name].pid, signal.SIGKILL)
            until(lambda name=name: running.entries()[name].status == "DOWN", f"{name} is missed")
            until(lambda name=name: running.entries()[name].is_up, f"{name} is back")
    acknowledged = acknowledged_by(posting)
    logging.getLogger(__name__).info("%d events acknowledged", len(acknowledged))
    assert [told for thread in posting for told in thread.other] == []
    lake = Lake(str(home.data / "lake"), SystemClock())
    stored = lake.read("events").filter(pl.col("user").str.starts_with("poster")).collect()["user"].to_list()
    assert sorted(stored) == sorted(acknowledged)  # each once, though some were sent twice


def test_it_ends_in_order_and_nothing_stays(home, released):
    with up(home) as running:
        pids = running.pids()
        assert len(pids) == 6
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(100) == 0
        assert gone(pids)
    log = (home.logs / "supervisord.log").read_text()
    ended = [line.split("stopped: ")[1].split()[0] for line in log.splitlines() if "stopped: " in line]
    assert (ended[0], set(ended[1:3])) == ("haproxy", {"server1", "server2"})
    assert ended[3:] == ["schedule", "ingest"]
    assert "killing" not in log  # each ended by itself


@pytest.mark.parametrize("stopped", [False, True], ids=["all well", "a server stands still"])
def test_killed_it_leaves_nothing_running(home, released, stopped):
    with up(home, MATINEE_SERVING__DEADLINE_MS="100") as running:
        pids = running.pids()
        if stopped:
            os.kill(running.processes()["server1"].pid, signal.SIGSTOP)
        running.process.kill()
        running.process.wait()
        until(lambda: gone(pids), "everything ended", seconds=120)


def test_when_the_supervisor_is_killed_all_ends_and_it_says_so(home, released):
    with up(home) as running:
        supervisor, *children = running.pids()
        os.kill(supervisor, signal.SIGKILL)
        assert running.process.wait(100) == 75
        until(lambda: gone(children), "everything ended", seconds=120)


def test_a_program_whose_parent_ended_meanwhile_does_not_begin(folder):
    words = [sys.executable, "-m", "matinee.operation.tied", "touch", str(folder / "begun")]
    subprocess.run(words, check=True, env=os.environ | {PARENT: "999999999"})
    assert not (folder / "begun").exists()
    subprocess.run(words, check=True, env=os.environ | {PARENT: str(os.getpid())})
    assert (folder / "begun").exists()


def test_before_a_release_it_says_that_nothing_can_answer_and_then_answers(home):
    from serving.serving_samples import make_bundle

    environment = environment_of(home)
    process = subprocess.Popen(
        [sys.executable, "-m", "matinee", "up", "--replicas", "1", "--json"],
        env=environment, cwd=home.path, stdout=subprocess.PIPE,
    )  # fmt: skip
    with closing(process.stdout):
        try:
            url = json.loads(process.stdout.readline())["url"]
            until(
                lambda: httpx.get(f"{url}/recommend/u001").headers.get("retry-after"), "it says when to come back"
            )
            publish(home.data, make_bundle(home), clock=SystemClock())
            until(lambda: httpx.get(f"{url}/recommend/u001").status_code == 200, "it answers")
            assert len(psutil.Process(process.pid).children(recursive=True)) == 5
        finally:
            end(process)


@pytest.mark.timeout(900)
def test_from_an_empty_home_a_world_gets_what_its_own_stream_taught(home, tmp_path_factory):
    """Everything that is on one machine: no data, no bundle, no command but this one."""
    world = {
        "VIEWERS": "800", "MOVIES": "150", "APIS_PORT": "0", "MINUTES_A_SECOND": "600", "TRAIN": "0 0 1 1 *",
    }  # fmt: skip
    settings = {f"MATINEE_SIMULATION__{name}": value for name, value in world.items()}
    settings |= {
        "MATINEE_TRAINING__CANDIDATES": '["ease"]',
        "NUMBA_CACHE_DIR": str(tmp_path_factory.getbasetemp().parent / "matinee-kernels"),
    }
    with up(home, ready=False, **settings) as running:
        assert set(running.processes()) == {
            "haproxy", "ingest", "metadata", "schedule", "server1", "server2", "world",
        }  # fmt: skip
        until(
            lambda: all(entry.is_up for entry in running.entries().values()),
            "there is a release, and it is served",
            seconds=300,  # seven processes start, and one trains, beside another test
        )
        lake = Lake(str(home.data / "lake"), SystemClock())
        served = pl.col("step") == "personal"
        until(lambda: lake.read("served").filter(served).collect().height > 20, "viewers got what is for them")
        described = {"items": pl.col("title").is_not_null(), "users": pl.col("age").is_not_null()}
        for table, by_the_apis in described.items():  # which behave badly
            until(lambda t=table, m=by_the_apis: lake.read(t).filter(m).collect().height > 20, f"{table} described")
        before = {name: process.pid for name, process in running.processes().items()}
        os.kill(before["world"], signal.SIGTERM)
        until((home.data / "world.npz").exists, "the world was kept")
        until(lambda: running.processes()["world"].pid not in (0, before["world"]), "and is taken up where it was")
        until(lambda: "goes on at minute" in (home.logs / "world.out").read_text(), "it says so")


def test_only_one_is_up_in_a_home_and_only_where_ports_are_free(home, released):
    with up(home):
        assert refused(home)["kind"] == "Locked"
    port = free_ports(1)[0]
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        told = refused(home, "--port", str(port))
        assert (told["kind"], str(port) in told["error"]) == ("ConfigurationError", True)
        assert "up.port" in told["remedy"]
        assert "up.server_port" in refused(home, MATINEE_UP__SERVER_PORT=str(port - 1))["remedy"]


def test_where_nothing_is_up_status_and_restart_say_so(home):
    for verb in ("status", "restart"):
        told = refused(home, verb)
        assert told["kind"] == "StoreUnavailable"
        assert "matinee up" in told["remedy"]


def test_options_before_a_verb_are_refused(home):
    done = subprocess.run(
        [sys.executable, "-m", "matinee", "up", "--replicas", "3", "status"],
        env=environment_of(home), cwd=home.path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--replicas" in done.stderr


def test_the_files_can_be_seen_before_they_are_used(home):
    done = subprocess.run(
        [sys.executable, "-m", "matinee", "up", "config", "--replicas", "3", "--json"],
        env=environment_of(home), cwd=home.path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    shown = json.loads(done.stdout)
    assert set(shown) == {"haproxy.cfg", "supervisord.conf"}
    assert [line.split()[1] for line in shown["haproxy.cfg"].splitlines() if line.startswith("    server ")] == [
        "server1", "server2", "server3",
    ]  # fmt: skip
    assert not (home.run / "haproxy.cfg").exists()
