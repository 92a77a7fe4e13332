"""Reading a request for recommendations, and giving it an id. Refusals are plain sentences."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import msgspec

from matinee.core.errors import InvalidInput
from matinee.core.ids import user_id

if TYPE_CHECKING:
    from matinee.serving.filters import Filter

PREFIX = "/recommend/"
DEFAULT_N = 20
MAX_N = 100
_draw_bits = random.Random().getrandbits  # noqa: S311 - unlike the system's bits, these cost no call of it
MAX_QUERY = 256
"""Bytes of `/recommend/`'s query string; its one parameter takes five."""


class Question(msgspec.Struct, frozen=True, gc=False):
    """Who asks, for what."""

    user: str | None
    """The user's id; nothing for an anonymous session."""
    n: int = DEFAULT_N
    """Items wanted, 1 to 100."""
    session: tuple[str, ...] = ()
    """Ids of recent items, newest first: all that is known of an anonymous session, or more about a user."""
    exclude: tuple[str, ...] = ()
    """Ids of items that are not to be shown. What the bundle does not know is passed over."""
    include_seen: bool = False
    """Whether items may be shown that the user has seen."""
    where: Filter | None = None
    """What an item must be like."""
    diversity: float | None = None
    """0 (none) to 1; nothing for the setting `serving.diversity`."""
    explain: bool = False
    """Whether each item is to come with the liked items that speak for it."""


def read_question(path: str, query: bytes) -> Question:
    """The question in a path (percent-encoding already undone) and a raw query string.

    Raises:
        InvalidInput: the user's id cannot be one, `n` is no number from 1 to 100, or there is another parameter.
    """
    user = user_id(path.removeprefix(PREFIX))
    return Question(user, _read_n(query) if query else DEFAULT_N)


def has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request announces a body."""
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return True
    return False


def _read_n(query: bytes) -> int:
    if len(query) > MAX_QUERY:
        raise InvalidInput(f"the query string has {len(query)} bytes; at most {MAX_QUERY} are read", remedy=_REMEDY)
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=8)
    except ValueError as error:
        raise InvalidInput("the query string cannot be read", remedy=_REMEDY) from error
    unknown = sorted({name for name, _ in pairs if name != "n"})
    if unknown:
        raise InvalidInput(f"unknown parameter {unknown[0][:40]!r}", remedy=_REMEDY)
    values = [value for _, value in pairs]
    if len(values) != 1:
        raise InvalidInput("n is given more than once", remedy=_REMEDY)
    text = values[0]
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_N):
        raise InvalidInput(f"n is {text[:40]!r}", remedy=_REMEDY)
    return int(text)


_REMEDY = f"The only parameter is n, a whole number from 1 to {MAX_N}; without it, {DEFAULT_N} items come."


def new_request_id(now_us: int) -> str:
    """32 hexadecimal digits: 12 of Unix time in milliseconds, 20 random. They sort by time, and are no secret."""
    return f"{now_us // 1_000 & 0xFFFF_FFFF_FFFF:012x}{_draw_bits(80):020x}"
