"""Keeping the folder of bundles within its budget."""

import shutil
from pathlib import Path

from matinee.bundle.manifest import list_versions
from matinee.core.files import fsync_folder

_REMOVING = ".removing-"


def prune(bundles: Path, keep: int, in_use: set[str]) -> list[str]:
    """Delete the oldest bundles beyond the newest `keep` that are not in use, and return their versions.

    Each is renamed first, so that half a bundle never has a bundle's name; what a killed call left behind goes
    too. Processes that have a deleted bundle open keep it until they close it.

    Args:
        bundles: the folder of all bundles.
        keep: bundles to keep besides those in use; 0 or more.
        in_use: versions that are never deleted.
    """
    idle = [version for version in list_versions(bundles) if version not in in_use]
    deleted: list[str] = []
    for version in idle[: max(0, len(idle) - keep)]:
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
