"""Reading a request for recommendations, and giving it an id. Refusals are plain sentences."""

import os
from typing import NamedTuple
from urllib.parse import parse_qsl

from matinee.core.errors import InvalidInput
from matinee.core.ids import user_id
from matinee.serving.answer import DEFAULT_N, MAX_N

PREFIX = "/recommend/"


class Question(NamedTuple):
    """Who asks, and for how many items."""

    user: str
    n: int


def read_question(path: str, query: bytes) -> Question:
    """The question in a path (percent-encoding already undone) and a raw query string.

    Raises:
        InvalidInput: the user's id cannot be one, `n` is no number from 1 to 100, or there is another parameter.
    """
    user = user_id(path.removeprefix(PREFIX))
    return Question(user, _read_n(query) if query else DEFAULT_N)


def _read_n(query: bytes) -> int:
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
    """32 hexadecimal digits: 12 of Unix time in milliseconds, 20 random. They sort by time."""
    return f"{now_us // 1_000 & 0xFFFF_FFFF_FFFF:012x}{os.urandom(10).hex()}"
