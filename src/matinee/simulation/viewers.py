"""The people of a world, and the truth about their tastes."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from matinee.simulation.catalogue import N_FACTORS
from matinee.simulation.options import WorldOptions, draws

OCCUPATIONS = (
    "other or not specified", "academic/educator", "artist", "clerical/admin", "college/grad student",
    "customer service", "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student",
    "lawyer", "programmer", "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer",
    "tradesman/craftsman", "unemployed", "writer",
)  # fmt: skip
_KINDNESS_SD = 0.42
_CHUNK = 65_536


@dataclass(slots=True)
class Viewers:
    """Viewers by index; the id of viewer `u` is the text of u + 1.

    Attributes:
        taste: float32, shape (n, N_FACTORS); p, each component standard normal. Drifts.
        kindness: float32, shape (n,); b_u, in stars.
        activity: float64, shape (n,); how often one comes, against the mean.
        joined_minute: int64, shape (n,); minute of the world, 0 where one is there already.
        age: int16, shape (n,).
        occupation: int8, shape (n,); index into `OCCUPATIONS`.
        is_woman: bool, shape (n,).
    """

    taste: NDArray[np.float32]
    kindness: NDArray[np.float32]
    activity: NDArray[np.float64]
    joined_minute: NDArray[np.int64]
    age: NDArray[np.int16]
    occupation: NDArray[np.int8]
    is_woman: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.is_woman)

    def add(self, others: Self) -> None:
        """Others take their places behind these. Who looks one up meanwhile finds a whole viewer, or none."""
        for name in self.__slots__:  # the length is that of the last one
            setattr(self, name, np.concatenate([getattr(self, name), getattr(others, name)]))

    def drift(self, random: np.random.Generator, share: float) -> None:
        """A day passes over all tastes: p ← √(1−share)·p + √share·ε, which keeps their distribution."""
        if share == 0:
            return
        keep, change = np.float32(np.sqrt(1 - share)), np.float32(np.sqrt(share))
        for start in range(0, len(self), _CHUNK):
            part = self.taste[start : start + _CHUNK]
            part *= keep
            part += change * random.standard_normal(part.shape, dtype=np.float32)


def make_viewers(options: WorldOptions) -> Viewers:
    """Draw the viewers of the first period.

    Activity is 0.12 + 0.88·g, g a gamma variable of shape 0.6 and mean 1: MovieLens 1M's ratings a user, from 20
    upwards with a mean of 166, have that shape.
    """
    return _draw(options, period=0)


def later_viewers(options: WorldOptions, period: int) -> Viewers:
    """Draw those who join within a later period (1, 2, …): the late ones of viewers that are drawn anew."""
    drawn = _draw(options, period)
    late = drawn.joined_minute > 0
    return Viewers(*(getattr(drawn, name)[late] for name in Viewers.__slots__))


def _draw(options: WorldOptions, period: int) -> Viewers:
    random = draws(options.seed, "viewers", period)
    n = options.viewers
    late = random.random(n) < options.late_viewers
    begins, length = period * options.period_minutes, options.period_minutes
    joined = np.where(late, begins + random.integers(1, length + 1, n), 0)
    return Viewers(
        taste=random.standard_normal((n, N_FACTORS), dtype=np.float32),
        kindness=(_KINDNESS_SD * random.standard_normal(n)).astype(np.float32),
        activity=0.12 + 0.88 * random.gamma(0.6, 1 / 0.6, n),
        joined_minute=joined.astype(np.int64),
        age=np.clip(random.gamma(6, 5.6, n), 8, 90).astype(np.int16),
        occupation=random.integers(0, len(OCCUPATIONS), n, dtype=np.int8),
        is_woman=random.random(n) < 0.4,
    )
