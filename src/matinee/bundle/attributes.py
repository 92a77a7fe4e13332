"""What a bundle knows of its items beside their ids: for filters, rules, explanations and the eyes of people.

Titles and the names of genres are kept as JSON; what has a number for each item is an array of its own, mapped into
memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from matinee.bundle.checks import expect, expect_range
from matinee.core.errors import Corrupt, InvalidInput

ATTRIBUTES = "attributes.json"
ATTRIBUTE_PREFIX = "attribute-"
ALWAYS_US = (int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max))
"""`available_from_us` and `available_until_us` of what is always available."""

_DTYPES = {
    "genre_mask": "bool",
    "year": "int16",
    "age_limit": "uint8",
    "available_from_us": "int64",
    "available_until_us": "int64",
    "interactions": "int32",
}


@dataclass(frozen=True, slots=True)
class ItemAttributes:
    """What is known of the items, by item index.

    Attributes:
        titles: n_items titles, for people; empty where not known.
        genres: names of the genres, ascending.
        genre_mask: bool, shape (n_items, n_genres); whether an item is of a genre.
        year: int16, shape (n_items,); the year it came out, 0 where not known.
        age_limit: uint8, shape (n_items,); the least age in years to be shown it, 0 where there is none.
        available_from_us: int64, shape (n_items,); UTC microseconds, the least int64 where that is open.
        available_until_us: int64, shape (n_items,); exclusive; UTC microseconds, the greatest int64 where open.
        interactions: int32, shape (n_items,); how many users met the item in the snapshot.

    Raises:
        InvalidInput: a shape, a dtype or the order of the genres differs; says which.
    """

    titles: tuple[str, ...]
    genres: tuple[str, ...]
    genre_mask: NDArray[np.bool_]
    year: NDArray[np.int16]
    age_limit: NDArray[np.uint8]
    available_from_us: NDArray[np.int64]
    available_until_us: NDArray[np.int64]
    interactions: NDArray[np.int32]

    def __post_init__(self) -> None:
        n_items = len(self.titles)
        for name, dtype in _DTYPES.items():
            expect(name, getattr(self, name), dtype, (n_items, len(self.genres))[: 1 + (name == "genre_mask")])
        if sorted(set(self.genres)) != list(self.genres):
            raise InvalidInput("genres are not ascending, or hold a name twice")
        for name in ("year", "interactions"):
            expect_range(name, getattr(self, name), 0, np.iinfo(_DTYPES[name]).max + 1)

    @classmethod
    def unknown(cls, n_items: int) -> Self:
        """Nothing is known of any item: no titles, no genres, no limits."""
        return cls(
            titles=("",) * n_items,
            genres=(),
            genre_mask=np.zeros((n_items, 0), dtype=np.bool_),
            year=np.zeros(n_items, dtype=np.int16),
            age_limit=np.zeros(n_items, dtype=np.uint8),
            available_from_us=np.full(n_items, ALWAYS_US[0], dtype=np.int64),
            available_until_us=np.full(n_items, ALWAYS_US[1], dtype=np.int64),
            interactions=np.zeros(n_items, dtype=np.int32),
        )

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything that has numbers, by name."""
        return {name: getattr(self, name) for name in _DTYPES}


class _Texts(msgspec.Struct):
    titles: tuple[str, ...]
    genres: tuple[str, ...]


def encode_texts(attributes: ItemAttributes) -> bytes:
    """The bytes of `attributes.json`."""
    return msgspec.json.encode(_Texts(attributes.titles, attributes.genres))


def read_attributes(texts: Path, arrays: Mapping[str, NDArray[Any]]) -> ItemAttributes:
    """The attributes that were written.

    Args:
        texts: `attributes.json`.
        arrays: what `ItemAttributes.arrays` gave.

    Raises:
        Corrupt: they do not fit together.
    """
    try:
        found = msgspec.json.decode(texts.read_bytes(), type=_Texts)
        return ItemAttributes(titles=found.titles, genres=found.genres, **arrays)
    except (msgspec.DecodeError, InvalidInput, TypeError) as error:
        raise Corrupt(f"{texts} and the arrays beside it are no attributes of items: {error}") from error
