"""Tables of other people's: which column is which, and what their times and numbers say."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from matinee.core.errors import InvalidInput
from matinee.events.schema import TIME
from matinee.ingest.files import BLOCK_BYTES, open_content

COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    "user": ("user", "userid", "uid", "customerid"),
    "item": ("item", "itemid", "iid", "movie", "movieid", "productid"),
    "rating": ("rating", "stars", "score"),
    "minute": ("minute",),
    "time": ("time", "timestamp", "datetime", "date"),
}
"""Names that are understood, of each column; case, `_`, `-`, blanks and a type after `:` do not matter."""

_SECONDS_BELOW, _MILLISECONDS_BELOW = 10**11, 10**14
"""Numbers below are seconds (to the year 5138), then milliseconds (from the year 1973), then microseconds."""
_UNREADABLE_US = -1
"""Stands for a time that cannot be read: it is before 1970, and so quarantined as impossible."""
_UNREADABLE_MINUTE = -1
_PARQUET = b"PAR1"
_LOCAL_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")


@contextmanager
def open_table(path: Path, scratch: Path) -> Iterator[pl.LazyFrame]:
    """A CSV, TSV or Parquet file, plain or gzip, as a table; the columns of text files are texts.

    Args:
        path: the file. It is Parquet if its content says so, else its first line tells what separates columns.
        scratch: a folder where a packed file is unpacked while the block lasts.

    Raises:
        InvalidInput: it cannot be read; also while the block reads from the table.
    """
    try:
        with _unpacked(path, scratch) as plain, plain.open("rb") as file:
            beginning = file.read(65_536)
            if beginning.startswith(_PARQUET):
                yield pl.scan_parquet(plain)
            else:
                first = beginning.partition(b"\n")[0]
                separator = max("\t,;", key=lambda mark: first.count(mark.encode()))
                yield pl.scan_csv(plain, separator=separator, infer_schema=False, encoding="utf8-lossy")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InvalidInput(
            f"{path} cannot be read as a table: {error}", remedy="Give a CSV, TSV or Parquet file with a header."
        ) from error


@contextmanager
def _unpacked(path: Path, scratch: Path) -> Iterator[Path]:
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            yield path
            return
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        plain = Path(folder) / "table"
        with open_content(path) as content, plain.open("wb") as copy:
            shutil.copyfileobj(content, copy, BLOCK_BYTES)
        yield plain


def map_columns(found: list[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Which column of a table is the user, the item, the rating, the minute, the time.

    Args:
        found: the table's columns.
        given: what the caller says, `{"user": "kunde"}`; the rest is told by the names.

    Returns:
        The table's column for each of ours that it has.

    Raises:
        InvalidInput: a column is missing, or several could be meant; says what was found and what is expected.
    """
    given = given or {}
    unknown = [name for name in given if name not in COLUMN_NAMES] + [c for c in given.values() if c not in found]
    if unknown:
        raise _unmapped(f"there is no column {unknown[0]!r}", found)
    mapping = dict(given)
    for name, understood in COLUMN_NAMES.items():
        if name in mapping:
            continue
        candidates = [c for c in found if plain_name(c) in understood and c not in given.values()]
        if len(candidates) > 1:
            raise _unmapped(f"both {candidates[0]!r} and {candidates[1]!r} could be the {name}", found)
        if candidates:
            mapping[name] = candidates[0]
    missing = [name for name in ("user", "item") if name not in mapping]
    if missing or not {"rating", "minute"} & set(mapping):
        raise _unmapped(f"no column is the {missing[0] if missing else 'rating'}", found)
    return mapping


def plain_name(column: str) -> str:
    """A column's name without what does not matter in it."""
    return column.partition(":")[0].strip().lower().translate(str.maketrans("", "", "_- "))


def _unmapped(why: str, found: list[str]) -> InvalidInput:
    expected = "; ".join(f"{name}: {', '.join(names)}" for name, names in COLUMN_NAMES.items())
    return InvalidInput(
        f"{why}; the table has {', '.join(map(repr, found))}",
        remedy=f"Say which column is which, or give it one of the names ({expected}). time may be missing. "
        "A file of what items or users are is imported with `--format items`, or users.",
    )


def standard_columns(frame: pl.DataFrame, mapping: Mapping[str, str], *, timezone: str = "UTC") -> pl.DataFrame:
    """A table's rows as `events.frames.read_columns` takes them, in order.

    A value that is there and cannot be read becomes one that is quarantined for the right reason: a rating that is
    no number, a minute or a time below zero.

    Args:
        frame: the table.
        mapping: from `map_columns`.
        timezone: of times that name none.
    """
    columns = [frame[mapping[name]].cast(pl.String).alias(name) for name in ("user", "item")]
    if "rating" in mapping:
        columns.append(_number(frame[mapping["rating"]], pl.Float64(), float("nan")).alias("rating"))
    if "minute" in mapping:
        columns.append(_number(frame[mapping["minute"]], pl.Int64(), _UNREADABLE_MINUTE).alias("minute"))
    if "time" in mapping:
        columns.append(_time(frame[mapping["time"]], timezone).alias("time"))
    return pl.DataFrame(columns)


def _number(values: pl.Series, dtype: pl.DataType, unreadable: float) -> pl.Series:
    given = _given(values)
    return _told(given.cast(dtype, strict=False), given, unreadable)


def _time(values: pl.Series, timezone: str) -> pl.Series:
    given = _given(values)
    if given.dtype == pl.String:
        texts = given.str.replace(r"^(\d{4}-\d\d-\d\d) ", "${1}T")
        number = _epoch_us(given.cast(pl.Float64, strict=False))
        frame = pl.DataFrame([texts.alias("text"), number.alias("number")])
        read = frame.select(pl.coalesce("number", *_iso_us(pl.col("text"), timezone))).to_series()
    elif given.dtype == pl.Date:
        read = given.cast(pl.Datetime("us")).dt.replace_time_zone("UTC").to_physical()
    elif isinstance(given.dtype, pl.Datetime):
        zoned = given if given.dtype.time_zone else _in_zone(pl.lit(given), timezone)
        read = pl.select(zoned).to_series().dt.convert_time_zone("UTC").dt.cast_time_unit("us").to_physical()
    else:
        read = _epoch_us(given.cast(pl.Float64, strict=False))
    return _told(read, given, _UNREADABLE_US).cast(TIME)


def _epoch_us(number: pl.Series) -> pl.Series:
    """Seconds, milliseconds or microseconds since 1970, told apart by their size, as microseconds."""
    n = pl.col("n")
    scaled = pl.when(n < _SECONDS_BELOW).then(n * 1e6).when(n < _MILLISECONDS_BELOW).then(n * 1e3).otherwise(n)
    return pl.DataFrame([number.alias("n")]).select(scaled.round().cast(pl.Int64, strict=False)).to_series()


def _iso_us(text: pl.Expr, timezone: str) -> list[pl.Expr]:
    """The ways in which an ISO time may be read, as microseconds; null where it is not of that form."""
    zoned = text.str.to_datetime("%+", time_unit="us", strict=False).dt.convert_time_zone("UTC")
    local = [text.str.to_datetime(form, time_unit="us", strict=False) for form in _LOCAL_FORMATS]
    local.append(text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))
    return [zoned.to_physical(), *(_in_zone(time, timezone).to_physical() for time in local)]


def _in_zone(local: pl.Expr, timezone: str) -> pl.Expr:
    zoned = local.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    return zoned.dt.convert_time_zone("UTC")


def _given(values: pl.Series) -> pl.Series:
    """The values, empty texts being missing ones."""
    if values.dtype != pl.String:
        return values
    trimmed = values.str.strip_chars()
    return trimmed.set(trimmed == "", None)


def _told(read: pl.Series, given: pl.Series, unreadable: float) -> pl.Series:
    """What was read; the value that says so where something was given and could not be read."""
    return read.set(read.is_null() & given.is_not_null(), unreadable)
