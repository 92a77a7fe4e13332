"""Stores that ended a server process, which could then not say so itself.

A mapped file that was cut short ends the process that touches it (SIGBUS), and no exception says so. Python's
`faulthandler` still writes where the process stood. From that the next process of this host knows which store it
was, marks it, and goes without it until another file stands in its place.

A process holds a lock on what it writes for as long as it lives, and the system lets go of it however it ends. So a
trace that can be locked is of a process that is gone, whoever has its id now.
"""

import faulthandler
import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import IO

from matinee.core.errors import Corrupt, FormatTooNew
from matinee.core.files import read_json, write_json
from matinee.core.logging import get_logger

FOLDER = "crashes"
"""Its name in the home's `run/`."""
MARK_FORMAT = 1
FRAMES = 4
"""Innermost frames of a trace in which a store's code is looked for."""
_FATAL = "Fatal Python error"
_OPENED = re.compile(r"^opened (\w+) (\d+) (\d+) (.+)$", re.MULTILINE)

_log = get_logger(__name__)


class Crashes:
    """What this process writes should it crash, and what those before it wrote. Before `start` it only knows marks.

    Args:
        run: the home's `run/`.
        code: by store, a piece of the path of its code, as it stands in a trace.
    """

    def __init__(self, run: Path, code: dict[str, str]) -> None:
        self._folder = run / FOLDER
        self._code = code
        self._path = self._folder / f"{os.getpid()}.txt"
        self._file: IO[str] | None = None

    def start(self) -> None:
        """Mark the stores that crashed a process, and have this one say where it stood, should it crash."""
        self._folder.mkdir(exist_ok=True)
        for path in sorted(self._folder.glob("*.txt")):
            self._look_at(path)
        begun = self._path.with_suffix(".begun")
        self._file = begun.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        begun.replace(self._path)  # only now that it is locked others see it
        faulthandler.enable(self._file, all_threads=False)

    def stop(self) -> None:
        """All is well so far. A second call does nothing."""
        if self._file is not None:
            faulthandler.disable()
            self._file.close()
            self._file = None
            self._path.unlink(missing_ok=True)

    def admit(self, store: str, data: Path) -> None:
        """Make sure that a store's file did not crash a process; from here on this process may touch it.

        Raises:
            Corrupt: it did, and still stands there.
        """
        stamp = _stamp(data)
        if stamp is not None and self._marked(store) == stamp:
            raise Corrupt(
                f"{data} ended a process that read it, and is not opened again",
                remedy=f"Make the {store} again (`matinee history rebuild`); until then answers do without it.",
            )
        if stamp is not None and self._file is not None:
            with suppress(OSError):  # a full disk costs the mark, not the store
                os.write(self._file.fileno(), f"opened {store} {stamp[0]} {stamp[1]} {data}\n".encode())

    def _marked(self, store: str) -> tuple[int, ...] | None:
        try:
            mark = read_json(self._folder / f"{store}.json", format_version=MARK_FORMAT)
        except (OSError, Corrupt, FormatTooNew):
            return None
        return tuple(mark.get("file", ()))

    def _look_at(self, path: Path) -> None:
        """Mark the store that a trace is about, if the process is gone and it is still the file that it opened."""
        try:
            with path.open("r", errors="replace") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                text = file.read()
                path.unlink(missing_ok=True)
        except (FileNotFoundError, BlockingIOError):
            return  # another process that starts just now was here first, or it is alive
        if _FATAL not in text:
            return
        frames = [line for line in text.splitlines() if line.startswith("  File ")][:FRAMES]
        stores = [store for store, code in self._code.items() if any(code in frame for frame in frames)]
        _log.error("process_crashed", pid=path.stem, stores=stores, trace=text[:2_000])
        opened = {
            store: (int(device), int(inode), Path(data)) for store, device, inode, data in _OPENED.findall(text)
        }
        for store in stores:
            if store in opened:
                self._mark(store, *opened[store])

    def _mark(self, store: str, device: int, inode: int, data: Path) -> None:
        """Mark the file if it still stands there, with its size: another may get its inode, not its size too."""
        stamp = _stamp(data)
        if stamp is not None and stamp[:2] == (device, inode):
            document = {"format_version": MARK_FORMAT, "file": list(stamp)}
            with suppress(OSError):  # likewise
                write_json(self._folder / f"{store}.json", document)


def _stamp(data: Path) -> tuple[int, int, int] | None:
    try:
        found = data.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size
