"""The file of a SQLite event log: made, opened, checked to be still the same, its errors told apart.

Tables: `records (position, appended_us, value)` and `meta (name, value)` with `format` and `generation`.
"""

import fcntl
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from matinee.core.errors import Corrupt, GenerationChanged, MatineeError, OutOfRoom, StoreUnavailable
from matinee.core.files import check_format, fsync_folder

LOG_FORMAT = 1
BUSY_SECONDS = 10.0
"""How long a call waits for other processes' writes before it gives up."""

_PERHAPS_FULL = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_SCARCE_BYTES = 1 << 20
_WAL_BYTES = 16 << 20
_PAGE_BYTES = 16_384
"""An answer's record takes more than a kilobyte: in pages of SQLite's 4 096 bytes, of which a quarter then stays
empty, appending costs nearly twice the processor time and the file is a third larger."""
_CHECKPOINT_PAGES = 256
_TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE records (
        position INTEGER PRIMARY KEY AUTOINCREMENT, appended_us INTEGER NOT NULL, value BLOB NOT NULL
    )""",
)


class LogFile:
    """A connection to a log's file.

    Args:
        path: the file.
        create: make it, with a generation of its own, when it is missing.
        expected: the generation that it must have.

    Raises:
        FormatTooNew: a newer matinee made it.
        GenerationChanged: it is gone, or its generation is not the expected one.
        Corrupt: it is no event log.
        StoreUnavailable: it could not be opened.
    """

    def __init__(self, path: Path, *, create: bool, expected: str | None = None) -> None:
        self._path = path
        self.generation = expected or ""
        self._id = file_id(path)
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif self._id is None:
            raise generation_changed(path, self.generation, None)
        with self._explaining():
            self._connection = sqlite3.connect(
                f"{path.as_uri()}?mode={'rwc' if create else 'rw'}", uri=True, timeout=BUSY_SECONDS,
                isolation_level=None, check_same_thread=False,
            )  # fmt: skip
        try:
            with self.explained() as connection:
                if create and not _has_tables(connection):
                    _make(path, connection)
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}").fetchall()
                connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}").fetchall()
                found = _read_meta(path, connection)
        except BaseException:
            self.close()
            raise
        if expected not in {None, found}:
            self.close()
            raise generation_changed(path, self.generation, found)
        self.generation = found
        self._id = self._id or file_id(path)

    @contextmanager
    def explained(self) -> Iterator[sqlite3.Connection]:
        """The connection; what SQLite raises in the block becomes one of this project's errors."""
        with self._explaining():
            yield self._connection

    def check_same(self) -> None:
        """Raise `GenerationChanged` where the file was deleted or made again since it was opened."""
        now = file_id(self._path)
        if now != self._id:
            raise generation_changed(self._path, self.generation, None if now is None else "another")

    def check_generation(self) -> None:
        """Raise `GenerationChanged` where other content was put into the same file."""
        found = _read_meta(self._path, self._connection)
        if found != self.generation:
            raise generation_changed(self._path, self.generation, found)

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
        self._connection.close()

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _explain(self._path, error) from error


def file_id(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of the same name; nothing where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def generation_changed(path: Path, expected: str, found: str | None) -> GenerationChanged:
    """The error, with the remedy."""
    what = "it is gone" if found is None else f"it is now {found}"
    return GenerationChanged(
        f"event log {path}: expected generation {expected}, but {what}: its positions mean something else",
        remedy="If the log was lost on purpose, restart what reads and writes it; the new generation is then "
        "read from its beginning. Else stop the producers and put the old file back.",
    )


def _make(path: Path, connection: sqlite3.Connection) -> None:
    """Make the tables; of several processes at once, one does. The lock file outlives this: it is never removed."""
    with path.with_name(path.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _has_tables(connection):
            return
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # this and the next only before the first table
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _TABLES:
                connection.execute(statement)
            rows = [("format", str(LOG_FORMAT)), ("generation", secrets.token_hex(16))]
            connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        fsync_folder(path.parent)


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is not None


def _read_meta(path: Path, connection: sqlite3.Connection) -> str:
    try:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        found = int(meta["format"])
        generation = str(meta["generation"])
    except (sqlite3.OperationalError, KeyError, ValueError) as error:
        if isinstance(error, sqlite3.OperationalError) and "no such" not in str(error):
            raise
        raise Corrupt(
            f"{path} is a SQLite file but no event log", remedy="Set log.url to a file of its own."
        ) from error
    check_format(f"event log {path}", found, LOG_FORMAT)
    return generation


def _explain(path: Path, error: sqlite3.Error) -> MatineeError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    text = f"event log {path}: {error}"
    if code == sqlite3.SQLITE_FULL or (code in _PERHAPS_FULL and _is_full(path.parent)):
        return OutOfRoom(text, remedy="Make room on the disk of the data folder, or trim the log.")
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return Corrupt(text, remedy="Move the file away and restart; the log begins anew with a new generation.")
    return StoreUnavailable(text, remedy="Nothing was written; try again. If it stays so, look at the disk.")


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _SCARCE_BYTES
    except OSError:
        return False
