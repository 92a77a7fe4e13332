"""Ids of users and items: strings with a validated form.

An id is what people and lakes speak of; an index (int32) is what models speak of. Nothing in this
module knows of indices.

The form is deliberately narrow: an answer is one comma-separated line, a user id is a segment of a URL,
and both are keys of stores with a limited key length.
"""

import re
from typing import NewType

from matinee.core.errors import InvalidId

UserId = NewType("UserId", str)
ItemId = NewType("ItemId", str)

MAX_ID_LENGTH = 200
"""Characters; every character is one byte, so that this also bounds a store's key."""

ID_PATTERN = r"[!#$&'()*+.0-9:;<=>@A-Z\[\]^_`a-z{|}~-]{1,200}"
r"""Printable ASCII without space, comma, slash, backslash, percent, question mark and double quote.

Anchored by the caller, so that the same text serves Python's `re` and Polars' Rust expressions.
"""

_ID = re.compile(ID_PATTERN)


def user_id(text: str) -> UserId:
    """Return `text` as a user id, or raise `InvalidId` saying why it cannot be one."""
    if not _ID.fullmatch(text):
        raise _refused(text, "user")
    return UserId(text)


def item_id(text: str) -> ItemId:
    """Return `text` as an item id, or raise `InvalidId` saying why it cannot be one."""
    if not _ID.fullmatch(text):
        raise _refused(text, "item")
    return ItemId(text)


def is_id(text: str) -> bool:
    """Whether `text` can be the id of a user or an item."""
    return _ID.fullmatch(text) is not None


def _refused(text: str, kind: str) -> InvalidId:
    shown = text if len(text) <= 60 else text[:57] + "..."
    if not text:
        why = "it is empty"
    elif len(text) > MAX_ID_LENGTH:
        why = f"it has {len(text)} characters, at most {MAX_ID_LENGTH} are allowed"
    else:
        bad = next(c for c in text if not _ID.fullmatch(c))
        why = f"it contains {bad!r}"
    return InvalidId(
        f"{shown!r} cannot be a {kind} id: {why}",
        remedy="Ids are 1 to 200 printable ASCII characters without spaces, commas, slashes or double quotes.",
    )
