"""Erasure from bundles: what holds an erased user is written again without, and takes the old one's place.

Independent of training, so that it always succeeds within its time: a model that is trained anew may not pass the
gate. What a model has learnt from all users together stays (item factors, what is popular); the user's own record
does not: segment, age, best items, items seen.
"""

from collections.abc import Container
from pathlib import Path

from matinee.bundle.keep import delete
from matinee.bundle.manifest import list_bundles, list_versions, read_manifest
from matinee.bundle.users import USERS, Users
from matinee.bundle.verify import verify_bundle
from matinee.bundle.write import rewrite_bundle, sweep
from matinee.core.errors import Corrupt
from matinee.core.home import Home
from matinee.core.logging import get_logger
from matinee.release.plan import replace_bundle

_AT_ONCE = 20_000
_log = get_logger(__name__)


def erase_from_bundles(home: Home, erased: Container[str]) -> dict[str, str | None]:
    """Let no bundle under the home hold any of these users.

    Each that does is written again without them and deleted; the copy takes its place in every release plan, so
    that a rollback leads to the copy, too. Servers take it up as any release, without a failed request. A bundle
    that is damaged is deleted: nobody can say whom it holds, and nobody could serve from it. Killed at any moment,
    the next call finishes what this one began. To be called while nobody trains.

    Returns:
        Version → what took its place, of each bundle that is gone; nothing where it was damaged.

    Raises:
        OutOfRoom: there is no room for a copy.
        StoreUnavailable: a bundle could not be deleted.
        FormatTooNew: a newer matinee wrote a bundle; whom it holds cannot be told.
    """
    sweep(home.bundles)
    delete(home.bundles, ())  # what a killed call has half-deleted
    gone: dict[str, str | None] = dict(_finished(home))
    for version in list_versions(home.bundles):
        try:
            verify_bundle(home.bundles / version, home.run)
            after = _rewritten(home.bundles / version, erased)
        except Corrupt as error:
            _log.warning("damaged_bundle_deleted", bundle=version, error=str(error))
            gone[version] = None
            delete(home.bundles, [version])
        else:
            if after is not None:
                _put_in_place(home, version, after)
                gone[version] = after
    return gone


def _finished(home: Home) -> dict[str, str]:
    """What a killed call had written anew already: put in its place, and the old ones deleted."""
    done: dict[str, str] = {}
    for manifest in list_bundles(home.bundles):
        for version in manifest.predecessors:
            if (home.bundles / version).exists():
                _put_in_place(home, version, manifest.version)
                done[version] = manifest.version
    return done


def _put_in_place(home: Home, version: str, after: str) -> None:
    replace_bundle(home.data, version, after)
    delete(home.bundles, [version])
    replace_bundle(home.data, version, after)  # where it was published between the two


def _rewritten(bundle: Path, erased: Container[str]) -> str | None:
    """The version of the bundle's copy without them; nothing where it holds none of them."""
    manifest = read_manifest(bundle)
    users = Users(bundle / USERS, manifest.index_type, manifest.format_version)
    try:
        holds = any(key.decode() in erased for pairs in users.pairs(_AT_ONCE) for key, _ in pairs)
    finally:
        users.close()
    return rewrite_bundle(bundle, manifest, erased) if holds else None
