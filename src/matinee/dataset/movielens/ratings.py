"""Reading ratings in the formats that MovieLens has been published in."""

import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from matinee.core.clock import SECOND
from matinee.core.errors import InvalidInput

_TIME = pl.Datetime("us", "UTC")
_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "user": pl.String,
    "item": pl.String,
    "rating": pl.Float32,
    "time": _TIME,
}
RATINGS_SCHEMA = pl.Schema(_COLUMNS)
_GZIP = b"\x1f\x8b"
_TYPES = {"user": pl.Int64, "item": pl.Int64, "rating": pl.Float32, "seconds": pl.Int64}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file of ratings is laid out.

    Attributes:
        file: its name as published; `.gz` may follow.
        separator: what stands between two values.
        timed: whether seconds since 1970 are the last value.
        header: the first line, where it names the columns.
    """

    file: str
    separator: str
    timed: bool = True
    header: str | None = None

    @property
    def columns(self) -> list[str]:
        """The columns of values, in their order."""
        return ["user", "item", "rating", *(["seconds"] if self.timed else [])]


LAYOUTS = (
    Layout("u.data", "\t"),
    Layout("ratings.dat", "::"),
    Layout("ratings_notime.dat", "::", timed=False),
    Layout("ratings.csv", ",", header="userId,movieId,rating,timestamp"),
    Layout("ml-100k.inter", "\t", header="user_id:token\titem_id:token\trating:float\ttimestamp:float"),
)
"""All layouts; where a folder holds several of these files, the first counts."""


@dataclass(frozen=True, slots=True)
class Ratings:
    """The rows of a file of ratings."""

    frame: pl.DataFrame
    """As `RATINGS_SCHEMA` has it, in the file's order; `time` is null throughout where the file has none."""
    timed: bool
    content_hash: str
    """SHA-256 over the values of all rows: the same for the same rows in whatever layout, plain or gzip."""


def read_ratings(path: Path, layout: Layout) -> Ratings:
    """Read a whole file of ratings, plain or gzip.

    Raises:
        InvalidInput: a line is malformed; the message names the file and the line.
    """
    if layout.header is not None and _first_line(path) != layout.header:
        raise InvalidInput(f"{path}, line 1 is {_first_line(path)[:80]!r}; expected {layout.header!r}")
    try:
        raw = _read_values(path, layout)
    except (pl.exceptions.PolarsError, EOFError, OSError) as error:
        raise _malformed(path, layout, str(error)) from error
    if raw.height == 0 or sum(raw.null_count().row(0)):
        raise _malformed(path, layout, "a value is missing" if raw.height else "there are no ratings")
    frame = raw.select(
        pl.col("user", "item").cast(pl.String),
        "rating",
        (pl.col("seconds") * SECOND if layout.timed else pl.lit(None)).cast(RATINGS_SCHEMA["time"]).alias("time"),
    )
    return Ratings(frame, layout.timed, _hash(raw))


def _read_values(path: Path, layout: Layout) -> pl.DataFrame:
    # Polars splits at single characters only: `1::2` read at `:` has an empty column in the middle.
    double = layout.separator == "::"
    schema: dict[str, pl.DataType | type[pl.DataType]] = {}
    for name in layout.columns:
        if double and schema:
            schema[f"before {name}"] = pl.String
        schema[name] = _TYPES[name]
    frame = pl.read_csv(
        path,
        has_header=False,
        skip_lines=0 if layout.header is None else 1,
        separator=layout.separator[0],
        schema=schema,
        quote_char=None,
    )
    if double:
        between = [name for name in frame.columns if name not in _TYPES]
        if sum(frame.select(pl.col(between).is_not_null().sum()).row(0)):
            raise pl.exceptions.ComputeError("something stands between two colons")
    return frame.select(layout.columns)


def _hash(raw: pl.DataFrame) -> str:
    digest = hashlib.sha256(b"matinee ratings 1\n")
    for name, dtype in (("user", "<i8"), ("item", "<i8"), ("rating", "<f4"), ("seconds", "<i8")):
        if name in raw.columns:
            values = np.ascontiguousarray(raw[name].to_numpy(), dtype=dtype)
            digest.update(f"{name} {len(values)}\n".encode())
            digest.update(values.data)
    return digest.hexdigest()


def _first_line(path: Path) -> str:
    with _open(path) as file:
        return bytes(file.readline(1_000)).decode(errors="replace").rstrip("\r\n")


def _open(path: Path) -> "gzip.GzipFile":
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP
    return gzip.open(path) if zipped else path.open("rb")  # type: ignore[return-value]  # both read lines of bytes


def _malformed(path: Path, layout: Layout, why: str) -> InvalidInput:
    """The error for a file that could not be read, with the first line that is at fault where one is."""
    ids, rating, seconds = r"\d{1,18}", r"\d+(?:\.\d+)?", r"-?\d{1,11}"
    values = [ids, ids, rating, *([seconds] if layout.timed else [])]
    wanted = re.compile(layout.separator.join(values).encode() + rb"\r?\n?")
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                if not wanted.fullmatch(line) and (number > 1 or layout.header is None):
                    form = layout.separator.join(layout.columns)
                    return InvalidInput(f"{path}, line {number} is {bytes(line[:80])!r}; expected {form}")
    except (EOFError, OSError) as error:
        why = str(error)
    return InvalidInput(f"{path} cannot be read: {why}", remedy="Get the file again from where it was published.")
