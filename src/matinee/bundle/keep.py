"""Keeping the folder of bundles within its budget."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from matinee.bundle.manifest import list_versions
from matinee.core.errors import StoreUnavailable
from matinee.core.files import fsync_folder

_REMOVING = ".removing-"


def prune(bundles: Path, keep: int, in_use: set[str]) -> list[str]:
    """Delete the oldest bundles beyond the newest `keep` that are not in use, and return their versions.

    What a killed call left behind goes too.

    Args:
        bundles: the folder of all bundles.
        keep: bundles to keep besides those in use; 0 or more.
        in_use: versions that are never deleted.
    """
    idle = [version for version in list_versions(bundles) if version not in in_use]
    return _delete(bundles, idle[: max(0, len(idle) - keep)])


def delete(bundles: Path, versions: Iterable[str]) -> list[str]:
    """Delete bundles for certain, whoever uses them; returns those that were there.

    Raises:
        StoreUnavailable: something of them could not be deleted.
    """
    deleted = _delete(bundles, versions)
    left = sorted(path.name for path in bundles.glob(f"{_REMOVING}*"))
    if left:
        raise StoreUnavailable(
            f"{bundles / left[0]} could not be deleted", remedy="Look at its permissions; it is tried again."
        )
    return deleted


def _delete(bundles: Path, versions: Iterable[str]) -> list[str]:
    """Delete bundles as far as that can be; returns those that were there.

    Each is renamed first, so that half a bundle never has a bundle's name. Processes that have a deleted bundle
    open keep it until they close it.
    """
    deleted: list[str] = []
    for version in versions:
        try:
            (bundles / version).rename(bundles / f"{_REMOVING}{version}")
        except FileNotFoundError:
            continue  # somebody else deletes it at the same time
        deleted.append(version)
    if deleted:
        fsync_folder(bundles)
    for leftover in bundles.glob(f"{_REMOVING}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    return deleted
