"""Opening a bundle: verified once per host; what is large is mapped into memory once for all processes.

That is the users and the item factors. Either may be cut short while it is open, and touching what is missing would
end the process: so each is asked for its length before it is read (`core/mapped.py`). What is small is read.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from matinee.bundle.attributes import ATTRIBUTE_PREFIX, ATTRIBUTES, ItemAttributes, read_attributes
from matinee.bundle.manifest import Manifest
from matinee.bundle.users import USERS, UserEntry, Users
from matinee.bundle.verify import verify_bundle
from matinee.bundle.write import (
    FOLD_IN_PREFIX,
    ITEM_MINUTES,
    ITEM_VECTORS,
    ITEMS,
    POPULAR,
    RATING_PREFIX,
    TRENDING,
)
from matinee.core.errors import Corrupt
from matinee.core.mapped import MappedFile
from matinee.events.offsets import Source
from matinee.models.fold_in import FoldIn
from matinee.models.rating_fold_in import RatingFoldIn

FACTORS = f"{FOLD_IN_PREFIX}item_factors.npy"
_READ_BYTES = 1 << 20


class Bundle:
    """An open bundle. Made by `open_bundle`; safe to use from several threads.

    Closing: who holds it swaps in the next bundle, waits until the answers begun before that are out, then
    closes. An answer later still does no harm to the process: looking up a user then raises, there is no fold-in,
    and arrays already handed out stay readable.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self.manifest = manifest
        self.version = manifest.version
        self.items: tuple[str, ...] = tuple((path / ITEMS).read_text(encoding="ascii").split("\n")[:-1])
        """Item ids by index."""
        self.item_index: Callable[[str], int | None] = {item: index for index, item in enumerate(self.items)}.get
        """The index of an item id, or nothing where the bundle does not know it."""
        self.item_minutes: NDArray[np.float32] = _read(path / ITEM_MINUTES)
        """float32, shape (n_items,)."""
        self._popular: NDArray[np.int32] = _read(path / POPULAR)
        self._trending: NDArray[np.int32] | None = _read(path / TRENDING) if TRENDING in manifest.files else None
        self._factors = MappedFile(path / FACTORS) if FACTORS in manifest.files else None
        self._fold_in: FoldIn | None = _open_fold_in(path, manifest)
        self._ratings: RatingFoldIn | None = _open_ratings(path, manifest, self._fold_in)
        self.attributes: ItemAttributes = _open_attributes(path, manifest)
        """What is known of the items; nothing where the bundle is of format 1."""
        met = self.attributes.interactions > 0
        self.is_met: NDArray[np.bool_] = met if met.any() else ~met
        """bool, shape (n_items,): the items that somebody has met; all, where the bundle keeps no counts."""
        self._ends = manifest.ends()
        self._users = Users(path / USERS, manifest.index_type, manifest.format_version)
        self.user: Callable[[str], UserEntry | None] = self._users.get
        """What the bundle knows of a user, or nothing for a stranger."""

    @property
    def fold_in(self) -> FoldIn | None:
        """What folds newcomers in, or nothing where the model cannot, or its file was cut short."""
        factors = self._factors
        return self._fold_in if factors is not None and factors.is_whole() else None

    @property
    def ratings(self) -> RatingFoldIn | None:
        """What predicts ratings, or nothing where there were none, or a file of it was cut short."""
        return self._ratings if self._factors is None or self._factors.is_whole() else None

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it was cut short since it was opened; never after `close`."""
        return self._users.is_whole and (self._factors is None or self._factors.is_whole())

    @property
    def users(self) -> Users:
        """All users, for those who walk through them."""
        return self._users

    def popular(self, segment: int | None = None) -> NDArray[np.int32]:
        """All item indices, most popular first, int32, shape (n_items,): in a segment, or overall for None.

        Overall too for -1 and for a segment that the bundle does not know: an answer is better than none.
        """
        row = 0 if segment is None or not 0 <= segment < len(self._popular) - 1 else segment + 1
        ordering: NDArray[np.int32] = self._popular[row]
        return ordering

    def trending(self) -> NDArray[np.int32]:
        """All item indices, most liked of late first, int32, shape (n_items,); `popular()` where unknown."""
        return self.popular() if self._trending is None else self._trending

    def is_newer(self, offsets: Mapping[Source, int]) -> bool:
        """Whether any of these offsets is not in the bundle's snapshot.

        Args:
            offsets: by source, the highest position of something that was done. It is newer at or beyond the
                snapshot's end of that source, and wherever the snapshot did not know the source.
        """
        ends = self._ends
        for source, position in offsets.items():  # noqa: SIM110 - with every answer; a generator costs twice as much
            if position >= ends.get(source, 0):
                return True
        return False

    def touch(self) -> int:
        """Read every page in before traffic comes, and return how many bytes that were. Blocks: use a thread."""
        total = 0
        buffer = bytearray(_READ_BYTES)
        for name in self.manifest.files:
            with (self._path / name).open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
                while read := file.readinto(buffer):
                    total += read
        fold_in = self.fold_in
        if fold_in is not None:
            int(fold_in.item_factors.view(np.uint8).reshape(-1)[:: os.sysconf("SC_PAGE_SIZE")].sum())
        return total

    def close(self) -> None:
        """Let go of the files; see the class for when. A second call does nothing."""
        self._users.close()
        if self._factors is not None:
            self._factors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_bundle(path: Path, run: Path) -> Bundle:
    """Open the bundle in folder `path`, after making sure that it is what was written.

    Args:
        path: `bundles/<version>`.
        run: the home's `run/`, where it is remembered that this host verified the bundle.

    Raises:
        Corrupt: a file is missing or not what was written; the message names it.
        FormatTooNew: a newer matinee wrote it.
    """
    manifest = verify_bundle(path, run)
    try:
        return Bundle(path.absolute(), manifest)
    except FileNotFoundError as error:
        raise Corrupt(f"{error.filename} went missing while the bundle was opened") from error


def _open_fold_in(path: Path, manifest: Manifest) -> FoldIn | None:
    arrays = _read_all(path, manifest, FOLD_IN_PREFIX)
    return FoldIn.from_arrays(arrays) if arrays else None


def _open_ratings(path: Path, manifest: Manifest, fold_in: FoldIn | None) -> RatingFoldIn | None:
    arrays = _read_all(path, manifest, RATING_PREFIX)
    if not arrays:
        return None
    return RatingFoldIn.from_arrays(arrays, arrays[ITEM_VECTORS] if fold_in is None else fold_in.item_factors)


def _open_attributes(path: Path, manifest: Manifest) -> ItemAttributes:
    if ATTRIBUTES not in manifest.files:
        return ItemAttributes.unknown(manifest.n_items)
    return read_attributes(path / ATTRIBUTES, _read_all(path, manifest, ATTRIBUTE_PREFIX))


def _read_all(path: Path, manifest: Manifest, prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose files' names begin with a prefix, by the rest of the name; the item factors mapped."""
    return {
        name.removeprefix(prefix).removesuffix(".npy"): _map(path / name) if name == FACTORS else _read(path / name)
        for name in manifest.files
        if name.startswith(prefix)
    }


def _read(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, allow_pickle=False)
    array.setflags(write=False)
    return array


def _map(path: Path) -> NDArray[Any]:
    # A plain array over the mapping: indexing np.memmap itself costs several times as much.
    array: NDArray[Any] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    return array
