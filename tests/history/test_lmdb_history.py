"""What the LMDB history promises beyond the interface: several processes, crashes, growth, damage."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

from matinee.core.errors import ConfigurationError, Corrupt, FormatTooNew, Locked, OutOfRoom, StoreUnavailable
from matinee.events.offsets import Source
from matinee.history.base import Actions
from matinee.history.lmdb import LmdbHistory

PROCESS = Path(__file__).with_name("history_process.py")
SOURCE = Source("g", 0)
SMALL_MAP = 1 << 20


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "history"


@contextmanager
def process(path: Path, role: str, map_bytes: int = 1 << 30):
    command = [sys.executable, str(PROCESS), str(path), str(map_bytes), role]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert started.stdout.readline() == "ready\n"
        yield started
    finally:
        started.kill()
        started.communicate()


def ask(reader: subprocess.Popen[str], line: str) -> str:
    reader.stdin.write(f"{line}\n")
    reader.stdin.flush()
    return reader.stdout.readline().strip()


def watched(users: list[str], start: int, *, item: str = "alien", minute: int = 0) -> Actions:
    n = len(users)
    positions = list(range(start, start + n))
    return Actions(positions, users, [item] * n, positions, [minute] * n, [None] * n)


def test_a_killed_writer_leaves_users_and_applied_ends_in_step(path):
    with process(path, "write") as writer:
        for _ in range(20):  # it is in the middle of it
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        told = [int(line) for line in writer.communicate()[0].split("\n")[:-1]]
    with LmdbHistory(path) as history:
        end = history.applied()[SOURCE]
        assert end % 40 == 0
        assert end >= max(told, default=20 * 40)  # what apply returned from is there
        found = dict(history.items())
        assert len(found) == 40
        for number, user in enumerate(str(n) for n in range(40)):
            assert dict(found[user].offsets) == {SOURCE: end - 40 + number}
            assert found[user].entries[0].minutes_seen == min(end // 40, 1_440)


def test_a_reader_process_sees_a_write_at_once(path):
    with LmdbHistory(path) as history, process(path, "read") as reader:
        assert ask(reader, "1") == "stranger"
        for minute in range(50):
            history.apply(SOURCE, watched(["1"], minute, minute=minute), end=minute + 1)
            assert ask(reader, "1") == str(minute + 1)


def test_the_map_grows_under_readers(path):
    with LmdbHistory(path, map_bytes=SMALL_MAP) as history, process(path, "read", SMALL_MAP) as reader:
        history.apply(SOURCE, watched(["1"], 0), end=1)
        assert ask(reader, "1") == "1"
        for start in range(0, 20_000, 5_000):
            users = [f"{user:0100}" for user in range(start, start + 5_000)]
            history.apply(Source("h", start), watched(users, start), end=start + 5_000)
        assert (path / "data.mdb").stat().st_size > 2 * SMALL_MAP
        history.apply(SOURCE, watched(["1"], 1, minute=7), end=2)
        assert ask(reader, "1") == "2"
        assert ask(reader, f"{19_999:0100}") == "1"


def test_the_map_grows_under_threads_that_read(path):
    with LmdbHistory(path, map_bytes=SMALL_MAP) as history:
        history.apply(SOURCE, watched(["1"], 0), end=1)
        done = threading.Event()
        failures: list[Exception] = []

        def read() -> None:
            while not done.is_set():
                try:
                    assert history.get("1").entries[0].item == "alien"
                except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
                    failures.append(error)
                    return

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        users = [f"{user:0100}" for user in range(20_000)]
        history.apply(Source("h", 0), watched(users, 0), end=20_000)
        done.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert sum(1 for _ in history.items()) == 20_001


def test_a_dead_readers_slot_is_cleared(path):
    with LmdbHistory(path) as history:
        with process(path, "read") as reader:
            assert ask(reader, "hold") == "held"
            pid = reader.pid
            assert str(pid) in history._store._env.readers()
        assert str(pid) in history._store._env.readers()
        history.sync()
        assert str(pid) not in history._store._env.readers()


def test_one_process_writes_at_a_time(path):
    with process(path, "write") as writer:
        with pytest.raises(Locked, match=str(writer.pid)) as locked:
            LmdbHistory(path)
        assert locked.value.remedy
    LmdbHistory(path).close()


def test_opening_twice_in_one_process_is_refused_clearly(path):
    with LmdbHistory(path), pytest.raises(ConfigurationError, match="already open"):
        LmdbHistory(path, read_only=True)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_format_is_refused(path, read_only):
    LmdbHistory(path).close()
    with lmdb.open(str(path), max_dbs=2) as env:
        meta = env.open_db(b"meta")
        with env.begin(write=True) as transaction:
            transaction.put(b"format", b"999", db=meta)
    with pytest.raises(FormatTooNew, match="999"):
        LmdbHistory(path, read_only)
    with pytest.raises(FormatTooNew):  # and the refusal has let go of the lock
        LmdbHistory(path, read_only)


def test_a_store_half_made_is_unavailable_to_readers(path):
    path.mkdir()
    lmdb.open(str(path), max_dbs=2).close()
    with pytest.raises(StoreUnavailable):
        LmdbHistory(path, read_only=True)


def test_a_store_that_was_being_written_when_the_machine_stopped_is_set_aside(path):
    with LmdbHistory(path) as history:
        history.apply(SOURCE, watched(["1"], 0), end=1)
    (path / "unsynced").write_text("00000000-0000-0000-0000-000000000000")
    with pytest.raises(StoreUnavailable, match="machine stopped"):
        LmdbHistory(path, read_only=True)
    with LmdbHistory(path) as history:
        assert history.get("1") is None
        assert dict(history.applied()) == {}
    assert (path / "data.set-aside").exists()
    with LmdbHistory(path, read_only=True) as history:
        assert history.get("1") is None


def test_the_marker_of_unsynced_writes_comes_and_goes(path):
    with LmdbHistory(path) as history:
        assert not (path / "unsynced").exists()
        history.apply(SOURCE, watched(["1"], 0), end=1)
        assert (path / "unsynced").exists()
        history.sync()
        assert not (path / "unsynced").exists()
        history.apply(SOURCE, watched(["1"], 1), end=2)
        assert (path / "unsynced").exists()
    assert not (path / "unsynced").exists()


def test_a_crash_of_the_process_alone_sets_nothing_aside(path):
    with process(path, "write") as writer:
        writer.stdout.readline()
    assert (path / "unsynced").exists()
    with LmdbHistory(path) as history:
        assert history.applied()[SOURCE] >= 40


def test_noise_is_corrupt_to_readers_and_set_aside_by_the_writer(path):
    path.mkdir()
    (path / "data.mdb").write_bytes(b"noise, no database" * 1_000)
    with pytest.raises(Corrupt) as corrupt:
        LmdbHistory(path, read_only=True)
    assert corrupt.value.remedy
    with LmdbHistory(path) as history:
        assert list(history.items()) == []
    assert (path / "data.set-aside").read_bytes().startswith(b"noise")


def test_a_file_cut_short_is_corrupt_to_readers_and_set_aside_by_the_writer(path):
    with LmdbHistory(path, map_bytes=SMALL_MAP) as store:
        store.apply(SOURCE, Actions([0], ["u"], ["a+1"], [1], [None], [5.0]), end=1)
    with (path / "data.mdb").open("r+b") as file:
        file.truncate(8_192)  # with its two first pages it still opens; touching another would end the process
    with pytest.raises(Corrupt, match="shorter"):
        LmdbHistory(path, read_only=True)
    with LmdbHistory(path, map_bytes=SMALL_MAP) as store:
        assert store.get("u") is None
    assert (path / "data.set-aside").stat().st_size == 8_192


def test_a_file_cut_short_while_it_is_open_is_corrupt_to_all_and_ends_nobody(path):
    actions = Actions([0], ["u"], ["a+1"], [1], [None], [5.0])
    with LmdbHistory(path, map_bytes=SMALL_MAP) as store:
        store.apply(SOURCE, actions, end=1)
    with LmdbHistory(path, read_only=True) as reader:
        os.truncate(path / "data.mdb", 8_192)
        with pytest.raises(Corrupt, match="cut short") as corrupt:
            reader.get("u")
        assert corrupt.value.remedy
    with LmdbHistory(path, map_bytes=SMALL_MAP) as store:
        store.apply(SOURCE, actions, end=1)  # now the file has grown
        os.truncate(path / "data.mdb", 8_192)
        for ask in (lambda: store.get("u"), lambda: store.apply(SOURCE, actions, end=1)):
            with pytest.raises(Corrupt, match="cut short"):
                ask()
    with LmdbHistory(path, map_bytes=SMALL_MAP) as store:
        assert store.get("u") is None


def test_how_far_another_process_has_grown_it_is_known_to_whoever_asks_whether_it_was_replaced(path):
    LmdbHistory(path, map_bytes=SMALL_MAP).close()
    size = (path / "data.mdb").stat().st_size
    with LmdbHistory(path, read_only=True, follow=False) as reader:
        os.truncate(path / "data.mdb", size + 4_096)  # as a writer does
        assert not reader.is_replaced()
        os.truncate(path / "data.mdb", size)
        with pytest.raises(Corrupt, match="cut short"):
            reader.get("u")


def test_a_reader_follows_a_store_that_was_made_again(path, tmp_path):
    with LmdbHistory(path) as history:
        history.apply(SOURCE, watched(["1"], 0), end=1)
    with LmdbHistory(tmp_path / "other") as history:
        history.apply(SOURCE, watched(["2"], 0, item="brazil"), end=1)
    with LmdbHistory(path, read_only=True) as reader:
        assert reader.get("1") is not None
        (path / "data.mdb").unlink()
        (path / "lock.mdb").unlink()
        with pytest.raises(StoreUnavailable):
            reader.get("1")
        with pytest.raises(StoreUnavailable):
            reader.get("1")
        shutil.copy(tmp_path / "other" / "data.mdb", path / "data.mdb")
        assert reader.get("1") is None
        assert reader.get("2").entries[0].item == "brazil"


def test_a_full_disk_is_told_and_costs_nothing_that_was_applied(small_disk):
    with LmdbHistory(small_disk / "history") as history:
        applied = 0

        def fill() -> None:
            nonlocal applied
            while applied < 100_000:
                users = [f"{user:0100}" for user in range(applied, applied + 500)]
                history.apply(SOURCE, watched(users, applied), end=applied + 500)
                applied += 500

        with pytest.raises(OutOfRoom) as full:
            fill()
        assert full.value.remedy
        assert applied > 0
        history.sync()
        rest = small_disk / "rest"
        rest.write_bytes(b"x" * shutil.disk_usage(small_disk).free)
        with pytest.raises(OutOfRoom):  # not even the marker of unsynced writes can be written
            history.apply(SOURCE, watched(["1"], applied), end=applied + 1)
        assert dict(history.applied()) == {SOURCE: applied}
        assert [user for user, _ in history.items()] == [f"{user:0100}" for user in range(applied)]
        subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
        history.apply(SOURCE, watched(["1"], applied), end=applied + 1)
        assert history.get("1") is not None


def test_no_byte_of_an_erased_user_is_left_not_even_of_stores_set_aside(tmp_path):
    path = tmp_path / "history"
    who = "who-is-it"

    def holders():
        return [
            file.name
            for file in sorted(tmp_path.rglob("*"))
            if file.is_file() and who.encode() in file.read_bytes()
        ]

    def act(position, user):
        return Actions([position], [user], ["item"], [position], [1], [None])

    with LmdbHistory(path) as history:
        for position in range(50):
            history.apply(SOURCE, act(position, who if position % 2 else f"{position}"), end=position + 1)
        assert holders()
        (path / "data.set-aside").write_bytes(who.encode())
        (path / "data.mdb.replaced").write_bytes(who.encode())
        assert history.erase({who}) == 1
        assert holders() == []
        history.apply(SOURCE, act(50, "ann"), end=51)
        assert history.get("ann") is not None
    assert holders() == []
