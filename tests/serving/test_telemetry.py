import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from matinee.core.clock import SystemClock
from matinee.core.errors import InvalidInput, StoreUnavailable
from matinee.events.envelope import unwrap
from matinee.events.types import Served
from matinee.log.base import EventLog
from matinee.log.sqlite import SqliteLog
from matinee.serving.telemetry import BATCH, Counts, Telemetry
from matinee.serving.telemetry_writer import ReopenedLog

CLOCK = SystemClock()


class Faulty:
    """A real log, whose `append` first waits for `open` and then raises the next of `errors`, if any."""

    def __init__(self, inner: EventLog):
        self.inner = inner
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.errors: list[Exception] = []

    def append(self, values: Sequence[bytes], *, partition: int = 0) -> int:
        self.entered.set()
        self.open.wait()
        if self.errors:
            raise self.errors.pop(0)
        return self.inner.append(values, partition=partition)

    def close(self) -> None:
        """Stays open: the test reads what was written."""


def served(number: int, **changes) -> Served:
    fields = {
        "time_us": 1_700_000_000_000_000 + number, "request_id": f"{number:032x}", "user": "u", "items": ("a", "b"),
        "model_version": "v", "arm": "main", "step": "personal", "latency_ms": 0.1, "scores": (1.0, 0.5),
    }  # fmt: skip
    return Served(**(fields | changes))


@pytest.fixture
def log(tmp_path: Path):
    with SqliteLog(tmp_path / "log.sqlite", CLOCK) as inner:
        yield Faulty(inner)


def started(log: Faulty, capacity: int = 1_000) -> Telemetry:
    telemetry = Telemetry(ReopenedLog(lambda: log), CLOCK, capacity=capacity, seconds=0.01, producer="test")
    telemetry.start()
    return telemetry


def ids(log: Faulty) -> list[int]:
    values: list[bytes] = []
    reader = log.inner.reader(lambda partition: 0)
    while batches := reader.poll(max_records=10_000, timeout=0):
        values += [value for batch in batches for value in batch.values]
    reader.close()
    return [int(unwrap(value).event_id or "", 16) for value in values]


def eventually(reached) -> None:
    end = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_everything_offered_is_written_once_and_in_order(log: Faulty):
    telemetry = started(log, capacity=10 * BATCH)
    for number in range(3 * BATCH + 7):
        telemetry.offer(served(number))
    assert telemetry.stop(10) == Counts(3 * BATCH + 7, 3 * BATCH + 7, 0, 0)
    assert ids(log) == list(range(3 * BATCH + 7))


def test_a_record_is_an_envelope_that_can_be_read_again(log: Faulty):
    telemetry = started(log)
    telemetry.offer(served(7))
    telemetry.stop(10)
    (records,) = log.inner.reader(lambda partition: 0).poll(max_records=2, timeout=0)
    envelope = unwrap(records.values[0])
    assert (envelope.kind, envelope.event_id, envelope.producer) == ("served", f"{7:032x}", "test")
    import msgspec

    assert msgspec.json.decode(envelope.payload, type=Served) == served(7)


def test_a_log_that_stalls_delays_nobody_and_the_counts_stay_exact(log: Faulty):
    log.open.clear()
    telemetry = started(log, capacity=100)
    telemetry.offer(served(0))
    assert log.entered.wait(20)
    for number in range(1, 250):
        telemetry.offer(served(number))
        counts = telemetry.counts()
        assert counts.offered == counts.written + counts.dropped + counts.waiting == number + 1
    assert telemetry.counts() == Counts(offered=250, written=0, dropped=150, waiting=100)
    log.open.set()
    assert telemetry.stop(10) == Counts(offered=250, written=100, dropped=150, waiting=0)
    assert ids(log) == list(range(100))


def test_many_threads_offering_at_once_are_counted_exactly(log: Faulty):
    telemetry = started(log, capacity=50)
    threads = [
        threading.Thread(target=lambda: [telemetry.offer(served(number)) for number in range(500)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = telemetry.stop(10)
    assert (counts.offered, counts.waiting) == (2_000, 0)
    assert counts.written + counts.dropped == 2_000
    assert len(ids(log)) == counts.written


def test_what_the_log_cannot_take_now_is_kept_and_written_later(log: Faulty):
    log.errors = [StoreUnavailable("away"), StoreUnavailable("still away")]
    telemetry = started(log)
    for number in range(20):
        telemetry.offer(served(number))
    eventually(lambda: telemetry.counts().written == 20)
    assert telemetry.stop(10) == Counts(20, 20, 0, 0)
    assert ids(log) == list(range(20))


def test_what_the_log_can_never_take_is_dropped_and_counted(log: Faulty):
    log.errors = [InvalidInput("never")]
    telemetry = started(log)
    telemetry.offer(served(0))
    eventually(lambda: telemetry.counts().dropped == 1)
    telemetry.offer(served(1))
    assert telemetry.stop(10) == Counts(2, 1, 1, 0)
    assert ids(log) == [1]


def test_a_log_that_was_made_again_is_opened_again(tmp_path: Path):
    path = tmp_path / "log.sqlite"
    SqliteLog(path, CLOCK).close()
    telemetry = Telemetry(
        ReopenedLog(lambda: SqliteLog(path, CLOCK)), CLOCK, capacity=100, seconds=0.01, producer="test"
    )
    telemetry.start()
    telemetry.offer(served(0))
    eventually(lambda: telemetry.counts().written == 1)
    for file in tmp_path.glob("log.sqlite*"):
        file.unlink()
    telemetry.offer(served(1))
    assert telemetry.stop(10) == Counts(2, 2, 0, 0)
    with SqliteLog(path, CLOCK) as made_again:
        assert ids(Faulty(made_again)) == [1]


def test_a_log_that_cannot_be_opened_is_tried_again(log: Faulty):
    tries = []

    def open_late() -> EventLog:
        tries.append(1)
        if len(tries) < 3:
            raise StoreUnavailable("not yet")
        return log

    telemetry = Telemetry(ReopenedLog(open_late), CLOCK, capacity=10, seconds=0.01, producer="test")
    telemetry.start()
    telemetry.offer(served(0))
    eventually(lambda: telemetry.counts().written == 1)
    telemetry.stop(10)
    assert len(tries) == 3


def test_a_record_that_cannot_be_encoded_costs_itself_alone(log: Faulty):
    telemetry = started(log)
    for number in range(3):
        telemetry.offer(served(number, user="\ud800" if number == 1 else "u"))
    assert telemetry.stop(10) == Counts(3, 2, 1, 0)
    assert ids(log) == [0, 2]


def test_stopping_is_bounded_though_the_log_keeps_failing(log: Faulty):
    log.errors = [StoreUnavailable("away")] * 10_000
    telemetry = started(log)
    telemetry.offer(served(0))
    assert telemetry.stop(0.2) == Counts(1, 0, 1, 0)


def test_stopping_is_bounded_though_the_log_never_returns(log: Faulty):
    log.open.clear()
    telemetry = started(log)
    telemetry.offer(served(0))
    assert log.entered.wait(20)
    counts = telemetry.stop(0.2)
    log.open.set()
    assert counts == Counts(1, 0, 0, 1)


def test_a_telemetry_that_never_started_stops_and_tells_what_waits(log: Faulty):
    telemetry = Telemetry(ReopenedLog(lambda: log), CLOCK, capacity=1, seconds=0.01, producer="test")
    telemetry.offer(served(0))
    telemetry.offer(served(1))
    assert telemetry.stop(0.1) == Counts(offered=2, written=0, dropped=1, waiting=1)
