"""How much like MovieLens a world is: the same figures of both."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matinee.simulation.behaviour import FINDS, People
from matinee.simulation.catalogue import make_catalogue
from matinee.simulation.concentration import gini, top_share
from matinee.simulation.options import WorldOptions, draws
from matinee.simulation.past import Ratings, find_and_rate
from matinee.simulation.viewers import make_viewers

_QUANTILES = (0.1, 0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Likeness:
    """Figures of a table of ratings.

    Attributes:
        stars: shares of 1 to 5 stars.
        mean: of the ratings.
        item_mean_sd: standard deviation of the movies' mean ratings.
        item_gini: Gini coefficient of the movies' counts.
        item_top_share: the share of all ratings that the most rated tenth of the movies has.
        item_quantiles: 10th, 50th, 90th and 99th percentiles of the movies' counts, over their mean.
        user_gini: Gini coefficient of the users' counts.
        user_quantiles: the same percentiles of the users' counts, over their mean.
    """

    stars: tuple[float, ...]
    mean: float
    item_mean_sd: float
    item_gini: float
    item_top_share: float
    item_quantiles: tuple[float, ...]
    user_gini: float
    user_quantiles: tuple[float, ...]


class _SeenOfAll:
    """Everything that everybody has seen, in a table: for few viewers with long histories."""

    def __init__(self, n_viewers: int, n_movies: int) -> None:
        self._table = np.zeros((n_viewers, n_movies), dtype=np.bool_)

    def add(self, who: NDArray[np.int32], items: NDArray[np.int32]) -> None:
        """See `Seen.add`."""
        self._table[who, items] = True

    def has(self, who: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.bool_]:
        """See `Seen.has`."""
        return self._table[who[:, None], items]

    def of(self, viewer: int) -> NDArray[np.int32]:
        """See `Seen.of`."""
        return np.flatnonzero(self._table[viewer]).astype(np.int32)


def likeness(users: NDArray[np.int32], items: NDArray[np.int32], stars: NDArray[np.integer]) -> Likeness:
    """The figures of n ratings, each of a user index, an item index and stars; who has none does not count."""
    by_item, by_user = np.bincount(items), np.bincount(users)
    sums = np.bincount(items, weights=stars)[by_item > 0]
    by_item, by_user = by_item[by_item > 0], by_user[by_user > 0]
    shares = np.bincount(stars, minlength=6)[1:6] / stars.size
    return Likeness(
        stars=tuple(shares.tolist()),
        mean=float(stars.mean()),
        item_mean_sd=float((sums / by_item).std()),
        item_gini=gini(by_item),
        item_top_share=top_share(by_item, 0.1),
        item_quantiles=_quantiles(by_item),
        user_gini=gini(by_user),
        user_quantiles=_quantiles(by_user),
    )


def _quantiles(counts: NDArray[np.intp]) -> tuple[float, ...]:
    return tuple((np.quantile(counts, _QUANTILES) / counts.mean()).tolist())


def organic_ratings(options: WorldOptions, mean_ratings: float) -> Ratings:
    """What a world's viewers would have rated by what they found on their own.

    Every viewer rates, in proportion to their activity, a mean of `mean_ratings` movies, none twice and at most
    half of all: the counterpart of a MovieLens file, which holds ratings alone.
    """
    random = draws(options.seed, "organic")
    viewers, catalogue = make_viewers(options), make_catalogue(options)
    people = People(viewers, catalogue, _SeenOfAll(len(viewers), len(catalogue)))
    wanted = np.minimum(np.round(mean_ratings * viewers.activity / FINDS), len(catalogue) // 2)
    return find_and_rate(people, random, wanted.astype(np.int64))
