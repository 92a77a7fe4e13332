"""`matinee import --format items|users`: what items and users are, from a file instead of an HTTP API.

An item need not have been met by anybody: this is how one is announced before it comes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from matinee.core.clock import Clock
from matinee.core.erasures import ERASED, read_erasures
from matinee.core.errors import InvalidInput
from matinee.core.home import Home
from matinee.core.ids import item_id, user_id
from matinee.ingest.described_files import ID_FIELD, documents, remedy_for
from matinee.ingest.metadata_lake import merged_extra, write_rows
from matinee.ingest.metadata_reading import FIELDS, Kind, Row, read_attributes
from matinee.lake.lake import Lake

_ID_OF = {"item": item_id, "user": user_id}
_TEXTS = ("title", "occupation", "gender")
"""Fields that are texts also where they look like numbers."""


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
    rows = list(_read(kind, path, _checked(kind, columns or {}), home.run))
    n_read = len(rows)
    require_room()
    if kind == "user":
        erased = read_erasures(home.data / ERASED)
        rows = [row for row in rows if row[kind] not in erased]
    n_kept = len(rows)
    changed = write_rows(lake, kind, _one_of_each(kind, rows)) if rows else 0
    return DescribedReport(kind, n_read, changed, n_read - n_kept, clock.monotonic() - began)


def _checked(kind: Kind, columns: Mapping[str, str]) -> dict[str, str]:
    """The columns that the caller names, by field; the id may be called what it is of."""
    given = {ID_FIELD[kind] if ours == kind else ours: theirs for ours, theirs in columns.items()}
    for ours in given:
        if ours not in (ID_FIELD[kind], *FIELDS[kind]):
            raise InvalidInput(f"{kind}s have no field {ours!r}", remedy=remedy_for(kind))
    return given


def _read(kind: Kind, path: Path, columns: Mapping[str, str], scratch: Path) -> Iterator[Row]:
    """The file's rows as those of the lake's table, in order."""
    for number, document in documents(kind, path, columns, scratch):
        values = {name: _plain(value) for name, value in document.items()}
        if any("\ufffd" in value for value in values.values() if isinstance(value, str)):
            raise InvalidInput(
                f"{path}: row {number} is not UTF-8; nothing was imported", remedy="Save it as UTF-8."
            )
        its_id = _id_of(kind, values.pop(ID_FIELD[kind], None), f"{path}: row {number}")
        texts = {name: str(value) for name, value in values.items() if name in _TEXTS and type(value) is int}
        known = read_attributes(kind, values | texts)
        yield {kind: its_id, **{name: _plain(value) for name, value in known.items()}}


def _id_of(kind: Kind, found: object, where: str) -> str:
    """The text of an id, which is a text or a whole number."""
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if found is None or isinstance(found, bool) or not isinstance(found, int | str) or not str(found).strip():
        shown = "no id" if found is None or found == "" else f"{found!r} for an id"
        raise InvalidInput(f"{where} has {shown}; nothing was imported", remedy=remedy_for(kind))
    try:
        return _ID_OF[kind](str(found).strip())
    except InvalidInput as error:
        remedy = f"{error.remedy} Where another column is the id, say so: `--column {ID_FIELD[kind]}=NAME`."
        raise InvalidInput(f"{where}: {error}; nothing was imported", remedy=remedy) from error


def _plain(value: object) -> object:
    """The value as JSON has it: the text of bytes and dates; of lists, what is in them."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.isoformat() if isinstance(value, date) else value


def _one_of_each(kind: Kind, rows: list[Row]) -> list[Row]:
    """One row for each id: of what is known, what comes last."""
    merged: dict[str, Row] = {}
    for row in rows:
        before = merged.get(row[kind])
        if before is not None:
            known = {name: value for name, value in row.items() if value is not None}
            merged[row[kind]] = before | known | {"extra": merged_extra(before["extra"], row["extra"])}
        else:
            merged[row[kind]] = row
    return list(merged.values())
