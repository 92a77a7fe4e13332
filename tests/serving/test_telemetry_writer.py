"""The process that writes telemetry: real processes, real SQLite, and what happens when either fails."""

import contextlib
import io
import itertools
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_telemetry import CLOCK, Faulty, eventually, ids, served

from matinee.core.clock import ManualClock
from matinee.core.errors import ConfigurationError, InvalidInput, OutOfRoom, StoreUnavailable
from matinee.log.base import EventLog
from matinee.log.sqlite import SqliteLog
from matinee.serving import writer_process
from matinee.serving.record_queue import Batch, RecordQueue, Ring
from matinee.serving.telemetry import (
    BATCH,
    ENCODED_TOGETHER,
    LEAST_BATCH,
    QUICK_SECONDS,
    STARVED_SECONDS,
    STARVED_SHARE,
    Counts,
    Telemetry,
)
from matinee.serving.telemetry_writer import (
    HEADER_BYTES,
    POSITIONS,
    Outcome,
    ReopenedLog,
    write,
    write_what_is_left,
)
from matinee.serving.writer_process import WriterProcess


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "log.sqlite"
    SqliteLog(path, CLOCK).close()
    return path


TakeBatch = Callable[..., Batch]


@pytest.fixture
def batch() -> TakeBatch:
    """Makes batches of the records that it is given, all in one queue."""
    queue = RecordQueue(9)

    def taken(*records: bytes) -> Batch:
        queue.clear()
        assert not records or queue.put(records)
        return queue.first(9)

    return taken


def started(path: Path, capacity: int = 10 * BATCH) -> Telemetry:
    sink = WriterProcess(f"sqlite:///{path}")
    telemetry = Telemetry(sink, CLOCK, capacity=capacity, seconds=0.01, producer="test")
    telemetry.start()
    return telemetry


def offer(telemetry: Telemetry, numbers: range) -> None:
    for number in numbers:
        telemetry.offer(served(number))
        counts = telemetry.counts()
        assert counts.offered == counts.written + counts.dropped + counts.waiting == number + 1


def written(path: Path) -> list[int]:
    with SqliteLog(path, CLOCK) as log:
        return ids(Faulty(log))


def running(telemetry: Telemetry) -> int:
    """The writer's pid, when there is one."""
    assert isinstance(telemetry.sink, WriterProcess)
    eventually(lambda: telemetry.sink.pid is not None)
    assert telemetry.sink.pid is not None
    return telemetry.sink.pid


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


@contextlib.contextmanager
def stalled(path: Path):
    """Nobody else can write to the log in this block."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


def test_everything_offered_is_written_once_in_order_and_the_process_ends(path: Path):
    telemetry = started(path)
    offer(telemetry, range(3 * BATCH + 7))
    pid = running(telemetry)
    assert telemetry.stop(20) == Counts(3 * BATCH + 7, 3 * BATCH + 7, 0, 0)
    assert written(path) == list(range(3 * BATCH + 7))
    assert is_gone(pid)


def test_a_stalled_log_delays_no_offer_and_what_did_not_fit_is_counted(path: Path):
    with stalled(path):
        telemetry = started(path, capacity=100)
        offer(telemetry, range(250))
        assert telemetry.counts() == Counts(offered=250, written=0, dropped=150, waiting=100)
    assert telemetry.stop(20) == Counts(offered=250, written=100, dropped=150, waiting=0)
    assert written(path) == list(range(100))


def scheduling(pid: int) -> int:
    return os.sched_getscheduler(pid)


class Watched(WriterProcess):
    """Notes how many records it was given at once, and whether in a hurry.

    At idle priority it takes `takes` seconds, in `starved` of which no core is free and `comes` is called. Asked
    whether idle priority gets a core, it says after `idle_for` seconds.
    """

    def __init__(self, path: Path, clock: ManualClock, *, takes: float, starved: float):
        super().__init__(f"sqlite:///{path}")
        self.clock, self.takes, self.starved = clock, takes, starved
        self.comes = lambda: None
        self.idle_for = 0.0
        self.asked: list[tuple[int, bool]] = []

    def append(self, batch, *, hurry=False):
        super().append(batch, hurry=hurry)
        self.asked.append((batch.n, hurry))
        if hurry:
            return 0.0
        self.comes()
        self.clock.sleep(self.takes)
        return self.starved

    def idle_wait(self, timeout):
        return self.idle_for


@pytest.mark.parametrize(
    ("n", "share", "n_comes", "hurries"),
    [
        (2 * BATCH, STARVED_SHARE + 0.01, LEAST_BATCH, True),
        (2 * BATCH, STARVED_SHARE - 0.01, LEAST_BATCH, False),  # the log is what takes its time
        (2 * BATCH, STARVED_SHARE + 0.01, LEAST_BATCH - 1, False),  # it keeps up, though barely
        (BATCH - 1, STARVED_SHARE + 0.01, LEAST_BATCH, False),  # there is room yet
    ],
)
def test_writing_hurries_where_a_half_full_queue_grows_no_shorter_and_mostly_no_core_is_free(
    path: Path, n: int, share: float, n_comes: int, hurries: bool
):
    clock = ManualClock()
    sink = Watched(path, clock, takes=0.01, starved=0.01 * share)
    sink.idle_for = 2 * QUICK_SECONDS
    telemetry = Telemetry(sink, clock, capacity=3 * BATCH, seconds=0.01, producer="test")
    sink.comes = lambda: offer(telemetry, range(n, n + n_comes) if len(sink.asked) == 1 else range(0))
    offer(telemetry, range(n))  # before it starts, so that all of them wait
    telemetry.start()
    eventually(lambda: telemetry.counts().waiting == 0)
    assert telemetry.stop(20) == Counts(n + n_comes, n + n_comes, 0, 0)
    assert sink.asked[0] == (LEAST_BATCH, False)
    assert {hurry for _, hurry in sink.asked[1:]} == {hurries}
    assert max(size for size, _ in sink.asked) == (BATCH if n > BATCH else BATCH // 2)  # it doubles
    assert written(path) == list(range(n + n_comes))


def test_a_log_that_was_locked_is_no_reason_to_hurry(path: Path):
    n, clock = 2 * BATCH, ManualClock()
    telemetry = Telemetry(
        Watched(path, clock, takes=10.0, starved=0.01), clock, capacity=n, seconds=0.01, producer="test"
    )
    offer(telemetry, range(n))
    telemetry.start()
    eventually(lambda: telemetry.counts().waiting == 0)
    telemetry.stop(20)
    assert not any(hurry for _, hurry in telemetry.sink.asked)


def test_how_long_no_core_was_free_is_told_apart_from_waiting_for_the_log(batch: TakeBatch, path: Path):
    held = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    sink = WriterProcess(f"sqlite:///{path}")
    sink.append(batch(b"it runs"), hurry=True)
    held.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, held.rollback).start()
    begun = CLOCK.monotonic()
    starved = sink.append(batch(b"x"), hurry=True)
    took = CLOCK.monotonic() - begun
    sink.close()
    held.close()
    assert took > 0.5
    assert 0 <= starved < took - 0.3


def test_where_the_system_does_not_say_how_long_no_core_was_free_nothing_is_made_of_a_pause(
    batch: TakeBatch, monkeypatch: pytest.MonkeyPatch
):
    def open_nothing(*_):
        raise FileNotFoundError

    monkeypatch.setattr("matinee.serving.telemetry_writer.open", open_nothing, raising=False)
    given = batch(b"x")
    assert [outcome.starved for outcome in answers_to(2 * frame(given), given.ring, Memory())] == [0.0, 0.0]


def test_a_batch_that_was_starved_makes_the_rest_hurry_until_idle_priority_gets_a_core(path: Path):
    clock = ManualClock()
    sink = Watched(path, clock, takes=2 * STARVED_SECONDS, starved=1.5 * STARVED_SECONDS)
    telemetry = Telemetry(sink, clock, capacity=10 * BATCH, seconds=0.01, producer="test")
    offer(telemetry, range(BATCH))
    sink.comes = lambda: setattr(sink, "idle_for", QUICK_SECONDS + 0.001)
    telemetry.start()
    eventually(lambda: telemetry.counts().waiting == 0)
    assert sink.asked == [(LEAST_BATCH, False), (BATCH - LEAST_BATCH, True)]
    offer(telemetry, range(BATCH, 2 * BATCH))
    eventually(lambda: telemetry.counts().waiting == 0)
    assert {hurry for _, hurry in sink.asked[2:]} == {True}
    n_before, sink.starved, sink.idle_for = len(sink.asked), 0.0, QUICK_SECONDS
    offer(telemetry, range(2 * BATCH, 3 * BATCH))
    eventually(lambda: telemetry.counts().waiting == 0)
    telemetry.stop(20)
    again = sink.asked[n_before:]
    assert {hurry for _, hurry in again} == {False}
    assert [min(size, 2 * LEAST_BATCH) for size, _ in again[:2]] == [LEAST_BATCH, 2 * LEAST_BATCH]
    assert written(path) == list(range(3 * BATCH))


def test_a_writer_that_gets_no_core_is_given_nothing_and_another_one_writes(path: Path):
    telemetry = started(path)
    offer(telemetry, range(10))
    eventually(lambda: telemetry.counts().written == 10)
    idle = running(telemetry)
    os.kill(idle, signal.SIGSTOP)  # as one that gets no core: it neither answers nor holds the log's lock
    offer(telemetry, range(10, 30))
    eventually(lambda: telemetry.counts().written == 30)
    assert telemetry.sink.pid != idle
    os.kill(idle, signal.SIGCONT)
    numbers = itertools.count(30)

    def idle_again() -> bool:
        offer(telemetry, range(number := next(numbers), number + 1))
        return telemetry.sink.pid == idle

    eventually(idle_again)
    n = next(numbers)
    assert telemetry.stop(20) == Counts(n, n, 0, 0)
    assert written(path) == list(range(n))


def test_asking_for_a_core_waits_no_longer_than_it_is_told_and_an_answer_may_come_later(
    batch: TakeBatch, path: Path
):
    sink = WriterProcess(f"sqlite:///{path}")
    assert sink.idle_wait(10) == 0  # there is none yet
    sink.append(batch(b"it runs"))
    assert sink.pid is not None
    os.kill(sink.pid, signal.SIGSTOP)
    assert sink.idle_wait(0.01) == math.inf
    assert sink.idle_wait(0) == math.inf
    os.kill(sink.pid, signal.SIGCONT)
    eventually(lambda: sink.idle_wait(0) < math.inf)
    sink.append(batch(b"the second"))  # whatever was asked before
    first = sink.pid
    os.kill(first, signal.SIGKILL)
    eventually(lambda: is_gone(first))
    assert sink.idle_wait(10) == 0
    sink.append(batch(b"the third"))
    sink.close()
    with SqliteLog(path, CLOCK) as log:
        assert log.ends() == {0: 4}  # the next position


def test_a_writer_that_is_to_hurry_is_a_process_like_any_other_and_both_stay(batch: TakeBatch, path: Path):
    sink = WriterProcess(f"sqlite:///{path}")
    seen = []
    for hurry in (False, True, True, False):
        sink.append(batch(b"x"), hurry=hurry)
        assert sink.pid is not None
        seen.append((sink.pid, scheduling(sink.pid)))
    sink.close()
    assert [policy for _, policy in seen] == [os.SCHED_IDLE, os.SCHED_OTHER, os.SCHED_OTHER, os.SCHED_IDLE]
    assert len({pid for pid, _ in seen}) == 2  # neither was started again: that costs more than all the writing
    assert all(is_gone(pid) for pid, _ in seen)


def test_a_writer_that_is_killed_is_started_again_and_nothing_is_lost(path: Path):
    with stalled(path):  # so that what it was given cannot have been acknowledged
        telemetry = started(path)
        offer(telemetry, range(20))
        first = running(telemetry)
        os.kill(first, signal.SIGKILL)
        eventually(lambda: telemetry.sink.pid not in {None, first})
        assert telemetry.counts() == Counts(offered=20, written=0, dropped=0, waiting=20)
    eventually(lambda: telemetry.counts().written == 20)
    assert telemetry.stop(20) == Counts(20, 20, 0, 0)
    assert written(path) == list(range(20))


def test_what_was_durable_before_its_acknowledgement_was_lost_is_written_again_under_the_same_id(path: Path):
    class DiesAfterAppending(WriterProcess):
        def append(self, batch, **options):
            starved = super().append(batch, **options)
            if batch.n == 5:
                raise StoreUnavailable("the acknowledgement was lost")
            return starved

    telemetry = Telemetry(DiesAfterAppending(f"sqlite:///{path}"), CLOCK, capacity=9, seconds=0.01, producer="test")
    for number in range(5):
        telemetry.offer(served(number))
    telemetry.start()
    eventually(lambda: len(written(path)) >= 5)
    telemetry.offer(served(5))
    assert telemetry.stop(20) == Counts(6, 6, 0, 0)
    assert set(written(path)) == set(range(6))
    assert len(written(path)) > 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_writer_that_is_told_to_end_goes_on_until_its_server_does(path: Path, number: signal.Signals):
    telemetry = started(path)
    offer(telemetry, range(1))
    eventually(lambda: telemetry.counts().written == 1)
    pid = running(telemetry)
    os.kill(pid, number)
    telemetry.offer(served(1))
    eventually(lambda: telemetry.counts().written == 2)
    assert running(telemetry) == pid
    telemetry.stop(20)
    assert is_gone(pid)


def test_a_writer_that_hangs_is_given_up_at_the_end_and_the_counts_stay_exact(path: Path):
    with stalled(path):
        telemetry = started(path)
        offer(telemetry, range(30))
        pid = running(telemetry)
        os.kill(pid, signal.SIGSTOP)
        assert telemetry.stop(0.2) == Counts(offered=30, written=0, dropped=30, waiting=0)
    assert is_gone(pid)


def test_a_writer_that_does_not_say_what_became_of_its_records_is_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("matinee.serving.writer_process.REPLY_SECONDS", 0.2)
    with stalled(path):
        telemetry = started(path)
        offer(telemetry, range(20))
        first = running(telemetry)
        os.kill(first, signal.SIGSTOP)
        eventually(lambda: is_gone(first))
        monkeypatch.undo()  # no interpreter starts so quickly on a busy machine
    eventually(lambda: telemetry.counts().written == 20)
    assert telemetry.stop(20) == Counts(20, 20, 0, 0)
    # One that was started in between may have been ended after it had appended them.
    assert list(dict.fromkeys(written(path))) == list(range(20))


def test_a_writer_of_idle_priority_that_hangs_is_replaced_while_another_one_writes(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    telemetry = started(path)
    offer(telemetry, range(1))
    eventually(lambda: telemetry.counts().written == 1)
    first, numbers = running(telemetry), itertools.count(1)
    monkeypatch.setattr("matinee.serving.writer_process.REPLY_SECONDS", 0.5)
    os.kill(first, signal.SIGSTOP)

    def replaced() -> bool:
        offer(telemetry, range(number := next(numbers), number + 1))
        return is_gone(first)

    eventually(replaced)
    n = next(numbers)
    assert telemetry.stop(20) == Counts(n, n, 0, 0)
    assert written(path) == list(range(n))


SERVER_THAT_IS_KILLED = """
import sys
from test_telemetry import CLOCK, served
from matinee.serving.telemetry import Telemetry
from matinee.serving.writer_process import WriterProcess

sink = WriterProcess(sys.argv[1])
telemetry = Telemetry(sink, CLOCK, capacity=10_000, seconds=0.01, producer="test")
telemetry.start()
telemetry.offer(served(0))
while telemetry.counts().written < 1:
    pass
print("writer", sink.pid, flush=True)
sys.stdin.read(1)
for number in range(1, 4_001):
    telemetry.offer(served(number))
print("offered", flush=True)
sys.stdin.read(1)
"""


@contextlib.contextmanager
def server_to_be_killed(path: Path):
    """A server, one of whose records is written, and the pid of its writer. One byte has it offer 4,000 more."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER_THAT_IS_KILLED, f"sqlite:///{path}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent,
    ) as server:  # fmt: skip
        yield server, int(said(server, "writer"))
        server.kill()


def said(server: subprocess.Popen[str], word: str) -> str:
    """What follows the word at the beginning of a line, when it comes; other lines are the log's."""
    assert server.stdout is not None
    return next(line.removeprefix(word).strip() for line in server.stdout if line.startswith(word))


def test_what_waits_in_a_server_that_is_killed_is_written_by_its_writer(path: Path):
    with server_to_be_killed(path) as (server, pid):
        with stalled(path):
            server.stdin.write("x")
            server.stdin.flush()
            said(server, "offered")
            server.kill()
            server.wait()
            assert not is_gone(pid)  # it waits for the log
        eventually(lambda: is_gone(pid))
    # On a busy machine it has a second writer, in a hurry: what one was appending, the other finds left over.
    written_twice = len(numbers := written(path)) - len(first := list(dict.fromkeys(numbers)))
    assert written_twice <= BATCH
    assert first == list(range(len(first)))
    assert 0 <= 4_001 - len(first) < ENCODED_TOGETHER


@pytest.mark.parametrize(
    ("errors", "lost"),
    [
        ([StoreUnavailable("not now")], False),
        ([InvalidInput("never")], True),
        (5 * [StoreUnavailable("not for long enough")], True),
    ],
)
def test_what_waits_in_a_server_that_is_killed_is_tried_for_a_while_and_else_counted(
    batch: TakeBatch,
    errors: list[Exception],
    lost: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.setattr("matinee.serving.telemetry_writer.LEFT_SECONDS", 0.02)
    monkeypatch.setattr("matinee.serving.telemetry_writer.LEFT_PAUSE", 0.01)
    given, kept, left = batch(b"one", b"two"), Memory(), list(errors)

    class Failing(Memory):
        def append(self, values: list[bytes], *, partition: int = 0) -> int:
            if left:
                raise left.pop(0)
            return kept.append(values)

    write_what_is_left(given.ring, ReopenedLog(Failing))
    assert kept.batches == ([] if lost else [[b"one", b"two"]])
    told = capfd.readouterr().err
    assert told == (f"2 records of answers were lost: {errors[0]}\n" if lost else "")


def test_a_writer_that_is_late_does_not_have_written_again_what_another_one_wrote():
    queue = RecordQueue(9)
    assert queue.put([b"one"])
    late = queue.first(9)
    assert queue.put([b"two"])

    class Overtaken(Memory):
        """While the late one appends, its server is killed, and the other one writes all that waits."""

        def append(self, values: list[bytes], *, partition: int = 0) -> int:
            write_what_is_left(queue.ring, ReopenedLog(lambda: other))
            return super().append(values)

    other, log = Memory(), Overtaken()
    answers_to(frame(late), queue.ring, log)
    write_what_is_left(queue.ring, ReopenedLog(lambda: log))
    assert other.batches == [[b"one", b"two"]]
    assert log.batches == [[b"one"]]  # twice in the log, under the same id; and no more than that


def test_two_writers_of_a_server_that_is_killed_write_what_waits_once(batch: TakeBatch):
    given, log = batch(b"one", b"two"), Memory()
    write_what_is_left(given.ring, ReopenedLog(lambda: log))
    write_what_is_left(given.ring, ReopenedLog(lambda: log))
    assert log.batches == [[b"one", b"two"]]


def test_a_full_disk_loses_nothing_that_fits_into_the_queue(batch: TakeBatch, tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.decode().strip()}")
    try:
        path = disk / "log.sqlite"
        SqliteLog(path, CLOCK).close()
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 12)):
                pass
        sink = WriterProcess(f"sqlite:///{path}")
        with pytest.raises(OutOfRoom):
            sink.append(batch(bytes(1 << 16)))
        sink.close()
        telemetry = started(path, capacity=200)
        offer(telemetry, range(250))
        eventually(lambda: telemetry.counts().dropped == 50)
        assert telemetry.counts() == Counts(offered=250, written=0, dropped=50, waiting=200)
        filler.unlink()
        eventually(lambda: telemetry.counts().written == 200)
        assert telemetry.stop(20) == Counts(offered=250, written=200, dropped=50, waiting=0)
        assert written(path) == list(range(200))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_log_without_a_known_url_is_told_as_what_it_is_and_counted_as_lost(batch: TakeBatch):
    sink = WriterProcess("carrier-pigeon://coop")
    with pytest.raises(ConfigurationError, match="carrier-pigeon") as told:
        sink.append(batch(b"x"))
    assert "sqlite:///PATH" in told.value.remedy
    sink.close()
    telemetry = Telemetry(sink, CLOCK, capacity=9, seconds=0.01, producer="test")
    telemetry.start()
    telemetry.offer(served(0))
    eventually(lambda: telemetry.counts().dropped == 1)
    assert telemetry.stop(20) == Counts(1, 0, 1, 0)


def test_a_writer_that_cannot_start_is_a_store_that_is_away(
    batch: TakeBatch, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writer_process.sys, "executable", str(path.parent / "no-python"))
    sink = WriterProcess(f"sqlite:///{path}")
    with pytest.raises(StoreUnavailable, match="no-python"):
        sink.append(batch(b"x"))
    monkeypatch.undo()
    sink.append(batch(b"x"))
    sink.close()


class Memory:
    """A log that keeps what it is given, and refuses empty records."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []

    def append(self, values: list[bytes], *, partition: int = 0) -> int:
        if not all(values):
            raise InvalidInput("empty", remedy="give one")
        self.batches.append(values)
        return 0

    def close(self) -> None: ...


def answers_to(frames: bytes, ring: Ring, log: object) -> list[Outcome]:
    """What a writer answers to each frame."""
    answers = io.BytesIO()
    write(io.BytesIO(frames), answers, ring, ReopenedLog(lambda: log))
    found, rest = [], answers.getvalue()
    while rest:
        end = HEADER_BYTES + int.from_bytes(rest[:HEADER_BYTES], "little")
        found.append(msgspec.msgpack.decode(rest[HEADER_BYTES:end], type=Outcome))
        rest = rest[end:]
    return found


def frame(batch: Batch) -> bytes:
    return POSITIONS.pack(batch.start, batch.end)


@given(st.lists(st.lists(st.binary(max_size=50), min_size=1, max_size=5), max_size=5), st.data())
def test_each_whole_frame_is_answered_and_a_torn_one_is_not_written(blocks: list[list[bytes]], data: st.DataObject):
    queue, frames, end = RecordQueue(100), [], 0
    for block in [*blocks, [b"the last"]]:
        assert queue.put(block)
        start, end = end, queue.first(100).end
        frames.append(POSITIONS.pack(start, end))
    log, nothing = Memory(), POSITIONS.pack(7, 7)
    torn = frames.pop()[: data.draw(st.integers(0, POSITIONS.size - 1))]
    told = answers_to(b"".join(frames) + nothing + torn, queue.ring, log)
    assert log.batches == [block for block in blocks if all(block)]
    expected = [("", "", "") if all(block) else ("InvalidInput", "empty", "give one") for block in blocks]
    assert [(outcome.error, outcome.message, outcome.remedy) for outcome in told] == [*expected, ("", "", "")]


def test_an_error_that_nobody_foresaw_does_not_end_the_writer(batch: TakeBatch):
    class Broken(Memory):
        def append(self, values: list[bytes], *, partition: int = 0) -> int:
            raise ZeroDivisionError("who would have thought")

    given = batch(b"x")
    told = answers_to(2 * frame(given), given.ring, Broken())
    assert [(outcome.error, "who would have thought" in outcome.message) for outcome in told] == 2 * [
        ("FatalError", True)
    ]
    assert given.ring.released_until < given.end  # nobody wrote it


def test_a_log_is_opened_when_needed_and_again_after_it_failed(batch: TakeBatch, path: Path):
    opened: list[EventLog] = []

    def open_log() -> EventLog:
        opened.append(SqliteLog(path, CLOCK))
        return opened[-1]

    sink = ReopenedLog(open_log)
    assert not opened
    sink.append(batch(b"a"))
    sink.append(batch(b"b"))
    with pytest.raises(InvalidInput):
        sink.append(batch())
    sink.append(batch(b"c"))
    sink.close()
    sink.close()
    assert len(opened) == 2


def test_the_writer_is_small():
    program = (
        "import sys, matinee.serving.telemetry_writer\n"
        "heavy = ('numpy', 'fastapi', 'starlette', 'granian', 'pydantic', 'structlog', 'asyncio', 'lmdb')\n"
        "sys.exit(', '.join(name for name in heavy if name in sys.modules) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
