"""A fresh history built beside the one in use, and put in its place when it is whole."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from matinee.core.errors import ConfigurationError
from matinee.history.base import History
from matinee.history.environment import UNSYNCED
from matinee.history.lmdb import LmdbHistory
from matinee.history.moving import swap
from matinee.history.writer_lock import WriterLock

_LMDB = "lmdb:///"


@contextmanager
def replacement(url: str) -> Iterator[History]:
    """An empty history that takes the place of the one at `url` when the block ends without an error.

    The old one is not opened: damage in it may be what this is to mend, and may end the process that reads it.

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
    path.mkdir(parents=True, exist_ok=True)
    with closing(WriterLock(path, shared=False)):
        shutil.rmtree(beside, ignore_errors=True)
        try:
            with LmdbHistory(beside) as fresh:
                yield fresh
            swap(beside, path)
            (path / UNSYNCED).unlink(missing_ok=True)  # that was the old one
        finally:
            shutil.rmtree(beside, ignore_errors=True)
