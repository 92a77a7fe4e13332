"""A world keeps its books, is the same for the same seed, and knows which recommender is better."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from matinee.core.errors import ConfigurationError
from matinee.evaluation.bootstrap import paired_bootstrap
from matinee.events.lines import read_line
from matinee.events.schema import Outcome
from matinee.events.types import Rating, Received, Watch
from matinee.simulation.options import MINUTES_A_DAY, WorldOptions
from matinee.simulation.recommenders import Nothing, Popularity, Random
from matinee.simulation.world import World

START_US = 1_700_006_400_000_000  # 2023-11-15T00:00:00Z, a Wednesday


def options(**changes):
    return WorldOptions(**({"start_us": START_US, "viewers": 300, "movies": 120, "dirt": 0.0} | changes))


def live(recommender, days=1, disturbances=(), **changes):
    """The world after so many days, its lines and its reports."""
    lines = []
    world = World(options(**changes), recommender, lines.extend, disturbances)
    world.live_through_past()
    return world, lines, [world.run_day() for _ in range(days)]


def events(lines):
    return [read_line(line, appended_us=START_US + 10**12).event for line in lines]


def test_the_same_seed_is_the_same_world():
    changes = {"past_ratings": 3.0, "dirt": 0.05}
    first, again = (live(Popularity(), **changes)[1] for _ in range(2))
    assert first == again
    assert first != live(Popularity(), seed=1, **changes)[1]


def test_what_is_reported_is_what_was_written():
    _, lines, (report,) = live(Random())
    kinds = Counter(type(event) for event in events(lines))
    assert len(lines) == report.lines
    assert kinds == {Watch: report.minutes, Rating: report.ratings, Received: report.sessions}
    assert report.failed == 0
    assert 0 < report.caused <= report.recommended < 1


def test_every_line_of_a_clean_world_is_read_as_it_stands():
    _, lines, _ = live(Popularity(), viewers=100)
    readings = [read_line(line, appended_us=START_US + 10**12) for line in lines]
    repairs = {repair for reading in readings for repair in reading.repairs}
    assert {reading.outcome for reading in readings} == {Outcome.ACCEPTED, Outcome.REPAIRED}
    assert len(repairs) == 1  # the seconds that the service leaves out where they are zero


def test_viewers_watch_one_movie_at_a_time_minute_by_minute_and_none_twice():
    _, lines, _ = live(Popularity(), days=2)
    watched = {}
    for event in events(lines):
        if isinstance(event, Watch):
            watched.setdefault(event.user, []).append((event.time_us // 60_000_000, event.item, event.minute))
    assert watched
    for minutes in watched.values():
        begun = [item for _, item, minute in minutes if minute == 0]
        assert len(begun) == len(set(begun))
        for (time, item, minute), (later, other, position) in pairwise(minutes):
            assert later > time
            assert (other, position) == (item, minute + 1) or position == 0


def test_nobody_comes_before_joining_and_no_movie_is_watched_before_it_is_out():
    world, lines, _ = live(Random(), late_viewers=0.5, late_movies=0.5, days=2)
    index = {item: number for number, item in enumerate(world.people.catalogue.ids)}
    late = 0
    for event in events(lines):
        minute = (event.time_us - START_US) // 60_000_000
        # Whoever joins within an hour is noticed at the next full one.
        assert world.people.viewers.joined_minute[int(event.user) - 1] <= minute
        if not isinstance(event, Received):
            assert world.people.catalogue.out_minute[index[event.item]] <= minute
            late += world.people.catalogue.out_minute[index[event.item]] > 0
    assert late


def test_evenings_are_busier_than_nights():
    _, lines, _ = live(Nothing(), viewers=1_000)
    hours = Counter(event.time_us // 3_600_000_000 % 24 for event in events(lines) if isinstance(event, Received))
    assert hours[20] + hours[21] > 3 * (hours[3] + hours[4])


def test_no_list_is_better_than_the_best_and_none_is_worse_than_harmful():
    for recommender in (Random(), Popularity(), Nothing()):
        _, _, (report,) = live(recommender, oracle_sessions=10_000)
        sample = report.sample
        assert sample.who.size == report.sessions
        assert (sample.got <= sample.best + 1e-6).all()
        assert (sample.alone <= sample.best + 1e-6).all()
        assert report.pleasure == pytest.approx(sample.got.mean())
        if recommender.name == "nothing":
            assert sample.share() == 0
            assert report.recommended == 0


def test_popularity_beats_chance_and_chance_beats_nothing():
    worlds = {kind.name: live(kind(), days=2, past_ratings=10.0)[0] for kind in (Popularity, Random, Nothing)}
    for better, worse in (("popularity", "random"), ("random", "nothing")):
        a, b = worlds[better], worlds[worse]
        both = (a.sessions > 0) & (b.sessions > 0)
        difference = paired_bootstrap(a.pleasure[both] / a.sessions[both], b.pleasure[both] / b.sessions[both])
        assert difference.low > 0, (better, worse, difference)


def test_recommending_what_is_popular_concentrates():
    (popular,), (random,) = (live(kind(), past_ratings=10.0)[2] for kind in (Popularity, Random))
    assert popular.gini > random.gini + 0.1
    assert popular.movies < random.movies


def test_drift_changes_tastes_and_keeps_their_distribution():
    still, moved = (live(Nothing(), viewers=2_000, drift_a_day=share)[0] for share in (0.0, 0.3))
    before, after = still.people.viewers.taste, moved.people.viewers.taste
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] == pytest.approx(np.sqrt(0.7), abs=0.02)
    assert after.std() == pytest.approx(1, abs=0.03)


def test_the_past_is_rated_before_the_world_begins_and_not_offered_again():
    world, lines, _ = live(Random(), past_ratings=8.0, sessions_a_day=0.0)
    past = events(lines)
    assert {type(event) for event in past} == {Rating}
    assert max(event.time_us for event in past) < START_US
    assert len({(event.user, event.item) for event in past}) == len(past) == world.starts.sum()
    mean = len(past) / np.count_nonzero(world.people.viewers.joined_minute == 0)
    assert 5 < mean < 9  # 8 on average; the busiest have seen what there is


@pytest.mark.parametrize("wrong", [{"viewers": 0}, {"dirt": 1.5}, {"seed": -1}, {"sessions_a_day": -1.0}])
def test_impossible_worlds_are_refused(wrong):
    with pytest.raises(ConfigurationError):
        options(**wrong)


def test_more_movies_than_names_are_refused():
    with pytest.raises(ConfigurationError, match="at most"):
        World(options(movies=48_001), Nothing(), lambda _: None)


def test_ids_are_unique_and_a_day_has_its_minutes():
    world, _, _ = live(Nothing(), viewers=5, movies=3_000)
    assert len(set(world.people.catalogue.ids)) == 3_000
    assert world.minute == MINUTES_A_DAY
