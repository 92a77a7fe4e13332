"""Reading what an API says of an item or a user, in whatever types it comes.

Any bytes come to one of three: described, unknown, or a reason why neither can be said. A value that cannot be read
is not known; what is left is used.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Literal

Kind = Literal["item", "user"]
Row = dict[str, Any]
"""Columns of the lake's table `items` or `users`."""

OLDEST_USER = 120
"""Years; an age above it, or below 1, is not one."""
LONGEST_MINUTES = 1_440
_LONGEST_TEXT = 500
_MOST_GENRES = 50
_LARGEST = 1e15
_NULLS = {"", "null", "none", "nan", "n/a", "undefined", "(no genres listed)"}
_TRUTH = {"true": True, "false": False, "1": True, "0": False}
_INT32 = 2**31


class Reason(StrEnum):
    """Why an answer says nothing."""

    HTML = "html"
    """A page for people."""
    NOT_JSON = "not_json"
    """Broken JSON, or none."""
    NOT_AN_OBJECT = "not_an_object"
    """JSON, but no object."""
    MESSAGE = "message"
    """`{"message": …}` that does not say that the id is unknown."""
    ANOTHER_ID = "another_id"
    """It is of another item or user."""
    NOTHING = "nothing"
    """No value of it can be used."""


@dataclass(frozen=True, slots=True)
class Described:
    """What the API knows, as a row of the lake's table; values that are not known are None."""

    row: Row


@dataclass(frozen=True, slots=True)
class Unknown:
    """The API says that it does not know the id."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The API answered, and said nothing that can be used."""

    reason: Reason


Reading = Described | Unknown | Unreadable


def read_answer(kind: Kind, asked: str, body: bytes) -> Reading:
    """What an API's answer says of the id that was asked for. Never raises.

    Args:
        kind: whether it was an item or a user.
        asked: its id.
        body: the answer's bytes.
    """
    if body.lstrip()[:1] == b"<":
        return Unreadable(Reason.HTML)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return Unreadable(Reason.NOT_JSON)
    if not isinstance(document, dict):
        return Unreadable(Reason.NOT_AN_OBJECT)
    return _read_document(kind, asked, document)


def _read_document(kind: Kind, asked: str, document: Row) -> Reading:
    key = "id" if kind == "item" else "user_id"
    named = document.get(key)
    if "message" in document and named is None:
        says = str(document["message"]).lower()
        return Unknown() if "not found" in says else Unreadable(Reason.MESSAGE)
    if named is not None and str(named) != asked:
        return Unreadable(Reason.ANOTHER_ID)
    row = read_attributes(kind, document)
    if all(value is None for value in row.values()):
        return Unreadable(Reason.NOTHING)
    return Described({kind: asked, **row})


def read_attributes(kind: Kind, document: Row) -> Row:
    """What an object with the fields `FIELDS` says, as columns of the lake's table without the id."""
    return _item(document) if kind == "item" else _user(document)


def _item(document: Row) -> Row:
    released = _day(document.get("release_date"))
    minutes = _number(document.get("runtime"))
    year = _whole(document.get("year"))
    if year is None or not 1 <= year <= 9_999:
        year = released.year if released else None
    return {
        "title": _text(document.get("title")),
        "genres": _genres(document.get("genres")),
        "year": year,
        "minutes": minutes if minutes is not None and 0 < minutes <= LONGEST_MINUTES else None,
        "release_date": released,
        "extra": _extra(document, _ITEM_EXTRA),
    }


def _user(document: Row) -> Row:
    age = _whole(document.get("age"))
    return {
        "age": age if age is not None and 1 <= age <= OLDEST_USER else None,
        "occupation": _text(document.get("occupation")),
        "gender": _text(document.get("gender")),
        "extra": None,
    }


def _text(value: object) -> str | None:
    """A text without blanks around it; nothing for what stands for nothing, and for what is no text."""
    if not isinstance(value, str):
        return None
    # Half of a surrogate pair is valid in JSON, and in no stored text.
    clean = " ".join(value.encode("utf-8", "ignore").decode().replace("\0", "").split())[:_LONGEST_TEXT].rstrip()
    return None if clean.lower() in _NULLS else clean


def _number(value: object) -> float | None:
    """A finite number, be it sent as a number or as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) <= _LARGEST else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number.is_integer() and abs(number) < _INT32 else None


def _count(value: object) -> int | None:
    """A whole number of any size that a double holds exactly."""
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else None


def _truth(value: object) -> bool | None:
    return _TRUTH.get(str(value).strip().lower()) if isinstance(value, bool | int | str) else None


def _day(value: object) -> date | None:
    text = _text(value)
    try:
        return date.fromisoformat(text[:10]) if text else None
    except ValueError:
        return None


def _genres(value: object) -> list[str] | None:
    """Names, be they sent as objects, as texts, or the whole as a text of JSON or with `|` or commas between."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = str(value).split("|" if "|" in str(value) else ",")
    if not isinstance(value, list):
        return None
    names = [_text(genre.get("name") if isinstance(genre, dict) else genre) for genre in value[:_MOST_GENRES]]
    return list(dict.fromkeys(name for name in names if name)) or None


_ITEM_EXTRA: dict[str, Callable[[object], object]] = {
    "adult": _truth,
    "age_limit": _number,
    "available_from": _text,
    "available_until": _text,
    "budget": _count,
    "imdb_id": _text,
    "original_language": _text,
    "popularity": _number,
    "revenue": _count,
    "status": _text,
    "tmdb_id": _count,
    "vote_average": _number,
    "vote_count": _count,
}
"""What is kept in the column `extra`, and how it is read."""

FIELDS: Mapping[Kind, tuple[str, ...]] = {
    "item": ("title", "genres", "year", "runtime", "release_date", *_ITEM_EXTRA),
    "user": ("age", "occupation", "gender"),
}
"""What is read of an item and of a user."""


def _extra(document: Row, known: dict[str, Callable[[object], object]]) -> str | None:
    values = {name: read(document[name]) for name, read in known.items() if name in document}
    values = {name: value for name, value in values.items() if value is not None}
    return json.dumps(values, sort_keys=True, ensure_ascii=False) if values else None
