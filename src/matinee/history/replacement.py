"""A fresh history built beside the one in use, and put in its place when it is whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matinee.core.errors import ConfigurationError
from matinee.core.files import fsync_folder
from matinee.history.base import History
from matinee.history.lmdb import LmdbHistory

_LMDB = "lmdb:///"


@contextmanager
def replacement(url: str) -> Iterator[History]:
    """An empty history that takes the place of the one at `url` when the block ends without an error.

    Readers go on with the old one until then, and with the new one from their next `get`. Within the moment of
    the change a `get` may raise `StoreUnavailable`; the next one goes through.

    Args:
        url: of the history to replace, `lmdb:///PATH`; there need not be one.

    Raises:
        Locked: another process writes to the old one.
        ConfigurationError: no back end has the URL's form.
    """
    if not url.startswith(_LMDB) or len(url) == len(_LMDB):
        raise ConfigurationError(f"{url!r} is not the URL of a history store", remedy="Known forms: lmdb:///PATH.")
    path = Path(url.removeprefix(_LMDB))
    beside = path.with_name(path.name + ".rebuild")
    with LmdbHistory(path):  # holds the writers' lock until the change is over
        shutil.rmtree(beside, ignore_errors=True)
        try:
            with LmdbHistory(beside) as fresh:
                yield fresh
            _swap(beside, path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _swap(beside: Path, path: Path) -> None:
    """Move the fresh data in.

    The old data goes first and its table of readers with it: a reader that opened the new data with the old
    table would look for the old store's transactions in it.
    """
    old = path / "data.mdb"
    gone = path / "data.mdb.replaced"
    old.replace(gone)
    (path / "lock.mdb").unlink(missing_ok=True)
    (beside / "data.mdb").replace(old)
    fsync_folder(path)
    gone.unlink()
