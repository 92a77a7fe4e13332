"""The home: three roots kept apart, and who may work in them.

`data/` is what must not be lost, `logs/` is what may be, `run/` is what a restart makes again.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from matinee.core.errors import ConfigurationError, Locked, OutOfRoom, is_no_room
from matinee.core.files import check_format, read_json, write_json

HOME_FORMAT = 1


class Home:
    """The folder that everything a run keeps is under.

    Args:
        path: the folder; made with its roots when missing.

    Raises:
        ConfigurationError: the folder cannot be made.
        FormatTooNew: a newer matinee made it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.data = self.path / "data"
        self.logs = self.path / "logs"
        self.run = self.path / "run"
        for root in (self.data, self.logs, self.run):
            try:
                root.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(
                    f"{root} cannot be made: {error.strerror}",
                    remedy="Give another home with --home or MATINEE_HOME, or mend the folder's permissions.",
                ) from error
        marker = self.path / "home.json"
        try:
            check_format(
                str(self.path), read_json(marker, format_version=HOME_FORMAT)["format_version"], HOME_FORMAT
            )
        except FileNotFoundError:
            write_json(marker, {"format_version": HOME_FORMAT})

    @property
    def bundles(self) -> Path:
        """The folder of published and kept bundles."""
        return self.data / "bundles"

    def resolve(self, url: str) -> str:
        """Put the roots in place of `{data}`, `{logs}` and `{run}`; other braces stay as they are."""
        for name, root in (("data", self.data), ("logs", self.logs), ("run", self.run)):
            url = url.replace(f"{{{name}}}", str(root))
        return url

    @contextmanager
    def lock(self, name: str, *, shared: bool = False) -> Iterator[None]:
        """Hold the lock `name` of this home; it goes with the process, however that ends.

        Args:
            name: of the lock.
            shared: whether others may hold it at the same time, those that share it likewise.

        Raises:
            Locked: another process holds it; the message says which.
            OutOfRoom: it was never held before, and the disk has no room for one more file.
        """
        path = self.run / f"{name}.lock"
        with os.fdopen(_lock_file(path), "r+b", buffering=0) as file:
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = file.read().decode(errors="replace").strip() or "unknown"
                raise Locked(
                    f"{name} is already running here: {path} is held by {holder}",
                    remedy=f"Wait until it ends, or end it; two of `{name}` never work on one home.",
                ) from error
            with suppress(OSError):  # a full disk costs the holder's name; the kernel keeps the lock all the same
                file.write(
                    f"{json.dumps({'pid': os.getpid()}):<20}".encode()
                )  # in place: no room from the second on
            yield


def _lock_file(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        if not is_no_room(error):
            raise
        raise OutOfRoom(
            f"{path} cannot be made: {error.strerror}",
            remedy="Make room on its disk (docs/runbooks/disk-full.md); then give the same command again.",
        ) from error
