"""Verifying a bundle before anyone maps it: a truncated mapped file kills the process that touches it.

Reading gigabytes takes seconds, so it is done once per host. What was found good is remembered in
`run/verified/<version>.json` with the size, times and inode of every file, and is done again when any differs.
Two processes that verify at once both come to the same end.
"""

import contextlib
from pathlib import Path

from matinee.bundle.manifest import MANIFEST, REMEDY, Manifest, read_manifest
from matinee.bundle.write import file_sha256
from matinee.core.errors import Corrupt, FormatTooNew
from matinee.core.files import read_json, write_json

VERIFIED_FORMAT = 1


def verify_bundle(bundle: Path, run: Path) -> Manifest:
    """Make sure that every file of a bundle is what was written, and return its manifest.

    Args:
        bundle: the bundle's folder.
        run: the home's `run/`, where it is remembered. That fails quietly: verifying again is only slower.

    Raises:
        Corrupt: a file is missing, of another size, or of another content; the message names it.
        FormatTooNew: a newer matinee wrote the bundle.
    """
    bundle = bundle.absolute()
    before = _stamp(bundle / MANIFEST)
    manifest = read_manifest(bundle)
    # Taken before the bytes are read, so that a change meanwhile shows the next time.
    stamps = {MANIFEST: before, **{name: _stamp(bundle / name) for name in manifest.files}}
    for name, record in manifest.files.items():
        if stamps[name][0] != record.bytes:
            raise Corrupt(
                f"{bundle / name} has {stamps[name][0]} bytes; {record.bytes} were written", remedy=REMEDY
            )
    memory = run / "verified" / f"{manifest.version}.json"
    if _remembered(memory) == stamps:
        return manifest
    for name, record in manifest.files.items():
        if file_sha256(bundle / name) != record.sha256:
            raise Corrupt(f"{bundle / name} does not have the checksum it was written with", remedy=REMEDY)
    with contextlib.suppress(OSError):
        write_json(memory, {"format_version": VERIFIED_FORMAT, "files": stamps})
    return manifest


def _stamp(path: Path) -> list[int]:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Corrupt(f"{path} is missing", remedy=REMEDY) from error
    # The change time too: unlike the modification time, no program can set it back.
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _remembered(memory: Path) -> object:
    try:
        return read_json(memory, format_version=VERIFIED_FORMAT).get("files")
    except (OSError, Corrupt, FormatTooNew):
        return None
