"""What viewers found and rated on their own, before anybody recommended anything to them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from matinee.core.clock import DAY, MINUTE, SECOND
from matinee.simulation.behaviour import FINDS, Indices, People, ratings
from matinee.simulation.lines import MinuteLog
from matinee.simulation.options import WorldOptions, draws

PAST_DAYS = 60
"""Days over which the past is spread."""
PAST_ENDED_DAYS = 40
"""Days before the world begins at which they ended. The past is an archive of ratings alone: right before the
stream, it would look like a stream whose volume has grown a hundredfold."""
Ratings = tuple[Indices, Indices, NDArray[np.int16]]
"""Users, items and stars, (n,) each."""


def find_and_rate(people: People, random: np.random.Generator, wanted: NDArray[np.int64]) -> Ratings:
    """Viewers look for movies that are out at the start and rate each that they find, none twice.

    Args:
        people: who; what they find counts as seen from now on.
        random: to draw from.
        wanted: how often each viewer looks for something, (n_viewers,); `FINDS` of it is found, none twice.
    """
    fame = np.where(people.catalogue.out_minute <= 0, people.catalogue.fame, 0)
    cumulative = np.cumsum(fame / fame.sum())
    found: list[Ratings] = []
    left = wanted.copy()
    while (left > 0).any():
        who = np.flatnonzero(left > 0).astype(np.int32)
        items = people.own_pick(random, who, 0, cumulative)
        left[who] -= 1
        who, items = who[items >= 0], items[items >= 0]
        people.seen.add(who, items)
        found.append((who, items, ratings(random, people.liking(who, items))))
    if not found:
        return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int16)
    users, its, stars = (np.concatenate(column) for column in zip(*found, strict=True))
    return users, its, stars


def live_past(people: People, options: WorldOptions) -> Ratings:
    """What viewers who are there at the start rated before it: `options.past_ratings` each on average."""
    most = min(len(people.catalogue) // 2, options.memory)
    wanted = np.minimum(np.round(options.past_ratings * people.viewers.activity / FINDS), most)
    wanted *= people.viewers.joined_minute <= 0
    return find_and_rate(people, draws(options.seed, "past"), wanted.astype(np.int64))


def past_lines(past: Ratings, options: WorldOptions, ids: tuple[bytes, ...]) -> Iterator[list[bytes]]:
    """The past as lines in order of time, a day at a time; each rating is of a random minute."""
    users, items, stars = past
    random = draws(options.seed, "past lines")
    minutes = np.sort(random.integers(0, PAST_DAYS * (DAY // MINUTE), users.size))
    seconds = random.integers(0, 60, users.size, dtype=np.int8)
    order = random.permutation(users.size)
    begins = options.start_us - (PAST_ENDED_DAYS + PAST_DAYS) * DAY
    starts = np.flatnonzero(np.diff(minutes, prepend=-1))
    day: list[bytes] = []
    for first, end in zip(starts.tolist(), [*starts[1:].tolist(), users.size], strict=True):
        log = MinuteLog(begins + int(minutes[first]) * 60 * SECOND, ids)
        rows = order[first:end]
        log.rate(users[rows], items[rows], stars[rows], seconds[first:end])
        day += log.written(random)
        if end == users.size or minutes[end] // 1_440 != minutes[first] // 1_440:
            yield day
            day = []
