"""Fold-ins that every process of a host shares, until the user does something else or the bundle changes.

An LMDB environment under `run/`: reading never waits for anybody. Writing waits for the writer's lock, which may
be held by a process that was stopped in the middle, so it is left to a background thread behind a bounded queue,
and what does not fit the queue is dropped: it would only be computed once more.

The key is the bundle's version, a zero byte, and the user. A value is little endian: CRC-32 of all that follows,
the history's stamp (8 bytes), number of items n uint16, n scores float32, n item indices int32. Nothing in here is
needed: whatever cannot be read is thrown away and made again.
"""

import fcntl
import os
import shutil
import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import numpy as np
from numpy.typing import NDArray

from matinee.core.erasures import Erasures
from matinee.core.errors import Corrupt, Locked, OutOfRoom
from matinee.core.logging import get_logger
from matinee.core.mapped import MappedFile, readers_bytes, reserve

FOLDER = "fold_cache-1"
"""Its name in the home's `run/`; the number is the format's."""
QUEUE = 4_096
BATCH = 256
"""Fold-ins written in one transaction."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds between tries to open or to write it where that fails; doubled after each."""

_HEAD = struct.Struct("<I8sH")
_VERSIONS = b"\0versions"
_MAX_READERS = 1_024
_log = get_logger(__name__)
_Found = tuple[NDArray[np.int32], NDArray[np.float32]]


class _Write(NamedTuple):
    version: str
    user: str
    stamp: bytes
    top: NDArray[np.int32]
    scores: NDArray[np.float32]


class FoldCache:
    """The fold-ins of a host. `get` and `put` may be called from any thread, `tend` from one.

    Args:
        run: the home's `run/`.
        megabytes: what it may take on disk. Emptied when half of that is in use: the other half is for the pages
            that LMDB keeps while they are being read.
        admit: called with the data file before and after it is opened; raises `Corrupt` where it must not be read.
    """

    def __init__(self, run: Path, megabytes: int, admit: Callable[[Path], None] = lambda _: None) -> None:
        self._admit = admit
        self._folder = run / FOLDER
        self._bytes = megabytes << 20
        self._reading = threading.Lock()  # held for microseconds to read, and to open and close
        self._env: lmdb.Environment | None = None
        self._mapped: MappedFile | None = None
        self._main: Any = None
        self._inode: tuple[int, int] | None = None
        self._broken = False
        self._pause = FIRST_PAUSE
        self._queue: deque[_Write] = deque()
        self._erased: Container[str] = ()
        self._erasures = self._erasures_met = 0  # times that a user was erased, and the last the file met
        self._versions: bytes | None = None  # of the bundles to follow, until that has been written
        self.hits = self.misses = self.written = self.dropped = 0
        self.emptied = 0
        """How often this process emptied it."""
        self.remade = 0
        """How often this process threw it away, because it could not be read or written."""

    @property
    def is_open(self) -> bool:
        """Whether fold-ins can be read."""
        return self._env is not None

    @property
    def waiting(self) -> int:
        """Fold-ins that wait to be written."""
        return len(self._queue)

    def get(self, version: str, user: str, stamp: bytes) -> _Found | None:
        """Item indices and scores, best first, of a user whose history has that stamp; or nothing.

        Raises:
            Corrupt: what is stored cannot be read; it is thrown away by the next `tend`.
        """
        with self._reading:
            if self._env is None:
                return None
            try:
                self._require_not_cut_short()
                with self._env.begin() as transaction:
                    value = transaction.get(_key(version, user))
            except lmdb.MapResizedError:
                self._close()  # another process has it larger: `tend` opens it as large as it is now
                return None
            except lmdb.Error as error:
                self._broken = True
                raise Corrupt(f"{self._folder} cannot be read: {error}", remedy="It is made again.") from error
        found = None if value is None else self._unpacked(value, stamp)
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
        return found

    def put(
        self, version: str, user: str, stamp: bytes, top: NDArray[np.int32], scores: NDArray[np.float32]
    ) -> None:
        """Keep a fold-in, some time soon. Never waits: what does not fit the queue is dropped and counted."""
        if len(self._queue) >= QUEUE:
            self.dropped += 1
        else:
            self._queue.append(_Write(version, user, stamp, top, scores))

    def follow(self, versions: set[str]) -> None:
        """Whoever first comes with other bundles than those it was filled for empties it."""
        self._versions = "\0".join(sorted(versions)).encode()

    def leave_out(self, erased: Erasures) -> None:
        """Keep nothing of these users. Where bundles may hold one, so may this: the next `tend` makes it anew.

        The whole file: LMDB leaves the bytes of what is deleted in place where they stood.
        """
        self._erased = erased
        self._erasures += bool(erased.pending("bundles"))

    def tend(self) -> float | None:
        """Open it, make it again where it is broken, and write what waits. Off the event loop: this may wait.

        Returns:
            Seconds to leave it alone for, because it failed.
        """
        try:
            must_go = self._broken or self._erasures != self._erasures_met
            if self._env is not None and (must_go or _inode(self._folder) != self._inode):
                self.close()
            if self._env is not None or self._opened():
                self._drain()
                self._require_not_cut_short()  # and take note of how it has grown
        except (lmdb.Error, OSError, OutOfRoom) as error:
            pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
            _log.warning("fold_cache_unavailable", error=str(error), retry_seconds=pause)
            return pause
        self._pause = FIRST_PAUSE
        return None

    def close(self) -> None:
        """Let go of it. Not while `tend` is under way in another thread."""
        with self._reading:
            self._close()

    def _unpacked(self, value: bytes, stamp: bytes) -> _Found | None:
        """Nothing where the user did something since."""
        if len(value) >= _HEAD.size:
            checksum, written_for, n = _HEAD.unpack_from(value)
            if len(value) == _HEAD.size + 8 * n and checksum == zlib.crc32(value[4:]):
                if written_for != stamp:
                    return None
                scores = np.frombuffer(value, "<f4", n, _HEAD.size)
                return np.frombuffer(value, "<i4", n, _HEAD.size + 4 * n), scores
        self._broken = True
        raise Corrupt(f"{self._folder} holds a value that is not what was written", remedy="It is made again.")

    def _opened(self) -> bool:
        """Open it, made again where it is broken. Not while another process is at it: the next call tries again."""
        with _sole(self._folder.with_suffix(".lock")) as sole:
            if not sole:
                return False
            erasures = self._erasures
            must_go = self._broken or erasures != self._erasures_met
            if must_go and _inode(self._folder) == self._inode:  # else somebody has made it again
                self._throw_away("it could not be read or written" if self._broken else "a user is erased")
            self._broken, self._erasures_met = False, erasures
            try:
                self._open()
            except (lmdb.Error, OSError, Corrupt) as error:  # OutOfRoom is no damage: others may read it
                self._throw_away(str(error))
                self._open()
        return True

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._admit(self._folder / "data.mdb")
        reserve(self._folder / "lock.mdb", readers_bytes(_MAX_READERS))  # LMDB writes it as memory
        env = lmdb.open(
            str(self._folder), map_size=self._bytes, max_dbs=0, max_readers=_MAX_READERS, max_spare_txns=8,
            sync=False, metasync=False, readahead=False,
        )  # fmt: skip
        try:
            self._admit(self._folder / "data.mdb")  # known by what it is, now that it is there
            _require_whole(env, self._folder)
            env.reader_check()
            main = env.open_db()
            with (
                env.begin() as transaction
            ):  # its place in the table of readers, for which it may wait, serves `get`
                transaction.get(_VERSIONS)
        except BaseException:
            env.close()
            raise
        with self._reading:
            self._env, self._main, self._inode = env, main, _inode(self._folder)
            self._mapped = MappedFile(self._folder / "data.mdb")

    def _throw_away(self, why: str) -> None:
        _log.warning("fold_cache_thrown_away", error=why)
        self.remade += 1
        _remove(self._folder)

    def _close(self) -> None:
        env, self._env = self._env, None
        if env is not None:
            env.close()
        if self._mapped is not None:
            self._mapped.close()

    def _drain(self) -> None:
        while self._env is not None and (self._queue or self._versions is not None):
            batch = list(islice(self._queue, BATCH))
            try:
                self._write(self._env, batch)
            except lmdb.MapResizedError:
                self.close()  # see `get`
                return
            except lmdb.Error:  # that the map is full too: pages that somebody still reads take another file
                self._broken = True
                raise
            for _ in batch:
                self._queue.popleft()
            self.written += len(batch)

    def _write(self, env: lmdb.Environment, batch: list[_Write]) -> None:
        self._require_not_cut_short()
        versions = self._versions
        erased = self._erased
        rows = [(_key(write.version, write.user), _packed(write)) for write in batch if write.user not in erased]
        with env.begin(write=True) as transaction:
            self._make_room(transaction, versions)
            with transaction.cursor() as cursor:
                cursor.putmulti(rows)
        if versions is self._versions:
            self._versions = None

    def _require_not_cut_short(self) -> None:
        """Raise: touching a page that is no longer there would end the process."""
        if self._mapped is not None and not self._mapped.is_whole():
            self._broken = True
            raise lmdb.CorruptedError("it was cut short while it was open")

    def _make_room(self, transaction: Any, versions: bytes | None) -> None:
        """Empty it where other bundles answer now, and where it is full."""
        held, stat = transaction.get(_VERSIONS), transaction.stat(self._main)
        if (versions is not None and held != versions) or self._is_full(stat):
            self.emptied += stat["entries"] > 1
            transaction.drop(self._main, delete=False)
            transaction.put(_VERSIONS, versions or held or b"")

    def _is_full(self, stat: dict[str, int]) -> bool:
        pages = stat["leaf_pages"] + stat["branch_pages"] + stat["overflow_pages"]
        return 2 * pages * stat["psize"] > self._bytes


def throw_away(run: Path) -> None:
    """Throw a home's fold-ins away, whoever uses them: they take up the file that is made next.

    Raises:
        Locked: a process is opening it; the same call may go through a moment later.
    """
    folder = run / FOLDER
    with _sole(folder.with_suffix(".lock")) as sole:
        if not sole:
            raise Locked(f"{folder} is being opened", remedy="Try again; end the process that holds its lock.")
        _remove(folder)
        for left in run.glob(f"{FOLDER}.gone-*"):  # by who was killed meanwhile
            shutil.rmtree(left)


def _remove(folder: Path) -> None:
    """It goes whole: data with the old table of readers would be taken for what they are not."""
    gone = folder.with_suffix(f".gone-{os.getpid()}")
    shutil.rmtree(gone, ignore_errors=True)
    if folder.exists():
        folder.replace(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _key(version: str, user: str) -> bytes:
    return f"{version}\0{user}".encode()


def _packed(write: _Write) -> bytes:
    rest = b"".join((
        write.stamp,
        len(write.top).to_bytes(2, "little"),
        write.scores.astype("<f4", copy=False).tobytes(),
        write.top.astype("<i4", copy=False).tobytes(),
    ))  # fmt: skip
    return zlib.crc32(rest).to_bytes(4, "little") + rest


def _require_whole(env: lmdb.Environment, folder: Path) -> None:
    """Raise where the file is shorter than its pages: touching those that are missing would end the process.

    LMDB may leave pages at the end unwritten that nobody refers to. So a whole file can be taken for a short one;
    this one is then only made again.
    """
    pages = int(env.info()["last_pgno"]) + 1
    if (folder / "data.mdb").stat().st_size < pages * int(env.stat()["psize"]):
        raise lmdb.CorruptedError("it is shorter than what was written")


def _inode(folder: Path) -> tuple[int, int] | None:
    try:
        status = (folder / "data.mdb").stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def _sole(path: Path) -> Iterator[bool]:
    """Whether nobody else opens or makes the cache meanwhile. Never waits: who does may have been stopped."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
