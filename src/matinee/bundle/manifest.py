"""The manifest: what a bundle is, where it came from, and the checksum of every file in it.

The manifest answers for itself too: its field `checksum` is the SHA-256 of its own bytes with that field empty.
That stays so in every format, so that a newer bundle is told from a broken one.
SHA-256 because anybody can repeat it with `sha256sum`, because it also holds against files changed on purpose,
and because with the processor's own instructions it is as fast as most disks (1.4 GB/s on one core).
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from matinee.core.errors import Corrupt, FormatTooNew, InvalidInput
from matinee.core.files import check_format
from matinee.core.logging import get_logger
from matinee.events.offsets import Source

BUNDLE_FORMAT = 2
"""2 added the attributes of items and the ages of users; what lacks them is read as knowing none."""
MANIFEST = "manifest.json"
VERSION_PATTERN = re.compile(r"\d{8}T\d{6}Z-[a-z0-9][a-z0-9_-]{0,39}-[0-9a-f]{8}")
"""UTC time, so that names sort by age; model; and the beginning of the content's hash."""

_CHECKSUM = re.compile(rb'"checksum": "([0-9a-f]{64})"')
_log = get_logger(__name__)


class SourceEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How far the snapshot had read one source."""

    generation: str
    partition: int
    end: int
    """Exclusive: everything below it is in the snapshot."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the model earned its place, and the figures that say so."""

    passed: bool
    evidence: dict[str, Any]
    """JSON values: the rule, the yardstick, the difference and its interval."""


class CodeVersion(msgspec.Struct, frozen=True, kw_only=True):
    """The program that made the bundle."""

    package: str
    """The version of matinee."""
    commit: str | None = None
    """Git commit where it ran from a checkout; `+changed` where files differed from it."""


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What a run says about the bundle it makes: enough to repeat the run. NaN becomes null."""

    model: str
    """The model's name in the registry."""
    params: dict[str, Any]
    seed: int
    lake_versions: dict[str, int]
    """Version of each table that the snapshot read."""
    offsets: tuple[SourceEnd, ...]
    time_range: tuple[int, int] | None
    """First and last event, UTC microseconds; nothing for untimed data."""
    row_counts: dict[str, int]
    content_hash: str
    """Hash of the snapshot's content."""
    code: CodeVersion
    libraries: dict[str, str]
    metrics: dict[str, dict[str, float | None]]
    """By subgroup (`all`, …), then by metric."""
    gate: Gate
    candidates: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    """The other models of the same run, by name, with their figures."""
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    """The run's settings: split, share held out, answers kept, and the like."""
    quality: dict[str, Any] = msgspec.field(default_factory=dict)
    """The checks of the data, and the statistics that the next run compares its own with."""
    warm_start: dict[str, Any] | None = None
    """What the fit began from: `version` of an earlier bundle, `content` hash of what its model had learnt, and the
    `epochs` made; nothing where it began from noise."""


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a bundle."""

    bytes: int
    sha256: str


class Manifest(Provenance, frozen=True, kw_only=True):
    """Everything known of a bundle, as its `manifest.json` holds it."""

    format_version: int
    version: str
    created_us: int
    """UTC microseconds."""
    n_users: int
    n_items: int
    segments: tuple[str, ...]
    """Names of the user segments; a segment's number is its place here."""
    index_type: str
    """How `users.lmdb` stores item indices, as NumPy writes it: `<u2` or `<i4`."""
    files: dict[str, FileRecord]
    """Every file but the manifest, by name."""
    predecessors: tuple[str, ...] = ()
    """Versions that this bundle took the place of, oldest first, because a user in them was erased: it is a copy
    without that user, and the run that made the first of them cannot be repeated any more."""
    checksum: str = ""
    """SHA-256 of the manifest's own bytes with this field empty."""

    def ends(self) -> dict[Source, int]:
        """Of each source that the snapshot knew, the position below which everything was read."""
        return {Source(entry.generation, entry.partition): entry.end for entry in self.offsets}


def source_ends(offsets: Mapping[Source, int]) -> tuple[SourceEnd, ...]:
    """A snapshot's offsets in the form and order that a manifest keeps them."""
    return tuple(
        SourceEnd(generation=source.generation, partition=source.partition, end=end)
        for source, end in sorted(offsets.items())
    )


def version_name(provenance: Provenance, files: Mapping[str, FileRecord], created_us: int) -> str:
    """The name of a bundle. The same files of the same model, parameters and seed end in the same 8 digits.

    Raises:
        InvalidInput: the model's name cannot be part of a folder's name.
    """
    identity = [provenance.model, provenance.params, provenance.seed, {name: files[name].sha256 for name in files}]
    content = hashlib.sha256(msgspec.json.encode(identity, enc_hook=_plain, order="sorted")).hexdigest()
    created = datetime.fromtimestamp(created_us // 1_000_000, UTC)
    name = f"{created:%Y%m%dT%H%M%SZ}-{provenance.model}-{content[:8]}"
    if VERSION_PATTERN.fullmatch(name) is None:
        raise InvalidInput(
            f"{provenance.model!r} cannot be part of a folder's name",
            remedy="Model names are lower-case letters, digits, `_` and `-`, at most 40.",
        )
    return name


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`, with their own checksum filled in."""
    text = _formatted(msgspec.structs.replace(manifest, checksum="0" * 64))
    head, tail = _around_checksum(text)
    return head + _digest(head, tail) + tail


def decode_manifest(data: bytes, path: Path) -> Manifest:
    """Read the bytes of the manifest at `path`.

    Raises:
        Corrupt: they are not what was written.
        FormatTooNew: a newer matinee wrote them.
    """
    try:
        head, tail = _around_checksum(data)
        intact = data[len(head) : len(data) - len(tail)] == _digest(head, tail)
    except ValueError:
        intact = False
    if not intact:
        raise Corrupt(f"{path} does not have the checksum it was written with", remedy=REMEDY)
    version = msgspec.json.decode(data, type=dict[str, Any]).get("format_version")
    check_format(str(path), cast("int", version), BUNDLE_FORMAT)
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.ValidationError as error:
        raise Corrupt(f"{path} is not a manifest: {error}", remedy=REMEDY) from error
    if manifest.version != path.parent.name:
        raise Corrupt(f"{path} belongs to bundle {manifest.version}: the folder was renamed", remedy=REMEDY)
    return manifest


REMEDY = "Serve another bundle, and train again or restore this one from a copy; never mend it by hand."


def read_manifest(bundle: Path) -> Manifest:
    """The manifest of the bundle in that folder, checked; its files are not looked at.

    Raises:
        Corrupt: it is missing, or not what was written.
        FormatTooNew: a newer matinee wrote it.
    """
    path = bundle.absolute() / MANIFEST
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Corrupt(f"{path} is missing", remedy=REMEDY) from error
    return decode_manifest(data, path)


def list_bundles(bundles: Path) -> list[Manifest]:
    """The manifests of all bundles in a folder, oldest first. Those that cannot be read are logged and left out."""
    found: list[Manifest] = []
    for version in list_versions(bundles):
        try:
            found.append(read_manifest(bundles / version))
        except (Corrupt, FormatTooNew) as error:
            _log.warning("bundle_unreadable", bundle=version, error=str(error))
    return found


def successor(bundles: Path, version: str) -> str:
    """The bundle that stands for `version` today: itself, or the one that took its place when a user was erased."""
    if (bundles / version).is_dir():
        return version
    return next((found.version for found in list_bundles(bundles) if version in found.predecessors), version)


def list_versions(bundles: Path) -> list[str]:
    """The names of all bundles in a folder, oldest first, readable or not. Half-written ones have no such name."""
    if not bundles.is_dir():
        return []
    return sorted(entry.name for entry in bundles.iterdir() if VERSION_PATTERN.fullmatch(entry.name))


def _around_checksum(text: bytes) -> tuple[bytes, bytes]:
    matches = list(_CHECKSUM.finditer(text))
    if not matches:
        raise ValueError("no checksum")
    last = matches[-1]
    return text[: last.start(1)], text[last.end(1) :]


def _digest(head: bytes, tail: bytes) -> bytes:
    return hashlib.sha256(head + tail).hexdigest().encode()


def _formatted(manifest: Manifest) -> bytes:
    # The checksum is the last field of the class, so that no other field can stand in for it.
    document = msgspec.json.encode(manifest, enc_hook=_plain, order="deterministic")
    return msgspec.json.format(document, indent=2) + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"a manifest holds JSON values; {type(value).__name__} is none")
