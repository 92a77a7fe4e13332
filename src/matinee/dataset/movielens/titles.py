"""Titles as MovieLens writes them, as people do, and as ids of the scenario's stream."""

import re
import unicodedata
from itertools import count

import polars as pl

from matinee.core.ids import MAX_ID_LENGTH

_YEAR = re.compile(r"\((\d{4})(?:[-–]\d{0,4})?\)\s*(?:\(V\))?\s*$")
_MOVED_ARTICLE = re.compile(
    r"^(?P<rest>.+), (?P<article>The|An?|L[eao]s?|L'|Un[ae]?|Il|I|Gli|El|D(?:er|ie|as|en|et))(?P<other> \(.*)?$"
)
_OTHER_TITLE = re.compile(r"(?<=\S)\s+\(.*$")
_LETTER = re.compile(r"[a-z0-9*]")
_NOT_IN_AN_ID = re.compile(r"[^a-z0-9 ._*-]")


def split_title(text: str) -> tuple[str, int | None]:
    """The title as people write it and the year, of a title as MovieLens writes it.

    >>> split_title("Wings of the Dove, The (1997)")
    ('The Wings of the Dove', 1997)
    """
    year = _YEAR.search(text)
    title = (text[: year.start()] if year else text).strip()
    return restore_article(title), int(year[1]) if year else None


def restore_article(title: str) -> str:
    """Put an article that was moved behind its title back in front.

    >>> restore_article("Enfer, L'")
    "L'Enfer"
    """
    moved = _MOVED_ARTICLE.match(title)
    if moved is None:
        return title
    article = moved["article"]
    space = "" if article.endswith("'") else " "
    return f"{article}{space}{moved['rest']}{moved['other'] or ''}"


def scenario_id(title: str, year: int | None) -> str:
    """The movie id that the scenario's stream would use for a title.

    Lower case; a comma becomes `_`; everything but a to z, digits, space, `.`, `-`, `*` and `_` is dropped,
    letters with accents too; every space becomes `+`; then `+` and the year, where it is known. Another title
    in brackets behind the first is left out. So "Amélie", 2001 is `amlie+2001`, "M*A*S*H", 1970 is
    `m*a*s*h+1970` and "Harold & Maude" without a year is `harold++maude+`. Where nothing is left, it is `untitled`.

    Not one to one: `scenario_ids` settles a whole catalogue.
    """
    text = unicodedata.normalize("NFC", _OTHER_TITLE.sub("", title.strip())).lower()
    words = _NOT_IN_AN_ID.sub("", text.replace(",", "_")).replace(" ", "+")
    if not words or (year is None and not _LETTER.search(words)):
        words = "untitled"  # nothing of another script is left, and a sign alone is no id in the stream
    ending = f"+{year}" if year is not None else "+"
    return words[: MAX_ID_LENGTH - len(ending) - 8] + ending


def scenario_ids(items: pl.DataFrame) -> dict[str, str]:
    """For each `item` of a catalogue, the movie id made of its `title` and `year`; no two are the same.

    Where several titles would have the same id, the first in the catalogue's order keeps it, and the others
    get `_2`, `_3`, … behind the title, which the stream's grammar allows. A title can have such an id by itself
    only with a comma directly before its last digit; then the number is counted on.
    """
    taken: set[str] = set()
    ids = {}
    for item, title, year in items.select("item", "title", "year").iter_rows():
        plain = scenario_id(title or "", year)
        words, plus, ending = plain.rpartition("+")
        numbered = (f"{words}_{number}{plus}{ending}" for number in count(2))
        ids[item] = plain if plain not in taken else next(other for other in numbered if other not in taken)
        taken.add(ids[item])
    return ids
