"""Whose records are dropped: what users did who asked to be erased."""

import re
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from matinee.core.erasures import Erasures, read_erasures
from matinee.core.followed import Followed
from matinee.events.schema import Outcome

_WORDS = re.compile(rb"[^\s,/\\%?\"]+"), re.compile(rb"[^\s,/\\%?\"=:;&|<>{}()'\[\]]+")
"""What could be an id in a record that could not be read: between characters that none contains, and, since JSON
and the like put signs before an id that it could contain, between those too."""


class Tombstones:
    """Follows the file of erasures. Belongs to one thread.

    Args:
        path: the file; there need not be one.
    """

    def __init__(self, path: Path) -> None:
        self._file = Followed(path)
        self._known = Erasures.nobody()

    def current(self) -> Erasures:
        """Who is erased, as the file says now.

        Raises:
            Corrupt: it is not what was written; whom to drop cannot be told.
            FormatTooNew: a newer matinee wrote it.
        """
        if self._file.has_changed():
            try:
                self._known = read_erasures(self._file.path)
            except BaseException:
                self._file.forget()
                raise
        return self._known


def named_in(frame: pl.DataFrame, erased: Erasures) -> NDArray[np.bool_]:
    """bool, shape (n,): which rows of `READ_SCHEMA` are an erased user's, or were not understood and name one."""
    users = frame["user"].unique().drop_nulls()
    gone = pl.Series([user for user in users if user in erased], dtype=pl.String)
    named = frame["user"].is_in(gone.implode()).fill_null(value=False).to_numpy().copy()
    unread = (frame["outcome"].cast(pl.String) == Outcome.QUARANTINED.value).fill_null(value=False).to_numpy()
    for row in np.flatnonzero(unread & ~named).tolist():
        named[row] = is_named(frame["raw"][row], erased)
    return named


def is_named(raw: bytes | None, erased: Erasures) -> bool:
    """Whether bytes that could not be read contain an erased user's id as a word.

    A number that is an id, and stands there for something else, counts too: rather too much is dropped than too
    little of what nobody could read.
    """
    words = {word for pattern in _WORDS for word in pattern.findall(raw or b"")}
    return any(word.decode("utf-8", "surrogateescape") in erased for word in words)
