"""The lock of who writes to a history: one process alone, or several that share it."""

import fcntl
import os
import time
from pathlib import Path

from matinee.core.errors import Locked

_OPENING_SECONDS, _LOOK_SECONDS = 2.0, 0.02


class WriterLock:
    """Held from when it is made until it is closed, or its process ends.

    Args:
        folder: of the store.
        shared: whether other processes may hold it too, those that share it likewise.

    Raises:
        Locked: another process holds it, and one of the two does not share it.
    """

    def __init__(self, folder: Path, *, shared: bool) -> None:
        self._descriptor = os.open(folder / "writer.lock", os.O_RDWR | os.O_CREAT, 0o644)
        self.alone = self._take(fcntl.LOCK_EX)
        """Whether no other process holds it. Who is first to share has it alone until `share`."""
        if not self.alone and not (shared and self._shared_in_time()):
            holder = os.pread(self._descriptor, 20, 0).decode(errors="replace").strip()
            self.close()
            raise Locked(
                f"history {folder} is being written by process {holder or 'unknown'}",
                remedy="Stop that process (usually `matinee ingest`) first; one process writes at a time.",
            )
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d" % os.getpid(), 0)

    def share(self) -> None:
        """Let others in who share it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        self.alone = False

    def close(self) -> None:
        """Let go of it. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _shared_in_time(self) -> bool:
        """Share it; wait a little for one that is opening the store, which has it alone until that is done."""
        for _ in range(round(_OPENING_SECONDS / _LOOK_SECONDS)):
            if self._take(fcntl.LOCK_SH):
                return True
            time.sleep(_LOOK_SECONDS)
        return False

    def _take(self, kind: int) -> bool:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
