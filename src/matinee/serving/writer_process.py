"""A server's side of the process that writes its telemetry: started when needed, and again when it died."""

import socket
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from matinee.core import errors
from matinee.core.errors import FatalError, MatineeError, StoreUnavailable
from matinee.core.logging import get_logger
from matinee.serving.telemetry_writer import HEADER_BYTES, HURRY, Outcome

REPLY_SECONDS = 30.0
"""A writer that has not answered for so long is ended: the log itself gives up before that."""
END_SECONDS = 2.0
"""How long a writer whose input has ended may take to end."""

_log = get_logger(__name__)


class WriterProcess:
    """A `Sink` that has another process append to the log.

    Only one frame is on its way at any time. What was sent and not acknowledged when the writer died may be in the
    log or not: it is for the caller to send it again, under the same event ids.

    Args:
        url: of the event log, as `open_log` takes it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._hurries = False

    @property
    def pid(self) -> int | None:
        """Of the writer; nothing while there is none."""
        process = self._process
        return None if process is None else process.pid

    def append(self, values: Sequence[bytes], *, hurry: bool = False) -> None:
        """See `Sink.append`. A writer that is to hurry, or no longer to, is another process.

        Raises:
            StoreUnavailable: also where the writer died, or did not answer within `REPLY_SECONDS`.
        """
        if hurry != self._hurries:
            self._end(0)
        try:
            connection = self._socket or self._start(hurry)
            frame = msgspec.msgpack.encode(values)
            connection.sendall(len(frame).to_bytes(HEADER_BYTES, "little"))
            connection.sendall(frame)
            size = int.from_bytes(_receive(connection, HEADER_BYTES), "little")
            outcome = msgspec.msgpack.decode(_receive(connection, size), type=Outcome)
        except (OSError, EOFError, msgspec.MsgspecError) as error:
            self._end(0)
            raise StoreUnavailable(
                f"the process that writes telemetry to {self._url} failed: {error}",
                remedy="It is started again by itself; what it had not acknowledged is written again.",
            ) from error
        if outcome.error:
            raise _error(outcome)

    def abort(self) -> None:
        """See `Sink.abort`: kills the writer."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """See `Sink.close`. Safe to call twice."""
        self._end(END_SECONDS)

    def _start(self, hurry: bool) -> socket.socket:
        command = [sys.executable, "-uP", "-m", "matinee.serving.telemetry_writer", self._url]
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                    [*command, HURRY] if hurry else command,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    process_group=0,  # Ctrl-C is for the server, which ends its writer when all is written
                )
        except BaseException:
            ours.close()
            raise
        ours.settimeout(REPLY_SECONDS)
        self._socket, self._hurries = ours, hurry
        _log.info("telemetry_writer_started", pid=self._process.pid, hurry=hurry)
        return ours

    def _end(self, seconds: float) -> None:
        connection, self._socket = self._socket, None
        process, self._process = self._process, None
        if connection is not None:
            connection.close()
        if process is not None:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _receive(connection: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        more = connection.recv(size - len(got))
        if not more:
            raise EOFError("it ended")
        got += more
    return bytes(got)


def _error(outcome: Outcome) -> MatineeError:
    kind: type[MatineeError] = getattr(errors, outcome.error, FatalError)
    return kind(outcome.message, remedy=outcome.remedy)
