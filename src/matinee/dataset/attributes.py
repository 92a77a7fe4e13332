"""What the lake knows of items, beside their ids and lengths."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

ADULT = 18
"""Years: the least age to be shown what is for adults."""
_OPEN_US = (int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max))
_OLDEST_LIMIT = 255
_LAST_YEAR = 9_999
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is known of the items, by item index.

    Attributes:
        titles: n_items titles; empty where not known.
        genres: names of the genres that an item has, ascending.
        genre_mask: bool, shape (n_items, n_genres).
        year: int16, shape (n_items,); of the first showing, 0 where not known.
        age_limit: uint8, shape (n_items,); years, 0 where there is none.
        available_from_us: int64, shape (n_items,); UTC microseconds, the least int64 where open.
        available_until_us: int64, shape (n_items,); exclusive; the greatest int64 where open.
    """

    titles: tuple[str, ...]
    genres: tuple[str, ...]
    genre_mask: NDArray[np.bool_]
    year: NDArray[np.int16]
    age_limit: NDArray[np.uint8]
    available_from_us: NDArray[np.int64]
    available_until_us: NDArray[np.int64]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that has numbers, by name."""
        every = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in every if isinstance(value, np.ndarray)}


def attributes_of(catalogue: pl.LazyFrame, items: list[str]) -> Attributes:
    """The attributes of some items.

    Of the JSON object in the column `extra` are read: `age_limit` (years), else `adult` (true, or the text
    "True": 18 years); `available_from` and `available_until` (ISO dates or times, UTC where there is no zone; a
    date stands for its whole day, so that what is available until a date still is on it). What cannot be read is
    not known: an attribute that is wrong at its source must not stop a run.

    Args:
        catalogue: the lake's table `items`.
        items: n_items ids, in the order of their indices.
    """
    known = catalogue.select("item", "title", "genres", "year", "release_date", "extra").unique("item", keep="any")
    rows = pl.DataFrame({"item": items}, schema={"item": pl.String}).join(
        known.collect(), on="item", how="left", maintain_order="left"
    )
    year = pl.coalesce("year", pl.col("release_date").dt.year())
    years = rows.select(pl.when(year.is_between(1, _LAST_YEAR)).then(year).fill_null(0).cast(pl.Int16)).to_series()
    genres, mask = _genres(rows["genres"])
    extras = [_extra(text) for text in rows["extra"]]
    return Attributes(
        titles=tuple(rows["title"].fill_null("")),
        genres=genres,
        genre_mask=mask,
        year=np.array(years, dtype=np.int16),
        age_limit=np.array([_age_limit(extra) for extra in extras], dtype=np.uint8),
        available_from_us=_moments((extra.get("available_from") for extra in extras), _OPEN_US[0], timedelta()),
        available_until_us=_moments((extra.get("available_until") for extra in extras), _OPEN_US[1], timedelta(1)),
    )


def _genres(lists: pl.Series) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """The names, ascending, and which item is of which: bool, shape (n_items, n_genres)."""
    of_items = [{name for name in names or () if name} for names in lists.to_list()]
    names = sorted(set().union(*of_items))
    column = {name: index for index, name in enumerate(names)}
    mask = np.zeros((len(of_items), len(names)), dtype=np.bool_)
    for row, its in enumerate(of_items):
        mask[row, [column[name] for name in its]] = True
    return tuple(names), mask


def _extra(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _age_limit(extra: dict[str, Any]) -> int:
    limit = extra.get("age_limit")
    try:
        years = float(limit) if isinstance(limit, int | float | str) and not isinstance(limit, bool) else math.nan
    except (ValueError, OverflowError):
        years = math.nan
    if not math.isnan(years):
        return math.ceil(min(max(years, 0), _OLDEST_LIMIT))
    return ADULT if str(extra.get("adult")).lower() == "true" else 0


def _moments(texts: Iterable[object], missing: int, whole_day: timedelta) -> NDArray[np.int64]:
    """UTC microseconds of each text, int64; `whole_day` is what is added to a date that has no time."""
    return np.array([_moment(text, missing, whole_day) for text in texts], dtype=np.int64)


def _moment(text: object, missing: int, whole_day: timedelta) -> int:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
        if moment is None or not isinstance(text, str):
            return missing
        if len(text) <= len("2026-01-01"):
            moment += whole_day
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (zoned - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return missing
