"""The log stalled, the log's disk full, the clock set back: answers go on, and what is lost is counted."""

import contextlib
import sqlite3
import time
import warnings
from pathlib import Path

import httpx
import pytest
from serving_samples import make_bundle, server, settings, wait_for
from test_telemetry import Faulty, ids

from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.log.sqlite import SqliteLog
from matinee.release.plan import publish
from matinee.serving.app import create_app

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette would rather have the successor of httpx
    from starlette.testclient import TestClient

CLOCK = SystemClock()
PATIENCE = 30.0
UNHURRIED = {"MATINEE_SERVING__DEADLINE_MS": "60000", "MATINEE_SERVING__SHED_LATE_MS": "60000"}
"""A busy machine is not what is tested here."""


@pytest.fixture
def published(home: Home) -> str:
    version = make_bundle(home)
    publish(home.data, version, clock=CLOCK)
    return version


def counts(url: str) -> dict[str, float]:
    """Offered, written, dropped and queued."""
    prefix = "matinee_telemetry_"
    lines = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if line.startswith(prefix)]
    named = (line.removeprefix(prefix).split() for line in lines if "_created" not in line)
    return {name.removesuffix("_total"): float(value) for name, value in named}


def until(url: str, **expected: float) -> dict[str, float]:
    end = time.monotonic() + PATIENCE
    while not expected.items() <= (found := counts(url)).items():
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def ask(url: str, times: int) -> None:
    """All are answered, personally."""
    with httpx.Client(timeout=10) as client:
        for _ in range(times):
            answer = client.get(f"{url}/recommend/u001?n=3")
            assert (answer.status_code, answer.text) == (200, "a+1,a+2,a+3")
            assert answer.headers["X-Matinee-Step"] == "personal"


def in_log(path: Path) -> int:
    with SqliteLog(path, CLOCK) as log:
        return len(set(ids(Faulty(log))))


def test_a_log_that_another_process_holds_stalls_no_answer(home: Home, published: str):
    path = home.data / "log.sqlite"
    SqliteLog(path, CLOCK).close()
    with server(home, MATINEE_SERVING__TELEMETRY_QUEUE="30", **UNHURRIED) as (url, process):
        wait_for(url)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            ask(url, 100)
            assert counts(url) == {"offered": 100, "written": 0, "dropped": 70, "queued": 30}
            holder.execute("ROLLBACK")
        until(url, offered=100, written=30, dropped=70, queued=0)
        ask(url, 5)
        process.terminate()
        assert process.wait(20) == 0
    assert in_log(path) == 35


def test_a_full_disk_of_the_log_stalls_no_answer(home: Home, published: str, small_disk: Path):
    path, filler = small_disk / "log.sqlite", small_disk / "filler"
    SqliteLog(path, CLOCK).close()
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 12)):
            pass
    small = {"MATINEE_LOG__URL": f"sqlite:///{path}", "MATINEE_SERVING__TELEMETRY_QUEUE": "300"}
    with server(home, **small, **UNHURRIED) as (url, process):
        wait_for(url)
        ask(url, 400)
        found = counts(url)
        assert found["offered"] == found["written"] + found["dropped"] + found["queued"] == 400
        assert (found["queued"], found["dropped"]) == (300, 100 - found["written"])
        told = home.logs / "serve.jsonl"
        end = time.monotonic() + PATIENCE
        while "telemetry_not_written" not in told.read_text():  # the answers may be quicker than the writer
            assert time.monotonic() < end
            time.sleep(0.02)
        filler.unlink()
        last = until(url, queued=0)
        assert (last["written"], last["dropped"]) == (found["written"] + 300, found["dropped"])
        process.terminate()
        assert process.wait(20) == 0
    assert in_log(path) == last["written"]
    log = (home.logs / "serve.jsonl").read_text()
    assert "telemetry_not_written" in log
    assert "full" in log


def test_a_clock_that_is_set_back_an_hour_changes_nothing_but_the_times(home: Home, published: str):
    class SetBack(SystemClock):
        ahead_us = 0

        def now_us(self) -> int:
            return super().now_us() + self.ahead_us

    clock = SetBack()
    with TestClient(create_app(settings(home), home, clock)) as client:
        end = time.monotonic() + PATIENCE
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.01)
        before = [client.get("/recommend/u001") for _ in range(20)]
        clock.ahead_us = -3_600_000_000
        after = [client.get("/recommend/u001") for _ in range(20)]
    assert {answer.status_code for answer in before + after} == {200}
    numbers = [answer.headers["X-Request-Id"] for answer in before + after]
    assert max(numbers[20:]) < min(numbers[:20])
    with SqliteLog(home.data / "log.sqlite", CLOCK) as log:
        assert ids(Faulty(log)) == [int(number, 16) for number in numbers]
