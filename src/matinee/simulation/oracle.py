"""The truth: what a list is worth to a viewer, and what the best possible list would have been worth.

A session's alternative is worth o = g(own pick), or 0. With attraction a_j, pleasure g_j and d_j = g_j − o at place
j, the expected pleasure of a list is

    o + Σ_j γ^(j−1) · Π_{l<j} (1 − a_l) · a_j · d_j.

The best list of at most k of n movies is found exactly (Kempe and Mahdian 2008, "A Cascade Model for Externalities
in Sponsored Search"): whatever is shown is shown by descending a·d / (1 − γ·(1 − a)), as exchanging two neighbours
shows; so go through the movies in ascending order of that and decide of each whether it comes before the best list
of those behind it: V_k ← max(V_k, a·d + γ·(1 − a)·V_{k−1}).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matinee.simulation.behaviour import LOOK_ON, Floats, Indices, People, pleasure

Values = NDArray[np.float64]


def list_value(attraction: Floats, gain: Floats) -> Values:
    """The expected gain over the alternative, (s,), of lists given by a and d, (s, places) each."""
    value = np.zeros(len(attraction))
    for place in range(attraction.shape[1] - 1, -1, -1):
        a = attraction[:, place].astype(np.float64)
        value = a * gain[:, place] + LOOK_ON * (1 - a) * value
    return value


def best_value(attraction: Floats, gain: Floats, length: int) -> Values:
    """The expected gain, (s,), of the best list of at most `length` of n movies with a and d, (s, n) each."""
    a, d = attraction.astype(np.float64), gain.astype(np.float64)
    order = np.argsort(a * d / (1 - LOOK_ON * (1 - a)), axis=1)
    worth = np.take_along_axis(a * d, order, axis=1).T.copy()
    past = LOOK_ON * (1 - np.take_along_axis(a, order, axis=1)).T
    value = np.zeros((length + 1, len(a)))
    for movie in range(len(worth)):
        if (worth[movie] <= 0).all():
            continue  # worse than the alternative for everyone: it would only stand in the way
        np.maximum(value[1:], worth[movie] + past[movie] * value[:-1], out=value[1:])
    return np.asarray(value[length])


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions of s viewers at one minute.

    Attributes:
        who: viewers, int32 (s,).
        alternatives: what they would find without help, int32 (s,); −1 for nothing.
        minute: of the world.
    """

    who: Indices
    alternatives: Indices
    minute: int


class Oracle:
    """Knows the people.

    Args:
        people: viewers, movies, and who has seen what.
    """

    def __init__(self, people: People) -> None:
        self._people = people

    def alternative(self, sessions: Sessions) -> Values:
        """o, (s,): the pleasure of what is found without help; 0 for nothing."""
        g = pleasure(self._people.liking(sessions.who, sessions.alternatives)).astype(np.float64)
        return np.where(sessions.alternatives >= 0, g, 0.0)

    def of_lists(self, sessions: Sessions, items: Indices) -> tuple[Floats, Floats]:
        """Attraction a and gain d of the movies of a lists, shape of `items`; what cannot be chosen has a = 0."""
        liking = self._people.liking(sessions.who, items)
        attraction = self._people.attraction(liking, items)
        attraction[~self._people.choosable(sessions.who, items, sessions.minute)] = 0
        gain = pleasure(liking) - self.alternative(sessions)[:, None].astype(np.float32)
        return attraction, gain

    def of_everything(self, sessions: Sessions) -> tuple[Floats, Floats]:
        """Attraction a and gain d of every movie for each session, shape (s, n)."""
        people = self._people
        liking = people.liking_of_all(sessions.who)
        attraction = people.attraction(liking, slice(None))
        attraction[~people.choosable_of_all(sessions.who, sessions.minute)] = 0
        gain = pleasure(liking) - self.alternative(sessions)[:, None].astype(np.float32)
        return attraction, gain
