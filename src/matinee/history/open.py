"""Opening a history store by URL."""

from pathlib import Path

from matinee.core.errors import ConfigurationError
from matinee.history.base import History
from matinee.history.lmdb import LmdbHistory

_LMDB = "lmdb:///"


def open_history(url: str, read_only: bool = False) -> History:
    """The history store at `url`: `lmdb:///PATH`.

    Args:
        url: where it is. PATH begins after the third slash: `lmdb:////srv/history` is absolute, `lmdb:///history`
            is in the working folder.
        read_only: for servers, which never write.

    Raises:
        ConfigurationError: no back end has the URL's form.
        StoreUnavailable: see the back end.
    """
    if url.startswith(_LMDB) and len(url) > len(_LMDB):
        return LmdbHistory(Path(url.removeprefix(_LMDB)), read_only)
    raise ConfigurationError(f"{url!r} is not the URL of a history store", remedy="Known forms: lmdb:///PATH.")
