"""Opening a history store by URL."""

from pathlib import Path

from matinee.core.errors import ConfigurationError
from matinee.history.base import History
from matinee.history.lmdb import LmdbHistory

_LMDB = "lmdb:///"


def open_history(url: str, read_only: bool = False, *, shared: bool = False, follow: bool = True) -> History:
    """The history store at `url`: `lmdb:///PATH`.

    Args:
        url: where it is. PATH begins after the third slash: `lmdb:////srv/history` is absolute, `lmdb:///history`
            is in the working folder.
        read_only: for servers, which never write.
        shared: for a writer: whether other processes may write too, those that share it likewise.
        follow: whether a reader goes over by itself to a store that took this one's place; if not, it is to ask
            `is_replaced` now and then.

    Raises:
        ConfigurationError: no back end has the URL's form.
        StoreUnavailable: see the back end.
    """
    if url.startswith(_LMDB) and len(url) > len(_LMDB):
        return LmdbHistory(Path(url.removeprefix(_LMDB)), read_only, shared=shared, follow=follow)
    raise ConfigurationError(f"{url!r} is not the URL of a history store", remedy="Known forms: lmdb:///PATH.")


def data_file(url: str) -> Path | None:
    """The file that readers of the store at `url` map into memory; nothing where a back end has none."""
    return Path(url.removeprefix(_LMDB)) / "data.mdb" if url.startswith(_LMDB) else None
