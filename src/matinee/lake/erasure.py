"""Erasing users from the lake: their rows, then every file and log entry that held them.

    delete the rows ─► wait for those who still read older versions ─► delete old files and log entries

Delta keeps what is deleted: in the data files of older versions, and in its log, whose entries hold the least and
greatest id of each file and what was deleted. So older versions go, also those that kept bundles were made from:
what was learnt from them cannot be repeated then.
"""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

from matinee.core.erasures import Erasures
from matinee.core.files import fsync_folder
from matinee.lake.lake import Lake
from matinee.lake.schemas import EVENTS, QUARANTINE, RECEIVED, SERVED, USERS, WATCH_DAYS
from matinee.lake.storage import NO_HOOKS, checkpoint, exactly_here, store_errors

BY_USER = (EVENTS, WATCH_DAYS, RECEIVED, SERVED, USERS)
"""Tables with a column `user`."""
_HOLDERS = (*BY_USER, QUARANTINE)
_MARK = "matinee.erasedUs"

Files = Mapping[str, Collection[Path]]
"""By table, data files."""


def delete_users(lake: Lake, table: str, erased: Erasures) -> int:
    """Delete the rows of erased users, and return how many went.

    Raises:
        StoreUnavailable: the store failed, or other writers were always quicker.
        OutOfRoom: the disk is full.
    """
    with store_errors(f"looking for erased users in {table}"):
        users = lake.read(table, columns=["user"]).unique().collect(engine="streaming")["user"].drop_nulls()
    gone = [user for user in users if user in erased]
    if not gone:
        return 0
    quoted = ", ".join("'" + user.replace("'", "''") + "'" for user in gone)

    def attempt(handle: DeltaTable) -> int:
        done = handle.delete(
            f'"user" IN ({quoted})', commit_properties=exactly_here(), post_commithook_properties=NO_HOOKS
        )
        return int(done["num_deleted_rows"] or 0)

    return lake.transact(table, attempt)


def old_files(lake: Lake) -> dict[str, set[Path]]:
    """By table that may hold a user's records, the data files on the disk that its newest version does not have.

    Also what writers left that lost a conflict or died before their commit, or are about to commit.
    """
    return {schema.name: _on_disk(lake, schema.name) - _in_use(lake, schema.name) for schema in _HOLDERS}


def delete_files(lake: Lake, files: Files) -> int:
    """Delete data files, but for those in the newest version, and every log entry before it; returns the files.

    With them goes what was never committed: who lost a conflict, or died before the commit, may have written it
    after `old_files` looked, from a version that still held the users.

    Raises:
        StoreUnavailable: the store failed; the same call goes on where this one ended.
    """
    gone = 0
    for name, old in files.items():
        written = _on_disk(lake, name)
        # Who slept between writing a file and its commit conflicts from here on, so what goes is never committed.
        # All versions before this one go with their log entries, which name users; this one does not.
        lake.transact(name, _marking(lake.clock.now_us()))
        candidates = set(old) | (written - _committed(lake, name))
        in_use = _in_use(lake, name)
        with store_errors(f"deleting old files of {name}"):
            for path in candidates - in_use:
                path.unlink(missing_ok=True)
                gone += 1
            for folder in {path.parent for path in candidates if path.parent.is_dir()}:
                fsync_folder(folder)
        _forget_older_versions(lake, name)
    return gone


def erased_us(lake: Lake, table: str) -> int | None:
    """When old versions of a table last went for an erasure, UTC microseconds; nothing where none ever did.

    The table itself says so, also when no tombstone is left.
    """
    mark = lake.table(table).metadata().configuration.get(_MARK)
    return None if mark is None else int(mark)


def _forget_older_versions(lake: Lake, name: str) -> None:
    """Let the table's log begin at its newest version."""
    table = lake.table(name)
    checkpoint(table, lake.folder, name)
    log = lake.folder / name / "_delta_log"
    with store_errors(f"cleaning the log of {name}"):
        for entry in log.iterdir():
            number = entry.name.split(".")[0]
            if number.isdigit() and int(number) < table.version():
                entry.unlink(missing_ok=True)
        fsync_folder(log)


def _marking(now_us: int) -> Callable[[DeltaTable], None]:
    def attempt(table: DeltaTable) -> None:
        """A commit that changes no row and names nobody, so that all before it can go."""
        properties = {_MARK: str(now_us)}
        table.alter.set_table_properties(properties, raise_if_not_exists=False, commit_properties=exactly_here())

    return attempt


def _in_use(lake: Lake, name: str) -> set[Path]:
    with store_errors(f"listing the files of {name}"):
        files = pl.DataFrame(lake.table(name).get_add_actions(flatten=True))
    paths = files["path"].to_list() if files.height else []
    return {lake.folder / name / spelt for path in paths for spelt in (path, unquote(path))}


def _committed(lake: Lake, name: str) -> set[Path]:
    """The data files that the log's entries name. Those of the last days are there, so readers may be at them."""
    folder = lake.folder / name
    with store_errors(f"reading the log of {name}"):
        lines = [
            line for entry in (folder / "_delta_log").glob("*.json") for line in entry.read_bytes().splitlines()
        ]
    actions = [action for line in lines for kind, action in json.loads(line).items() if kind in {"add", "remove"}]
    return {folder / spelt for action in actions for spelt in (action["path"], unquote(action["path"]))}


def _on_disk(lake: Lake, name: str) -> set[Path]:
    folder = lake.folder / name
    with store_errors(f"listing the files of {name}"):
        return {path for path in folder.rglob("*.parquet") if "_delta_log" not in path.relative_to(folder).parts}
