"""Copying files to the disk while others write to them, replace them or delete them."""

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from matinee.core.errors import StoreUnavailable
from matinee.core.files import fsync_file, fsync_folder
from matinee.core.logging import get_logger
from matinee.history.lmdb import LmdbHistory

_log = get_logger(__name__)

_LEFT_OUT = frozenset({"downloads"})
"""Folders of `data/` that can be got again."""
_SQLITE = b"SQLite format 3\0"
_BESIDE = ("-wal", "-shm", "-journal", ".lock")
"""Endings of files that belong to a running process."""


def files_below(folder: Path, without: set[Path]) -> Iterator[Path]:
    """The files below a folder, but those of running processes, those half written, and what can be got again."""
    for where, folders, names in os.walk(folder):
        here = Path(where)
        folders[:] = sorted(f for f in folders if here / f not in without and f not in _LEFT_OUT and f[0] != ".")
        for name in sorted(names):
            if here / name not in without and name[0] != "." and not name.endswith(_BESIDE):
                yield here / name


def copy_live(path: Path, target: Path) -> None:
    """Copy a file that others may replace, or write to where it is a database; one that went is left out."""
    try:
        with path.open("rb") as file:
            is_database = file.read(len(_SQLITE)) == _SQLITE
        if is_database:
            copy_sqlite(path, target)
        else:
            copy_file(path, target)
    except FileNotFoundError:
        target.unlink(missing_ok=True)


def copy_sqlite(path: Path, target: Path) -> None:
    """Copy a database at one moment, whoever writes to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    read_only = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(read_only, uri=True)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)
    fsync_file(target)


def copy_history(folder: Path, target: Path) -> None:
    """Copy an LMDB history at one moment, whoever writes to it or puts another in its place.

    One that is not there, or that a power cut has left unsound, is left out: ingest fills it from the lake.
    """
    try:
        live = LmdbHistory(folder, read_only=True)
    except StoreUnavailable as error:
        _log.warning("history_not_copied", path=str(folder), error=str(error))
        return
    with live:
        live.copy(target)


def copy_file(path: Path, target: Path) -> tuple[int, str]:
    """Copy a file to the disk; its size and checksum as read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as source, target.open("wb") as copy:
        while block := source.read(1 << 20):
            copy.write(block)
            digest.update(block)
            size += len(block)
        copy.flush()
        os.fsync(copy.fileno())
    shutil.copymode(path, target)
    return size, digest.hexdigest()


def checksum_of(path: Path) -> tuple[int, str]:
    """A file's size and SHA-256, hexadecimal."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def force_folders(folder: Path) -> None:
    """Force the names of all files below a folder to the disk."""
    for where, _, _ in os.walk(folder):
        fsync_folder(Path(where))
