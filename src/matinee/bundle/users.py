"""The LMDB of users: id → segment, age, best items with their scores, and everything seen.

A value is little endian: segment int16, age int16, number of best items n uint16, two bytes of nothing (so that
the scores are aligned), n scores float32, n item indices, and the indices of the items seen to the end of the
value. In format 1 there was neither an age nor the two bytes. Indices are uint16 where the catalogue allows (27,000
movies do), else int32: that halves the file, and so the memory that it takes when it is mapped.
"""

import struct
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import lmdb
import msgspec
import numpy as np
from numpy.typing import NDArray

from matinee.bundle.contents import UNKNOWN_AGE, UserBlock
from matinee.core.errors import Corrupt, InvalidInput, StoreUnavailable
from matinee.core.ids import user_id
from matinee.core.mapped import MappedFile

USERS = "users.lmdb"
_HEAD = struct.Struct("<hhHxx")
_HEAD_BYTES = _HEAD.size
_HEAD_1 = struct.Struct("<hH")
_SCORE = np.dtype("<f4")
_MAX_KEY = 511
_USERS_A_TRANSACTION = 20_000
_FIRST_MAP_BYTES = 1 << 26
_PROBE_BYTES = 1 << 20
"""More than LMDB writes at once."""


class UserEntry(msgspec.Struct, frozen=True, gc=False):
    """What a bundle knows of a user. The arrays are read-only or the caller's own."""

    top: NDArray[np.int32]
    """Item indices, best first."""
    scores: NDArray[np.float32]
    """Aligned with `top`."""
    seen: NDArray[np.int32]
    """Indices of every item the user has seen."""
    segment: int
    """-1 where the user is in none."""
    age: int = UNKNOWN_AGE
    """Years; -1 where it is not known."""


def index_type(n_items: int) -> str:
    """The smallest dtype that holds every index of the catalogue, as NumPy writes it."""
    return "<u2" if n_items <= 1 << 16 else "<i4"


def pack_users(block: UserBlock, dtype: str) -> Iterator[tuple[bytes, bytes]]:
    """Each user of a block as key and value."""
    lengths = (block.top >= 0).cumprod(axis=1).sum(axis=1).tolist()
    scores, top = block.scores.astype(_SCORE).tobytes(), block.top.astype(dtype).tobytes()
    seen, size = block.seen_indices.astype(dtype).tobytes(), np.dtype(dtype).itemsize
    seen_at = (block.seen_indptr * size).tolist()
    width = block.top.shape[1]
    segments, ages = block.segments.tolist(), block.known_ages().tolist()
    for row, (user, n, segment, age) in enumerate(zip(block.ids, lengths, segments, ages, strict=True)):
        first = row * width
        value = (
            _HEAD.pack(segment, age, n)
            + scores[4 * first : 4 * (first + n)]
            + top[size * first : size * (first + n)]
            + seen[seen_at[row] : seen_at[row + 1]]
        )
        yield user_id(user).encode(), value


def unpack_user(value: bytes, dtype: np.dtype[Any]) -> UserEntry:
    """The entry that `pack_users` made the value of."""
    segment, age, n = _HEAD.unpack_from(value)
    indices = np.frombuffer(value, dtype, -1, _HEAD_BYTES + 4 * n).astype(np.int32)
    return UserEntry(indices[:n], np.frombuffer(value, _SCORE, n, _HEAD_BYTES), indices[n:], segment, age)


def unpack_user_1(value: bytes, dtype: np.dtype[Any]) -> UserEntry:
    """The same where the bundle is of format 1."""
    segment, n = _HEAD_1.unpack_from(value)
    indices = np.frombuffer(value, dtype, offset=_HEAD_1.size + 4 * n).astype(np.int32)
    return UserEntry(indices[:n], np.frombuffer(value, _SCORE, n, _HEAD_1.size), indices[n:], segment)


def write_users(path: Path, blocks: Iterable[UserBlock], *, n_items: int, n_segments: int) -> int:
    """Write the LMDB file of users, as small as it can be, and return how many there are.

    The file is not yet forced to the disk.

    Raises:
        InvalidInput: a block does not fit the catalogue, or a user stands there twice.
        OSError: the disk is full.
    """
    count, last = 0, b""
    with _new(path) as env:
        for block in blocks:
            block.check(n_items, n_segments)
            pairs = sorted(pack_users(block, index_type(n_items)))
            for start in range(0, len(pairs), _USERS_A_TRANSACTION):
                part = pairs[start : start + _USERS_A_TRANSACTION]
                _put(env, part, append=part[0][0] > last)
                last = max(last, part[-1][0])
                count += len(part)
    return count


def copy_users(source: "Users", path: Path, left_out: Container[str]) -> int:
    """Write the LMDB file again without some users, and return how many there are.

    A file of its own: LMDB leaves the bytes of what is deleted in place where they stood. Otherwise as
    `write_users`; each value is the same, byte for byte.
    """
    count = 0
    with _new(path) as env:
        for pairs in source.pairs(_USERS_A_TRANSACTION):
            kept = [pair for pair in pairs if pair[0].decode() not in left_out]
            if kept:
                _put(env, kept, append=True)
            count += len(kept)
    return count


@contextmanager
def _new(path: Path) -> Iterator[lmdb.Environment]:
    """A file to fill, without durability until it is forced to the disk."""
    env = lmdb.open(
        str(path), subdir=False, lock=False, sync=False, metasync=False, map_size=_FIRST_MAP_BYTES, max_dbs=0
    )
    try:
        yield env
    except lmdb.Error:
        _probe_room(path.parent)
        raise
    finally:
        env.close()


def _probe_room(folder: Path) -> None:
    """Raise the OSError of a full disk: LMDB calls a write that stopped half-way an input/output error."""
    (folder / "probe").write_bytes(bytes(_PROBE_BYTES))


def _put(env: lmdb.Environment, pairs: list[tuple[bytes, bytes]], *, append: bool) -> None:
    repeated = next((a for (a, _), (b, _) in pairwise(pairs) if a == b), None)
    if repeated is None:
        while True:
            try:
                with env.begin(write=True) as transaction, transaction.cursor() as cursor:
                    _, added = cursor.putmulti(pairs, overwrite=False, append=append)
                break
            except lmdb.MapFullError:
                env.set_mapsize(2 * env.info()["map_size"])
        if added == len(pairs):
            return
    who = "" if repeated is None else f": {repeated.decode()}"
    raise InvalidInput(f"a user stands in the bundle's blocks twice{who}")


class _Environment:
    """One LMDB environment, shared by all who have the same file open: LMDB opens a file once per process."""

    _open: ClassVar[dict[tuple[int, int], "_Environment"]] = {}
    _guard: ClassVar[Lock] = Lock()

    def __init__(self, key: tuple[int, int], env: lmdb.Environment) -> None:
        self._key = key
        self._holders = 0
        self.env = env

    @classmethod
    def hold(cls, path: Path) -> "_Environment":
        """The environment of a file, opened for the first to hold it."""
        found = path.stat()
        key = (found.st_dev, found.st_ino)
        with cls._guard:
            shared = cls._open.get(key)
            if shared is None:
                env = lmdb.open(
                    str(path), subdir=False, readonly=True, lock=False, readahead=False, create=False,
                    map_size=found.st_size, max_dbs=0,
                )  # fmt: skip
                shared = cls._open[key] = cls(key, env)
            shared._holders += 1
            return shared

    def release(self) -> None:
        """Unmap the file if nobody else holds it."""
        with self._guard:
            self._holders -= 1
            if self._holders == 0:
                del self._open[self._key]
                self.env.close()


class Users:
    """The users of an open bundle. Safe to use from several threads.

    The file never changes, so one read transaction serves for good. A lock keeps a look-up and `close` apart: a
    look-up after it raises, and none is ever under way in memory that is no longer mapped.

    Args:
        path: a file that was verified.
        dtype: how it stores indices.
        format_version: of the bundle.

    Raises:
        Corrupt: it is not an LMDB file.
    """

    def __init__(self, path: Path, dtype: str, format_version: int) -> None:
        self._dtype = np.dtype(dtype)
        self._unpack = unpack_user if format_version > 1 else unpack_user_1
        self._lock = Lock()
        try:
            self._environment = _Environment.hold(path)
        except lmdb.Error as error:
            raise Corrupt(f"{path} cannot be opened: {error}") from error
        self._read = self._environment.env.begin()
        self._path = path
        self._file = MappedFile(path)
        self._closed = False

    def get(self, user: str) -> UserEntry | None:
        """The user's entry, or nothing for a stranger.

        Raises:
            StoreUnavailable: it is closed.
            Corrupt: the file was cut short.
        """
        key = user.encode("utf-8", "surrogatepass")
        if not 0 < len(key) <= _MAX_KEY:
            return None
        with self._lock:
            if not self._file.is_whole():
                self._require_readable()
            value = self._read.get(key)
        return None if value is None else self._unpack(value, self._dtype)

    def ids(self, after: str = "", limit: int = 1_000) -> list[str]:
        """Up to `limit` user ids, ascending, that come after `after`."""
        with self._lock:
            self._require_readable()
            with self._read.cursor() as cursor:
                if not cursor.set_range(after.encode() + b"\0"):
                    return []
                return [key.decode() for key in islice(cursor.iternext(keys=True, values=False), limit)]

    def pairs(self, limit: int) -> Iterator[list[tuple[bytes, bytes]]]:
        """Every user as key and value, in the order of the ids, up to `limit` at a time."""
        after = b""
        while True:
            with self._lock:
                self._require_readable()
                with self._read.cursor() as cursor:
                    found = list(islice(cursor.iternext(), limit)) if cursor.set_range(after + b"\0") else []
            if not found:
                return
            yield found
            after = found[-1][0]

    def close(self) -> None:
        """Let go of the file. A second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._read.abort()
                self._environment.release()
                self._file.close()

    @property
    def is_whole(self) -> bool:
        """Whether the file is as long as it was when it was opened; never after `close`."""
        return self._file.is_whole()

    def _require_readable(self) -> None:
        if self._closed:
            raise StoreUnavailable("the bundle was closed", remedy="Ask the bundle that is served now.")
        if not self._file.is_whole():
            raise Corrupt(f"{self._path} was cut short while it was open", remedy="Publish another bundle.")
