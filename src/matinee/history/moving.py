"""A store's data file written anew without some users, and a fresh one moved into an old one's place."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import lmdb

from matinee.core.files import fsync_folder


def copy_without(
    transaction: Any, users: Any, meta: Any, keep: Callable[[bytes], bool], beside: Path, *, map_bytes: int
) -> int:
    """Write what a transaction sees of a store into a fresh one, on the disk; returns how many users were left out.

    Where nobody is to be left out, nothing is written.

    Args:
        transaction: of the old store.
        users: its database of users.
        meta: its database of everything else.
        keep: whether the user of a key stays.
        beside: the fresh store's folder; what is there goes.
        map_bytes: the old store's address space.
    """
    with transaction.cursor(db=users) as cursor:
        n_out = sum(not keep(key) for key in cursor.iternext(values=False))
        if not n_out:
            return 0
        shutil.rmtree(beside, ignore_errors=True)
        with lmdb.open(str(beside), map_size=map_bytes, max_dbs=2, sync=False) as fresh:
            with fresh.begin(write=True) as copy:
                new_users, new_meta = (fresh.open_db(name, copy) for name in (b"users", b"meta"))
                cursor.first()
                copy.cursor(new_users).putmulti((row for row in cursor if keep(row[0])), append=True)
                copy.cursor(new_meta).putmulti(transaction.cursor(db=meta), append=True)
            fresh.sync(True)
    return n_out


def swap(beside: Path, path: Path) -> None:
    """Move the fresh data of one folder in for another's, which need not have any.

    The old data goes first and its table of readers with it: a reader that opened the new data with the old
    table would look for the old store's transactions in it.
    """
    old = path / "data.mdb"
    gone = path / "data.mdb.replaced"
    with suppress(FileNotFoundError):
        old.replace(gone)
    (path / "lock.mdb").unlink(missing_ok=True)
    (beside / "data.mdb").replace(old)
    fsync_folder(path)
    gone.unlink(missing_ok=True)
