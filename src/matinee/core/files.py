"""Writing files so that a crash leaves the old one or the new one, never half of either."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from matinee.core.errors import Corrupt, FormatTooNew


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `data`; see `replacing`."""
    with replacing(path, mode=mode) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends well: fsynced and renamed.

    It lies beside it until then; where the block raises, nothing is left of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    fsync_folder(path.parent)


def fsync_file(path: Path) -> None:
    """Force a file's bytes to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def fsync_folder(path: Path) -> None:
    """Force a folder's entries (names made or renamed in it) to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, document: dict[str, Any], *, mode: int = 0o644) -> None:
    """Write a JSON document for people and programs, atomically."""
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text.encode() + b"\n", mode=mode)


def read_json(path: Path, *, format_version: int) -> dict[str, Any]:
    """Read a JSON document that carries `format_version`.

    Raises:
        FileNotFoundError: there is none.
        Corrupt: it is not a JSON object, or carries no version.
        FormatTooNew: a newer matinee wrote it.
    """
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise Corrupt(f"{path} is not valid JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("format_version"), int):
        raise Corrupt(f"{path} carries no format_version")
    check_format(str(path), document["format_version"], format_version)
    return document


def check_format(what: str, found: int, known: int) -> None:
    """Refuse a stored format that is newer than this program knows."""
    if found > known:
        raise FormatTooNew(
            f"{what} has format version {found}; this matinee knows versions up to {known}",
            remedy="Upgrade matinee, or point it at a home that this version wrote.",
        )
