"""Files that describe items or users: a table or JSON lines, row by row, each field under its own name."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from matinee.core.errors import InvalidInput
from matinee.ingest.files import open_content
from matinee.ingest.metadata_reading import FIELDS, Kind
from matinee.ingest.tables import COLUMN_NAMES, open_table, plain_name

ID_FIELD: Mapping[Kind, str] = {"item": "id", "user": "user_id"}
LINE_BYTES = 1 << 20
"""A longer line of JSON describes nothing."""
_BOM = b"\xef\xbb\xbf"
_REMEDY = "Each row needs an id, and may have: {}. Say what a column is with `--column runtime=length`."


def documents(
    kind: Kind, path: Path, columns: Mapping[str, str], scratch: Path
) -> Iterator[tuple[int, dict[str, object]]]:
    """What each row has of the fields and of the id, with its number; what is blank is passed over.

    Raises:
        InvalidInput: the file cannot be read, there is no such column, or it describes something else.
    """
    with open_content(path) as content:
        beginning = content.read(1 << 16).removeprefix(_BOM).lstrip()
    if beginning.startswith((b"{", b"[")):
        yield from _of_lines(kind, path, columns)
        return
    with open_table(path, scratch) as table:
        schema = table.collect_schema()
        names = _fields(kind, tuple(schema), columns)
        for theirs in columns.values():
            if theirs not in schema:
                raise InvalidInput(f"{path}: there is no column {theirs!r}; there are {list(schema)}",
                                   remedy=remedy_for(kind))  # fmt: skip
        if ID_FIELD[kind] not in names:
            raise InvalidInput(
                f"{path}: no column is the {kind}; there are {list(schema)}", remedy=remedy_for(kind)
            )
        _require_fields(kind, path, set(names), set(schema))
        number = 0
        for rows in table.select(_as_python(ours, theirs, schema[theirs]) for ours, theirs in names.items()) \
                .collect_batches(maintain_order=True):  # fmt: skip
            for document in rows.iter_rows(named=True):
                number += 1
                if any(value is not None and value != "" for value in document.values()):
                    yield number, document


def _as_python(ours: str, theirs: str, dtype: pl.DataType) -> pl.Expr:
    """A column as Python can hold its values: its dates know years that Python's do not."""
    column = pl.col(theirs)
    if isinstance(dtype, pl.Date | pl.Datetime):
        column = column.dt.to_string("iso")
    elif isinstance(dtype, pl.Decimal):
        column = column.cast(pl.Float64)
    return column.alias(ours)


def _of_lines(kind: Kind, path: Path, columns: Mapping[str, str]) -> Iterator[tuple[int, dict[str, object]]]:
    names_of: dict[tuple[str, ...], dict[str, str]] = {}  # files have few kinds of lines
    with open_content(path) as content:
        number = 0
        while line := content.readline(LINE_BYTES + 1):
            number += 1
            if number == 1:
                line = line.removeprefix(_BOM)
            if not line.strip():
                continue
            document = _object(kind, line, f"{path}: line {number}")
            keys = tuple(document)
            if keys not in names_of:
                there = {ours: theirs for ours, theirs in columns.items() if theirs in document}
                names_of[keys] = _fields(kind, keys, there)
            yield number, {ours: document[theirs] for ours, theirs in names_of[keys].items()}
    found = {key for keys in names_of for key in keys}
    for theirs in columns.values():
        if theirs not in found:
            raise InvalidInput(f"{path}: no line has {theirs!r}", remedy=remedy_for(kind))
    _require_fields(kind, path, {ours for names in names_of.values() for ours in names}, found)


def _object(kind: Kind, line: bytes, where: str) -> dict[str, object]:
    if len(line) > LINE_BYTES:
        raise InvalidInput(
            f"{where} has more than {LINE_BYTES} bytes; nothing was imported",
            remedy=f"One object a line. {remedy_for(kind)}",
        )
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{where} is no JSON: {error}; nothing was imported", remedy=f"One object a line. {remedy_for(kind)}"
        ) from error
    if not isinstance(document, dict):
        raise InvalidInput(
            f"{where} is no JSON object; nothing was imported", remedy=f"One object a line. {remedy_for(kind)}"
        )
    return document


def _fields(kind: Kind, found: tuple[str, ...], given: Mapping[str, str]) -> dict[str, str]:
    """The file's column of each field that it has, and of the id."""
    by_plain_name = {plain_name(column): column for column in reversed(found)}
    its_id, fields = ID_FIELD[kind], {ours: theirs for ours, theirs in given.items() if theirs in found}
    for field in FIELDS[kind]:
        if field not in given and (field in found or plain_name(field) in by_plain_name):
            fields[field] = field if field in found else by_plain_name[plain_name(field)]
    if its_id not in given:
        own = by_plain_name.get(plain_name(its_id))
        others = [by_plain_name[name] for name in COLUMN_NAMES[kind] if name in by_plain_name]
        if own is None and len(others) > 1:
            raise InvalidInput(
                f"both {others[0]!r} and {others[1]!r} could be the {kind}",
                remedy=f"Say which: `--column {its_id}={others[0]}`.",
            )
        chosen = own or next(iter(others), by_plain_name.get("id"))
        if chosen is not None:
            fields[its_id] = chosen
    return fields


def _require_fields(kind: Kind, path: Path, known: set[str], found: set[str]) -> None:
    """Refuse a file of something else. Of an item to know that it is there is something; of a user it is not."""
    if known <= {ID_FIELD[kind]} and (kind == "user" or len(found) > 1):
        raise InvalidInput(f"{path} says nothing of {kind}s; there are {sorted(found)}", remedy=remedy_for(kind))


def remedy_for(kind: Kind) -> str:
    """What a file of these may hold."""
    return _REMEDY.format(", ".join(FIELDS[kind]))
