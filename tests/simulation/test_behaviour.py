"""What viewers do follows from how they like: by the odds that are written down, and in the lines of a world."""

from statistics import NormalDist

import numpy as np
import pytest

from matinee.events.lines import read_line
from matinee.events.types import Rating, Watch
from matinee.simulation.behaviour import People, Remembered, minutes_watched, rates, ratings
from matinee.simulation.catalogue import make_catalogue
from matinee.simulation.options import WorldOptions
from matinee.simulation.recommenders import Random
from matinee.simulation.viewers import make_viewers
from matinee.simulation.world import World

N = 40_000


def near(share, n=N):
    """A share that n draws come to: within five standard deviations."""
    return pytest.approx(share, abs=5 * np.sqrt(0.25 / n))


def drawing():
    return np.random.default_rng(5)


def liked(stars):
    return np.full(N, stars, dtype=np.float32)


@pytest.mark.parametrize(("liking", "to_the_end"), [(1, 0.119), (3, 0.769), (4, 0.943)])
def test_the_better_one_likes_the_likelier_one_watches_to_the_end(liking, to_the_end):
    minutes = minutes_watched(drawing(), liked(liking), np.full(N, 200, dtype=np.int16))
    ended = minutes == 200
    assert ended.mean() == near(to_the_end)  # log-odds −2, 1.2 and 2.8
    given_up = minutes[~ended]
    assert given_up.min() >= 1
    assert given_up.mean() / 200 == pytest.approx(1.2 / (1.2 + 2.5), abs=0.02)  # the mean of a beta variable


@pytest.mark.parametrize(("liking", "share"), [(3, 0.15), (4, 0.3), (2, 0.3), (1, 0.45), (7, 0.6)])
def test_the_stronger_a_feeling_the_likelier_it_is_rated(liking, share):
    assert rates(drawing(), liked(liking)).mean() == near(share)


@pytest.mark.parametrize("liking", [1.5, 3.0, 4.5])
def test_stars_are_the_liking_with_noise_between_the_cuts(liking):
    stars = ratings(drawing(), liked(liking))
    noisy = NormalDist(liking, 0.86)
    for star, cut in enumerate((1.76, 2.54, 3.50, 4.68), 1):
        assert (stars <= star).mean() == near(noisy.cdf(cut))
    assert set(stars) <= {1, 2, 3, 4, 5}


def two_movies(*, fame=(1, 1), quality=(0, 0), affinity=(0, 0), seen=None):
    """The share of viewers who find nothing, the first and the second of two movies on their own."""
    options = WorldOptions(start_us=0, viewers=N, movies=2)
    viewers, catalogue = make_viewers(options), make_catalogue(options)
    viewers.taste[:] = np.eye(1, viewers.taste.shape[1])
    catalogue.factors[:] = np.outer(affinity, viewers.taste[0])
    catalogue.quality[:] = quality
    catalogue.out_minute[:] = 0
    people, who = People(viewers, catalogue, Remembered(N, 4)), np.arange(N, dtype=np.int32)
    if seen is not None:
        people.seen.add(who, np.full(N, seen, dtype=np.int32))
    picks = people.own_pick(drawing(), who, 0, np.cumsum(fame) / np.sum(fame))
    return np.bincount(picks + 1, minlength=3) / N


def preferred(weight):
    """How often the one of two equally famous movies is chosen that counts `weight` times as much as the other.

    Of 24 movies that come to mind, k are it; then it is with probability k·weight / (k·weight + 24 − k).
    """
    k = np.arange(25)
    comes_up = np.array([NormalDist(12, np.sqrt(6)).cdf(n + 0.5) for n in k])
    comes_up = np.diff(comes_up, prepend=0)
    return float(comes_up @ (k * weight / (k * weight + 24 - k)))


def test_what_is_found_without_help_is_what_is_known_and_suits():
    nothing, one, other = two_movies(fame=(3, 1))
    assert (nothing, one, other) == (near(0.3), near(0.7 * 0.75), near(0.7 * 0.25))
    for better in ({"quality": (1, 0)}, {"affinity": (0.5, -0.5)}):
        weight = np.exp(0.8 if "quality" in better else 2.1)
        assert two_movies(**better)[1] == near(0.7 * preferred(weight))
    assert two_movies(seen=0)[1] == 0
    assert two_movies(seen=0)[2] == near(0.7)


@pytest.fixture(scope="module")
def lived():
    """Of each movie that was watched in a world: ℓ, whether it was watched to its end, and whether it was rated."""
    lines = []
    options = WorldOptions(
        start_us=1_700_006_400_000_000, viewers=1_000, drift_a_day=0.0, dirt=0.0, oracle_sessions=0
    )  # fmt: skip
    world = World(options, Random(), lines.extend)
    world.run_day()
    watched, rated, index = {}, set(), world.people.catalogue.index
    for line in lines:
        event = read_line(line, appended_us=options.start_us + 10**12).event
        if isinstance(event, (Watch, Rating)):
            pair = (int(event.user) - 1, index[event.item])
            if isinstance(event, Watch):
                watched[pair] = event.minute + 1
            else:
                rated.add(pair)
    still = set(np.flatnonzero(world.state()["busy"]).tolist())
    pairs = [pair for pair in watched if pair[0] not in still]
    who, items = np.array(pairs, dtype=np.int32).T
    ended = np.array([watched[pair] for pair in pairs]) == world.people.catalogue.minutes[items]
    return world.people.liking(who, items), ended, np.array([pair in rated for pair in pairs])


def test_in_a_world_people_give_up_what_they_do_not_like(lived):
    liking, ended, _ = lived
    assert np.corrcoef(liking, ended)[0, 1] > 0.2  # of as many that have nothing to do with each other, 0 ± 0.04


def test_in_a_world_people_rate_what_they_feel_strongly_about(lived):
    liking, _, rated = lived
    assert np.corrcoef(np.abs(liking - 3), rated)[0, 1] > 0.15
