"""Reading what MovieLens says of its items and users, in the formats it has been published in."""

import csv
import gzip
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from matinee.core.errors import InvalidInput
from matinee.dataset.movielens.titles import restore_article, split_title

_Schema = dict[str, pl.DataType | type[pl.DataType]]
_ITEMS: _Schema = {
    "item": pl.String,
    "title": pl.String,
    "genres": pl.List(pl.String),
    "year": pl.Int32,
    "minutes": pl.Float32,  # MovieLens never says
    "release_date": pl.Date,
    "extra": pl.String,  # imdb_id and tmdb_id as a JSON object, where links.csv gives them
}
_USERS: _Schema = {
    "user": pl.String,
    "age": pl.Int32,
    "occupation": pl.String,
    "gender": pl.String,
    "extra": pl.String,
}
ITEMS_SCHEMA = pl.Schema(_ITEMS)
"""The columns of the lake's table `items` that are not filled by the lake."""
USERS_SCHEMA = pl.Schema(_USERS)
"""The same of the lake's table `users`."""

_NO_GENRE = frozenset({"", "unknown", "(no genres listed)"})
_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_OCCUPATIONS_1M = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip

Row = dict[str, Any]
Parse = Callable[[list[str]], Row]


def read_items(folder: Path) -> pl.DataFrame:
    """The items that a published folder describes, as `ITEMS_SCHEMA` has them; none where it describes none.

    Titles are as people write them ("The Matrix"), without the year. Genres that say there are none are left
    out.

    Raises:
        InvalidInput: a line is malformed; the message names the file and the line.
    """
    if (path := _find(folder, "u.item")) is not None:
        rows = _read(path, lambda line: line.split("|"), 24, _item_100k)
    elif (path := _find(folder, "movies.dat")) is not None:
        rows = _read(path, lambda line: line.split("::"), 3, _item)
    elif (path := _find(folder, "movies.csv")) is not None:
        rows = _read(path, _csv_fields, 3, _item, header=True)
    elif (path := _find(folder, "ml-100k.item")) is not None:
        rows = _read(path, lambda line: line.split("\t"), 4, _item_packaged, header=True)
    else:
        rows = []
    items = pl.DataFrame(rows, schema=ITEMS_SCHEMA)
    links = _find(folder, "links.csv")
    return items if links is None or items.is_empty() else _with_links(items, links)


def read_users(folder: Path) -> pl.DataFrame:
    """The users that a published folder describes, as `USERS_SCHEMA` has them; none where it describes none.

    MovieLens 1M gives ages as the first year of a band (1, 18, 25, 35, 45, 50, 56); they are kept so.

    Raises:
        InvalidInput: a line is malformed; the message names the file and the line.
    """
    if (path := _find(folder, "u.user")) is not None:
        rows = _read(path, lambda line: line.split("|"), 5, _user)
    elif (path := _find(folder, "users.dat")) is not None:
        rows = _read(path, lambda line: line.split("::"), 5, _user_1m)
    elif (path := _find(folder, "ml-100k.user")) is not None:
        rows = _read(path, lambda line: line.split("\t"), 5, _user, header=True)
    else:
        rows = []
    return pl.DataFrame(rows, schema=USERS_SCHEMA)


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read(
    path: Path, split: Callable[[str], list[str]], n_fields: int, parse: Parse, *, header: bool = False
) -> list[Row]:
    rows = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        text = line.removesuffix("\r")
        if not text or (header and number == 1):
            continue
        fields = split(text)
        if len(fields) != n_fields:
            raise InvalidInput(f"{path}, line {number} has {len(fields)} fields; expected {n_fields}")
        try:
            rows.append(parse(fields))
        except (ValueError, IndexError) as error:
            raise InvalidInput(f"{path}, line {number}: {error}") from error
    return rows


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (EOFError, OSError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")  # what the two oldest were published in


def _csv_fields(line: str) -> list[str]:
    return next(csv.reader([line]))


def _genres(names: list[str]) -> list[str]:
    return [name for name in names if name not in _NO_GENRE]


def _item(fields: list[str]) -> Row:
    title, year = split_title(fields[1])
    return {"item": _number(fields[0]), "title": title, "genres": _genres(fields[2].split("|")), "year": year}


def _item_100k(fields: list[str]) -> Row:
    title, year = split_title(fields[1])
    flags = fields[5:]
    if not set(flags) <= {"0", "1"}:
        raise ValueError(f"genre flags are {flags}; expected 0 or 1")
    genres = [name for name, flag in zip(_GENRES_100K, flags, strict=True) if flag == "1"]
    return {
        "item": _number(fields[0]),
        "title": title,
        "genres": _genres(genres),
        "year": year,
        "release_date": _date(fields[2]),
    }


def _item_packaged(fields: list[str]) -> Row:
    year = int(fields[2]) if fields[2].isdecimal() else None
    return {
        "item": _number(fields[0]),
        "title": restore_article(fields[1].strip()),
        "genres": _genres(fields[3].split(" ")),
        "year": year,
    }


def _date(text: str) -> date | None:
    return datetime.strptime(text, "%d-%b-%Y").replace(tzinfo=UTC).date() if text else None


def _user(fields: list[str]) -> Row:
    number, age, gender, occupation, _ = fields
    return {"user": _number(number), "age": int(age), "gender": gender, "occupation": occupation}


def _user_1m(fields: list[str]) -> Row:
    number, gender, age, occupation, _ = fields
    code = int(_number(occupation))
    return {"user": _number(number), "age": int(age), "gender": gender, "occupation": _OCCUPATIONS_1M[code]}


def _number(text: str) -> str:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a number")
    return text


def _with_links(items: pl.DataFrame, path: Path) -> pl.DataFrame:
    rows = _read(path, _csv_fields, 3, _link, header=True)
    links = pl.DataFrame(rows, schema={"item": pl.String, "extra": pl.String})
    return items.drop("extra").join(
        links.unique("item", keep="first", maintain_order=True), on="item", how="left", maintain_order="left"
    )


def _link(fields: list[str]) -> Row:
    item, imdb, tmdb = fields
    known = {"imdb_id": f"tt{imdb}" if imdb else None, "tmdb_id": int(tmdb) if tmdb else None}
    extra = {name: value for name, value in known.items() if value is not None}
    return {"item": _number(item), "extra": json.dumps(extra) if extra else None}
