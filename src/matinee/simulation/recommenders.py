"""What is asked for recommendations: a service by its URL, and yardsticks that need no service."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from matinee.simulation.behaviour import Indices, People

OK = 200
FAILED_STATUS = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came for one request. `status` is 0, and `error` says why, where no answer came in time."""

    items: tuple[str, ...]
    milliseconds: int = 0
    status: int = OK
    error: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to some requests, in their order, from `host` (host and port)."""

    host: str
    each: Sequence[Answer]


@dataclass(frozen=True, slots=True)
class Situation:
    """What a yardstick may look at: what the service itself could know, and for the oracle the truth.

    Attributes:
        people: viewers, movies, and who has seen what.
        minute: of the world.
        starts: how often each movie was started, int64 (n,).
        alternatives: of each viewer asked for, what they would find without help, (s,); −1 for nothing.
        random: to draw from.
        length: items wanted.
    """

    people: People
    minute: int
    starts: NDArray[np.int64]
    alternatives: Indices
    random: np.random.Generator
    length: int


class Recommender(Protocol):
    """Answers for several viewers at once."""

    name: str

    def recommend(self, who: Indices, situation: Situation) -> Answers:
        """One answer for each of s viewers."""


class Nothing:
    """Recommends nothing: what happens without a recommender."""

    name = "nothing"

    def recommend(self, who: Indices, situation: Situation) -> Answers:  # noqa: ARG002 - the interface's
        """See `Recommender.recommend`."""
        return Answers("nothing:0", [Answer(())] * who.size)


class _Yardstick(ABC):
    """Ranks all that is out and not seen yet by a score of its own."""

    name = ""

    @abstractmethod
    def scores(self, who: Indices, situation: Situation) -> NDArray[np.floating]:
        """Shape (s, n); the greatest first."""

    def recommend(self, who: Indices, situation: Situation) -> Answers:
        """See `Recommender.recommend`."""
        ids = situation.people.catalogue.ids
        scores = np.array(self.scores(who, situation), dtype=np.float64)
        scores[~situation.people.choosable_of_all(who, situation.minute)] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, : situation.length]
        return Answers(
            f"{self.name}:0",
            [
                Answer(tuple(ids[item] for item in row.tolist() if np.isfinite(score[item])))
                for row, score in zip(order, scores, strict=True)
            ],
        )


class Popularity(_Yardstick):
    """What was started most often so far, without what the viewer has seen."""

    name = "popularity"

    def scores(self, who: Indices, situation: Situation) -> NDArray[np.floating]:
        """See `_Yardstick.scores`."""
        return np.broadcast_to(situation.starts.astype(np.float64), (who.size, situation.starts.size))


class Random(_Yardstick):
    """Anything the viewer has not seen."""

    name = "random"

    def scores(self, who: Indices, situation: Situation) -> NDArray[np.floating]:
        """See `_Yardstick.scores`."""
        return situation.random.random((who.size, situation.starts.size))


YARDSTICKS: dict[str, type[Recommender]] = {kind.name: kind for kind in (Nothing, Popularity, Random)}
