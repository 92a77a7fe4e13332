"""What the two metadata APIs know: movies and viewers of a world, in the types in which such APIs send them."""

import json
from collections.abc import Callable
from typing import Any
from zlib import crc32

from matinee.simulation.catalogue import GENRES, Catalogue
from matinee.simulation.options import draws
from matinee.simulation.viewers import OCCUPATIONS, Viewers

Document = dict[str, Any]
_Change = Callable[[Document], None]


def _without(*names: str) -> _Change:
    def change(document: Document) -> None:
        for name in names:
            document.pop(name, None)

    return change


def _with(name: str, make: Callable[[Any], Any]) -> _Change:
    def change(document: Document) -> None:
        document[name] = make(document[name])

    return change


def _nothing(_value: Any) -> None:
    return None


ODD_MOVIES: tuple[_Change, ...] = (
    _with("runtime", str),
    _with("runtime", lambda _: 0),
    _with("runtime", _nothing),
    _with("release_date", lambda _: ""),
    _with("genres", json.dumps),
    _with("genres", lambda genres: [genre["name"] for genre in genres]),
    _with("genres", _nothing),
    _with("title", lambda title: f" {title}  "),
    _with("adult", lambda _: False),
    _with("popularity", lambda _: "NaN"),
    _without("runtime", "genres", "release_date"),
)
"""What a movie's answer may be like instead."""
ODD_USERS: tuple[_Change, ...] = (
    _with("age", str),
    _with("age", float),
    _with("age", lambda _: -1),
    _with("age", _nothing),
    _with("gender", lambda gender: gender.lower()),
    _with("gender", lambda _: ""),
    _with("user_id", str),
    _without("occupation"),
)
"""What a user's answer may be like instead."""


class Knowledge:
    """What the APIs can say of the movies and viewers of a world.

    Args:
        catalogue: the movies.
        viewers: the viewers; the id of viewer `u` is the text of u + 1.
        seed: decides which ids are unknown or odd, once and for all.
        unknown: the share of ids that the APIs do not know, though the service does.
        odd: the share of ids of which a value is missing or of another type.
    """

    def __init__(self, catalogue: Catalogue, viewers: Viewers, *, seed: int, unknown: float, odd: float) -> None:
        self._catalogue = catalogue
        self._viewers = viewers
        self._seed = seed
        self._unknown = unknown
        self._odd = odd

    def movie(self, item: str) -> Document | None:
        """What `/movie/<id>` says, nothing where the id is not known."""
        index = self._catalogue.index.get(item)
        return None if index is None else self._as_known("movie", item, self._movie(index), ODD_MOVIES)

    def user(self, user: str) -> Document | None:
        """What `/user/<id>` says, nothing where the id is not known."""
        if not (user.isascii() and user.isdigit() and 1 <= int(user) <= len(self._viewers)):
            return None
        return self._as_known("user", user, self._user(int(user) - 1), ODD_USERS)

    def _as_known(self, kind: str, key: str, document: Document, odd: tuple[_Change, ...]) -> Document | None:
        random = draws(self._seed, f"{kind} {key}")
        drawn = random.random()
        if drawn < self._unknown:
            return None
        if drawn < self._unknown + self._odd:
            odd[random.integers(len(odd))](document)
        return document

    def _movie(self, index: int) -> Document:
        """Numbers and booleans as text where the scenario's API sends them so."""
        movies = self._catalogue
        item, title, number = movies.ids[index], movies.titles[index], crc32(movies.ids[index].encode())
        fame = float(movies.fame[index])
        return {
            "id": item,
            "tmdb_id": number % 1_000_000,
            "imdb_id": f"tt{number % 10_000_000:07}",
            "title": title,
            "original_title": title,
            "adult": "False",
            "belongs_to_collection": {},
            "budget": str(number % 200 * 1_000_000),
            "genres": [{"id": g, "name": name} for g, name in enumerate(GENRES) if movies.genres[index, g]],
            "homepage": "null",
            "original_language": "en",
            "overview": f"A film called {title}.",
            "popularity": f"{10 * fame:.6f}",
            "release_date": f"{movies.year[index]}-{number % 12 + 1:02}-{number % 28 + 1:02}",
            "revenue": str(number % 700 * 1_000_000),
            "runtime": int(movies.minutes[index]),
            "status": "Released",
            "vote_average": f"{min(max(6.5 + 2 * float(movies.quality[index]), 0.5), 10.0):.1f}",
            "vote_count": str(int(300 * fame)),
        }

    def _user(self, index: int) -> Document:
        viewers = self._viewers
        return {
            "user_id": index + 1,
            "age": int(viewers.age[index]),
            "occupation": OCCUPATIONS[viewers.occupation[index]],
            "gender": "F" if viewers.is_woman[index] else "M",
        }
