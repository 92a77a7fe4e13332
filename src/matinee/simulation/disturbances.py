"""What may go wrong in a world, and who may mean harm: each a thing that begins on a day and lasts some hours.

A disturbance may add lines, change what comes to people's minds, or stand before the recommender. It draws from a
generator of its own, so that the world around it is the same as without it.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from matinee.simulation.behaviour import Indices, People
from matinee.simulation.lines import FAILED, MinuteLog
from matinee.simulation.options import MINUTES_A_DAY
from matinee.simulation.recommenders import FAILED_STATUS, Answer, Answers, Recommender, Situation


@dataclass(frozen=True, slots=True)
class Period:
    """Minutes of the world: from `begin`, `length` of them."""

    begin: int
    length: int

    def __contains__(self, minute: int) -> bool:
        return self.begin <= minute < self.begin + self.length

    @classmethod
    def at(cls, day: float, hours: float) -> "Period":
        """So many hours from a day, counted from 0."""
        return cls(round(day * MINUTES_A_DAY), max(1, round(hours * 60)))


class Disturbance(Protocol):
    """Something that happens to a world. Called every minute, also before and after its period."""

    @property
    def period(self) -> Period:
        """When."""

    def fame(self, minute: int, fame: NDArray[np.float64]) -> NDArray[np.float64]:
        """The weights, (n,), with which movies come to mind."""

    def add_lines(self, minute: int, log: MinuteLog, people: People, random: np.random.Generator) -> None:
        """Write more lines."""

    def before(self, minute: int, recommender: Recommender) -> Recommender:
        """The recommender that viewers meet."""


class Harmless:
    """A disturbance that does nothing yet."""

    def fame(self, minute: int, fame: NDArray[np.float64]) -> NDArray[np.float64]:  # noqa: ARG002 - the interface's
        """See `Disturbance.fame`."""
        return fame

    def add_lines(self, minute: int, log: MinuteLog, people: People, random: np.random.Generator) -> None:
        """See `Disturbance.add_lines`."""

    def before(self, minute: int, recommender: Recommender) -> Recommender:  # noqa: ARG002
        """See `Disturbance.before`."""
        return recommender


@dataclass(frozen=True, slots=True)
class Trend(Harmless):
    """A movie is on everyone's lips: its fame is `times` the greatest there is, and fades by half every day."""

    period: Period
    item: int
    times: float = 3.0

    def fame(self, minute: int, fame: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Disturbance.fame`."""
        if minute not in self.period:
            return fame
        changed = fame.copy()
        days = (minute - self.period.begin) / MINUTES_A_DAY
        changed[self.item] = max(fame[self.item], self.times * fame.max() * 0.5**days)
        return changed


@dataclass(frozen=True, slots=True)
class Outage(Harmless):
    """The recommender does not answer: every request fails as the service logs it."""

    period: Period

    def before(self, minute: int, recommender: Recommender) -> Recommender:
        """See `Disturbance.before`."""
        return _Away() if minute in self.period else recommender


class _Away:
    name = "away"

    def recommend(self, who: Indices, situation: Situation) -> Answers:  # noqa: ARG002
        host = "recommender:8082"
        failed = Answer((), 800, FAILED_STATUS, FAILED.format(host=host))
        return Answers(host, [failed] * who.size)


@dataclass(frozen=True, slots=True)
class BadModel(Harmless):
    """The answers are those of a model that has learnt the opposite: what each viewer likes least comes first.

    In an outage it gives none either, whichever of the two is named first.
    """

    period: Period

    def before(self, minute: int, recommender: Recommender) -> Recommender:
        """See `Disturbance.before`."""
        answers = minute in self.period and not isinstance(recommender, _Away)
        return _Worst() if answers else recommender


class _Worst:
    name = "bad model"

    def recommend(self, who: Indices, situation: Situation) -> Answers:
        liking = situation.people.liking_of_all(who)
        liking[~situation.people.choosable_of_all(who, situation.minute)] = np.inf
        worst = np.argsort(liking, axis=1)[:, : situation.length]
        ids = situation.people.catalogue.ids
        return Answers("bad-model:0", [Answer(tuple(ids[item] for item in row)) for row in worst.tolist()])


@dataclass(frozen=True, slots=True)
class BrokenClient(Harmless):
    """One viewer's device repeats a request, some of them garbled, so many times a minute."""

    period: Period
    viewer: int
    lines_a_minute: int = 60

    def add_lines(self, minute: int, log: MinuteLog, people: People, random: np.random.Generator) -> None:
        """See `Disturbance.add_lines`."""
        if minute not in self.period:
            return
        item = people.catalogue.ids[minute % len(people.catalogue)]
        for second in np.sort(random.integers(0, 60, self.lines_a_minute)).tolist():
            request = b"%b,%d,GET /data/m/%b/0.mpg" % (log.time(second), self.viewer + 1, item.encode())
            garbled = random.random() < 0.5
            log.add(request[: int(random.integers(len(request)))] if garbled else request, second)
