"""Files that are mapped into memory, and that somebody may cut short under their readers.

Touching a mapped page that the file no longer has ends the process (SIGBUS), and no exception says so. Asking for
the file's length before each reading costs a fifth of a microsecond; only a file that is cut short between the two
still ends the process. One that grows has to be asked now and then, so that it is known how long it was.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

from matinee.core.errors import OutOfRoom, is_no_room

_FOR_WHO_MAPS_IT = {errno.EROFS, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL}
"""A file that may not be written, and a file system that reserves nothing: some can do with that."""


def readers_bytes(max_readers: int) -> int:
    """Length of LMDB's `lock.mdb`: two cache lines, and one for each reader."""
    return 64 * (max_readers + 2)


def reserve(path: Path, length: int) -> None:
    """Have room on the disk for the first `length` bytes of a file that is going to be mapped, and written so.

    It is made where it is missing; what it holds stays. Touching a page that the disk has no room for would end the
    process. Not for a file that this process has open: closing it here lets go of the locks that are held there.

    A file that may not be written, and one for which room cannot be reserved, are left to whoever maps them.

    Raises:
        OutOfRoom: there is no room.
        OSError: the file cannot be opened or made for another reason.
    """
    if not hasattr(os, "posix_fallocate"):  # as on macOS
        return
    with suppress(FileNotFoundError):
        if path.stat().st_blocks * 512 >= length:
            return
    try:
        # not to append: glibc refuses that where it has to write the file itself, for want of `fallocate`
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, length)
        finally:
            os.close(descriptor)
    except OSError as error:
        if is_no_room(error):
            raise OutOfRoom(
                f"{path} cannot be mapped: {error.strerror}",
                remedy="Make room on its disk (docs/runbooks/disk-full.md).",
            ) from error
        if error.errno not in _FOR_WHO_MAPS_IT:
            raise


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
