"""What is to be asked of the metadata APIs, when, and what they said that the lake does not hold yet.

One SQLite file, `data/metadata.sqlite`. It can be lost: what the lake holds then counts as asked for when it was
written, and the rest is asked for again.

Tables: `ids` (when each is due, when it was asked for, what came of it, failures in a row), `answers` (rows as
JSON), `ends` (how far each source's events were looked through), `meta`.
"""

import json
import sqlite3
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

from matinee.core.errors import Corrupt, OutOfRoom, StoreUnavailable
from matinee.core.files import check_format
from matinee.core.home import Home
from matinee.events.offsets import Source
from matinee.ingest.metadata_reading import Kind, Row

STATE_FORMAT = 1
FILE = "metadata.sqlite"
BUSY_SECONDS = 10.0
_KINDS: Mapping[Kind, int] = {"item": 0, "user": 1}
_TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE ends (
        kind INTEGER, generation TEXT, partition INTEGER, position INTEGER NOT NULL,
        PRIMARY KEY (kind, generation, partition)
    ) WITHOUT ROWID""",
    """CREATE TABLE ids (
        kind INTEGER, id TEXT, due_us INTEGER NOT NULL, asked_us INTEGER, outcome TEXT, failures INTEGER NOT NULL,
        PRIMARY KEY (kind, id)
    ) WITHOUT ROWID""",
    "CREATE INDEX ids_due ON ids (kind, failures, due_us)",
    """CREATE TABLE answers (
        kind INTEGER, id TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, id)
    ) WITHOUT ROWID""",
)


@dataclass(frozen=True, slots=True)
class Noted:
    """What came of asking for one id.

    Attributes:
        kind: of what.
        id: its id.
        outcome: `described`, `unknown`, or the reason why neither.
        asked_us: when, UTC microseconds.
        due_us: when to ask again.
        failures: in a row, this one included; 0 where it was none.
        row: what the lake is to hold of it, if it was described.
    """

    kind: Kind
    id: str
    outcome: str
    asked_us: int
    due_us: int
    failures: int = 0
    row: Row | None = None


class State:
    """The file, open. Belongs to one thread.

    Args:
        home: whose file; made when missing.

    Raises:
        FormatTooNew: a newer matinee made it.
        Corrupt: it is no such file.
        StoreUnavailable: it could not be opened.
    """

    def __init__(self, home: Home) -> None:
        self._path = home.data / FILE
        with self._explained():
            self._connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                # What is deleted is overwritten: an erased user's id is not to be found in any byte.
                self._connection.execute("PRAGMA secure_delete = ON").fetchall()
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ends(self, kind: Kind) -> dict[Source, int]:
        """Of each source, the position below which its events were looked through for ids of that kind."""
        query = "SELECT generation, partition, position FROM ends WHERE kind = ?"
        with self._explained():
            rows = self._connection.execute(query, (_KINDS[kind],)).fetchall()
        return {Source(generation, partition): position for generation, partition, position in rows}

    def unseen(self, kind: Kind, ids: Iterable[str]) -> list[str]:
        """Those of the ids that are not here."""
        query = """SELECT asked.value FROM json_each(?) AS asked
                   WHERE NOT EXISTS (SELECT 1 FROM ids WHERE kind = ? AND id = asked.value)"""
        with self._explained():
            rows = self._connection.execute(query, (json.dumps(list(ids)), _KINDS[kind])).fetchall()
        return [row[0] for row in rows]

    def add(self, kind: Kind, due: Mapping[str, int], ends: Mapping[Source, int] | None = None) -> None:
        """Add ids, each with the moment at which it is due, and how far the events were looked through."""
        with self._transaction() as connection:
            rows = [(_KINDS[kind], key, moment) for key, moment in due.items()]
            connection.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?, ?, NULL, NULL, 0)", rows)
            at = [(_KINDS[kind], source.generation, source.partition, end) for source, end in (ends or {}).items()]
            connection.executemany("INSERT OR REPLACE INTO ends VALUES (?, ?, ?, ?)", at)

    def due(self, kind: Kind, now_us: int, n: int) -> list[tuple[str, int]]:
        """Up to `n` ids that are due, with how often each failed in a row.

        A quarter of them may be such as failed, so that neither these nor the others wait for all of the rest.
        """
        failed = (
            "SELECT id, failures FROM ids WHERE kind = ? AND failures > 0 AND due_us <= ? ORDER BY due_us LIMIT ?"
        )
        others = "SELECT id, 0 FROM ids WHERE kind = ? AND failures = 0 AND due_us <= ? ORDER BY due_us LIMIT ?"
        with self._explained():
            first = self._connection.execute(failed, (_KINDS[kind], now_us, -(-n // 4))).fetchall()
            rest = self._connection.execute(others, (_KINDS[kind], now_us, n - len(first))).fetchall()
        return [(key, failures) for key, failures in first + rest]

    def note(self, results: Iterable[Noted]) -> None:
        """Keep what came of asking, all of it or nothing."""
        results = list(results)
        with self._transaction() as connection:
            connection.executemany(
                "UPDATE ids SET due_us = ?, asked_us = ?, outcome = ?, failures = ? WHERE kind = ? AND id = ?",
                [(n.due_us, n.asked_us, n.outcome, n.failures, _KINDS[n.kind], n.id) for n in results],
            )
            # An id that was forgotten while it was asked for stays forgotten.
            connection.executemany(
                "INSERT OR REPLACE INTO answers SELECT kind, id, ? FROM ids WHERE kind = ? AND id = ?",
                [(json.dumps(n.row, default=str), _KINDS[n.kind], n.id) for n in results if n.row is not None],
            )

    @contextmanager
    def handing_over(self, kind: Kind, n: int) -> Iterator[list[Row]]:
        """Up to `n` rows that the lake does not hold yet; when the block ends well, it holds them.

        Whoever forgets an id waits for the end of the block, so that what is then deleted in the lake stays away.
        """
        query = "SELECT id, value FROM answers WHERE kind = ? ORDER BY id LIMIT ?"
        with self._transaction() as connection:
            rows = connection.execute(query, (_KINDS[kind], n)).fetchall()
            yield [json.loads(value) for _, value in rows]
            done = [(_KINDS[kind], key) for key, _ in rows]
            connection.executemany("DELETE FROM answers WHERE kind = ? AND id = ?", done)

    def waiting(self) -> int:
        """How many rows the lake does not hold yet."""
        with self._explained():
            return int(self._connection.execute("SELECT count(*) FROM answers").fetchone()[0])

    def forget(self, kind: Kind, ids: Iterable[str]) -> int:
        """Delete all that is known of ids, and overwrite it. Returns how many were here."""
        gone = 0
        with self._transaction() as connection:
            for key in ids:
                for table in ("answers", "ids"):
                    query = f"DELETE FROM {table} WHERE kind = ? AND id = ?"  # noqa: S608 - one of the two above
                    gone += connection.execute(query, (_KINDS[kind], key)).rowcount * (table == "ids")
        return gone

    def ids(self, kind: Kind) -> list[str]:
        """All that are here."""
        with self._explained():
            rows = self._connection.execute("SELECT id FROM ids WHERE kind = ?", (_KINDS[kind],)).fetchall()
        return [row[0] for row in rows]

    def outcomes(self, kind: Kind) -> dict[str, int]:
        """How many ids came to what when they were asked for last; `new` were never."""
        query = "SELECT coalesce(outcome, 'new'), count(*) FROM ids WHERE kind = ? GROUP BY 1 ORDER BY 1"
        with self._explained():
            return dict(self._connection.execute(query, (_KINDS[kind],)).fetchall())

    def count_due(self, kind: Kind, now_us: int) -> int:
        """How many ids are due."""
        query = """SELECT (SELECT count(*) FROM ids WHERE kind = ?1 AND failures = 0 AND due_us <= ?2)
                        + (SELECT count(*) FROM ids WHERE kind = ?1 AND failures > 0 AND due_us <= ?2)"""
        with self._explained():
            return int(self._connection.execute(query, (_KINDS[kind], now_us)).fetchone()[0])

    def _prepare(self) -> None:
        """Make the tables where there are none, and check the format."""
        with self._transaction() as connection:
            if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None:
                for statement in _TABLES:
                    connection.execute(statement)
                connection.execute("INSERT INTO meta VALUES ('format', ?)", (str(STATE_FORMAT),))
            try:
                found = dict(connection.execute("SELECT name, value FROM meta"))["format"]
            except (sqlite3.OperationalError, KeyError) as error:
                raise Corrupt(f"{self._path} holds other tables than it should", remedy=_REMEDY) from error
        check_format(str(self._path), int(found), STATE_FORMAT)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._roll_back()
                raise
            self._connection.execute("COMMIT")

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):  # SQLite has done so by itself where the disk is full
            self._connection.execute("ROLLBACK")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            text = f"{self._path}: {error}"
            if code == sqlite3.SQLITE_FULL:
                raise OutOfRoom(text, remedy="Make room on the disk of the data folder.") from error
            if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
                raise Corrupt(text, remedy=_REMEDY) from error
            raise StoreUnavailable(
                text, remedy="Nothing was written; see whether the disk may be written to."
            ) from error


_REMEDY = "Move the file away: it is made again, and what it knew is asked again."


def forget_users(home: Home, erased: Container[str]) -> int:
    """Delete what `data/metadata.sqlite` knows of users, and overwrite it. Returns how many it knew.

    Whoever erases users deletes the events and days first, then calls this, and deletes the rows of `users` last:
    then the ids are not found again in the events, and no answer that was under way comes back.
    """
    if not (home.data / FILE).exists():
        return 0
    with State(home) as state:
        return state.forget("user", [user for user in state.ids("user") if user in erased])
