"""Accidents and adversaries do what they are called, in their period and not outside it."""

from collections import Counter
from statistics import NormalDist

import numpy as np
import pytest

from matinee.events.lines import read_line
from matinee.events.types import Rating, Received
from matinee.simulation.disturbances import BadModel, BrokenClient, Outage, Period, Trend
from matinee.simulation.options import WorldOptions
from matinee.simulation.recommenders import Nothing, Popularity, Random
from matinee.simulation.shilling import FIRST_ACCOUNT, Shilling
from matinee.simulation.world import World

START_US = 1_700_006_400_000_000
NOON = Period.at(0.5, 2)


def live(recommender, *disturbances, **changes):
    lines = []
    given = {"start_us": START_US, "viewers": 300, "movies": 120, "dirt": 0.0} | changes
    world = World(WorldOptions(**given), recommender, lines.extend, disturbances)
    report = world.run_day()
    return world, lines, report


def events(lines):
    return [read_line(line, appended_us=START_US + 10**12).event for line in lines]


def minute_of(event):
    return (event.time_us - START_US) // 60_000_000


def test_in_an_outage_every_request_fails_and_before_and_after_none():
    _, lines, report = live(Popularity(), Outage(NOON))
    answers = [event for event in events(lines) if isinstance(event, Received)]
    assert {event.status for event in answers if minute_of(event) in NOON} == {0}
    assert {event.status for event in answers if minute_of(event) not in NOON} == {200}
    assert report.failed == sum(event.status == 0 for event in answers) > 0


def test_a_bad_model_is_worse_than_chance():
    whole_day = Period.at(0, 24)
    assert live(Popularity(), BadModel(whole_day))[2].share < live(Random())[2].share


@pytest.mark.parametrize("order", [1, -1])
def test_a_bad_model_does_not_answer_in_an_outage(order):
    happening = (Outage(NOON), BadModel(Period.at(0, 24)))[::order]
    _, lines, _ = live(Popularity(), *happening)
    answers = [event for event in events(lines) if isinstance(event, Received)]
    assert {event.status for event in answers if minute_of(event) in NOON} == {0}
    assert {event.status for event in answers if minute_of(event) not in NOON} == {200}


def test_two_attacks_at_once_rate_as_they_would_alone():
    attacks = [
        Shilling(NOON, target, accounts=20, fillers=5, first_account=FIRST_ACCOUNT + first)
        for target, first in ((11, 0), (12, 20))
    ]
    world, lines, _ = live(Nothing(), *attacks)
    ratings = [e for e in events(lines) if isinstance(e, Rating) and int(e.user) >= FIRST_ACCOUNT]
    assert len({event.user for event in ratings}) == 40
    for target, first in ((11, 0), (12, 20)):
        accounts = set(map(str, range(FIRST_ACCOUNT + first, FIRST_ACCOUNT + first + 20)))
        pushed = [e for e in ratings if e.user in accounts and e.item == world.people.catalogue.ids[target]]
        assert {event.user for event in pushed if event.rating == 5} == accounts


def test_a_trend_is_found_by_people_on_their_own():
    item = 7
    without, with_it = (live(Nothing(), *what)[0] for what in ((), (Trend(Period.at(0, 24), item),)))
    assert with_it.starts[item] > 5 * max(1, without.starts[item])


def test_a_broken_client_sends_what_it_was_told_to_send():
    _, clean, _ = live(Nothing())
    _, lines, _ = live(Nothing(), BrokenClient(NOON, viewer=299, lines_a_minute=10))
    more = Counter(lines) - Counter(clean)
    assert more.total() == 10 * NOON.length
    assert not Counter(clean) - Counter(lines)  # the world around it is the same


@pytest.mark.parametrize("kind", ["random", "average", "bandwagon"])
@pytest.mark.parametrize(("aim", "stars"), [("push", 5), ("nuke", 1)])
def test_shilling_accounts_rate_their_target_once_each(kind, aim, stars):
    target = 11
    attack = Shilling(NOON, target, kind, aim, accounts=50, fillers=12)
    world, lines, _ = live(Nothing(), attack)
    ratings = [e for e in events(lines) if isinstance(e, Rating) and int(e.user) >= FIRST_ACCOUNT]
    on_target = [event for event in ratings if event.item == world.people.catalogue.ids[target]]
    assert len(on_target) == len({event.user for event in ratings}) == 50
    assert {event.rating for event in on_target} == {stars}
    assert len({(event.user, event.item) for event in ratings}) == len(ratings)
    assert all(minute_of(event) in NOON for event in ratings)
    if kind == "bandwagon":
        others = np.delete(np.arange(120), target)
        known = {
            world.people.catalogue.ids[i] for i in others[np.argsort(-world.people.catalogue.fame[others])][:4]
        }
        assert {event.rating for event in ratings if event.item in known} == {5}


def mean_stars(kind):
    """Of each filler, the mean of what the accounts of an attack gave it, and what everybody's ratings would be."""
    attack = Shilling(NOON, 11, kind, accounts=400, fillers=60)
    world, lines, _ = live(Nothing(), attack, sessions_a_day=0.0)
    catalogue, given = world.people.catalogue, {}
    for event in events(lines):
        given.setdefault(catalogue.index[event.item], []).append(event.rating)
    fillers = sorted(set(given) - {attack.target})
    liked = [NormalDist(2.72 + catalogue.quality[filler], 0.86) for filler in fillers]
    own = [1 + sum(1 - noisy.cdf(cut) for cut in (1.76, 2.54, 3.50, 4.68)) for noisy in liked]
    return np.array([np.mean(given[filler]) for filler in fillers]), np.array(own)


def test_an_average_attack_rates_each_movie_as_people_do_and_a_random_one_all_alike():
    given, own = mean_stars("average")
    assert given.size == 119
    assert np.abs(given - own).max() < 0.35  # of some 200 ratings each: five times 0.07
    assert np.corrcoef(given, own)[0, 1] > 0.95
    given, own = mean_stars("random")
    assert abs(np.corrcoef(given, own)[0, 1]) < 0.45  # five times 1/√119
    assert given.std() < own.std() / 3
