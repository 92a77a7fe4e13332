"""The process beside a server that appends its telemetry to the event log.

Appending takes a thread the interpreter's lock some thousand times a second, and a core in bursts of a millisecond:
in the server's own process that doubles the answers' p99. Here it is another interpreter's lock, and the bursts
give way at once, because this process runs only when nothing else wants the core (`SCHED_IDLE`): unless it is told
to hurry, since on a machine that is always busy too much would wait.

    python -m matinee.serving.telemetry_writer URL DESCRIPTOR [hurry]

The records lie in the memory that the descriptor stands for (`record_queue.py`). Standard input says which to
append: frames of two positions (uint64, little endian), the same twice for nothing. Each is answered on standard
output by a length (4 bytes, little endian) and that many bytes of MessagePack: the name of an error's type, its
message and its remedy, all empty where the records are durable.

It ends where its input does. Nothing waits then, unless the server was killed: what it had encoded is written
first, for as long as `LEFT_SECONDS`.
"""

import fcntl
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import BinaryIO, Protocol

import msgspec

from matinee.core import errors
from matinee.core.clock import SystemClock
from matinee.core.errors import FatalError, MatineeError, RetryableError
from matinee.log.base import EventLog
from matinee.log.open import open_log
from matinee.serving.record_queue import Batch, Ring

POSITIONS = struct.Struct("<QQ")
HEADER_BYTES = 4
HURRY = "hurry"
LEFT_SECONDS, LEFT_PAUSE = 30.0, 0.2
"""How long the writer of a server that was killed tries to write what waited, and between two tries."""
LEFT_BATCH = 512
"""Records that it writes at once."""


class Outcome(msgspec.Struct, array_like=True):
    """What became of a frame of records."""

    error: str = ""
    """The name of a class of `core/errors.py`; empty where all of the records are durable."""
    message: str = ""
    remedy: str = ""
    starved: float = 0.0
    """Seconds since the last outcome in which the process could have gone on, and had no core."""


class Sink(Protocol):
    """Where telemetry goes. Belongs to one thread, save for `abort`."""

    def append(self, batch: Batch, *, hurry: bool = False) -> float:
        """Append records; on return they are durable. Raises as `EventLog.append`; it may be called again.

        Args:
            batch: the records.
            hurry: whether so many wait that writing must no longer give way to everything else.

        Returns:
            Seconds in which writing could have gone on, and had no core. That it waited for the log is not in it.
        """

    def idle_wait(self, timeout: float) -> float:
        """Ask whether a writer of idle priority gets a core, by having it do nothing.

        Args:
            timeout: seconds to wait for its answer. One that comes later is had by asking again.

        Returns:
            Seconds that it went without a core; infinite while it has not answered.
        """

    def abort(self) -> None:
        """Give up an `append` that hangs, where that can be done. From any thread."""

    def close(self) -> None:
        """Let go of everything."""


class ReopenedLog:
    """An event log that is opened when first needed, and again after it failed: it may be another one then.

    Args:
        open_log: opens the log.
    """

    def __init__(self, open_log: Callable[[], EventLog]) -> None:
        self._open_log = open_log
        self._log: EventLog | None = None

    def append(self, batch: Batch, *, hurry: bool = False) -> float:  # noqa: ARG002 - gives way to nobody
        """See `Sink.append`."""
        self.append_records(batch.records())
        return 0.0

    def append_records(self, records: Sequence[bytes]) -> None:
        """Append records. Raises as `EventLog.append`."""
        try:
            if self._log is None:
                self._log = self._open_log()
            self._log.append(records)
        except BaseException:
            with suppress(Exception):  # it is given up in any case
                self.close()
            raise

    def idle_wait(self, timeout: float) -> float:  # noqa: ARG002 - there is no idle writer to wait for
        """See `Sink.idle_wait`."""
        return 0.0

    def abort(self) -> None:
        """See `Sink.abort`. A call into the log cannot be given up from outside."""

    def close(self) -> None:
        """See `Sink.close`. Safe to call twice."""
        log, self._log = self._log, None
        if log is not None:
            log.close()


def main() -> None:
    """Run until the input ends."""
    for number in (signal.SIGTERM, signal.SIGINT):  # the server is told to end, and then closes the input
        signal.signal(number, signal.SIG_IGN)
    url, descriptor, *options = sys.argv[1:]
    if HURRY not in options:
        step_back()  # for good: the way back takes a privilege
    log, ring = ReopenedLog(partial(open_log, url, SystemClock())), Ring(int(descriptor))
    with suppress(ConnectionError):  # a server that was killed reads no answer
        write(sys.stdin.buffer, sys.stdout.buffer, ring, log)
    write_what_is_left(ring, log)
    log.close()


def step_back() -> None:
    """Let everything else on the machine go first."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


def write(frames: BinaryIO, outcomes: BinaryIO, ring: Ring, log: ReopenedLog) -> None:
    """Append what each frame names and answer it, until the frames end. No error of the log ends it."""
    before = core_wait()
    while len(frame := frames.read(POSITIONS.size)) == POSITIONS.size:  # of less: the server is gone
        outcome = _append(ring, log, *POSITIONS.unpack(frame))
        before, outcome.starved = (now := core_wait()), now - before
        answer = msgspec.msgpack.encode(outcome)
        outcomes.write(len(answer).to_bytes(HEADER_BYTES, "little") + answer)
        outcomes.flush()


def write_what_is_left(ring: Ring, log: ReopenedLog) -> None:
    """Append what waits in the ring, now that its server is gone. One process at a time."""
    fcntl.lockf(ring.file, fcntl.LOCK_EX)  # until this process ends
    end = time.monotonic() + LEFT_SECONDS
    while ring.released_until < ring.put_until:
        outcome = _append(ring, log, *_next(ring))
        if not outcome.error:
            continue
        if time.monotonic() >= end or not issubclass(error_type(outcome), RetryableError):
            lost = len(ring.records(ring.released_until, ring.put_until))
            sys.stderr.write(f"{lost} records of answers were lost: {outcome.message}\n")
            return
        time.sleep(LEFT_PAUSE)


def _next(ring: Ring) -> tuple[int, int]:
    """The positions around the oldest `LEFT_BATCH` records, or a few more."""
    start = end = ring.released_until
    n = 0
    for behind, records in ring.blocks(start, ring.put_until):
        end, n = behind, n + len(records)
        if n >= LEFT_BATCH:
            break
    return start, end


def core_wait() -> float:
    """Seconds so far in which this process could run and had no core; 0 where the system does not say."""
    try:
        with open("/proc/self/schedstat") as file:  # noqa: PTH123 - with every frame
            return int(file.read().split()[1]) / 1e9  # https://docs.kernel.org/scheduler/sched-stats.html
    except (OSError, IndexError, ValueError):
        return 0.0


def error_type(outcome: Outcome) -> type[MatineeError]:
    """The class of an outcome's error."""
    kind: type[MatineeError] = getattr(errors, outcome.error, FatalError)
    return kind


def _append(ring: Ring, log: ReopenedLog, start: int, end: int) -> Outcome:
    try:
        if start < end:
            log.append_records(ring.records(start, end))
            # Its server will say so too, unless it was killed; then another writer may be further already.
            ring.released_until = max(ring.released_until, end)
    except MatineeError as error:
        return Outcome(type(error).__name__, str(error), error.remedy)
    except Exception as error:  # noqa: BLE001 - nothing that happens to the log may end this process
        return Outcome(FatalError.__name__, repr(error))
    return Outcome()


if __name__ == "__main__":
    main()
