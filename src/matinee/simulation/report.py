"""What a day was like: what viewers got, what was possible, and what the recommendations did."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from matinee.simulation.behaviour import Indices
from matinee.simulation.concentration import gini, top_share
from matinee.simulation.dirt import KINDS
from matinee.simulation.oracle import Values, best_value
from matinee.simulation.recommenders import OK, Answer

_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """Sessions for which the best possible list was worked out; expected pleasures, 0 to 1, (m,) each.

    Attributes:
        who: the viewers.
        got: with the list that was shown.
        best: with the best list.
        alone: without any list.
    """

    who: Indices
    got: Values
    best: Values
    alone: Values

    def share(self) -> float:
        """The part of what recommending can give that was given: Σ(got − alone) / Σ(best − alone); 0 of nothing."""
        possible = float((self.best - self.alone).sum())
        return float((self.got - self.alone).sum()) / possible if possible > 0 else 0.0


@dataclass(frozen=True, slots=True)
class DayReport:
    """One day of a world. Pleasures are expected ones per session, 0 to 1.

    Attributes:
        day: its number, from 0.
        sessions: how often somebody opened the service.
        failed: requests without a good answer.
        failures: how many failed in each way: a status with its reason, or that no answer came in time.
        pleasure: mean over all sessions, with the lists that were shown.
        alone: mean over all sessions, had nothing been shown.
        best: mean over the sampled sessions, with the best lists.
        regret: mean of best − got over the sampled sessions.
        share: of what recommending can give, the part that was given; see `Sample.share`.
        minutes: watched.
        recommended: the share of the minutes that were chosen from a list.
        caused: the share of the minutes that would not have been watched without the list, because the viewer would
            have found another movie, or none.
        gini: of the movies' starts, over movies that are out.
        top_share: the share of starts that a hundredth of them has.
        movies: how many movies were started.
        ratings: written.
        lines: written, with the dirt.
        dirt: lines of each kind of dirt.
        sample: the sampled sessions.
    """

    day: int
    sessions: int
    failed: int
    failures: dict[str, int]
    pleasure: float
    alone: float
    best: float
    regret: float
    share: float
    minutes: int
    recommended: float
    caused: float
    gini: float
    top_share: float
    movies: int
    ratings: int
    lines: int
    dirt: dict[str, int]
    sample: Sample

    def as_dict(self) -> dict[str, object]:
        """Everything but the sample, as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "sample"}


@dataclass
class Tally:
    """Adds up a day.

    Attributes:
        n_movies: in the catalogue.
        length: of the best list.
    """

    n_movies: int
    length: int
    sessions: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    pleasure: float = 0.0
    alone: float = 0.0
    minutes: int = 0
    recommended: int = 0
    caused: int = 0
    ratings: int = 0
    lines: int = 0
    dirt: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    starts: NDArray[np.int64] = field(init=False)
    _waiting: list[tuple[Indices, Values, Values, NDArray[np.float32], NDArray[np.float32]]] = field(
        default_factory=list
    )
    _n_waiting: int = 0
    _done: list[tuple[Indices, Values, Values, Values]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.starts = np.zeros(self.n_movies, dtype=np.int64)

    def add_sessions(self, answers: "list[Answer]", gain: Values, alone: Values) -> None:
        """Sessions with their answers, the expected gain of their lists, and what they had without, (s,) each."""
        self.sessions += len(answers)
        self.failures.update(_failure(answer) for answer in answers if answer.status != OK)
        self.pleasure += float((gain + alone).sum())
        self.alone += float(alone.sum())

    def add_sample(
        self, who: Indices, gain: Values, alone: Values, attraction: NDArray[np.float32], gains: NDArray[np.float32]
    ) -> None:
        """Sampled sessions, with a and d of every movie, (m, n); the best lists are worked out many at a time."""
        self._waiting.append((who, gain, alone, attraction, gains))
        self._n_waiting += who.size
        if self._n_waiting >= _AT_ONCE:
            self._work_out()

    def _work_out(self) -> None:
        if not self._waiting:
            return
        who, gain, alone, attraction, gains = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        best = best_value(attraction, gains, self.length)
        self._done.append((who, gain + alone, best + alone, alone))
        self._waiting, self._n_waiting = [], 0

    def _sample(self) -> Sample:
        self._work_out()
        if not self._done:
            nothing = np.zeros(0)
            return Sample(np.zeros(0, dtype=np.int32), nothing, nothing, nothing)
        return Sample(*(np.concatenate(parts) for parts in zip(*self._done, strict=True)))

    def report(self, day: int, n_out: int) -> DayReport:
        """The day's figures; `n_out` movies are out at its end."""
        sample = self._sample()
        sessions, minutes = max(self.sessions, 1), max(self.minutes, 1)
        started = np.sort(self.starts)[-n_out:]
        return DayReport(
            day=day,
            sessions=self.sessions,
            failed=self.failures.total(),
            failures=dict(self.failures.most_common()),
            pleasure=self.pleasure / sessions,
            alone=self.alone / sessions,
            best=float(sample.best.mean()) if sample.best.size else float("nan"),
            regret=float((sample.best - sample.got).mean()) if sample.best.size else float("nan"),
            share=sample.share(),
            minutes=self.minutes,
            recommended=self.recommended / minutes,
            caused=self.caused / minutes,
            gini=gini(started),
            top_share=top_share(started, 0.01),
            movies=int(np.count_nonzero(self.starts)),
            ratings=self.ratings,
            lines=self.lines,
            dirt=self.dirt,
            sample=sample,
        )


def _failure(answer: Answer) -> str:
    """The way in which a request failed, without what differs from one to the next."""
    return f"{answer.status} {answer.error}".strip() if answer.status else "no list in time"
