"""Files that are mapped into memory, and that somebody may cut short under their readers.

Touching a mapped page that the file no longer has ends the process (SIGBUS), and no exception says so. Asking for
the file's length before each reading costs a fifth of a microsecond; only a file that is cut short between the two
still ends the process. One that grows has to be asked now and then, so that it is known how long it was.
"""

import os
from pathlib import Path
from typing import Self


class MappedFile:
    """Watches the length of one file, whatever comes to stand under its name. Any thread may ask.

    Args:
        path: the file, whole.
    """

    __slots__ = ("_descriptor", "_length")

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._length = 0
        self.is_whole()

    @property
    def is_closed(self) -> bool:
        """Whether it is watched no more."""
        return self._descriptor < 0

    def is_whole(self) -> bool:
        """Whether the file is at least as long as it ever was seen; never after `close`."""
        known = self._length  # before the look: meanwhile another thread may see it longer
        try:
            length = os.lseek(self._descriptor, 0, os.SEEK_END)
        except OSError:
            return False
        if length > known:
            self._length = length
        return length >= known

    def close(self) -> None:
        """Let go of the file. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
