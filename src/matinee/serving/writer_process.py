"""A server's side of the process that writes its telemetry: started when needed, and again when it died."""

import math
import select
import socket
import subprocess
import sys
import time

import msgspec

from matinee.core.errors import StoreUnavailable
from matinee.core.logging import get_logger
from matinee.serving.record_queue import Batch
from matinee.serving.telemetry_writer import HEADER_BYTES, HURRY, POSITIONS, Outcome, error_type

REPLY_SECONDS = 30.0
"""A writer that has not answered for so long is ended: the log itself gives up before that."""
END_SECONDS = 2.0
"""How long a writer whose input has ended may take to end."""

_log = get_logger(__name__)


class WriterProcess:
    """A `Sink` that has another process append to the log: one at idle priority, and a second one in a hurry.

    A process that stepped back cannot come forward again. So both stay once they were needed: where there is too
    much to do, starting an interpreter with each change would cost more than all the writing.

    Only one batch is on its way at any time. What was not acknowledged when the writer died may be in the log or
    not: it is for the caller to hand it over again, under the same event ids.

    Args:
        url: of the event log, as `open_log` takes it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._writers: dict[bool, _Writer] = {}  # by whether they hurry
        self._hurries = False

    @property
    def pid(self) -> int | None:
        """Of the process that was asked last; nothing while there is none."""
        writer = self._writers.get(self._hurries)
        return None if writer is None else writer.process.pid

    def append(self, batch: Batch, *, hurry: bool = False) -> float:
        """See `Sink.append`.

        Raises:
            StoreUnavailable: also where the writer died, or did not answer within `REPLY_SECONDS`.
        """
        self._hurries = hurry
        try:
            writer = self._writers.get(hurry) or self._start(hurry, batch.ring.file)
            if writer.is_asked:
                writer.outcome()  # of nothing: see `idle_wait`
            writer.ask(batch.start, batch.end)
            outcome = writer.outcome()
        except (OSError, EOFError, msgspec.MsgspecError) as error:
            self._end(hurry, 0)
            raise StoreUnavailable(
                f"the process that writes telemetry to {self._url} failed: {error}",
                remedy="It is started again by itself; what it had not acknowledged is written again.",
            ) from error
        if outcome.error:
            raise error_type(outcome)(outcome.message, remedy=outcome.remedy)
        return outcome.starved

    def idle_wait(self, timeout: float) -> float:
        """See `Sink.idle_wait`."""
        writer = self._writers.get(False)
        if writer is None:
            return 0.0  # it is started when it is to write
        try:
            if not writer.is_asked:
                writer.ask(0, 0)
            if writer.has_answered(timeout):
                return writer.outcome().starved
            if time.monotonic() < writer.asked_at + REPLY_SECONDS:
                return math.inf
            _log.warning("telemetry_writer_hangs", pid=writer.process.pid, seconds=REPLY_SECONDS)
        except (OSError, EOFError, msgspec.MsgspecError):
            _log.warning("telemetry_writer_ended", pid=writer.process.pid)
        self._end(False, 0)
        return 0.0

    def abort(self) -> None:
        """See `Sink.abort`: kills the writers."""
        for writer in list(self._writers.values()):
            writer.process.kill()

    def close(self) -> None:
        """See `Sink.close`. Safe to call twice."""
        for hurry in list(self._writers):
            self._end(hurry, END_SECONDS)

    def _start(self, hurry: bool, ring: int) -> "_Writer":
        writer = self._writers[hurry] = _Writer(self._url, hurry, ring)
        _log.info("telemetry_writer_started", pid=writer.process.pid, hurry=hurry)
        return writer

    def _end(self, hurry: bool, seconds: float) -> None:
        writer = self._writers.pop(hurry, None)
        if writer is not None:
            writer.end(seconds)


class _Writer:
    """One process, and the socket to it."""

    def __init__(self, url: str, hurry: bool, ring: int) -> None:
        command = [sys.executable, "-uP", "-m", "matinee.serving.telemetry_writer", url, str(ring)]
        self.is_asked = False
        """Whether something was asked, and what became of it is not known."""
        self.asked_at = 0.0
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                    [*command, HURRY] if hurry else command,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    pass_fds=[ring],
                    process_group=0,  # Ctrl-C is for the server, which ends its writer when all is written
                )
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(REPLY_SECONDS)

    def ask(self, start: int, end: int) -> None:
        """Have the records between two positions written. What became of those before must be known."""
        self.is_asked, self.asked_at = True, time.monotonic()
        self._socket.sendall(POSITIONS.pack(start, end))

    def has_answered(self, timeout: float) -> bool:
        """Whether `outcome` would not wait, after so many seconds at most."""
        poll = select.poll()  # unlike `select`, it takes descriptors beyond 1,024: there may be many connections
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(timeout * 1e3))

    def outcome(self) -> Outcome:
        """What became of what was asked; raises where the process does not say."""
        size = int.from_bytes(_receive(self._socket, HEADER_BYTES), "little")
        outcome = msgspec.msgpack.decode(_receive(self._socket, size), type=Outcome)
        self.is_asked = False
        return outcome

    def end(self, seconds: float) -> None:
        """Close the input, which ends the process; kill it where it has not ended after so many seconds.

        At once for 0: an input that ends while something waits would have it written.
        """
        if not seconds:
            self.process.kill()
        self._socket.close()
        try:
            self.process.wait(seconds or None)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _receive(connection: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        more = connection.recv(size - len(got))
        if not more:
            raise EOFError("it ended")
        got += more
    return bytes(got)
