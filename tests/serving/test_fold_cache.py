"""The fold-ins that processes share: kept, bounded, and never waited for."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import lmdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_samples import SNAPSHOT_END, act, make_bundle, server, wait_for

from matinee.core.clock import SystemClock
from matinee.core.errors import Corrupt
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.release.plan import publish
from matinee.serving.fold_cache import FIRST_PAUSE, FOLDER, QUEUE, FoldCache
from small_disks import filled, small_disk

STAMP = b"01234567"
TOP = np.arange(100, dtype=np.int32)[::-1].copy()
SCORES = np.linspace(2, 1, 100, dtype=np.float32)

HOLDER = """
import os, signal, sys, lmdb
env = lmdb.open(sys.argv[1], map_size=1 << 23, sync=False)
with env.begin(write=True) as transaction:
    transaction.put(b"key", b"value")
    print("writing", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""
READER = """
import sys
from pathlib import Path
from matinee.serving.fold_cache import FoldCache
cache = FoldCache(Path(sys.argv[1]), 8)
cache.tend()
found = cache.get("v", "u", b"01234567")
cache.follow({"v"} if len(sys.argv) == 2 else set(sys.argv[2:]))
cache.tend()
print("none" if found is None else found[0].tolist()[0], cache.emptied, cache.remade)
"""


def put(cache: FoldCache, user: str = "u", version: str = "v") -> None:
    cache.put(version, user, STAMP, TOP, SCORES)


def data(folder: Path) -> Path:
    return folder / FOLDER / "data.mdb"


@contextmanager
def stopped_writer(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that was stopped inside a write transaction on the cache."""
    command = [sys.executable, "-c", HOLDER, str(folder / FOLDER)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        wait_until(lambda: f"{process.pid} (python) T" in state(process.pid))
        try:
            yield process
        finally:
            process.kill()


def state(pid: int) -> str:
    pid_, _, rest = Path(f"/proc/{pid}/stat").read_text().partition(" (")
    return f"{pid_} (python) {rest.rpartition(') ')[2]}"


def wait_until(holds) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_was_kept_is_found_for_the_same_history_alone(cache: FoldCache):
    put(cache)
    assert cache.get("v", "u", STAMP) is None  # not yet written
    cache.tend()
    top, scores = cache.get("v", "u", STAMP)
    np.testing.assert_array_equal(top, TOP)
    np.testing.assert_array_equal(scores, SCORES)
    for asked in (("v", "u", b"another."), ("v", "other", STAMP), ("w", "u", STAMP)):
        assert cache.get(*asked) is None
    assert (cache.hits, cache.misses, cache.written) == (1, 4, 1)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FoldCache]:
    opened = FoldCache(tmp_path_factory.mktemp("fold_cache"), 8)
    opened.tend()
    yield opened
    opened.close()


@given(
    user=st.from_regex(r"[!-+\--~]{1,200}", fullmatch=True),
    stamp=st.binary(min_size=8, max_size=8),
    rows=st.lists(st.tuples(st.integers(0, 2**31 - 1), st.floats(width=32, allow_nan=False)), max_size=100),
)
def test_any_fold_in_comes_back_as_it_was(lasting: FoldCache, user, stamp, rows):
    top, scores = np.array([i for i, _ in rows], dtype=np.int32), np.array([s for _, s in rows], dtype=np.float32)
    lasting.put("20260101T000000Z-als-0123abcd", user, stamp, top, scores)
    lasting.tend()
    found = lasting.get("20260101T000000Z-als-0123abcd", user, stamp)
    np.testing.assert_array_equal(found[0], top)
    np.testing.assert_array_equal(found[1], scores)


def test_it_never_takes_more_than_its_megabytes(tmp_path: Path):
    cache = FoldCache(tmp_path, 1)
    cache.tend()
    for number in range(5_000):  # some four megabytes
        put(cache, f"user{number}")
        if number % 100 == 0:
            cache.tend()
    cache.tend()
    assert data(tmp_path).stat().st_size <= 1 << 20
    assert (cache.written, cache.dropped, cache.remade) == (5_000, 0, 0)
    assert 8 <= cache.emptied <= 20
    assert cache.get("v", "user4999", STAMP) is not None
    assert cache.get("v", "user0", STAMP) is None
    cache.close()


def test_the_first_who_comes_with_other_bundles_empties_it(tmp_path: Path, cache: FoldCache):
    cache.follow({"v"})
    put(cache)
    cache.tend()
    assert run_reader(tmp_path) == "99 0 0"  # the same bundles
    assert run_reader(tmp_path, "v", "w") == "99 1 0"
    assert run_reader(tmp_path, "w", "v") == "none 0 0"
    assert cache.get("v", "u", STAMP) is None


def run_reader(folder: Path, *versions: str) -> str:
    command = [sys.executable, "-c", READER, str(folder), *versions]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()[-1]


def test_what_does_not_fit_the_queue_is_dropped_and_counted(cache: FoldCache):
    for number in range(QUEUE + 7):
        put(cache, f"user{number}")
    assert (cache.dropped, cache.waiting) == (7, QUEUE)
    cache.tend()
    assert (cache.written, cache.waiting) == (QUEUE, 0)


def test_before_it_is_open_nothing_is_found_and_what_comes_waits(tmp_path: Path):
    cache = FoldCache(tmp_path, 8)
    put(cache)
    assert cache.get("v", "u", STAMP) is None
    cache.tend()
    assert cache.get("v", "u", STAMP) is not None
    cache.close()


def spoil_value(folder: Path) -> None:
    path = data(folder)
    content = path.read_bytes()
    assert TOP.tobytes() in content
    path.write_bytes(content.replace(TOP.tobytes(), b"\xff" + TOP.tobytes()[1:]))


def test_a_value_that_is_not_what_was_written_is_refused_and_all_is_made_again(tmp_path: Path, cache: FoldCache):
    put(cache)
    cache.tend()
    cache.close()
    spoil_value(tmp_path)
    cache.tend()
    with pytest.raises(Corrupt):
        cache.get("v", "u", STAMP)
    cache.tend()
    assert cache.remade == 1
    assert cache.get("v", "u", STAMP) is None
    put(cache)
    cache.tend()
    assert cache.get("v", "u", STAMP) is not None
    assert [path.name for path in tmp_path.iterdir() if "gone" in path.name] == []


@pytest.mark.parametrize("damage", ["garbage", "empty", "cut short", "a file in its place"])
def test_a_file_that_cannot_be_opened_is_thrown_away(tmp_path: Path, damage: str):
    first = FoldCache(tmp_path, 8)
    for number in range(200):
        put(first, f"user{number}")
    first.tend()
    first.close()
    path = data(tmp_path)
    if damage == "garbage":
        path.write_bytes(b"no such thing" * 10_000)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut short":
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 4096 // 2 * 4096)
    else:
        path.unlink()
        (path.parent / "lock.mdb").unlink()
        path.parent.rmdir()
        path.parent.write_bytes(b"")
    cache = FoldCache(tmp_path, 8)
    put(cache)
    assert cache.tend() is None
    assert cache.get("v", "u", STAMP) is not None
    assert cache.remade == (damage != "empty")  # an empty file is a new one to LMDB
    cache.close()


def test_one_that_a_full_disk_keeps_from_being_opened_is_left_to_those_who_use_it(tmp_path: Path):
    with small_disk(tmp_path / "run") as run:
        first = FoldCache(run, 8)
        put(first)
        first.tend()
        first.close()
        (run / FOLDER / "lock.mdb").unlink()
        cache = FoldCache(run, 8)
        with filled(run):
            assert cache.tend() == FIRST_PAUSE
        assert cache.tend() is None
        assert cache.get("v", "u", STAMP) is not None
        assert cache.remade == 0
        cache.close()


def test_a_file_cut_short_while_it_is_open_is_made_again_and_ends_nobody(tmp_path: Path, cache: FoldCache):
    put(cache)
    cache.tend()
    os.truncate(data(tmp_path), 8_192)
    with pytest.raises(Corrupt, match="cut short"):
        cache.get("v", "u", STAMP)
    put(cache)
    cache.tend()
    assert cache.get("v", "u", STAMP) is not None
    os.truncate(data(tmp_path), 8_192)
    put(cache)
    assert cache.tend() is not None  # who only writes notices too
    cache.tend()
    assert (cache.get("v", "u", STAMP) is not None, cache.remade) == (True, 2)


def test_a_process_that_made_it_again_is_followed(tmp_path: Path, cache: FoldCache):
    put(cache)
    cache.tend()
    (tmp_path / FOLDER).rename(tmp_path / "away")
    assert run_reader(tmp_path) == "none 0 0"
    assert cache.get("v", "u", STAMP) is not None  # still the one that it has open
    cache.tend()
    assert cache.get("v", "u", STAMP) is None
    put(cache)
    cache.tend()
    assert run_reader(tmp_path) == "99 0 0"
    assert cache.remade == 0


def test_where_it_cannot_be_made_it_is_tried_again_with_growing_pauses(tmp_path: Path):
    run = tmp_path / "missing"
    cache = FoldCache(run, 8)
    assert [cache.tend() for _ in range(3)] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert cache.get("v", "u", STAMP) is None
    run.mkdir()
    assert cache.tend() is None
    assert cache.is_open
    cache.close()


def test_nobody_waits_for_a_process_that_was_stopped_while_it_was_writing(tmp_path: Path, cache: FoldCache):
    put(cache, "before")
    cache.tend()
    with stopped_writer(tmp_path) as writer:
        put(cache, "during")
        tending = threading.Thread(target=cache.tend, daemon=True)
        tending.start()
        for _ in range(1_000):  # with the writer's lock held by the other, and waited for in this process
            assert cache.get("v", "before", STAMP) is not None
            assert cache.get("v", "during", STAMP) is None
        assert tending.is_alive()
        put(cache, "after")
        assert cache.waiting == 2
        writer.send_signal(signal.SIGKILL)
        tending.join(20)
    assert not tending.is_alive()
    assert cache.get("v", "during", STAMP) is not None
    assert cache.remade == 0


def test_it_may_be_opened_while_a_writer_is_stopped(tmp_path: Path):
    first = FoldCache(tmp_path, 8)
    put(first)
    first.tend()
    first.close()
    with stopped_writer(tmp_path):
        cache = FoldCache(tmp_path, 8)
        assert cache.tend() is None
        assert cache.get("v", "u", STAMP) is not None
        cache.close()


# Server processes.


def metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).rpartition(" ")[2])


@pytest.fixture
def acted(home: Home, history: LmdbHistory) -> None:
    publish(home.data, make_bundle(home), clock=SystemClock())
    for row in range(20):
        act(history, f"u{row:03d}", ["a+30"], position=SNAPSHOT_END + row)


def test_two_servers_share_what_one_of_them_folded_in(home: Home, acted: None):
    with server(home) as (first, _), server(home) as (second, _):
        for url in (first, second):
            wait_for(url)
            wait_until(lambda url=url: metric(url, "matinee_history_open") == 1)
        fresh = httpx.get(f"{first}/recommend/u003")
        wait_until(lambda: metric(first, "matinee_fold_cache_written_total") == 1)
        kept = httpx.get(f"{second}/recommend/u003")
        assert (kept.text, kept.headers["X-Matinee-Step"]) == (fresh.text, "folded_in")
        assert metric(first, "matinee_fold_cache_hits_total") == 0
        assert metric(second, "matinee_fold_cache_hits_total") == 1


def test_a_server_goes_on_answering_beside_one_that_was_stopped_while_it_was_writing(home: Home, acted: None):
    with server(home) as (url, process):
        wait_for(url)
        wait_until(lambda: metric(url, "matinee_history_open") == 1)
        with stopped_writer(home.run):
            with httpx.Client(base_url=url) as client:
                answers = [client.get(f"/recommend/u{row:03d}") for row in range(20)]
            assert {answer.headers["X-Matinee-Step"] for answer in answers} == {"folded_in"}
            assert metric(url, "matinee_fold_cache_queued") == 20
            assert metric(url, "matinee_fold_cache_written_total") == 0
            assert httpx.get(f"{url}/readyz").status_code == 200
        wait_until(lambda: metric(url, "matinee_fold_cache_written_total") == 20)
        with stopped_writer(home.run):
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0  # the end does not wait for it either
            with server(home) as (again, _):  # and no more does the start
                wait_for(again)
                assert httpx.get(f"{again}/recommend/u001").status_code == 200
    with lmdb.open(str(home.run / FOLDER), readonly=True) as env, env.begin() as transaction:
        assert transaction.stat()["entries"] >= 20
