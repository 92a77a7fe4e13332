"""What a request may ask of the items it wants: genres and years."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from matinee.bundle.attributes import ItemAttributes


class Filter(msgspec.Struct, frozen=True):
    """Conditions on items; all of them must hold. Names of genres are compared without regard to case."""

    genres_any: tuple[str, ...] = ()
    """At least one of these genres, where any is named."""
    genres_none: tuple[str, ...] = ()
    """None of these genres."""
    year_from: int | None = None
    """The first year; an item whose year is not known has none that could be within bounds."""
    year_to: int | None = None
    """The last year, included."""


def allowed(where: Filter, attributes: ItemAttributes) -> NDArray[np.bool_]:
    """The items that meet every condition, bool, shape (n_items,); the caller's own.

    A genre that the catalogue does not have is no item's: in `genres_any` it adds nothing, in `genres_none` it
    takes nothing away. O(n_items · genres named).
    """
    fits = np.ones(len(attributes.titles), dtype=np.bool_)
    if where.genres_any:
        fits &= _has_any(where.genres_any, attributes)
    if where.genres_none:
        fits &= ~_has_any(where.genres_none, attributes)
    year = attributes.year
    if where.year_from is not None or where.year_to is not None:
        fits &= year > 0
    if where.year_from is not None:
        fits &= year >= _within_int16(where.year_from)
    if where.year_to is not None:
        fits &= year <= _within_int16(where.year_to)
    return fits


def unknown_genres(where: Filter, attributes: ItemAttributes) -> tuple[str, ...]:
    """The genres of a filter that the catalogue does not have, as written: for who wants to refuse them."""
    known = {genre.casefold() for genre in attributes.genres}
    return tuple(name for name in (*where.genres_any, *where.genres_none) if name.casefold() not in known)


def _has_any(names: tuple[str, ...], attributes: ItemAttributes) -> NDArray[np.bool_]:
    wanted = {name.casefold() for name in names}
    found = np.zeros(len(attributes.titles), dtype=np.bool_)
    for column, genre in enumerate(attributes.genres):
        if genre.casefold() in wanted:
            found |= attributes.genre_mask[:, column]
    return found


def _within_int16(year: int) -> np.int16:
    """The nearest year that an item can have: whatever was asked for, the comparison is the same."""
    return np.int16(min(max(year, -1), np.iinfo(np.int16).max))
