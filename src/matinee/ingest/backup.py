"""A consistent copy of a home's data while everything runs, and a home made from it.

    plan, keys, bundles, SQLite files ─► history ─► versions of the lake ─► event log ─► files of those versions

The order is what makes the copy fit together. What is copied earlier may lack what came later, which the log and
the lake then hold: history is given it from the lake when ingest starts; a bundle knows which offsets it covers.
The versions of the lake come before the log, so that no position that it holds is given out again; a log that was
trimmed beyond them meanwhile is copied again, with newer versions. What is deleted while it is copied costs another
try: bundles that were pruned are left out, and the plan is copied again with those that it names now; files of the
lake that went are no longer of its newest versions, which are taken then.

Every file carries its checksum in `backup.json`, which is written last.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import lmdb

from matinee.core.clock import Clock
from matinee.core.errors import (
    ConfigurationError,
    Corrupt,
    InvalidInput,
    MatineeError,
    OutOfRoom,
    StoreUnavailable,
    is_no_room,
)
from matinee.core.files import fsync_folder, read_json, write_json
from matinee.core.home import Home
from matinee.core.settings import Settings
from matinee.events.offsets import Source
from matinee.history.open import data_file
from matinee.ingest.copying import (
    checksum_of,
    copy_file,
    copy_history,
    copy_live,
    copy_sqlite,
    files_below,
    force_folders,
)
from matinee.lake.lake import Lake
from matinee.lake.schemas import INGEST_TABLES
from matinee.log.open import open_log

BACKUP_FORMAT = 1
MANIFEST = "backup.json"
_TRIES = 10


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What was copied."""

    files: int
    bytes: int
    taken_at_us: int
    """When the copy was begun, UTC microseconds: who was erased since then is in it."""
    lake_versions: Mapping[str, int]


def back_up(
    home: Home,
    settings: Settings,
    lake: Lake,
    clock: Clock,
    destination: Path,
    *,
    on_step: Callable[[str], None] = lambda _step: None,
) -> BackedUp:
    """Copy a home's data to a folder, while ingest, servers and training may run.

    Args:
        home: whose data.
        settings: where the stores are.
        lake: the home's.
        clock: dates the backup.
        destination: a folder that is not there yet, or is empty; it appears when it is whole.
        on_step: called with `bundles` before each bundle's first file is copied, and with `lake` between choosing
            the versions of the lake and copying them; for tests.

    Raises:
        InvalidInput: there is something at the destination.
        ConfigurationError: the lake lies outside of the home, or the destination within its data.
        OutOfRoom: the destination's disk is full.
        StoreUnavailable: in each of ten tries the log was trimmed or something was deleted while it was copied, or
            a file could not be read.
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
            done = _fill(home, settings, lake, clock, partial, on_step)
            force_folders(partial)
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
                    if copy_file(source / "data" / name, copy / name) != (size, checksum):
                        raise Corrupt(
                            f"{source / 'data' / name} is not what was backed up", remedy="Use another backup."
                        )
                force_folders(copy)
                copy.replace(home.data)  # a folder takes the place of an empty one
            fsync_folder(home.path)
        except OSError as error:
            raise _explained(error, home.data) from error
    sizes = [size for size, _ in manifest["files"].values()]
    return BackedUp(len(sizes), sum(sizes), manifest["taken_at_us"], manifest["lake_versions"])


def _fill(
    home: Home, settings: Settings, lake: Lake, clock: Clock, partial: Path, on_step: Callable[[str], None]
) -> BackedUp:
    begun_us = clock.now_us()  # who asks to be erased from here on may be in the copy, and the wish may not
    data = partial / "data"
    data.mkdir()
    log_url = home.resolve(settings.log.url)
    log_file = Path(log_url.removeprefix("sqlite:///")) if log_url.startswith("sqlite:///") else None
    history = data_file(home.resolve(settings.history.url))
    own = {lake.folder, *({log_file} if log_file else ()), *({history.parent} if history else ())}
    _copy_plan_and_bundles(home, own, data, on_step)
    if history and history.is_relative_to(home.data):
        copy_history(history.parent, data / history.parent.relative_to(home.data))
    inside = log_file if log_file and log_file.is_relative_to(home.data) and log_file.exists() else None
    versions = _copy_lake_and_log(home, lake, inside, data, on_step)
    files = {str(path.relative_to(data)): checksum_of(path) for path in files_below(data, set())}
    document = {"format_version": BACKUP_FORMAT, "taken_at_us": begun_us, "lake_versions": versions}
    write_json(partial / MANIFEST, {**document, "files": {name: list(known) for name, known in files.items()}})
    return BackedUp(len(files), sum(size for size, _ in files.values()), begun_us, versions)


def _copy_plan_and_bundles(home: Home, own: set[Path], data: Path, on_step: Callable[[str], None]) -> None:
    """All but the stores. Again, but for whole bundles, where one went that the copied plan may name."""
    copies = data / "bundles"
    for _ in range(_TRIES):
        listed, whole = _names(home.bundles), _names(copies)
        for path in list(files_below(data, {copies})):
            path.unlink()  # of an earlier try
        for path in files_below(home.data, own | {home.bundles / name for name in listed}):
            copy_live(path, data / path.relative_to(home.data))
        for name in sorted(_names(home.bundles) - whole):
            on_step("bundles")
            for path in files_below(home.bundles / name, set()):
                copy_live(path, copies / path.relative_to(home.bundles))
        gone = (listed | _names(copies)) - _names(home.bundles)
        if not gone:
            return
        for name in gone:
            shutil.rmtree(copies / name, ignore_errors=True)
    raise StoreUnavailable(
        f"bundle {min(gone)} was pruned while it was copied; {_TRIES} times in a row", remedy="Try again."
    )


def _names(folder: Path) -> set[str]:
    """The bundles in a folder, but for those half written or half deleted."""
    if not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if path.name[0] != "." and path.is_dir()}


def _copy_lake_and_log(
    home: Home, lake: Lake, log_file: Path | None, data: Path, on_step: Callable[[str], None]
) -> dict[str, int]:
    """The versions of the lake that were copied, of each table the newest; with a log that goes on from them."""
    copied_log = data / log_file.relative_to(home.data) if log_file else None
    for _ in range(_TRIES):
        versions = _pin(lake, lake.clock, log_file, copied_log)
        on_step("lake")
        missing = _copy_lake(lake, versions, data / lake.folder.relative_to(home.data))
        if missing is None:
            return versions
    raise StoreUnavailable(
        f"{missing}; {_TRIES} times in a row", remedy="Try again; see who removes files of the lake so often."
    )


def _pin(lake: Lake, clock: Clock, log_file: Path | None, copy: Path | None) -> dict[str, int]:
    """Versions of the lake's tables that the copied log goes on from: nothing is missing between the two."""
    for _ in range(_TRIES):
        versions = lake.versions()
        if log_file is None or copy is None:
            return versions
        copy.unlink(missing_ok=True)
        copy_sqlite(log_file, copy)
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


def _copy_lake(lake: Lake, versions: Mapping[str, int], target: Path) -> str | None:
    """The tables at their versions, with those before that can still be read; says what went meanwhile, if any did.

    Data files are written once, so those of an earlier try stay, but for what is gone from the lake since.
    """
    for name, version in versions.items():
        folder, copy = lake.folder / name, target / name
        shutil.rmtree(copy / "_delta_log", ignore_errors=True)
        for path in list(files_below(copy, set())):
            if not (folder / path.relative_to(copy)).exists():
                path.unlink()
        for path in files_below(folder, set()):
            inside = path.relative_to(folder)
            in_log = inside.parts[0] == "_delta_log"
            if in_log and not _is_of(inside.name, version):
                continue
            with suppress(FileNotFoundError):  # vacuumed: no version that is kept needs it
                if not _is_copied(path, copy / inside):
                    copy_file(path, copy / inside)
    copied = Lake(str(target), lake.clock)
    for name, version in versions.items():
        try:
            files = copied.table(name, version).file_uris()
        except (InvalidInput, Corrupt, StoreUnavailable):
            return f"the log of table {name} was cut while it was copied"
        if missing := [uri for uri in files if not Path(uri).exists()]:
            return f"table {name}: {missing[0]} went while it was copied"
    return None


def _is_copied(path: Path, copy: Path) -> bool:
    """Whether a file that only grows is there whole: it may have been half written when it was copied."""
    return copy.exists() and copy.stat().st_size == path.stat().st_size


def _is_of(log_entry: str, version: int) -> bool:
    """Whether an entry of a table's log belongs to a version or to one before it."""
    number = log_entry.partition(".")[0]
    return number.isdigit() and int(number) <= version


def _require_inside(home: Home, lake: Lake) -> None:
    if not lake.folder.absolute().is_relative_to(home.data):
        raise ConfigurationError(
            f"the lake {lake.folder} lies outside of {home.data}", remedy="Back it up by its store's own means."
        )


def _require_empty(destination: Path) -> None:
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InvalidInput(f"{destination} is there already", remedy="Name a folder that is new or empty.")


def _explained(error: Exception, where: Path) -> MatineeError:
    said = ("is full", "No space left")  # SQLite's errors, and those of several files together
    if (isinstance(error, OSError) and is_no_room(error)) or any(words in str(error) for words in said):
        return OutOfRoom(f"{where}: {error}", remedy="Make room on its disk, or choose another; nothing was left.")
    return StoreUnavailable(f"{where}: {error}", remedy="Nothing was left half done; try again.")
