"""A table's Delta files on a local disk: opening, making, and forcing a commit to the disk."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

import polars as pl
from arro3.core import Table
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, WriterProperties
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from matinee.core.errors import ConfigurationError, Corrupt, MatineeError, OutOfRoom, StoreUnavailable, is_no_room
from matinee.core.files import check_format, fsync_file, fsync_folder
from matinee.lake.schemas import LAKE_FORMAT, TableSchema

_FORMAT_KEY = "matinee.formatVersion"
_NO_ROOM = ("os error 28", "os error 122", "No space left", "Disk quota exceeded")
# Checkpoints are written by `checkpoint`, which forces them to the disk; logs are cleaned by maintenance, which
# alone knows which versions must stay readable.
NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
ZSTD = WriterProperties(compression="ZSTD")


def lake_folder(url: str) -> Path:
    """The folder that a lake's URL names.

    Raises:
        ConfigurationError: it is not a folder's path or a `file://` URL, or a path that Delta and Polars do not
            both find again: they take it for a URL, and one of them decodes what the other encodes.
    """
    path = unquote(url.removeprefix("file://")) if url.startswith("file://") else url
    if "://" in path:
        raise ConfigurationError(
            f"lake.url {url!r}: this matinee keeps a lake in a local folder only",
            remedy="Set lake.url to a folder, such as {data}/lake.",
        )
    folder = Path(path).absolute()
    unfit = re.search(r"[^A-Za-z0-9/._~()!$&'*+@,;:-]", str(folder))
    if unfit:
        raise ConfigurationError(
            f"lake.url: the path {str(folder)!r} contains {unfit[0]!r}, which the tables' format cannot take",
            remedy="Put the home (MATINEE_HOME) or lake.url at a path of letters, digits, `.`, `_`, `-` and `~`.",
        )
    return folder


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn the store's errors into ours; conflicts between writers and our own errors pass through.

    Raises:
        OutOfRoom: the disk or a quota is full.
        StoreUnavailable: any other failure of the store.
    """
    try:
        yield
    except (MatineeError, CommitFailedError):
        raise
    except (DeltaError, OSError, pl.exceptions.ComputeError) as error:
        text = str(error)
        if any(mark in text for mark in _NO_ROOM) or (isinstance(error, OSError) and is_no_room(error)):
            raise OutOfRoom(
                f"lake, {what}: no room left: {text}", remedy="Free space on the disk that holds the lake."
            ) from error
        raise StoreUnavailable(
            f"lake, {what}: {text}", remedy="See whether the disk is mounted and may be written to."
        ) from error


def exactly_here(app_id: str | None = None, version: int = 0) -> CommitProperties:
    """Properties of a commit that goes through only against the very snapshot that was loaded."""
    transactions = [] if app_id is None else [Transaction(app_id, version)]
    return CommitProperties(max_commit_retries=0, app_transactions=transactions)


def open_table(folder: Path, schema: TableSchema) -> DeltaTable:
    """Open a table at its newest version; make it where there is none, as another process may do at once.

    Raises:
        Corrupt: it carries no format version, or other columns than declared.
        FormatTooNew: a newer matinee made it.
        StoreUnavailable: the store failed.
    """
    path = folder / schema.name
    with store_errors(f"opening table {schema.name}"):
        try:
            table = DeltaTable(path)
        except TableNotFoundError:
            table = _create(path, schema)
    _check(table, schema, path)
    return table


def _create(path: Path, schema: TableSchema) -> DeltaTable:
    path.mkdir(parents=True, exist_ok=True)
    try:
        DeltaTable.create(
            path,
            schema=_delta_schema(schema),
            partition_by=partition_columns(schema),
            configuration={
                _FORMAT_KEY: str(LAKE_FORMAT),
                "delta.enableExpiredLogCleanup": "false",
                "delta.checkpointInterval": "1000000000",
            },
            raise_if_key_not_exists=False,
        )
    except DeltaError:
        # Somebody else made it at the same moment, or the store failed: opening it tells which.
        return DeltaTable(path)
    for folder in (path / "_delta_log", path, path.parent, path.parent.parent):
        fsync_folder(folder)
    return DeltaTable(path)


def partition_columns(schema: TableSchema) -> list[str]:
    """The columns that a table is partitioned by."""
    return [] if schema.partition_by is None else [schema.partition_by]


def _delta_schema(schema: TableSchema) -> DeltaSchema:
    return DeltaSchema.from_arrow(Table.from_arrow(pl.DataFrame(schema=schema.columns)).schema)


def _check(table: DeltaTable, schema: TableSchema, path: Path) -> None:
    found = table.metadata().configuration.get(_FORMAT_KEY)
    if found is None or not found.isdigit():
        raise Corrupt(f"{path} carries no {_FORMAT_KEY}", remedy="Point lake.url at a lake that matinee made.")
    check_format(str(path), int(found), LAKE_FORMAT)
    declared = {field.name: field.type for field in _delta_schema(schema).fields}
    stored = {field.name: field.type for field in table.schema().fields}
    if declared != stored:
        wrong = sorted(name for name in declared | stored if declared.get(name) != stored.get(name))
        raise Corrupt(
            f"{path}, column {wrong[0]}: expected {declared.get(wrong[0])}, found {stored.get(wrong[0])}",
            remedy="The table was changed by another program; restore it, or import into an empty lake.",
        )


def force_to_disk(folder: Path, name: str, version: int) -> None:
    """Force version `version` of a table to the disk: its data files, its log entry, and their names.

    Until then a power cut may leave the log entry empty, which Delta reads as a commit of nothing: rows and
    offset are then gone together, and are taken in again. What maintenance has removed since is passed over.
    """
    path = folder / name
    entry = path / "_delta_log" / f"{version:020}.json"
    folders = {entry.parent}
    with store_errors(f"forcing table {name} to the disk"), suppress(FileNotFoundError):
        for line in entry.read_bytes().splitlines():
            added = json.loads(line).get("add")
            if added is not None:
                file = path / unquote(added["path"])
                with suppress(FileNotFoundError):
                    fsync_file(file)
                    folders |= {file.parent, path}
        fsync_file(entry)
        for each in folders:
            fsync_folder(each)


def checkpoint(table: DeltaTable, folder: Path, name: str) -> None:
    """Write a checkpoint of the version that the handle holds, unless there is one, and force it to the disk."""
    log = folder / name / "_delta_log"
    file = log / f"{table.version():020}.checkpoint.parquet"
    with store_errors(f"writing a checkpoint of table {name}"):
        if not file.exists():
            table.create_checkpoint()
            fsync_file(file)
            fsync_folder(log)
