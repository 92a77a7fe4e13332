"""A store that ends the process which touches it: the next process goes without it, and says so."""

import signal
import time
from pathlib import Path

import httpx
import pytest
from serving_samples import SNAPSHOT_END, act, make_bundle, server, wait_for

from matinee.core.clock import SystemClock
from matinee.core.errors import Corrupt
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.release.plan import publish
from matinee.serving.crashes import FOLDER, Crashes
from matinee.serving.fold_cache import FOLDER as FOLD_CACHE

CODE = {"history": "/matinee/history/", "fold_cache": "/fold_cache.py"}
PID = 4_000_000_000
"""Of no process: it is beyond what Linux gives out."""


def trace(store: str, data: Path, code: str = "/x/matinee/history/lmdb.py") -> str:
    status = data.stat()
    return (
        f"opened {store} {status.st_dev} {status.st_ino} {data}\nFatal Python error: Bus error\n\n"
        f'Current thread 0x1 (most recent call first):\n  File "{code}", line 1 in body\n'
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.mdb"
    path.write_bytes(b"a store")
    (tmp_path / FOLDER).mkdir()
    return path


def started(run: Path) -> Crashes:
    crashes = Crashes(run, CODE)
    for path in sorted((run / FOLDER).glob("*.txt")):
        crashes._look_at(path)  # what `start` does, without taking pytest's fault handler
    return crashes


def test_a_store_that_ended_a_process_is_not_admitted_until_it_is_another_file(tmp_path: Path, data: Path):
    (tmp_path / FOLDER / f"{PID}.txt").write_text(trace("history", data))
    crashes = started(tmp_path)
    with pytest.raises(Corrupt, match="ended a process"):
        crashes.admit("history", data)
    crashes.admit("fold_cache", data)
    with pytest.raises(Corrupt):
        Crashes(tmp_path, CODE).admit("history", data)  # every process of the host
    other = tmp_path / "other"
    other.write_bytes(b"made again")
    other.replace(data)
    crashes.admit("history", data)
    assert list((tmp_path / FOLDER).glob("*.txt")) == []


@pytest.mark.parametrize("text", ["", "opened history 1 2 /x\n", "Fatal Python error: Aborted\n", "noise \udcff"])
def test_a_process_that_was_merely_killed_accuses_nobody(tmp_path: Path, data: Path, text: str):
    (tmp_path / FOLDER / f"{PID}.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
    started(tmp_path).admit("history", data)


def test_a_crash_elsewhere_accuses_no_store(tmp_path: Path, data: Path):
    (tmp_path / FOLDER / f"{PID}.txt").write_text(trace("history", data, "/x/numpy/linalg.py"))
    started(tmp_path).admit("history", data)


def test_a_store_that_was_made_again_is_admitted_though_it_was_given_the_same_inode(tmp_path: Path, data: Path):
    (tmp_path / FOLDER / f"{PID}.txt").write_text(trace("history", data))
    crashes = started(tmp_path)
    with pytest.raises(Corrupt):
        crashes.admit("history", data)
    data.write_bytes(b"another store")
    crashes.admit("history", data)


def test_two_that_start_at_once_look_at_a_trace_without_getting_in_each_others_way(tmp_path: Path, data: Path):
    path = tmp_path / FOLDER / f"{PID}.txt"
    path.write_text(trace("history", data))
    one, other = Crashes(tmp_path, CODE), Crashes(tmp_path, CODE)
    one._look_at(path)
    other._look_at(path)  # found before, and gone by now
    with pytest.raises(Corrupt):
        other.admit("history", data)


def metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).rpartition(" ")[2])


def wait_until(holds) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_history_cut_short_under_a_server_costs_one_process_and_then_only_freshness(home: Home):
    publish(home.data, make_bundle(home), clock=SystemClock())
    folder = home.data / "history"
    with LmdbHistory(folder) as history:
        for row in range(20):
            act(history, f"u{row:03d}", ["a+30"], position=SNAPSHOT_END + row)
    with server(home) as (url, process):
        wait_for(url)
        wait_until(lambda: metric(url, "matinee_history_open") == 1)
        with (folder / "data.mdb").open("r+b") as file:
            file.truncate(8_192)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/recommend/u003")
        assert process.wait(20) == -signal.SIGBUS
    with server(home) as (url, _):
        wait_for(url)
        answer = httpx.get(f"{url}/recommend/u003?n=2")
        assert (answer.text, answer.headers["X-Matinee-Step"]) == ("a+3,a+4", "personal")
        wait_until(lambda: metric(url, 'matinee_breaker_state{store="history"}') > 0)
        assert metric(url, "matinee_history_open") == 0
        told = (home.logs / "serve.jsonl").read_text()
        assert "process_crashed" in told
        assert "ended a process that read it" in told
        for path in folder.iterdir():  # made again, as `matinee history rebuild` does
            path.unlink()
        with LmdbHistory(folder) as history:
            act(history, "u003", ["a+30"], position=SNAPSHOT_END)
            wait_until(lambda: metric(url, "matinee_history_open") == 1)
            assert httpx.get(f"{url}/recommend/u003").headers["X-Matinee-Step"] == "folded_in"


def test_a_server_that_ends_well_or_is_killed_leaves_no_mark(home: Home):
    publish(home.data, make_bundle(home), clock=SystemClock())
    for number in (signal.SIGTERM, signal.SIGKILL):
        with server(home) as (url, process):
            wait_for(url)
            assert (home.run / FOLDER / f"{process.pid}.txt").exists()
            process.send_signal(number)
            process.wait(20)
            assert (home.run / FOLDER / f"{process.pid}.txt").exists() == (number == signal.SIGKILL)
    with server(home) as (url, _):
        wait_for(url)
        assert len(list((home.run / FOLDER).iterdir())) == 1
        assert (home.run / FOLD_CACHE).is_dir()
