"""Accounts that were made to push a movie, or to bury one.

Lam and Riedl 2004, "Shilling recommender systems for fun and profit"; Burke et al. 2006 for the kinds of attack.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from matinee.simulation.behaviour import MEAN, People, ratings
from matinee.simulation.disturbances import Harmless, Period
from matinee.simulation.lines import MinuteLog

Kind = Literal["random", "average", "bandwagon"]
Aim = Literal["push", "nuke"]
FIRST_ACCOUNT = 900_000_000
"""Their ids begin here, beyond viewers': a study can tell them apart by it."""


@dataclass(frozen=True, slots=True)
class Shilling(Harmless):
    """Accounts that each rate some fillers, and one target with 5 stars (push) or 1 (nuke).

    Attributes:
        period: their ratings are spread evenly over it.
        target: the movie's index.
        kind: `random`, fillers rated around the mean of all ratings; `average`, around each filler's own mean;
            `bandwagon`, as random, and the best known movies with 5 stars.
        aim: `push` or `nuke`.
        accounts: how many.
        fillers: movies that each rates besides the target.
        first_account: their ids go up from here; of two attacks each needs its own.
    """

    period: Period
    target: int
    kind: Kind = "average"
    aim: Aim = "push"
    accounts: int = 100
    fillers: int = 30
    first_account: int = FIRST_ACCOUNT

    def add_lines(self, minute: int, log: MinuteLog, people: People, random: np.random.Generator) -> None:
        """See `Disturbance.add_lines`."""
        if minute not in self.period:
            return
        done = minute - self.period.begin
        first, last = (self.accounts * part // self.period.length for part in (done, done + 1))
        for account in range(first, last):
            self._rate(account, log, people, random)

    def _rate(self, account: int, log: MinuteLog, people: People, random: np.random.Generator) -> None:
        items, stars = self._profile(people, random)
        seconds = np.sort(random.integers(0, 60, items.size))
        for item, star, second in zip(items.tolist(), stars.tolist(), seconds.tolist(), strict=True):
            name = people.catalogue.ids[item].encode()
            log.add(b"%b,%d,GET /rate/%b=%d" % (log.time(second), self.first_account + account, name, star), second)

    def _profile(self, people: People, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The movies of one account, the target last, and their stars."""
        movies = people.catalogue
        others = np.delete(np.arange(len(movies)), self.target)
        fillers = random.choice(others, min(self.fillers, others.size), replace=False)
        middle = movies.quality[fillers] if self.kind == "average" else np.zeros(fillers.size, dtype=np.float32)
        stars = ratings(random, np.float32(MEAN) + middle)
        if self.kind == "bandwagon":
            best_known = others[np.argsort(-movies.fame[others])][: fillers.size // 3]
            fillers = np.concatenate([np.setdiff1d(fillers, best_known), best_known])
            stars = np.concatenate([stars[: fillers.size - best_known.size], np.full(best_known.size, 5)])
        return np.append(fillers, self.target), np.append(stars, 5 if self.aim == "push" else 1)
