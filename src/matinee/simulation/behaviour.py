"""What viewers do: how they like, look, choose, watch, abandon and rate. All of it vectorised over sessions.

The liking of viewer u for movie i, in stars, is ℓ = μ + b_u + b_i + p_u·q_i; nobody but the world knows it. What
they write down is ℓ with noise, cut into 1 to 5 stars. The pleasure of watching is g = (clip(ℓ, 1, 5) − 1)/4.

Each session has an alternative: what the viewer would find without help (`own_pick`), which may be nothing. A list
is looked at from the top (the cascade of Craswell et al. 2008, "An experimental comparison of click position-bias
models"): the movie at place j is seen, chosen with probability a, and if it is not, the next place is looked at
with probability γ. Who chooses nothing turns to the alternative.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from matinee.simulation.catalogue import Catalogue
from matinee.simulation.viewers import Viewers

MEAN = 2.72
"""μ, stars."""
NOISE_SD = 0.86
"""Stars: the noise of a rating."""
_CUTS = (1.76, 2.54, 3.50, 4.68)
"""Where a noisy liking becomes 2, 3, 4 and 5 stars: people spare the ends of the scale, the lower one less."""
LOOK_ON = 0.88
"""γ: the probability of looking at the next place when nothing was chosen yet."""
FINDS = 0.7
"""The probability that a viewer finds something without help."""
_CONSIDERED = 24
"""Movies that come to mind when one looks for something."""
_CHOOSY = (0.8, 2.1)
"""How much a star of a movie's quality, and one of suiting the taste, count (as factors e^x) among those."""
_ATTRACTION = (-2.1, 1.5, 0.35)
"""Log-odds that a movie that is seen in a list is chosen: at 3 stars, for each star more, for each unit of fame."""

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class People:
    """Viewers and movies, and what each viewer has seen."""

    viewers: Viewers
    catalogue: Catalogue
    seen: "Seen"

    def liking(self, who: Indices, items: Indices) -> Floats:
        """ℓ, shape of `items`: (s,) or (s, m) for s viewers; an index below 0 gives that of movie n − 1."""
        kindness = self.viewers.kindness[who].reshape((-1,) + (1,) * (items.ndim - 1))
        return np.float32(MEAN) + kindness + self.catalogue.quality[items] + self._affinity(who, items)

    def _affinity(self, who: Indices, items: Indices) -> Floats:
        """p·q, shape of `items`."""
        found = np.einsum("sf,s...f->s...", self.viewers.taste[who], self.catalogue.factors[items])
        return np.asarray(found)

    def liking_of_all(self, who: Indices) -> Floats:
        """ℓ of every movie, shape (s, n)."""
        movies, viewers = self.catalogue, self.viewers
        own = np.float32(MEAN) + viewers.kindness[who][:, None]
        return own + movies.quality + viewers.taste[who] @ movies.factors.T

    def attraction(self, liking: Floats, items: Indices | slice) -> Floats:
        """a: the probability that a movie is chosen when it is seen in a list, shape of `liking`."""
        base, star, fame = _ATTRACTION
        odds = base + star * (liking - 3) + fame * self.catalogue.fame_score[items]
        return (1 / (1 + np.exp(-odds))).astype(np.float32)

    def choosable(self, who: Indices, items: Indices, minute: int) -> NDArray[np.bool_]:
        """bool, shape (s, m): it exists, is out, and the viewer has not seen it."""
        known = (items >= 0) & (self.catalogue.out_minute[items] <= minute)
        return known & ~self.seen.has(who, items)

    def choosable_of_all(self, who: Indices, minute: int) -> NDArray[np.bool_]:
        """bool, shape (s, n): see `choosable`, for every movie."""
        open_to = np.tile(self.catalogue.out_minute <= minute, (who.size, 1))
        for row, viewer in enumerate(who.tolist()):
            open_to[row, self.seen.of(viewer)] = False
        return open_to

    def own_pick(
        self, random: np.random.Generator, who: Indices, minute: int, cumulative: NDArray[np.float64]
    ) -> Indices:
        """What each viewer would find without help, int32 (s,); −1 for nothing.

        A few movies come to mind in proportion to their fame; of these one is chosen with probability proportional
        to e^(x·b + y·p·q): by Gumbel noise. So what is watched is better liked than what is not: the
        selection bias of every log.

        Args:
            random: draws the same amount whatever was seen.
            who: s viewers.
            minute: of the world.
            cumulative: of the fame of what is out, ending at 1.
        """
        shape = (who.size, _CONSIDERED)
        items = np.searchsorted(cumulative, random.random(shape), side="right").astype(np.int32)
        items = np.minimum(items, len(self.catalogue) - 1)
        quality, taste = _CHOOSY
        wish = quality * self.catalogue.quality[items] + taste * self._affinity(who, items)
        wish += random.gumbel(size=shape)
        wish[~self.choosable(who, items, minute)] = -np.inf
        best = np.argmax(wish, axis=1)
        rows = np.arange(who.size)
        found = (random.random(who.size) < FINDS) & np.isfinite(wish[rows, best])
        return np.where(found, items[rows, best], np.int32(-1)).astype(np.int32)


class Seen(Protocol):
    """What viewers have seen."""

    def add(self, who: Indices, items: Indices) -> None:
        """Viewers start movies, (s,) each; a viewer comes at most once in `who`."""

    def has(self, who: Indices, items: Indices) -> NDArray[np.bool_]:
        """bool, shape (s, m): for m movies of each of s viewers."""

    def of(self, viewer: int) -> Indices:
        """The movies that one viewer has seen, in no order."""


class Remembered:
    """The latest movies that each viewer has started, up to a fixed number of each.

    Args:
        n_viewers: how many viewers.
        memory: how many movies each remembers.
    """

    def __init__(self, n_viewers: int, memory: int) -> None:
        self.items = np.full((n_viewers, memory), -1, dtype=np.int32)
        """Of each viewer, the movies, a ring; −1 where there is none yet."""
        self.count = np.zeros(n_viewers, dtype=np.int32)
        """Of each viewer, the movies started since the world began."""

    def grow(self, n_viewers: int) -> None:
        """There are so many viewers by now; the new ones have seen nothing."""
        more = n_viewers - self.count.size
        self.items = np.pad(self.items, ((0, more), (0, 0)), constant_values=-1)
        self.count = np.pad(self.count, (0, more))

    def add(self, who: Indices, items: Indices) -> None:
        """See `Seen.add`."""
        self.items[who, self.count[who] % self.items.shape[1]] = items
        self.count[who] += 1

    def has(self, who: Indices, items: Indices) -> NDArray[np.bool_]:
        """See `Seen.has`."""
        return np.asarray((self.items[who][:, None, :] == items[:, :, None]).any(axis=2))

    def of(self, viewer: int) -> Indices:
        """See `Seen.of`."""
        items: Indices = self.items[viewer]
        return np.asarray(items[items >= 0])


def pleasure(liking: Floats) -> Floats:
    """The pleasure of watching, g = (clip(ℓ, 1, 5) − 1)/4: 0 to 1."""
    return np.asarray((np.clip(liking, 1, 5) - 1) / 4, dtype=np.float32)


def choose(random: np.random.Generator, attraction: Floats) -> NDArray[np.intp]:
    """The place that each viewer chooses from a list, (s,); −1 for none. `attraction` is 0 where nothing is."""
    s, places = attraction.shape
    looked = np.cumprod(np.hstack([np.ones((s, 1)), random.random((s, places - 1)) < LOOK_ON]), axis=1) > 0
    chosen = looked & (random.random((s, places)) < attraction)
    return np.asarray(np.where(chosen.any(axis=1), chosen.argmax(axis=1), -1))


def minutes_watched(random: np.random.Generator, liking: Floats, length: NDArray[np.int16]) -> NDArray[np.int16]:
    """Minutes after which each viewer stops, (s,), 1 to the length: all of it, or given up.

    Watched to its end with log-odds 1.2 + 1.6·(ℓ − 3); else given up after a share that is Beta(1.2, 2.5).
    """
    ends = random.random(liking.size) < 1 / (1 + np.exp(-(1.2 + 1.6 * (liking - 3))))
    share = np.where(ends, 1.0, random.beta(1.2, 2.5, liking.size))
    return np.clip(np.ceil(share * length), 1, length).astype(np.int16)


def ratings(random: np.random.Generator, liking: Floats) -> NDArray[np.int16]:
    """Stars, (s,): 1 to 5, by where ℓ with noise lies between the cuts."""
    noisy = liking + NOISE_SD * random.standard_normal(liking.size)
    return (1 + np.searchsorted(_CUTS, noisy)).astype(np.int16)


def rates(random: np.random.Generator, liking: Floats) -> NDArray[np.bool_]:
    """Who rates what they have watched, (s,): 15%, and 15% more for each star away from 3, at most 60%."""
    return random.random(liking.size) < np.minimum(0.15 + 0.15 * np.abs(liking - 3), 0.6)
