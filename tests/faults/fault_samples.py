"""What the tests of faults share: a world to break, servers to watch meanwhile, and what was measured.

The world is that of `serving/serving_samples.py`. Servers run with their own deadline; nothing is made slower or
more patient than it is out of the box, save where a test says so.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

from matinee.core.clock import SystemClock
from matinee.history.lmdb import LmdbHistory
from matinee.operation.layout import free_ports
from matinee.release.plan import publish
from operation.operation_samples import load, until
from serving.serving_samples import SNAPSHOT_END, act, make_bundle, wait_for

CLOCK = SystemClock()


def publish_two(home):
    versions = [make_bundle(home, name) for name in ("a", "b")]
    for version in versions:
        publish(home.data, version, clock=CLOCK)
    return versions


def fill_history(home, name="b", position=SNAPSHOT_END):
    """u000 to u019 like item 30, after the bundle's snapshot: they are folded in, and get even items."""
    with LmdbHistory(home.data / "history") as history:
        for row in range(20):
            act(history, f"u{row:03d}", [f"{name}+30"], position=position + row)


def measured(**figures):
    """What docs/failures.md says was measured; seen with `--log-cli-level=INFO`."""
    shown = {name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()}
    logging.getLogger("measured").info("%s", json.dumps(shown))


def answer(url, user="u003", n=3):
    """(status, items, step) of one answer."""
    got = httpx.get(f"{url}/recommend/{user}?n={n}", timeout=10)
    return got.status_code, got.text, got.headers.get("X-Matinee-Step")


def reached(url, user="u003"):
    """What `answer` says, and nothing where no server is there to answer."""
    try:
        return answer(url, user)
    except httpx.TransportError:
        return None


def folded_in(url, user="u003"):
    return answer(url, user)[2] == "folded_in"


def cut_short(path, length=8_192):
    """Take the end off a file in place, under whoever has it mapped."""
    with path.open("r+b") as file:
        file.truncate(length)


def metrics(url):
    """Name with its labels → value."""
    lines = httpx.get(f"{url}/metrics", timeout=10).text.splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def events_of(home, role="serve"):
    """The whole lines of a program's log: a full disk may leave a piece of one at its end."""
    path = home.logs / f"{role}.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]


def named(home, event, role="serve"):
    """Those of one name."""
    return [line for line in events_of(home, role) if line["event"] == event]


def seconds_until(true, what):
    """How long it took until something held."""
    began = time.monotonic()
    until(true, what)
    return time.monotonic() - began


def total(shown, prefix):
    return sum(value for name, value in shown.items() if name.startswith(prefix))


@contextmanager
def stopped(pid):
    """A process that stands still for as long as the block lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


LATE_SHARE = 0.02


@contextmanager
def all_answered(url, path="/recommend/u003", *, late_share=LATE_SHARE, **options):
    """A load on one address while the block lasts; in the end every request was answered 200, and hardly one late.

    None took three seconds. More than the caller's 600 ms took at most this share of them, and one more on each
    connection: so much may be the machine, standing still for a moment. Yields the counts.
    """
    host, _, port = url.removeprefix("http://").partition(":")
    counted = {}
    usual = {"connections": 4, "pause": 0.005, "timeout": 3, "at_least": 100} | options
    with load(host, port, path, **usual) as result:
        yield counted
        counted |= result()
    assert (counted["errors"], set(counted["statuses"])) == ({}, {"200"}), counted
    assert counted["late"] <= usual["connections"] + late_share * counted["good"], counted


PROGRAM = Path(__file__).with_name("faulty_server.py")


@contextmanager
def faulty_server(home, **environment):
    """A server that does as files in `run/` say; see `faulty_server.py`. Yields its URL and the process."""
    port = free_ports(1)[0]
    env = os.environ | {"MATINEE_SERVING__PORT": str(port), "MATINEE_SERVING__DRAIN_SECONDS": "0"} | environment
    process = subprocess.Popen([sys.executable, str(PROGRAM), str(home.path)], env=env, cwd=home.path)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url)
        yield url, process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
