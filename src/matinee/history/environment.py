"""One LMDB environment, looked after: opened, grown, opened again when replaced, and set aside when damaged.

Writing does not wait for the disk (`sync=False`): a process that is killed loses nothing, but a power cut between
two calls of `sync` may leave pages that do not fit together. So the first write after a `sync` leaves the
machine's boot id in the file `unsynced`, and `sync` removes it. Where it names an earlier boot, the store cannot be
trusted: readers refuse it, and the next writer sets it aside and starts empty, to be filled from the lake.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import structlog

from matinee.core.errors import (
    ConfigurationError,
    Corrupt,
    InvalidInput,
    Locked,
    MatineeError,
    OutOfRoom,
    StoreUnavailable,
)
from matinee.core.files import check_format, fsync_file, fsync_folder, write_atomically
from matinee.core.mapped import MappedFile, readers_bytes, reserve
from matinee.history.moving import copy_without, swap
from matinee.history.writer_lock import WriterLock

STORE_FORMAT = 1
MAP_BYTES = 4 << 30
"""Address space to begin with, doubled when full; the file itself grows as it is filled."""

_MAX_READERS = 1_024
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
UNSYNCED = "unsynced"
"""A file beside the data while some of it may not be on the disk: it says since which start of the machine."""
_SCARCE_BYTES = 64 << 10
"""A disk with less is full: LMDB tells a write that was cut short as an input/output error."""
_FULL = ("No space left", "File too large", "Disk quota")
_Result = TypeVar("_Result")

log = structlog.stdlib.get_logger(__name__)


class Environment:
    """The databases `users` and `meta` of the LMDB environment in a folder.

    Several threads may read and one may write at the same time; several processes may read, and one may write, or
    several that share it, in turn.

    Args:
        path: the folder; a writer makes it when missing.
        read_only: for servers; to be opened after the process has started, never across a fork.
        shared: for a writer: whether other processes may write too, those that share it likewise.
        follow: whether each read of a reader first looks for a store that took this one's place, and opens it. That
            is a call of the system each time; who reads a lot asks `is_replaced` now and then instead.
        map_bytes: address space to begin with.

    Raises:
        StoreUnavailable: read-only, and there is no store yet, or none that can be trusted.
        Locked: another process writes to it, and one of the two does not share it.
        OutOfRoom: the disk has no room for its table of readers, or for a new store.
        FormatTooNew: a newer matinee wrote it.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool,
        shared: bool = False,
        follow: bool = True,
        map_bytes: int = MAP_BYTES,
    ) -> None:
        self.path = path
        self._follows = read_only and follow
        self._data_name = str(path / "data.mdb")  # a text: making a path takes longer than asking for the file
        self._read_only = read_only
        self._map_bytes = map_bytes
        self._reading = threading.Lock()  # held while any transaction but the writer's is open, and to resize
        self._writing = threading.Lock()
        self._lock: WriterLock | None = None
        if not read_only:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = WriterLock(path, shared=shared)
        try:
            self._open()
            if shared and self._lock is not None:
                self._lock.share()
        except BaseException:
            self._let_go()
            raise

    def read(self, body: Callable[[Any], _Result]) -> _Result:
        """Run `body` in a read transaction; it must be short, and see `users` and `meta` of this object."""
        with self._reading:
            if self._follows and self.is_replaced():
                self._open_again()
            if not self._mapped.is_whole():
                self._refuse_cut_short()
            while True:
                try:
                    with self._env.begin() as transaction:
                        return body(transaction)
                except lmdb.MapResizedError:
                    self._env.set_mapsize(0)  # another process has grown it: take over its size
                except lmdb.Error as error:
                    raise self._explain(error) from error

    def write(self, body: Callable[[Any], _Result]) -> _Result:
        """Run `body` in a write transaction; again from the start when the map had to grow.

        Raises:
            Locked: another process has been in the midst of a write for long; see `WriterLock.turn`.
            StoreUnavailable, OutOfRoom: LMDB failed; nothing was written.
        """
        if self._read_only:
            raise ConfigurationError(f"history {self.path} is opened read-only and cannot be written")
        with self._writing:
            if not self._mapped.is_whole():
                self._refuse_cut_short()
            try:
                return self._try_write(body)
            except lmdb.Error as error:
                raise self._explain(error) from error
            finally:
                self._mapped.is_whole()  # it may have grown

    def _try_write(self, body: Callable[[Any], _Result]) -> _Result:
        while True:
            try:
                with self._turn() as transaction:
                    self._mark()
                    return body(transaction)
            except lmdb.MapFullError:
                self._grow()

    @contextmanager
    def _turn(self) -> Iterator[Any]:
        """A write transaction: no other is open meanwhile, in any process."""
        with self._writers_turn(), self._begin() as transaction:
            yield transaction

    def _begin(self) -> Any:
        while True:
            try:
                transaction = self._env.begin(write=True)
            except lmdb.MapResizedError:
                with self._reading:
                    self._env.set_mapsize(0)  # another process has grown it: take over its size
                continue
            if not self.is_replaced():
                return transaction
            transaction.abort()
            with self._reading:
                self._open_again()

    def _writers_turn(self) -> AbstractContextManager[None]:
        return nullcontext() if self._lock is None else self._lock.turn()

    def rewrite(self, keep: Callable[[bytes], bool]) -> int:
        """Put a fresh store, of the users to keep, in this one's place; returns how many were left out.

        LMDB leaves the bytes of what is deleted where they stood; so they go with the file. Nobody writes then;
        other writers and readers go over to the fresh store with their next transaction. Where nobody is to be left
        out, nothing is done, but for deleting what an earlier change of stores left behind.
        """
        with self._writing, self._writers_turn():
            try:
                for left in (*self.path.glob("data.mdb.*"), self._data.with_suffix(".set-aside")):
                    left.unlink(missing_ok=True)
                with self._turn() as transaction:
                    size = self._env.info()["map_size"]
                    n_out = copy_without(transaction, self.users, self.meta, keep, self._beside, map_bytes=size)
                    if n_out:
                        swap(self._beside, self.path)
            except (lmdb.Error, OSError) as error:
                raise self._explain(error) from error
            finally:
                shutil.rmtree(self._beside, ignore_errors=True)
            if n_out:
                with self._reading:
                    self._open_again()
        return n_out

    def copy(self, target: Path) -> None:
        """Write what the store holds at one moment into a fresh folder, on the disk; others may write meanwhile.

        Raises:
            lmdb.Error, OSError: it cannot be written there: it is the target of which these tell.
        """
        target.mkdir(parents=True)
        with self._reading:
            self._env.copy(str(target), compact=True)
        fsync_file(target / self._data.name)

    def is_replaced(self) -> bool:
        """Whether another store stands where this one was opened."""
        self._mapped.is_whole()  # it may have grown
        return _inode(self._data_name) != self.file

    def sync(self) -> None:
        """Bring everything written so far to the disk; forget readers that died without saying so."""
        with self._writing:
            try:
                with self._turn():  # what another process writes next finds no marker, and leaves one
                    self._env.sync(True)
                    self._marker.unlink(missing_ok=True)
                self._env.reader_check()
            except lmdb.Error as error:
                raise self._explain(error) from error
            fsync_folder(self.path)

    def close(self) -> None:
        """Close it, synced, unless another process is in the midst of a write for long: its sync does it too.

        Safe to call twice.
        """
        if self._lock is not None:
            try:
                self.sync()
            except Locked as error:
                log.warning("history not synced", path=str(self.path), error=str(error), remedy=error.remedy)
        with self._writing, self._reading:
            self._env.close()
            self._mapped.close()
        self._let_go()

    def _open(self) -> None:
        if _damaged(self._marker):
            if self._read_only:
                raise StoreUnavailable(
                    f"history {self.path} was being written when the machine stopped",
                    remedy="Start `matinee ingest`: it sets the store aside and fills a new one.",
                )
            self._set_aside("the machine stopped while it was being written")
        try:
            self._open_environment()
        except (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError) as error:
            if self._read_only:
                raise self._explain(error) from error
            self._set_aside(str(error))
            self._open_environment()

    def _open_environment(self) -> None:
        """Open what stands there; a writer in its turn, so that it makes no store while another is moved in."""
        try:
            with self._writers_turn():
                while not self._opened_one_store():
                    self._env.close()
                    self._mapped.close()
        except (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError):
            raise
        except (lmdb.Error, OSError) as error:
            raise self._explain(error) from error

    def _opened_one_store(self) -> bool:
        """Whether data and table of readers are those of one store: another may take its place meanwhile."""
        before = _inode(self._data_name)
        if not self._read_only or before:  # a reader makes it too, where it is missing
            reserve(self.path / "lock.mdb", readers_bytes(_MAX_READERS))  # LMDB writes it as memory
        self._env = lmdb.open(
            str(self.path), map_size=self._map_bytes, max_dbs=2, max_readers=_MAX_READERS, max_spare_txns=8,
            readonly=self._read_only, create=not self._read_only, sync=False,
        )  # fmt: skip
        try:
            self._require_whole()
            self._open_databases()
        except BaseException:
            self._env.close()
            raise
        return before == self.file or (before is None and not self._read_only)

    def _require_whole(self) -> None:
        """Raise where the file is shorter than its pages: touching one that is missing would end the process."""
        pages = int(self._env.info()["last_pgno"]) + 1
        if self._data.stat().st_size < pages * int(self._env.stat()["psize"]):
            raise lmdb.CorruptedError("it is shorter than what was written")

    def _refuse_cut_short(self) -> None:
        """Raise: touching a page that is no longer there would end the process. What is closed says so itself."""
        if not self._mapped.is_closed:
            raise self._explain(lmdb.CorruptedError("it was cut short while it was open"))

    def _open_databases(self) -> None:
        create = not self._read_only
        self._env.reader_check()
        self.meta = self._env.open_db(b"meta", create=create)
        self.users = self._env.open_db(b"users", create=create)
        with self._env.begin(write=create) as transaction:
            found = transaction.get(b"format", db=self.meta)
            if found is None and create:
                transaction.put(b"format", b"%d" % STORE_FORMAT, db=self.meta)
        if found is not None:
            check_format(f"history {self.path}", int(found), STORE_FORMAT)
        self.file = _inode(self._data_name)
        """Device and inode of the file that is open."""
        self._mapped = MappedFile(self._data)

    def _open_again(self) -> None:
        self._env.close()
        self._mapped.close()
        self.file = None  # should opening fail, the next call tries again
        self._open()

    def _grow(self) -> None:
        with self._reading:
            size = 2 * self._env.info()["map_size"]
            log.info("history map grown", path=str(self.path), bytes=size)
            self._env.set_mapsize(size)

    def _mark(self) -> None:
        if not self._marker.exists():
            try:
                write_atomically(self._marker, _boot_id())
            except OSError as error:
                raise self._explain(error) from error

    def _set_aside(self, why: str) -> None:
        if self._lock is None or not self._lock.alone:
            raise Locked(
                f"history {self.path} is to be set aside ({why}), but other processes write to it",
                remedy="Stop every `matinee ingest` of this home, then start them again.",
            )
        log.warning("history set aside; it starts empty and is filled from the lake", path=str(self.path), why=why)
        if self._data.exists():
            self._data.replace(self._data.with_suffix(".set-aside"))
        (self.path / "lock.mdb").unlink(missing_ok=True)
        self._marker.unlink(missing_ok=True)
        fsync_folder(self.path)

    def _explain(self, error: lmdb.Error | OSError) -> MatineeError:
        text = f"history {self.path}: {error}"
        cut_short = "Input/output error" in str(error) and shutil.disk_usage(self.path).free < _SCARCE_BYTES
        if cut_short or any(sign in str(error) for sign in _FULL):
            return OutOfRoom(text, remedy="Make room on the disk of the data folder.")
        if isinstance(error, lmdb.BadValsizeError):
            return InvalidInput(text, remedy="A user id has 1 to 200 characters.")
        if isinstance(error, (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError)):
            return Corrupt(text, remedy="Run `matinee history rebuild`.")
        if "already open in this process" in str(error):
            return ConfigurationError(text, remedy="Share the one object between threads, or use another process.")
        return StoreUnavailable(
            text, remedy="Where there is none yet: start `matinee ingest`, which makes and fills it."
        )

    @property
    def _data(self) -> Path:
        return Path(self._data_name)

    @property
    def _marker(self) -> Path:
        return self.path / UNSYNCED

    @property
    def _beside(self) -> Path:
        return self.path.with_name(self.path.name + ".rewrite")

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _inode(name: str) -> tuple[int, int] | None:
    try:
        status = os.stat(name)  # noqa: PTH116 - see where the name is made
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _boot_id() -> bytes:
    try:
        return _BOOT_ID.read_bytes().strip()
    except OSError:
        return b""  # not Linux: a power cut is then not noticed


def _damaged(marker: Path) -> bool:
    try:
        return marker.read_bytes().strip() != _boot_id()
    except FileNotFoundError:
        return False
