"""What the SQLite log promises beyond the interface: several processes, crashes, full disks, trimming."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from matinee.core.clock import ManualClock, SystemClock
from matinee.core.errors import Corrupt, FormatTooNew, GenerationChanged, OutOfRoom, StoreUnavailable
from matinee.log import sqlite, sqlite_file
from matinee.log.sqlite import SqliteLog

PRODUCER = Path(__file__).with_name("producer.py")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "log.sqlite"


def start_producer(path: Path, name: str, batches: int, size: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(PRODUCER), str(path), name, str(batches), str(size)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def begin(process: subprocess.Popen[str]) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


def finish(process: subprocess.Popen[str]) -> list[int]:
    """The batches that the producer was told are durable."""
    out, _ = process.communicate()
    return [int(line) for line in out.split("\n")[:-1]]  # a line cut short by the kill is none


def contents(path: Path) -> list[tuple[int, bytes]]:
    with SqliteLog(path, SystemClock()) as log:
        reader = log.reader(lambda p: 0)
        rows = [
            row
            for batch in iter(lambda: reader.poll(max_records=10_000, timeout=0), [])
            for row in zip(batch[0].positions.tolist(), batch[0].values, strict=True)
        ]
        reader.close()
    return rows


def test_four_processes_at_once_lose_and_reorder_nothing(path):
    # The file does not exist yet: they also race to make it.
    processes = [start_producer(path, name, 40, 25) for name in "abcd"]
    for process in processes:
        begin(process)
    for process in processes:
        assert finish(process) == list(range(40))
        assert process.returncode == 0
    rows = contents(path)
    assert len(rows) == 4 * 40 * 25
    for name in "abcd":
        own = [value.decode() for _, value in rows if value.startswith(name.encode())]
        assert own == [f"{name}:{batch}:{k}" for batch in range(40) for k in range(25)]


def test_a_killed_producer_leaves_whole_batches_and_all_acknowledged_ones(path):
    process = start_producer(path, "a", 100_000, 500)
    begin(process)
    for _ in range(5):  # it is in the middle of it
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    acknowledged = 5 + len(finish(process))
    values = [value.decode() for _, value in contents(path)]
    whole = len(values) // 500
    assert values == [f"a:{batch}:{k}" for batch in range(whole) for k in range(500)]
    assert acknowledged <= whole <= acknowledged + 1  # the last may be durable and not yet told


def test_a_log_removed_under_a_producer_stops_it(path):
    with SqliteLog(path, SystemClock()) as log:
        log.append([b"a"])
        path.unlink()
        for call in (lambda: log.append([b"b"]), log.ends, lambda: log.trim({0: 9})):
            with pytest.raises(GenerationChanged, match="gone"):
                call()


def test_other_content_in_the_same_file_stops_a_reader(path, tmp_path):
    with SqliteLog(path, SystemClock()) as log, SqliteLog(tmp_path / "other.sqlite", SystemClock()) as other:
        other.append([b"other"])
        reader = log.reader(lambda p: 0)
        assert reader.poll(max_records=1, timeout=0) == []
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE meta SET value = ? WHERE name = 'generation'", (other.generation,))
        connection.close()
        with pytest.raises(GenerationChanged, match=other.generation):
            reader.poll(max_records=1, timeout=0)
        reader.close()


def test_a_newer_format_is_refused(path):
    SqliteLog(path, SystemClock()).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '999' WHERE name = 'format'")
    connection.close()
    with pytest.raises(FormatTooNew, match="999"):
        SqliteLog(path, SystemClock())


def test_a_file_of_something_else_is_refused(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(Corrupt, match="no event log"):
        SqliteLog(path, SystemClock())


def test_a_file_of_noise_is_refused(path):
    path.write_bytes(b"noise, not a database" * 1_000)
    with pytest.raises(Corrupt):
        SqliteLog(path, SystemClock())


def test_settings_that_durability_rests_on(path):
    with SqliteLog(path, SystemClock()) as log, log._file.explained() as connection:
        pragmas = {n: connection.execute(f"PRAGMA {n}").fetchone()[0] for n in ("journal_mode", "synchronous")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


def test_a_writer_that_holds_on_makes_the_others_unavailable_and_readers_not(path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.05)
    with SqliteLog(path, SystemClock()) as log:
        log.append([b"before"])
        reader = log.reader(lambda p: 0)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            log.append([b"refused"])
        (records,) = reader.poll(max_records=10, timeout=0)
        assert records.values == [b"before"]
        holder.execute("ROLLBACK")
        holder.close()
        log.append([b"after"])
        (records,) = reader.poll(max_records=10, timeout=0)
        assert records.values == [b"after"]
        reader.close()


def test_a_reader_in_the_middle_does_not_block_writers_or_trimming(path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.05)
    with SqliteLog(path, SystemClock()) as log:
        last = log.append([b"a", b"b"])
        looking = sqlite3.connect(path, isolation_level=None)
        looking.execute("BEGIN")
        assert looking.execute("SELECT count(*) FROM records").fetchone() == (2,)
        assert log.append([b"c"]) == last + 1
        assert log.trim({0: last}) == 1
        assert looking.execute("SELECT count(*) FROM records").fetchone() == (2,)
        looking.close()


def test_waiting_is_by_the_clock_that_was_given(path):
    clock = ManualClock()
    with SqliteLog(path, clock) as log:
        reader = log.reader(lambda p: 0)
        assert reader.poll(max_records=1, timeout=60) == []
        assert clock.monotonic() == pytest.approx(60)
        log.append([b"a"])
        (records,) = reader.poll(max_records=1, timeout=0)
        assert records.appended_us.tolist() == [clock.now_us()]
        reader.close()


def test_trim_goes_in_steps_and_gives_room_back(path, monkeypatch):
    monkeypatch.setattr(sqlite, "TRIM_STEP", 100)
    with SqliteLog(path, SystemClock()) as log:
        last = log.append([os.urandom(1_000) for _ in range(2_000)])
        reader = log.reader(lambda p: 0)
        with log._file.explained() as connection:
            full = connection.execute("PRAGMA page_count").fetchone()[0]
            assert log.trim({0: last}) == 1_999
            assert connection.execute("PRAGMA page_count").fetchone()[0] < full / 20
            assert connection.execute("PRAGMA freelist_count").fetchone()[0] == 0
        (records,) = reader.poll(max_records=10, timeout=0)
        assert records.positions.tolist() == [last]
        reader.close()
    assert path.stat().st_size < 200_000


def test_a_full_disk_is_told_and_costs_nothing_that_was_acknowledged(small_disk):
    with SqliteLog(small_disk / "log.sqlite", SystemClock()) as log:
        kept = 0
        batch = [os.urandom(1_000) for _ in range(50)]

        def fill() -> None:
            nonlocal kept
            while kept < 100:
                log.append(batch)
                kept += 1

        with pytest.raises(OutOfRoom) as full:
            fill()
        assert full.value.remedy
        assert 0 < kept < 100
        assert log.ends() == {0: 50 * kept + 1}
    assert len(contents(small_disk / "log.sqlite")) == 50 * kept


LIMITED = """
import resource, sys
from pathlib import Path
from matinee.core.clock import SystemClock
from matinee.core.errors import RetryableError
from matinee.log.sqlite import SqliteLog
log = SqliteLog(Path(sys.argv[1]), SystemClock())
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
for kept in range(1_000):
    try:
        log.append([b"x" * 1_000] * 50)
    except RetryableError as error:
        print(kept)
        break
"""


def test_a_write_that_fails_is_retryable_and_costs_nothing_that_was_acknowledged(path):
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True)
    kept = int(done.stdout)
    assert 0 < kept < 1_000
    assert len(contents(path)) == 50 * kept


def bytes_of(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")))


def test_scrubbing_leaves_no_byte_of_what_was_trimmed_and_all_of_the_rest(path):
    with SqliteLog(path, SystemClock()) as log:
        log.append([b"who-is-it"] * 50 + [b"somebody else"] * 50)
        reader = log.reader(lambda _: 40)
        log.trim({0: 51})
        assert b"who-is-it" in bytes_of(path)
        ends = log.ends()
        log.scrub()
        assert b"who-is-it" not in bytes_of(path)
        assert (log.begins(), log.ends()) == ({0: 51}, ends)
        (records,) = reader.poll(max_records=1_000, timeout=1)
        assert records.positions.tolist() == list(range(51, 101))
        assert log.append([b"next"]) == 101
        reader.close()


def test_scrubbing_waits_for_nobody_who_reads_for_long(path):
    with SqliteLog(path, SystemClock()) as log:
        log.append([b"x"])
        reading = sqlite3.connect(path, isolation_level=None)
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM records").fetchone()
        with pytest.raises(StoreUnavailable):
            log.scrub()
        reading.close()
        log.scrub()
        assert log.ends() == {0: 2}
