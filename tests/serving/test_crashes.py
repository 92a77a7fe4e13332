"""A store that ends the process which touches it: the next process goes without it, and says so."""

import fcntl
import signal
from pathlib import Path

import pytest
from serving_samples import make_bundle, server, wait_for

from matinee.core.clock import SystemClock
from matinee.core.errors import Corrupt
from matinee.core.home import Home
from matinee.release.plan import publish
from matinee.serving.crashes import FOLDER, Crashes
from matinee.serving.fold_cache import FOLDER as FOLD_CACHE

CODE = {"history": "/matinee/history/", "fold_cache": "/fold_cache.py"}
PID = 1
"""Of a process that lives, and is not the one that wrote the trace: ids are given out again."""


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
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # one is at it
        other._look_at(path)
        assert path.exists()
    one._look_at(path)
    other._look_at(path)  # found before, and gone by now
    with pytest.raises(Corrupt):
        other.admit("history", data)


def test_the_trace_of_a_process_that_lives_is_left_alone(home: Home, data: Path):
    publish(home.data, make_bundle(home), clock=SystemClock())
    with server(home) as (url, process):
        wait_for(url)
        path = home.run / FOLDER / f"{process.pid}.txt"
        path.write_text(trace("history", data))  # in place: the lock is on the file
        started(home.run).admit("history", data)
        assert path.exists()
        process.kill()
        process.wait()
        with pytest.raises(Corrupt):
            started(home.run).admit("history", data)
        assert not path.exists()


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
