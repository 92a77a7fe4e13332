"""A small file that others replace while the service runs: read anew when it has changed."""

from pathlib import Path

Stamp = tuple[int, ...]


def stamp(path: Path) -> Stamp:
    """Changes when the file does; empty where there is none, or none that can be looked at."""
    try:
        found = path.stat()
    except OSError:
        return ()
    # The change time too: unlike the modification time, no program can set it back.
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


class Followed:
    """Says when a file has changed. To be asked by one thread.

    Args:
        path: the file; there need not be one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: Stamp | None = None

    def has_changed(self) -> bool:
        """Whether the file is another than when this was asked last; true the first time.

        To be asked before the file is read, so that a change meanwhile shows the next time.
        """
        before, self._seen = self._seen, stamp(self.path)
        return self._seen != before

    def forget(self) -> None:
        """Let the next `has_changed` be true: the file was not read, and may say something else."""
        self._seen = None
