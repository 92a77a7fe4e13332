"""`matinee import --format items|users`: what items and users are, from a file instead of an HTTP API.

An item need not have been met by anybody: this is how one is announced before it comes.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from matinee.core.clock import Clock
from matinee.core.erasures import ERASED, read_erasures
from matinee.core.errors import InvalidInput
from matinee.core.home import Home
from matinee.core.ids import item_id, user_id
from matinee.ingest.files import open_content
from matinee.ingest.metadata_lake import write_rows
from matinee.ingest.metadata_reading import FIELDS, Kind, Row, read_attributes
from matinee.ingest.tables import COLUMN_NAMES, open_table, plain_name
from matinee.lake.lake import Lake

ID_FIELD: Mapping[Kind, str] = {"item": "id", "user": "user_id"}
_ID_OF = {"item": item_id, "user": user_id}
_REMEDY = "Each row needs an id, and may have: {}. Say what a column is with `--column runtime=length`."


@dataclass(frozen=True, slots=True)
class DescribedReport:
    """What an import of descriptions did.

    Attributes:
        kind: `item` or `user`.
        read: rows in the file.
        changed: rows of the lake's table that are new or changed.
        erased: users that were left out since they were erased.
        seconds: how long it took.
    """

    kind: Kind
    read: int
    changed: int
    erased: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The report, ready for JSON."""
        return asdict(self) | {"seconds": round(self.seconds, 3)}


def import_descriptions(
    kind: Kind,
    path: Path,
    columns: Mapping[str, str] | None = None,
    *,
    home: Home,
    lake: Lake,
    clock: Clock,
    require_room: Callable[[], None] = lambda: None,
) -> DescribedReport:
    """Merge a file of items or users into the lake's table, all of its rows or none.

    A value that is not known never replaces one that is. The same content again changes nothing.

    Args:
        kind: what the file describes.
        path: a CSV, TSV or Parquet file with the names of the fields above the columns, or JSON lines: one object a
            line, as the API sends it. Plain or gzip.
        columns: which column is which field, where its name does not tell: `{"runtime": "length"}`.
        home: whose erased users are left out.
        lake: where the rows go.
        clock: times it.
        require_room: asked before the commit; raises `OutOfRoom` where the lake may take no more.

    Raises:
        InvalidInput: the file cannot be read, there is no such field or column, or a row has no id or none that can
            be one; names the row.
        StoreUnavailable: the lake did not answer; the same import may be given again.
    """
    began = clock.monotonic()
    given = {ID_FIELD[kind] if ours == kind else ours: theirs for ours, theirs in (columns or {}).items()}
    for ours in given:
        if ours not in (ID_FIELD[kind], *FIELDS[kind]):
            raise InvalidInput(f"{kind}s have no field {ours!r}", remedy=_remedy(kind))
    rows = list(_read(kind, path, given, home.run))
    erased = read_erasures(home.data / ERASED) if kind == "user" else ()
    kept = [row for row in rows if row[kind] not in erased]
    require_room()
    changed = write_rows(lake, kind, _last_of_each(kind, kept)) if kept else 0
    return DescribedReport(kind, len(rows), changed, len(rows) - len(kept), clock.monotonic() - began)


def _read(kind: Kind, path: Path, columns: Mapping[str, str], scratch: Path) -> Iterator[Row]:
    """The file's rows as those of the lake's table, in order."""
    for number, document in enumerate(_documents(kind, path, columns, scratch), 1):
        found = document.get(ID_FIELD[kind])
        text = "" if found is None else str(found).strip()
        if not text:
            raise InvalidInput(f"{path}: row {number} has no id; nothing was imported", remedy=_remedy(kind))
        try:
            its_id = _ID_OF[kind](text)
        except InvalidInput as error:
            raise InvalidInput(
                f"{path}: row {number}: {error}; nothing was imported", remedy=error.remedy
            ) from error
        known = read_attributes(kind, document)
        yield {kind: its_id, **{name: _plain_value(value) for name, value in known.items()}}


def _documents(kind: Kind, path: Path, columns: Mapping[str, str], scratch: Path) -> Iterator[Row]:
    with open_content(path) as content:
        beginning = content.read(1 << 16).lstrip()
    if beginning.startswith(b"{"):
        with open_content(path) as content:
            for document in _lines(path, kind, content):
                there = {ours: theirs for ours, theirs in columns.items() if theirs in document}
                yield {ours: document[theirs] for ours, theirs in _fields(kind, list(document), there).items()}
        return
    with open_table(path, scratch) as table:
        found = table.collect_schema().names()
        names = _fields(kind, found, columns)
        if ID_FIELD[kind] not in names:
            raise InvalidInput(f"{path}: no column is the {kind}; there are {found}", remedy=_remedy(kind))
        if kind == "user" and len(names) == 1:  # of an item to know that it is there is something
            raise InvalidInput(f"{path} says nothing of users; there are {found}", remedy=_remedy(kind))
        for rows in table.select(**names).collect_batches(maintain_order=True):
            for document in rows.iter_rows(named=True):
                yield {name: _plain_value(value) for name, value in document.items()}


def _lines(path: Path, kind: Kind, lines: Iterable[bytes]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(
                f"{path}: line {number} is no JSON: {error}; nothing was imported", remedy=_remedy(kind)
            ) from error
        if not isinstance(document, dict):
            raise InvalidInput(
                f"{path}: line {number} is no JSON object; nothing was imported", remedy=_remedy(kind)
            )
        yield document


def _fields(kind: Kind, found: list[str], given: Mapping[str, str]) -> dict[str, str]:
    """The file's column of each field that it has."""
    for theirs in given.values():
        if theirs not in found:
            raise InvalidInput(f"there is no column {theirs!r}; the table has {found}", remedy=_remedy(kind))
    by_plain_name = {plain_name(column): column for column in reversed(found)}
    its_id, fields = ID_FIELD[kind], dict(given)
    for field in FIELDS[kind]:
        if field not in fields and plain_name(field) in by_plain_name:
            fields[field] = by_plain_name[plain_name(field)]
    if its_id not in fields:
        named = [by_plain_name[name] for name in (*COLUMN_NAMES[kind], "id") if name in by_plain_name]
        if named:
            fields[its_id] = named[0]
    return fields


def _plain_value(value: object) -> object:
    """The value; the text of a date, as JSON has it."""
    return value.isoformat() if isinstance(value, date) else value  # a time is a date, too


def _last_of_each(kind: Kind, rows: list[Row]) -> list[Row]:
    """One row for each id: of what is known, what comes last."""
    merged: dict[str, Row] = {}
    for row in rows:
        known = {name: value for name, value in row.items() if value is not None}
        merged[row[kind]] = merged.get(row[kind], row) | known
    return list(merged.values())


def _remedy(kind: Kind) -> str:
    return _REMEDY.format(", ".join(FIELDS[kind]))
