"""Writing a bundle: beside its place, forced to the disk, then renamed. Half a bundle never has a bundle's name."""

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Container, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from matinee.bundle.attributes import ATTRIBUTE_PREFIX, ATTRIBUTES, ItemAttributes, encode_texts
from matinee.bundle.contents import BundleContents
from matinee.bundle.manifest import (
    BUNDLE_FORMAT,
    MANIFEST,
    FileRecord,
    Manifest,
    encode_manifest,
    version_name,
)
from matinee.bundle.users import USERS, Users, copy_users, index_type, write_users
from matinee.core.clock import Clock
from matinee.core.errors import InvalidInput, OutOfRoom, is_no_room
from matinee.core.files import fsync_file, fsync_folder

ITEMS = "items.txt"
ITEM_MINUTES = "item_minutes.npy"
POPULAR = "popular.npy"
TRENDING = "trending.npy"
FOLD_IN_PREFIX = "fold_in-"
RATING_PREFIX = "rating-"
ITEM_VECTORS = "item_vectors"
_WRITING = ".writing-"


def write_bundle(bundles: Path, *, contents: BundleContents, clock: Clock) -> str:
    """Write a bundle and return its version; on return it is durable.

    What a killed writer left behind is removed first. Nobody sees the bundle before it is whole.

    Args:
        bundles: the folder of all bundles; made when missing.
        contents: what goes in.
        clock: gives the version its time.

    Raises:
        InvalidInput: a block of users does not fit, or a bundle of that version is there already.
        OutOfRoom: the disk is full; nothing is left behind.
    """
    created_us = clock.now_us()

    def fill(folder: Path) -> Manifest:
        return _manifest_of(folder, contents, _write_files(folder, contents), created_us)

    return _made(bundles, fill)


def rewrite_bundle(bundle: Path, manifest: Manifest, left_out: Container[str]) -> str:
    """Write a bundle again without some users beside it, and return the new one's version; durable on return.

    All but the users is copied as it stands, the time it was made too, so that the new one sorts where the old one
    does. Its manifest says what it took the place of.

    Args:
        bundle: a folder that was verified.
        manifest: its manifest.
        left_out: users of whom nothing is taken over.

    Raises:
        InvalidInput: a bundle of that version is there already.
        OutOfRoom: the disk is full; nothing is left behind.
        Corrupt: the bundle was cut short meanwhile.
    """

    def fill(folder: Path) -> Manifest:
        for name in manifest.files:
            if name != USERS:
                shutil.copyfile(bundle / name, folder / name)
        with closing(Users(bundle / USERS, manifest.index_type, manifest.format_version)) as users:
            n_users = copy_users(users, folder / USERS, left_out)
        files = _records_of(folder)
        return msgspec.structs.replace(
            manifest,
            version=version_name(manifest, files, manifest.created_us),
            n_users=n_users,
            files=files,
            predecessors=(*manifest.predecessors, manifest.version),
        )

    return _made(bundle.parent, fill)


def _made(bundles: Path, fill: Callable[[Path], Manifest]) -> str:
    """Make a bundle of what `fill` writes into an empty folder and says of it; return its version."""
    bundles.mkdir(parents=True, exist_ok=True)
    sweep(bundles)
    with _room_needed(bundles), _temporary_folder(bundles) as folder:
        manifest = fill(folder)
        (folder / MANIFEST).write_bytes(encode_manifest(manifest))
        for path in folder.iterdir():
            fsync_file(path)
        fsync_folder(folder)
        _publish(folder, bundles / manifest.version)
    fsync_folder(bundles)
    return manifest.version


def sweep(bundles: Path) -> list[str]:
    """Remove the folders of writers that are no longer alive; returns their names."""
    swept: list[str] = []
    for folder in bundles.glob(f"{_WRITING}*"):
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # somebody else swept it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            swept.append(folder.name)
        except BlockingIOError:
            continue  # its writer is at work
        finally:
            os.close(descriptor)
    return swept


@contextmanager
def _temporary_folder(bundles: Path) -> Iterator[Path]:
    """A hidden folder, locked while its writer lives, gone afterwards unless it was renamed."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_WRITING, dir=bundles))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():  # else another writer swept it before it was locked
            break
        os.close(descriptor)
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


@contextmanager
def _room_needed(bundles: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_no_room(error):
            raise
        raise OutOfRoom(
            f"there is no room for a bundle under {bundles}: {error}",
            remedy="Free some room, or keep fewer bundles (training.keep_bundles).",
        ) from error


def _write_files(folder: Path, contents: BundleContents) -> int:
    (folder / ITEMS).write_text("".join(f"{item}\n" for item in contents.items), encoding="ascii")
    attributes = contents.attributes or ItemAttributes.unknown(len(contents.items))
    (folder / ATTRIBUTES).write_bytes(encode_texts(attributes))
    arrays = {
        ITEM_MINUTES: contents.item_minutes,
        POPULAR: np.vstack([contents.popular[np.newaxis], contents.popular_by_segment]),
        **({} if contents.trending is None else {TRENDING: contents.trending}),
        **{f"{FOLD_IN_PREFIX}{name}.npy": array for name, array in contents.fold_in.items()},
        **{f"{RATING_PREFIX}{name}.npy": array for name, array in _rating_arrays(contents).items()},
        **{f"{ATTRIBUTE_PREFIX}{name}.npy": array for name, array in attributes.arrays().items()},
    }
    for name, array in arrays.items():
        np.save(folder / name, np.asarray(array, array.dtype.newbyteorder("<"), order="C"), allow_pickle=False)
    return write_users(
        folder / USERS, contents.users, n_items=len(contents.items), n_segments=len(contents.segments)
    )


def _rating_arrays(contents: BundleContents) -> dict[str, NDArray[np.generic]]:
    """What predicts ratings; its vectors only where they are not the item factors, which are there anyway."""
    if contents.ratings is None:
        return {}
    vectors = {} if contents.fold_in else {ITEM_VECTORS: contents.ratings.item_vectors}
    return {**contents.ratings.to_arrays(), **vectors}


def _manifest_of(folder: Path, contents: BundleContents, n_users: int, created_us: int) -> Manifest:
    provenance = contents.provenance
    files = _records_of(folder)
    return Manifest(
        **{name: getattr(provenance, name) for name in provenance.__struct_fields__},
        format_version=BUNDLE_FORMAT,
        version=version_name(provenance, files, created_us),
        created_us=created_us,
        n_users=n_users,
        n_items=len(contents.items),
        segments=tuple(contents.segments),
        index_type=index_type(len(contents.items)),
        files=files,
    )


def _records_of(folder: Path) -> dict[str, FileRecord]:
    return {path.name: FileRecord(bytes=path.stat().st_size, sha256=file_sha256(path))
            for path in sorted(folder.iterdir())}  # fmt: skip


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _publish(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)  # onto a folder that holds something, this fails
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        raise InvalidInput(
            f"{target} is there already, and a bundle is never overwritten",
            remedy="The same run was made twice within a second: use the bundle that is there.",
        ) from error
