"""A world keeps its books, is the same for the same seed, and knows which recommender is better."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from matinee.core.clock import DAY
from matinee.core.errors import ConfigurationError
from matinee.evaluation.bootstrap import paired_bootstrap
from matinee.events.lines import read_line
from matinee.events.schema import Outcome
from matinee.events.types import Rating, Received, Watch
from matinee.simulation.api_answers import Knowledge
from matinee.simulation.catalogue import later_movies, make_catalogue
from matinee.simulation.options import MINUTES_A_DAY, WorldOptions
from matinee.simulation.oracle import Oracle, Sessions
from matinee.simulation.recommenders import Answer, Answers, Nothing, Popularity, Random
from matinee.simulation.viewers import later_viewers
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
    return [read_line(line, appended_us=START_US + 90 * DAY).event for line in lines]


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


def test_viewers_and_movies_come_for_as_long_as_the_world_lives():
    lines, n = [], 300
    made_of = options(viewers=n, movies=n, late_viewers=0.9, late_movies=0.9, sessions_a_day=0.5, oracle_sessions=0)
    world = World(made_of, Random(), lines.extend)
    described = Knowledge(world.people.catalogue, world.people.viewers, seed=0, unknown=0, odd=0)
    world.take_up(world.state() | {"minute": np.array(58 * MINUTES_A_DAY)})  # two months that nobody sees
    for _ in range(4):
        world.run_day()
    people, catalogue = world.people.viewers, world.people.catalogue
    assert len(set(catalogue.ids)) == len(catalogue) == world.starts.size
    for came in (people.joined_minute, catalogue.out_minute):
        for begins in (0, 30 * MINUTES_A_DAY, 60 * MINUTES_A_DAY):
            days = (came[(came > begins) & (came <= begins + 30 * MINUTES_A_DAY)] - begins) / MINUTES_A_DAY
            assert days.size == pytest.approx(0.9 * n, abs=5 * np.sqrt(0.09 * n))
            assert days.mean() == pytest.approx(15, abs=5 * np.sqrt(75 / days.size))  # at any time within it

    viewers, movies = {}, {}
    for event in events(lines):
        if isinstance(event, Watch) and event.minute == 0:
            minute, viewer = (event.time_us - START_US) // 60_000_000, int(event.user) - 1
            viewers.setdefault(viewer, minute)
            movies.setdefault(catalogue.index[event.item], minute)
    for first, came in ((viewers, people.joined_minute), (movies, catalogue.out_minute)):
        assert all(came[index] <= minute for index, minute in first.items())
        months = Counter(int(came[index]) // made_of.period_minutes for index in first)
        assert months[1] > 50
        assert months[2] > 2  # in two days, of some eighteen who came
    for viewer, movie in zip(viewers, movies, strict=False):
        assert described.user(str(viewer + 1))["age"] == people.age[viewer]
        assert described.movie(catalogue.ids[movie])["title"] == catalogue.titles[movie]


def test_nobody_and_nothing_comes_where_nothing_is_late():
    made_of = options(viewers=50, days=1, late_viewers=0.0, late_movies=0.0)
    world = World(made_of, Nothing(), lambda _: None)
    world.run_day()
    assert (len(world.people.viewers), len(world.people.catalogue)) == (50, 120)


def test_those_of_later_periods_are_like_the_first():
    made_of = options(viewers=20_000, movies=20_000, late_viewers=0.5, late_movies=0.5)
    first, late = make_catalogue(made_of), later_movies(made_of, 2, make_catalogue(made_of).directions)
    people = later_viewers(made_of, 2)
    assert people.taste.std() == pytest.approx(1, abs=0.02)
    assert people.activity.mean() == pytest.approx(1, abs=0.05)
    assert late.fame.mean() == pytest.approx(1, abs=0.1)
    assert np.corrcoef(late.fame_score, late.quality)[0, 1] == pytest.approx(0.62, abs=0.02)
    for genre in range(3):  # a taste for one is a taste for what is to come of it
        old, new = (movies.factors[movies.genres[:, genre]].mean(axis=0) for movies in (first, late))
        assert old == pytest.approx(new, abs=0.03)
    assert not set(first.ids) & set(late.ids)
    again, later = later_viewers(made_of, 1), later_movies(made_of, 1, first.directions)
    assert people.kindness[0] != again.kindness[0]  # nobody's twin
    assert late.quality[0] != later.quality[0]


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
        assert report.regret == pytest.approx(sample.best.mean() - sample.got.mean())
        assert report.regret > 0.01
        if recommender.name == "nothing":
            assert sample.share() == 0
            assert report.recommended == 0


class Best:
    """Knows the truth, and shows the one movie that is worth most."""

    name = "best"

    def recommend(self, who, situation):
        sessions = Sessions(who, situation.alternatives, situation.minute)
        attraction, gain = Oracle(situation.people).of_everything(sessions)
        worth, ids = attraction * gain, situation.people.catalogue.ids
        shown = [(ids[item],) if row[item] > 0 else () for item, row in zip(worth.argmax(1), worth, strict=True)]
        return Answers("best:0", [Answer(items) for items in shown])


def test_who_shows_the_best_list_leaves_no_regret():
    (best,), (random,) = (
        live(kind(), viewers=200, list_length=1, oracle_sessions=80)[2] for kind in (Best, Random)
    )
    assert best.regret == pytest.approx(0, abs=1e-6)
    assert best.share == pytest.approx(1, abs=1e-4)
    for report in (best, random):
        assert 30 < report.sample.who.size < report.sessions  # of a sample, but of the same
        assert report.regret == pytest.approx((report.sample.best - report.sample.got).mean())
        assert report.best == pytest.approx(report.sample.best.mean())
    assert random.regret > 0.01


class Echo:
    """Shows what each viewer would have found; or, if wanted, all there is, where that is nothing."""

    name = "echo"

    def __init__(self, to_the_rest):
        self.to_the_rest = to_the_rest
        self.helped = set()

    def recommend(self, who, situation):
        ids = situation.people.catalogue.ids
        rest = ids if self.to_the_rest else ()
        own = situation.alternatives
        self.helped |= {(str(viewer + 1), situation.minute) for viewer in who[own < 0].tolist()}
        return Answers("echo:0", [Answer((ids[item],) if item >= 0 else rest) for item in own.tolist()])


def test_only_what_would_not_have_been_watched_is_caused():
    _, _, (report,) = live(Echo(to_the_rest=False), oracle_sessions=0)
    assert report.recommended > 0.3
    assert report.caused == 0
    echo = Echo(to_the_rest=True)
    _, lines, (report,) = live(echo, oracle_sessions=0)
    caused, goes_on = 0, {}
    for event in events(lines):
        if isinstance(event, Watch):
            if event.minute == 0:
                goes_on[event.user] = (event.user, (event.time_us - START_US) // 60_000_000) in echo.helped
            caused += goes_on[event.user]
    assert report.caused == caused / report.minutes
    assert 0.1 < report.caused < report.recommended


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
