"""The lock of who writes to a history: one process alone, or several that share it, and take turns.

LMDB makes writers wait for each other as well, but without end, deaf to signals, and without a word of whom they
wait for: where that process was stopped in the midst of a write, nobody would know. So whoever shares a store takes
the turn here first. The kernel gives it back when its holder ends, however it ends.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from matinee.core.errors import Locked

_OPENING_SECONDS, _LOOK_SECONDS = 2.0, 0.02
_TURN_SECONDS, _TURN_LOOK_SECONDS = 2.0, 0.001
"""A write takes some milliseconds; erasing a user from a million, 1.3 s."""


class WriterLock:
    """Held from when it is made until it is closed, or its process ends.

    Args:
        folder: of the store.
        shared: whether other processes may hold it too, those that share it likewise.

    Raises:
        Locked: another process holds it, and one of the two does not share it.
    """

    def __init__(self, folder: Path, *, shared: bool) -> None:
        self._folder = folder
        self._descriptor = os.open(folder / "writer.lock", os.O_RDWR | os.O_CREAT, 0o644)
        self._turn = os.open(folder / "turn.lock", os.O_RDWR | os.O_CREAT, 0o644)
        self._has_turn = False
        self.alone = _take(self._descriptor, fcntl.LOCK_EX)
        """Whether no other process holds it. Who is first to share has it alone until `share`."""
        if not self.alone and not (shared and self._shared_in_time()):
            holder = _holder(self._descriptor)
            self.close()
            raise Locked(
                f"history {folder} is being written by process {holder}",
                remedy="Stop that process (usually `matinee ingest`) first; one process writes at a time.",
            )
        _sign(self._descriptor)

    def share(self) -> None:
        """Let others in who share it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        self.alone = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """No other process has its turn while the block lasts. A turn within a turn is the same one.

        Of one process's threads one at a time may call it.

        Raises:
            Locked: another process has had it for two seconds; the message names that process.
        """
        if self._has_turn:
            yield
            return
        self._take_turn()
        self._has_turn = True
        try:
            yield
        finally:
            self._has_turn = False
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of it. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._turn)
            os.close(self._descriptor)
            self._descriptor = -1

    def _take_turn(self) -> None:
        for _ in range(round(_TURN_SECONDS / _TURN_LOOK_SECONDS)):
            if _take(self._turn, fcntl.LOCK_EX):
                _sign(self._turn)
                return
            time.sleep(_TURN_LOOK_SECONDS)
        holder = _holder(self._turn)
        raise Locked(
            f"history {self._folder}: process {holder} has been in the midst of a write for {_TURN_SECONDS:g} s",
            remedy=f"See what process {holder} does: `ps -o pid,stat,args {holder}`. One that was stopped (stat T) "
            f"goes on with `kill -CONT {holder}`; or kill it: its write is then undone, and taken in again.",
        )

    def _shared_in_time(self) -> bool:
        """Share it; wait a little for one that is opening the store, which has it alone until that is done."""
        for _ in range(round(_OPENING_SECONDS / _LOOK_SECONDS)):
            if _take(self._descriptor, fcntl.LOCK_SH):
                return True
            time.sleep(_LOOK_SECONDS)
        return False


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(descriptor: int) -> None:
    """Write this process's number into a lock's file. A full disk costs the number, not the lock."""
    with suppress(OSError):
        os.pwrite(descriptor, b"%-20d" % os.getpid(), 0)


def _holder(descriptor: int) -> str:
    """The process that wrote its number into a lock's file last."""
    return os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
