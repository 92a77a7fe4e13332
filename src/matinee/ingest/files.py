"""Files as sources, plain or gzip: what identifies their content, and their lines in bounded memory."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import xxhash

from matinee.core.errors import InvalidInput
from matinee.events.envelope import MAX_RECORD_BYTES
from matinee.ingest.generations import FILE_GENERATION
from matinee.ingest.report import Progress

BLOCK_BYTES = 4 << 20
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds, whatever it is called and however it is packed.

    Attributes:
        generation: `file-` and the xxh3-128 of the uncompressed bytes.
        lines: how many lines; the last one may lack its newline.
        size: uncompressed bytes.
    """

    generation: str
    lines: int
    size: int


@contextmanager
def open_content(path: Path) -> Iterator[IO[bytes]]:
    """The uncompressed bytes of a file.

    Raises:
        InvalidInput: it cannot be read, or is not a whole gzip file; also raised while the block reads.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        if packed:
            with gzip.open(path, "rb") as unpacked:
                yield unpacked  # type: ignore[misc]  # a GzipFile reads as any file does
        else:
            with path.open("rb") as plain:
                yield plain
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidInput(
            f"{path} is not a whole gzip file: {error}", remedy="Get the file again; it may have been cut off."
        ) from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error


def content_of(path: Path, progress: Progress) -> Content:
    """Read a file once through, to know it by its content.

    Raises:
        InvalidInput: see `open_content`.
    """
    digest, lines, size, last = xxhash.xxh3_128(), 0, 0, b"\n"
    with open_content(path) as content:
        while block := content.read(BLOCK_BYTES):
            digest.update(block)
            lines += block.count(b"\n")
            size += len(block)
            last = block[-1:]
            progress("reading the file's content", size, 0)
    return Content(FILE_GENERATION + digest.hexdigest(), lines + (last != b"\n"), size)


def read_lines(path: Path, *, skip: int, at_most: int) -> Iterator[list[bytes]]:
    """The lines of a file without their newlines, some at a time.

    A line that is longer than a record may be is cut just beyond that bound: it is quarantined whatever follows,
    and a file without newlines must not fill the memory.

    Args:
        path: the file.
        skip: lines to pass over first.
        at_most: lines in one piece.

    Raises:
        InvalidInput: see `open_content`.
    """
    piece: list[bytes] = []
    for lines in _blocks_of_lines(path):
        if skip >= len(lines):
            skip -= len(lines)
            continue
        piece += lines[skip:]
        skip = 0
        while len(piece) >= at_most:
            yield piece[:at_most]
            piece = piece[at_most:]
    if piece:
        yield piece


def _blocks_of_lines(path: Path) -> Iterator[list[bytes]]:
    begun = b""
    with open_content(path) as content:
        while block := content.read(BLOCK_BYTES):
            lines = block.split(b"\n")
            lines[0] = begun + lines[0]
            begun = lines.pop()[: MAX_RECORD_BYTES + 1]
            if any(len(line) > MAX_RECORD_BYTES for line in lines):
                lines = [line[: MAX_RECORD_BYTES + 1] for line in lines]
            yield lines
    if begun:
        yield [begun]
