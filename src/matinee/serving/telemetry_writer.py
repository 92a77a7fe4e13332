"""The process beside a server that appends its telemetry to the event log.

Appending takes a thread the interpreter's lock some thousand times a second, and a core in bursts of a millisecond:
in the server's own process that doubles the answers' p99. Here it is another interpreter's lock, and the bursts
give way at once, because this process runs only when nothing else wants the core (`SCHED_IDLE`): unless it is told
to hurry, since on a machine that is always busy too much would wait.

    python -m matinee.serving.telemetry_writer URL [hurry]

Reads frames from standard input and answers each on standard output. A frame is a length (4 bytes, little endian)
and that many bytes of MessagePack: an array of records one way; back, the name of an error's type, its message and
its remedy, all empty where the records are durable. It ends where its input does, so it never outlives its server.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import BinaryIO, Protocol

import msgspec

from matinee.core.clock import SystemClock
from matinee.core.errors import FatalError, MatineeError
from matinee.log.base import EventLog
from matinee.log.open import open_log

HEADER_BYTES = 4
HURRY = "hurry"


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

    def append(self, values: Sequence[bytes], *, hurry: bool = False) -> float:
        """Append records; on return they are durable. Raises as `EventLog.append`; it may be called again.

        Args:
            values: the records.
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

    def append(self, values: Sequence[bytes], *, hurry: bool = False) -> float:  # noqa: ARG002 - gives way to nobody
        """See `Sink.append`."""
        try:
            if self._log is None:
                self._log = self._open_log()
            self._log.append(values)
        except BaseException:
            with suppress(Exception):  # it is given up in any case
                self.close()
            raise
        return 0.0

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
    if sys.argv[2:] != [HURRY]:
        step_back()  # for good: the way back takes a privilege
    sink = ReopenedLog(partial(open_log, sys.argv[1], SystemClock()))
    with suppress(ConnectionError):  # a server that was killed reads no answer
        write(sys.stdin.buffer, sys.stdout.buffer, sink)
    sink.close()


def step_back() -> None:
    """Let everything else on the machine go first."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


def write(frames: BinaryIO, outcomes: BinaryIO, sink: Sink) -> None:
    """Append the records of each frame and answer it, until the frames end. No error of the log ends it."""
    before = core_wait()
    while len(header := frames.read(HEADER_BYTES)) == HEADER_BYTES:
        size = int.from_bytes(header, "little")
        frame = frames.read(size)
        if len(frame) < size:
            return  # the server is gone
        outcome = _append(sink, msgspec.msgpack.decode(frame, type=list[bytes]))
        before, outcome.starved = (now := core_wait()), now - before
        answer = msgspec.msgpack.encode(outcome)
        outcomes.write(len(answer).to_bytes(HEADER_BYTES, "little") + answer)
        outcomes.flush()


def core_wait() -> float:
    """Seconds so far in which this process could run and had no core; 0 where the system does not say."""
    try:
        with open("/proc/self/schedstat") as file:  # noqa: PTH123 - with every frame
            return int(file.read().split()[1]) / 1e9  # https://docs.kernel.org/scheduler/sched-stats.html
    except (OSError, IndexError, ValueError):
        return 0.0


def _append(sink: Sink, values: list[bytes]) -> Outcome:
    try:
        if values:
            sink.append(values)
    except MatineeError as error:
        return Outcome(type(error).__name__, str(error), error.remedy)
    except Exception as error:  # noqa: BLE001 - nothing that happens to the log may end this process
        return Outcome(FatalError.__name__, repr(error))
    return Outcome()


if __name__ == "__main__":
    main()
