"""What was answered, on its way to the event log: a bounded queue that answering never waits for.

At any moment `offered == written + dropped + waiting`.

Records are encoded a few at a time as they are offered: one by one they cost each answer three times as much, for
what encodes them has left the processor's caches by then; and a whole batch at once would keep the interpreter from
all answers for most of a millisecond. What waits is then plain bytes in memory that the writer shares: handing over
a batch is to say where it is.
"""

import threading
from collections import deque
from dataclasses import dataclass

from matinee.core.clock import Clock
from matinee.core.errors import GenerationChanged, RetryableError
from matinee.core.logging import get_logger
from matinee.events.envelope import wrapper
from matinee.events.types import Served
from matinee.serving.record_queue import Batch, RecordQueue
from matinee.serving.telemetry_writer import Sink

BATCH, LEAST_BATCH = 2_048, 32
"""Records appended at once, at most: in a hurry, and at idle priority where it gets much time, or little.

Half of what 512 records cost is the same for any number of them.
"""
ENCODED_TOGETHER = 8
"""Records that wait to be encoded, at most."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between tries while the log fails; doubled after each."""
STARVED_SECONDS, STARVED_SHARE = 0.25, 0.5
"""A batch for which no core was free for longer, or for so much of its time while a queue that is half full grew no
shorter, says that a writer of idle priority gets too little.

A log that was locked says nothing of that: what waited for it is written at idle priority too, for as long as that
is faster than what comes.
"""
QUICK_SECONDS = 0.02
"""A batch that had to do without a core for less is followed by a larger one, else by a smaller one.

A writer of idle priority that answers an empty batch so quickly may have the next one.
"""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the records so far."""

    offered: int
    written: int
    dropped: int
    waiting: int


class Telemetry:
    """A bounded queue of `Served` records, and the one thread that hands them to the log's writer in batches.

    A record stays in the queue until the log has acknowledged it. What the log cannot take now
    (`RetryableError`, or a log that was made again) is kept and tried again; what it can never take is dropped.
    A batch that became durable though its acknowledgement was lost (the writer died between the two) is written
    twice: its records carry their event ids, by which ingest drops the second.

    Args:
        sink: where the records go; used in the thread.
        clock: counts the pauses.
        capacity: records that may wait, of 1,024 bytes each on average.
        seconds: the longest a record waits for others, while the log keeps up.
        producer: names this server in the envelopes.
    """

    def __init__(self, sink: Sink, clock: Clock, *, capacity: int, seconds: float, producer: str) -> None:
        self.sink = sink
        self._clock = clock
        self._seconds = seconds
        self._wrap = wrapper(Served, producer)
        self._queue = RecordQueue(capacity)
        self._fresh: deque[Served] = deque()  # offered, and not yet counted or encoded
        self._lock = threading.Lock()  # held for a few microseconds, never while writing
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._give_up_at = float("inf")
        self._written = self._dropped = self._offered = 0
        self._pause = 0.0
        self._hurry = False
        self._idle_batch = LEAST_BATCH
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    def start(self) -> None:
        """Start writing. Once only."""
        self._thread.start()

    def offer(self, record: Served) -> None:
        """Hand a record over. Never waits and never raises.

        One that does not fit, or cannot be encoded, is dropped and counted.
        """
        self._fresh.append(record)
        if len(self._fresh) < ENCODED_TOGETHER:
            return
        with self._lock:
            before = self._queue.waiting
            self._encode()
            waiting = self._queue.waiting
        if before < BATCH <= waiting:
            self._wake.set()

    def counts(self) -> Counts:
        """What became of the records, all at one moment."""
        with self._lock:
            self._encode()
            return Counts(self._offered, self._written, self._dropped, self._queue.waiting)

    def stop(self, timeout: float) -> Counts:
        """Write what waits, for at most `timeout` seconds, and return the final counts.

        What could not be written is dropped and counted; it stays `waiting` only if the sink never returned.
        """
        self._give_up_at = self._clock.monotonic() + timeout
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout + LONGEST_PAUSE / 4)
            if self._thread.is_alive():
                self.sink.abort()
                self._thread.join(LONGEST_PAUSE / 2)
        counts = self.counts()
        if counts.dropped or counts.waiting:
            _log.warning("telemetry_lost", dropped=counts.dropped, waiting=counts.waiting, written=counts.written)
        return counts

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._seconds)
            self._wake.clear()
            self._drain()
        self._drain()
        with self._lock:
            self._encode()
            self._dropped += self._queue.waiting
            self._queue.clear()
        self.sink.close()

    def _drain(self) -> None:
        """Write until nothing waits, or, once stopping, until the time is up."""
        while self._take_fresh() and not (self._stopping.is_set() and self._clock.monotonic() >= self._give_up_at):
            if self._pause:
                self._stopping.wait(self._pause) if not self._stopping.is_set() else self._clock.sleep(0.05)
            begun, waiting = self._clock.monotonic(), self._queue.waiting
            self._hurry = self._must_hurry(waiting)
            size = BATCH if self._hurry else self._idle_batch
            with self._lock:
                batch = self._queue.first(size)
            written, dropped, starved = self._write(batch)
            if written or dropped:
                self._settle(batch, written, dropped)
            if not self._hurry and not self._pause:
                self._adapt(starved, begun, waiting)
            if batch.n == waiting and not self._stopping.is_set():
                return  # a handful more are better written together, a little later

    def _take_fresh(self) -> bool:
        """Encode what is not yet, and say whether anything waits."""
        with self._lock:
            self._encode()
            return self._queue.waiting > 0

    def _encode(self) -> None:
        """Move the fresh records into the queue, as far as they fit. To be called under the lock."""
        fresh, wrap = self._fresh, self._wrap
        encoded: list[bytes] = []
        room = self._queue.capacity - self._queue.waiting
        for _ in range(len(fresh)):  # others may append meanwhile
            record = fresh.popleft()
            self._offered += 1
            if len(encoded) == room:
                self._dropped += 1
                continue
            try:
                encoded.append(wrap(record, record.time_us, record.request_id))
            except Exception:  # noqa: BLE001 - one record is lost, and counted; never the answer
                self._dropped += 1
                _log.exception("telemetry_record_unwritable", request_id=record.request_id)
        if encoded and not self._queue.put(encoded):
            self._dropped += len(encoded)

    def _adapt(self, starved: float, begun: float, waiting: int) -> None:
        """Go on with larger batches at idle priority, or hurry, by how long the last one had no core.

        Args:
            starved: seconds without a core.
            begun: when that batch was taken.
            waiting: how many records waited then, its own among them.
        """
        now = self._clock.monotonic()
        falls_behind = self._queue.waiting >= max(waiting, self._queue.capacity // 2)
        if starved > STARVED_SECONDS or (falls_behind and starved > STARVED_SHARE * (now - begun)):
            self._idle_batch, self._hurry = LEAST_BATCH, True
        elif starved < QUICK_SECONDS:
            self._idle_batch = min(2 * self._idle_batch, BATCH)
        else:
            self._idle_batch = max(self._idle_batch // 2, LEAST_BATCH)

    def _must_hurry(self, waiting: int) -> bool:
        """Whether idle priority gets no core now. It is asked without records, which it would hold back."""
        if self._hurry:
            return waiting > BATCH or self.sink.idle_wait(0.0) > QUICK_SECONDS
        return self.sink.idle_wait(STARVED_SECONDS) > STARVED_SECONDS

    def _write(self, batch: Batch) -> tuple[int, int, float]:
        """Append a batch: how many records were written, how many can never be, and seconds without a core."""
        try:
            starved = self.sink.append(batch, hurry=self._hurry)
        except Exception as error:  # noqa: BLE001 - nothing that happens to the log may end this thread
            keep = isinstance(error, (RetryableError, GenerationChanged))
            self._pause = min(2 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)
            _log.warning("telemetry_not_written", error=str(error), kept=keep, retry_seconds=self._pause)
            return 0, 0 if keep else batch.n, 0.0
        self._pause = 0.0
        return batch.n, 0, starved

    def _settle(self, batch: Batch, written: int, dropped: int) -> None:
        with self._lock:
            self._written += written
            self._dropped += dropped
            self._queue.release(batch)
