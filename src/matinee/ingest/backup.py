"""A consistent copy of a home's data while everything runs, and a home made from it.

    plan, keys, bundles, SQLite files ─► history ─► versions of the lake ─► event log ─► files of those versions

The order is what makes the copy fit together. What is copied earlier may lack what came later, which the log and
the lake then hold: history is given it from the lake when ingest starts; a bundle knows which offsets it covers.
The versions of the lake come before the log, so that no position that it holds is given out again; a log that was
trimmed beyond them meanwhile is copied again, with newer versions.

Every file carries its checksum in `backup.json`, which is written last.
"""

import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import lmdb

from matinee.core.clock import Clock
from matinee.core.errors import ConfigurationError, Corrupt, InvalidInput, MatineeError, OutOfRoom, StoreUnavailable
from matinee.core.files import fsync_file, fsync_folder, read_json, write_json
from matinee.core.home import Home
from matinee.core.settings import Settings
from matinee.events.offsets import Source
from matinee.history.open import data_file
from matinee.lake.lake import Lake
from matinee.lake.schemas import INGEST_TABLES
from matinee.log.open import open_log

BACKUP_FORMAT = 1
MANIFEST = "backup.json"
_TRIES = 10
_LEFT_OUT = frozenset({"downloads"})
"""Folders of `data/` that can be got again."""
_SQLITE = b"SQLite format 3\0"
_BESIDE = ("-wal", "-shm", "-journal", ".lock")
"""Endings of files that belong to a running process."""


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What was copied."""

    files: int
    bytes: int
    lake_versions: Mapping[str, int]


def back_up(home: Home, settings: Settings, lake: Lake, clock: Clock, destination: Path) -> BackedUp:
    """Copy a home's data to a folder, while ingest, servers and training may run.

    Args:
        home: whose data.
        settings: where the stores are.
        lake: the home's.
        clock: dates the backup.
        destination: a folder that is not there yet, or is empty; it appears when it is whole.

    Raises:
        InvalidInput: there is something at the destination.
        ConfigurationError: the lake lies outside of the home, or the destination within its data.
        OutOfRoom: the destination's disk is full.
        StoreUnavailable: the log was trimmed each time, or a file could not be read.
    """
    destination = destination.absolute()
    _require_inside(home, lake)
    if destination.is_relative_to(home.data):
        raise ConfigurationError(
            f"{destination} is in the data that is to be copied", remedy="Give a folder elsewhere, on another disk."
        )
    _require_empty(destination)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as scratch:
            partial = Path(scratch) / "backup"
            partial.mkdir()
            done = _fill(home, settings, lake, clock, partial)
            _force_folders(partial)
            partial.replace(destination)
        fsync_folder(destination.parent)
    except (OSError, sqlite3.Error, lmdb.Error) as error:
        raise _explained(error, destination) from error
    return done


def restore(home: Home, source: Path) -> BackedUp:
    """Make the data of an empty home from a backup; every file is checked before any is in its place.

    Args:
        home: the home, without data; nothing may run in it.
        source: the folder that `back_up` made.

    Raises:
        InvalidInput: the home has data, or the folder is no backup.
        Corrupt: a file is not what was written.
        FormatTooNew: a newer matinee made the backup.
        Locked: ingest runs in this home.
        OutOfRoom: the home's disk is full.
    """
    try:
        manifest = read_json(source / MANIFEST, format_version=BACKUP_FORMAT)
    except FileNotFoundError as error:
        raise InvalidInput(
            f"{source} has no {MANIFEST}: it is no backup, or one that was never finished",
            remedy="Name the folder that `matinee backup` was given.",
        ) from error
    with home.lock("ingest"):
        if any(home.data.iterdir()):
            raise InvalidInput(
                f"{home.data} is not empty; a restore never mixes with what is there",
                remedy="Give another home with --home, or move this one's data away.",
            )
        try:
            with tempfile.TemporaryDirectory(dir=home.path, prefix=".restore.") as scratch:
                copy = Path(scratch) / "data"
                copy.mkdir()
                for name, (size, checksum) in manifest["files"].items():
                    if _copy(source / "data" / name, copy / name) != (size, checksum):
                        raise Corrupt(
                            f"{source / 'data' / name} is not what was backed up", remedy="Use another backup."
                        )
                _force_folders(copy)
                copy.replace(home.data)  # a folder takes the place of an empty one
            fsync_folder(home.path)
        except OSError as error:
            raise _explained(error, home.data) from error
    sizes = [size for size, _ in manifest["files"].values()]
    return BackedUp(len(sizes), sum(sizes), manifest["lake_versions"])


def _fill(home: Home, settings: Settings, lake: Lake, clock: Clock, partial: Path) -> BackedUp:
    data = partial / "data"
    data.mkdir()
    log_url = home.resolve(settings.log.url)
    log_file = Path(log_url.removeprefix("sqlite:///")) if log_url.startswith("sqlite:///") else None
    history = data_file(home.resolve(settings.history.url))
    own = {lake.folder, *({log_file} if log_file else ()), *({history.parent} if history else ())}
    for path in _files(home.data, own):
        _copy_live(path, data / path.relative_to(home.data))
    _require_whole_bundles(home.bundles, data / "bundles")
    if history and history.exists() and history.is_relative_to(home.data):
        _copy_history(history.parent, data / history.parent.relative_to(home.data))
    inside = log_file if log_file and log_file.is_relative_to(home.data) and log_file.exists() else None
    copied_log = data / inside.relative_to(home.data) if inside else None
    versions = _pin(lake, clock, inside, copied_log)
    _copy_lake(lake, versions, data / lake.folder.relative_to(home.data))
    files = {str(path.relative_to(data)): _checksum(path) for path in _files(data, set())}
    document = {"format_version": BACKUP_FORMAT, "taken_at_us": clock.now_us(), "lake_versions": versions}
    write_json(partial / MANIFEST, {**document, "files": {name: list(known) for name, known in files.items()}})
    return BackedUp(len(files), sum(size for size, _ in files.values()), versions)


def _pin(lake: Lake, clock: Clock, log_file: Path | None, copy: Path | None) -> dict[str, int]:
    """Versions of the lake's tables that the copied log goes on from: nothing is missing between the two."""
    for _ in range(_TRIES):
        versions = lake.versions()
        if log_file is None or copy is None:
            return versions
        copy.unlink(missing_ok=True)
        _copy_sqlite(log_file, copy)
        with open_log(f"sqlite:///{copy}", clock) as log:
            begins = {Source(log.generation, partition): begin for partition, begin in log.begins().items()}
        for leftover in copy.parent.glob(f"{copy.name}?*"):
            leftover.unlink()
        ends = [lake.committed_ends(name, versions[name]) for name in INGEST_TABLES]
        if all(begin <= 1 or begin <= min(end.get(source, 0) for end in ends) for source, begin in begins.items()):
            return versions
    raise StoreUnavailable(
        f"the event log {log_file} was trimmed {_TRIES} times in a row while it was copied", remedy="Try again."
    )


def _copy_lake(lake: Lake, versions: Mapping[str, int], target: Path) -> None:
    """The tables at their versions, with those before that can still be read."""
    for name, version in versions.items():
        folder = lake.folder / name
        for path in _files(folder, set()):
            inside = path.relative_to(folder)
            if inside.parts[0] == "_delta_log" and not _is_of(inside.name, version):
                continue
            with suppress(FileNotFoundError):  # vacuumed: no version that is kept needs it
                _copy(path, target / name / inside)
    copied = Lake(str(target), lake.clock)
    for name, version in versions.items():
        missing = [uri for uri in copied.table(name, version).file_uris() if not Path(uri).exists()]
        if missing:
            raise StoreUnavailable(
                f"table {name}: {missing[0]} went while it was copied", remedy="Try again; see who removes files."
            )


def _is_of(log_entry: str, version: int) -> bool:
    """Whether an entry of a table's log belongs to a version or to one before it."""
    number = log_entry.partition(".")[0]
    return number.isdigit() and int(number) <= version


def _files(folder: Path, without: set[Path]) -> Iterator[Path]:
    """The files below a folder, but those of running processes, those half written, and what can be got again."""
    for where, folders, names in os.walk(folder):
        here = Path(where)
        folders[:] = sorted(f for f in folders if here / f not in without and f not in _LEFT_OUT and f[0] != ".")
        for name in sorted(names):
            if here / name not in without and name[0] != "." and not name.endswith(_BESIDE):
                yield here / name


def _copy_live(path: Path, target: Path) -> None:
    """Copy a file that others may replace, or write to where it is a database; one that went is left out."""
    try:
        with path.open("rb") as file:
            is_database = file.read(len(_SQLITE)) == _SQLITE
        if is_database:
            _copy_sqlite(path, target)
        else:
            _copy(path, target)
    except FileNotFoundError:
        target.unlink(missing_ok=True)


def _copy_sqlite(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    read_only = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(read_only, uri=True)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)
    fsync_file(target)


def _copy_history(folder: Path, target: Path) -> None:
    target.mkdir(parents=True)
    with closing(lmdb.open(str(folder), readonly=True, max_dbs=2)) as live:
        live.copy(str(target), compact=True)
    fsync_file(target / "data.mdb")


def _copy(path: Path, target: Path) -> tuple[int, str]:
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


def _checksum(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _force_folders(folder: Path) -> None:
    for where, _, _ in os.walk(folder):
        fsync_folder(Path(where))


def _require_whole_bundles(bundles: Path, copies: Path) -> None:
    gone = [copy.name for copy in copies.glob("*") if not (bundles / copy.name).exists()]
    if gone:  # perhaps copied in part, and perhaps the one that the copied plan names
        raise StoreUnavailable(f"bundle {gone[0]} was pruned while it was copied", remedy="Try again.")


def _require_inside(home: Home, lake: Lake) -> None:
    if not lake.folder.absolute().is_relative_to(home.data):
        raise ConfigurationError(
            f"the lake {lake.folder} lies outside of {home.data}", remedy="Back it up by its store's own means."
        )


def _require_empty(destination: Path) -> None:
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InvalidInput(f"{destination} is there already", remedy="Name a folder that is new or empty.")


def _explained(error: Exception, where: Path) -> MatineeError:
    full = "full" in str(error) or "No space left" in str(error)
    if full:
        return OutOfRoom(f"{where}: {error}", remedy="Make room on its disk, or choose another; nothing was left.")
    return StoreUnavailable(f"{where}: {error}", remedy="Nothing was left half done; try again.")
