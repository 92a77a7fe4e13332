"""What a world is made of: its size, its seed, and how it changes."""

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from matinee.core.errors import ConfigurationError

MINUTES_A_DAY = 1_440


@dataclass(frozen=True, slots=True)
class WorldOptions:
    """A world. The same options are the same world, whatever is recommended in it.

    Attributes:
        start_us: when it begins, UTC microseconds; lines carry UTC.
        viewers: people of the first period, those who join within it among them.
        movies: titles of the first period, those that come out within it among them.
        seed: of everything that is drawn.
        days: how long a period is. The world goes on, and in each further one as many join and come out again.
        late_viewers: the share of viewers who join within the first period.
        late_movies: the share of movies that come out within the first period.
        sessions_a_day: how often the average viewer opens the service.
        drift_a_day: the share of a taste's variance that a day replaces.
        past_ratings: ratings of the average viewer from the days before the world begins.
        dirt: the share of lines that are dirty; see `matinee.simulation.dirt`.
        list_length: items that are asked for and looked at, at most.
        memory: movies that a viewer remembers having seen.
        oracle_sessions: sessions a day for which the best possible list is worked out.

    Raises:
        ConfigurationError: a number is out of its range.
    """

    start_us: int
    viewers: int = 1_000
    movies: int = 300
    seed: int = 0
    days: int = 30
    late_viewers: float = 0.05
    late_movies: float = 0.05
    sessions_a_day: float = 1.0
    drift_a_day: float = 0.005
    past_ratings: float = 0.0
    dirt: float = 0.001
    list_length: int = 20
    memory: int = 64
    oracle_sessions: int = 256

    def __post_init__(self) -> None:
        for name in ("viewers", "movies", "days", "list_length", "memory"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"a world needs {name} of 1 or more, not {getattr(self, name)}")
        for name in ("late_viewers", "late_movies", "drift_a_day", "dirt"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name} is a share, 0 to 1, not {getattr(self, name)}")
        if min(self.sessions_a_day, self.past_ratings, self.oracle_sessions, self.seed) < 0:
            raise ConfigurationError("sessions_a_day, past_ratings, oracle_sessions and seed cannot be negative")

    @property
    def period_minutes(self) -> int:
        """How long a period is."""
        return self.days * MINUTES_A_DAY


def draws(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A generator of its own for each purpose and moment.

    So that what one part draws never depends on how much another has drawn: two recommenders meet the same
    viewers at the same minutes, with the same alternatives in mind (common random numbers).
    """
    return np.random.default_rng([seed, crc32(purpose.encode()), *numbers])
