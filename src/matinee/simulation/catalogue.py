"""The movies of a world, and the truth about them."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from matinee.simulation.options import WorldOptions, draws
from matinee.simulation.titles import name_movies

N_FACTORS = 8
AFFINITY_SD = 0.6
"""Stars: the standard deviation over viewers of how a movie suits a taste, Var(p·q) = AFFINITY_SD²."""
GENRES = (
    "Action", "Adventure", "Animation", "Comedy", "Crime", "Documentary", "Drama", "Family", "Fantasy",
    "History", "Horror", "Music", "Mystery", "Romance", "Science Fiction", "Thriller", "War", "Western",
)  # fmt: skip
_QUALITY_SD = 0.65
_FAME_AND_QUALITY = 0.62
"""Correlation of how well known a movie is with how good it is."""
_FAME_POWER = 1.27
_OWN = 0.6
"""How far a movie's direction may lie from its genres'."""
_COLUMNS = ("genres", "year", "minutes", "factors", "quality", "fame", "fame_score", "out_minute")


@dataclass(slots=True)
class Catalogue:
    """Movies by index.

    Attributes:
        ids: n movie ids, as the service names them.
        titles: n titles, for people.
        genres: bool, shape (n, len(GENRES)).
        year: int16, shape (n,).
        minutes: int16, shape (n,); length.
        factors: float32, shape (n, N_FACTORS); q, in stars.
        quality: float32, shape (n,); b_i, in stars.
        fame: float64, shape (n,); weight with which a movie comes to mind, mean 1. A trend changes it.
        fame_score: float32, shape (n,); rank of the fame at the start as a standard normal score.
        out_minute: int64, shape (n,); minute of the world at which it comes out, 0 where it is there already.
        directions: float64, shape (len(GENRES), N_FACTORS); of each genre, a unit vector.
        index: of each id, the movie's index.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    genres: NDArray[np.bool_]
    year: NDArray[np.int16]
    minutes: NDArray[np.int16]
    factors: NDArray[np.float32]
    quality: NDArray[np.float32]
    fame: NDArray[np.float64]
    fame_score: NDArray[np.float32]
    out_minute: NDArray[np.int64]
    directions: NDArray[np.float64]
    index: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.index = {item: index for index, item in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, others: Self) -> None:
        """Others take their places behind these. Who looks an id up meanwhile finds a whole movie, or none."""
        first = len(self)
        for name in _COLUMNS:
            setattr(self, name, np.concatenate([getattr(self, name), getattr(others, name)]))
        self.titles += others.titles
        self.ids += others.ids
        self.index.update((item, first + number) for item, number in others.index.items())


def make_catalogue(options: WorldOptions) -> Catalogue:
    """Draw the movies of the first period.

    Fame is a power of a χ² variable with one degree of freedom. That itself has a Gini coefficient of 2/π = 0.637
    and a 90th percentile of 2.71 means, as the counts of MovieLens 1M's movies have (0.634 and 2.70); the power
    makes good for what choosing by taste evens out. Direction q = AFFINITY_SD · v/|v|, where v is the mean of its
    genres' unit directions and a part of its own.
    """
    return _draw(options, period=0)


def later_movies(options: WorldOptions, period: int, directions: NDArray[np.float64]) -> Catalogue:
    """Draw those that come out within a later period (1, 2, …): the late ones of a catalogue that is drawn anew.

    Its genres keep their `directions`, and its titles are those of sequels, so that no id comes twice.
    """
    drawn = _draw(options, period, directions)
    late = np.flatnonzero(drawn.out_minute)
    return Catalogue(
        ids=tuple(drawn.ids[movie] for movie in late),
        titles=tuple(drawn.titles[movie] for movie in late),
        directions=directions,
        **{name: getattr(drawn, name)[late] for name in _COLUMNS},
    )


def _draw(options: WorldOptions, period: int, directions: NDArray[np.float64] | None = None) -> Catalogue:
    random = draws(options.seed, "catalogue", period)
    n = options.movies
    fame = random.chisquare(1, n) ** _FAME_POWER
    score = _normal_scores(fame, random)
    late = random.random(n) < options.late_movies
    begins, length = period * options.period_minutes, options.period_minutes
    out = np.where(late, begins + random.integers(1, length + 1, n), 0)
    out[np.argmax(fame)] = 0  # a service has something to show on its first day
    year = np.clip(2026 - random.exponential(22, n), 1920, 2025).astype(np.int16)
    genres = _genres(random, n)
    ids, titles = name_movies(random, year, part=period + 1)
    own = random.standard_normal(n)
    quality = _QUALITY_SD * (_FAME_AND_QUALITY * score + np.sqrt(1 - _FAME_AND_QUALITY**2) * own)
    minutes = np.clip(random.normal(106, 21, n), 45, 240)
    if directions is None:
        directions = _unit(random.standard_normal((len(GENRES), N_FACTORS)))
    return Catalogue(
        ids=ids,
        titles=titles,
        genres=genres,
        year=year,
        minutes=minutes.astype(np.int16),
        factors=_factors(random, genres, directions),
        quality=quality.astype(np.float32),
        fame=fame / fame.mean(),
        fame_score=score.astype(np.float32),
        out_minute=out.astype(np.int64),
        directions=directions,
    )


def _normal_scores(values: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Standard normal draws in the order of the values."""
    scores = np.sort(random.standard_normal(values.size))
    ordered = np.empty_like(scores)
    ordered[np.argsort(values)] = scores
    return ordered


def _genres(random: np.random.Generator, n: int) -> NDArray[np.bool_]:
    """One to three genres each; the first ones of the list are not more frequent than the last."""
    order = np.argsort(random.random((n, len(GENRES))), axis=1)
    how_many = random.integers(1, 4, n)
    mask = np.zeros((n, len(GENRES)), dtype=np.bool_)
    np.put_along_axis(mask, order, np.arange(len(GENRES)) < how_many[:, None], axis=1)
    return mask


def _factors(
    random: np.random.Generator, genres: NDArray[np.bool_], directions: NDArray[np.float64]
) -> NDArray[np.float32]:
    own = _unit(random.standard_normal((len(genres), N_FACTORS)))
    mean = (genres @ directions) / genres.sum(axis=1, keepdims=True)
    return (AFFINITY_SD * _unit(mean + _OWN * own)).astype(np.float32)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
