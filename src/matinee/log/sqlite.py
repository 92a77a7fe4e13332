"""The embedded event log: one SQLite file, appended to by several processes at once, read without blocking them.

WAL with `synchronous=FULL`: an append that has returned is on the disk. Positions are AUTOINCREMENT row ids, so a
position is never given twice, not even after everything was trimmed. They begin at 1; `ends()` of a new log is
`{0: 1}`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from matinee.core.clock import Clock
from matinee.core.errors import InvalidInput, StoreUnavailable
from matinee.log.base import Reader, Records, Sharing, ends_too_early
from matinee.log.sqlite_file import LogFile

if TYPE_CHECKING:  # only readers need NumPy: a process that appends stays small without
    import numpy as np
    from numpy.typing import NDArray

_INSERT = "INSERT OR ROLLBACK INTO records (appended_us, value) VALUES "
"""`OR ROLLBACK`: a statement that fails ends the transaction, so SQLite need not keep what it would undo alone;
that is a file made and deleted with each transaction otherwise, and a fifth of the processor time."""
_ROWS = 128
"""Records that one statement inserts: each statement also notes the last position given out."""
_FETCHED = 1_000
"""Rows taken from SQLite in one go."""
TRIM_STEP = 5_000
"""Records deleted in one transaction, so that appends wait for a trim only briefly."""

POLL_SECONDS = 0.01
"""How often a waiting reader looks; one look costs some microseconds."""


class SqliteLog:
    """An `EventLog` in one SQLite file, with the one partition 0.

    Any thread may append; appends of one object take turns. Readers have connections of their own.

    Args:
        path: the file; made when missing.
        clock: gives records the time at which they were taken.
        generation: the generation that the caller's positions belong to, where it has some.

    Raises:
        FormatTooNew: a newer matinee made the file.
        GenerationChanged: the file's generation is not the one expected.
        Corrupt: the file is no event log.
        StoreUnavailable: the file could not be opened.
    """

    def __init__(self, path: Path, clock: Clock, *, generation: str | None = None) -> None:
        self.path = path.absolute()
        self._clock = clock
        self._turn = threading.Lock()
        self._file = LogFile(self.path, create=generation is None, expected=generation)

    @property
    def generation(self) -> str:
        """See `EventLog.generation`."""
        return self._file.generation

    @property
    def trims(self) -> bool:
        """See `EventLog.trims`."""
        return True

    def append(self, values: Sequence[bytes], *, partition: int = 0) -> int:
        """See `EventLog.append`. All of the values or none: one transaction.

        Raises:
            InvalidInput: there are no values, or the partition is not 0.
            GenerationChanged: the file was deleted or made again since it was opened.
        """
        if partition != 0 or not values:
            raise InvalidInput(
                f"{self.path}: append of {len(values)} records to partition {partition}",
                remedy="This log has the one partition 0; an append takes at least one record.",
            )
        with self._writing() as connection:
            now_us = self._clock.now_us()
            for start in range(0, len(values), _ROWS):
                some = values[start : start + _ROWS]
                connection.execute(
                    _INSERT + ", ".join(["(?, ?)"] * len(some)),
                    [field for value in some for field in (now_us, value)],
                )
            (position,) = connection.execute("SELECT last_insert_rowid()").fetchone()
        return int(position)

    def ends(self) -> dict[int, int]:
        """See `EventLog.ends`."""
        with self._turn, self._file.explained() as connection:
            self._file.check_same()
            return {0: _end(connection)}

    def begins(self) -> dict[int, int]:
        """See `EventLog.begins`."""
        with self._turn, self._file.explained() as connection:
            self._file.check_same()
            (first,) = connection.execute("SELECT min(position) FROM records").fetchone()
            return {0: _end(connection) if first is None else int(first)}

    def reader(self, start: Callable[[int], int], *, sharing: Sharing | None = None) -> Reader:  # noqa: ARG002
        """See `EventLog.reader`."""
        return SqliteReader(self.path, self.generation, start, self._clock)

    def trim(self, before: Mapping[int, int]) -> int:
        """See `EventLog.trim`. In steps of `TRIM_STEP` records; the file shrinks with them."""
        gone = 0
        while step := self._trim_step(before.get(0, 0)):
            gone += step
        if gone:
            with self._turn, self._file.explained() as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # the file itself shrinks here
        return gone

    def scrub(self) -> None:
        """See `EventLog.scrub`. Writes what is left anew: appends wait meanwhile."""
        with self._turn, self._file.explained() as connection:
            self._file.check_same()
            connection.execute("VACUUM")
            (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreUnavailable(f"event log {self.path}: others were reading it", remedy="Try again.")

    def close(self) -> None:
        """See `EventLog.close`. Safe to call twice."""
        with self._turn:
            self._file.close()

    def __enter__(self) -> Self:
        """See `EventLog.__enter__`."""
        return self

    def __exit__(self, *exception: object) -> None:
        """See `EventLog.__exit__`."""
        self.close()

    def _trim_step(self, before: int) -> int:
        with self._writing() as connection:
            deleted = connection.execute(
                "DELETE FROM records WHERE position < min(?, (SELECT min(position) FROM records) + ?)",
                (before, TRIM_STEP),
            ).rowcount
        if deleted:
            with self._turn, self._file.explained() as connection:
                connection.executescript("PRAGMA incremental_vacuum")  # execute() would free one page only
        return int(deleted)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One write transaction, on the file that was opened and no other."""
        with self._turn, self._file.explained() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._file.check_same()
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    with suppress(sqlite3.Error):  # what went wrong first is what is told
                        connection.execute("ROLLBACK")
                raise


class SqliteReader:
    """A `Reader` with a connection of its own.

    Whether anything was written since it last looked it learns from `PRAGMA data_version`, which reads no table.

    Args:
        path: the log's file.
        generation: the log's generation.
        start: see `EventLog.reader`.
        clock: to wait by.

    Raises:
        GenerationChanged: the file is another one, or ends before `start(0)`.
    """

    def __init__(self, path: Path, generation: str, start: Callable[[int], int], clock: Clock) -> None:
        self._path = path
        self._start = start
        self._clock = clock
        self._file = LogFile(path, create=False, expected=generation)
        try:
            self.rewind()
        except BaseException:
            self.close()
            raise

    @property
    def positions(self) -> Mapping[int, int]:
        """See `Reader.positions`."""
        return {0: self._next}

    def rewind(self) -> None:
        """See `Reader.rewind`."""
        self._next = self._start(0)
        self._seen_version, self._at_end = -1, False
        with self._file.explained() as connection:
            end = _end(connection)
        if end < self._next:
            raise ends_too_early(str(self._path), 0, end, self._next)

    def poll(self, *, max_records: int, timeout: float) -> list[Records]:
        """See `Reader.poll`."""
        deadline = self._clock.monotonic() + timeout
        while True:
            self._file.check_same()
            if records := self._read(max_records):
                return [records]
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return []
            self._clock.sleep(min(POLL_SECONDS, left))

    def close(self) -> None:
        """See `Reader.close`. Safe to call twice."""
        self._file.close()

    def _read(self, max_records: int) -> Records | None:
        with self._file.explained() as connection:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            if self._at_end and version == self._seen_version:
                return None
            self._file.check_generation()
            end = _end(connection)
            rows = connection.execute(
                "SELECT position, appended_us, value FROM records WHERE position >= ? ORDER BY position LIMIT ?",
                (self._next, max_records),
            )
            positions, times, values = _columns(rows)
        # The version was read first: what was committed since then changes it, and is looked for again.
        self._seen_version, self._at_end = version, len(values) < max_records
        if self._at_end:
            self._next = max(self._next, end)  # what is trimmed is passed over
        if not values:
            return None
        self._next = max(int(positions[-1]) + 1, self._next)
        return Records(self._file.generation, 0, positions, times, values)


def _columns(rows: sqlite3.Cursor) -> tuple[NDArray[np.int64], NDArray[np.int64], list[bytes]]:
    """The three columns, fetched some rows at a time: few live at once, which the processor's caches hold."""
    import numpy as np  # noqa: PLC0415 - a process that only appends stays small without

    positions, times, values = [np.empty(0, np.int64)], [np.empty(0, np.int64)], list[bytes]()
    while some := rows.fetchmany(_FETCHED):
        position, time, value = zip(*some, strict=True)
        positions.append(np.array(position, dtype=np.int64))
        times.append(np.array(time, dtype=np.int64))
        values += value
    return np.concatenate(positions), np.concatenate(times), values


def _end(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'").fetchone()
    return 1 if row is None else int(row[0]) + 1
