"""The metadata APIs of a world: what they say, and how badly they behave, over real sockets."""

import json
from collections import Counter

import httpx
import pytest

from matinee.core.clock import ManualClock
from matinee.core.errors import ConfigurationError
from matinee.simulation.apis import Apis, Fault, Manners
from matinee.simulation.catalogue import GENRES, make_catalogue
from matinee.simulation.options import WorldOptions
from matinee.simulation.viewers import OCCUPATIONS, make_viewers

WORLD = WorldOptions(start_us=0, viewers=40, movies=30)
CATALOGUE, VIEWERS = make_catalogue(WORLD), make_viewers(WORLD)


def serving(manners=None, **options):
    return Apis(CATALOGUE, VIEWERS, manners, **options)


@pytest.fixture
def http():
    with httpx.Client(trust_env=False, timeout=30) as client:
        yield client


def each(apis, http):
    """What came of asking for every movie: a status, or the name of the error."""
    came = []
    for item in CATALOGUE.ids:
        try:
            came.append(http.get(apis.item_url.format(id=item)).status_code)
        except httpx.HTTPError as error:
            came.append(type(error).__name__)
    return came


def test_movies_and_users_are_those_of_the_world_in_the_types_as_they_come(http):
    with serving() as apis:
        for index, item in enumerate(CATALOGUE.ids):
            movie = http.get(apis.item_url.format(id=item)).json()
            assert (movie["id"], movie["title"]) == (item, CATALOGUE.titles[index])
            assert movie["runtime"] == CATALOGUE.minutes[index]
            assert [genre["name"] for genre in movie["genres"]] == [
                name for name, has in zip(GENRES, CATALOGUE.genres[index], strict=True) if has
            ]
            texts = ("adult", "budget", "revenue", "popularity", "vote_average", "vote_count")
            assert all(isinstance(movie[name], str) for name in texts)
        user = http.get(apis.user_url.format(id=7)).json()
        assert user == {
            "user_id": 7,
            "age": VIEWERS.age[6],
            "occupation": OCCUPATIONS[VIEWERS.occupation[6]],
            "gender": "F" if VIEWERS.is_woman[6] else "M",
        }
        for path in ("user/0", "user/41", "user/x", "user/", "movie/none+1990", "movies/x", ""):
            answer = http.get(f"{apis.url}/{path}")
            assert answer.status_code == 404
            assert "not found" in answer.json()["message"]
        assert apis.answers == {"found": 31, "unknown": 7}
        assert apis.requests == 38


def test_ids_that_are_unknown_or_odd_stay_so(http):
    with serving(Manners(seed=3, unknown=0.3, odd=0.3)) as apis:
        first, second = each(apis, http), each(apis, http)
    assert first == second
    with serving(Manners(seed=4, unknown=0.3, odd=0.3)) as apis:
        assert each(apis, http) != first
    assert 0 < first.count(404) < len(first)


def test_each_fault_is_what_it_says(http):
    manners = {fault: Manners(faults={fault: 1.0}, hang_seconds=0.05, trickle_seconds=0) for fault in Fault}
    item = CATALOGUE.ids[0]
    seen = {}
    for fault, its in manners.items():
        with serving(its) as apis:
            try:
                seen[fault] = http.get(apis.item_url.format(id=item))
            except httpx.HTTPError as error:
                seen[fault] = error
            assert apis.answers == {fault.value: 1}
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        seen[Fault.BROKEN_JSON].json()
    assert "not found" not in seen[Fault.MESSAGE].json()["message"]
    assert seen[Fault.HTML].status_code == 200
    assert seen[Fault.HTML].text.startswith("<!DOCTYPE html>")
    assert seen[Fault.TOO_MANY].status_code == seen[Fault.RETRY_AFTER].status_code == 429
    assert "retry-after" not in seen[Fault.TOO_MANY].headers
    assert seen[Fault.RETRY_AFTER].headers["retry-after"] == "1"
    assert seen[Fault.SERVER_ERROR].status_code in {500, 502, 503}
    assert seen[Fault.TRICKLE].json()["id"] == seen[Fault.DRIP].json()["id"] == item
    assert seen[Fault.TRICKLE].headers == seen[Fault.DRIP].headers
    for fault in (Fault.HANG, Fault.CLOSED, Fault.CUT):
        assert isinstance(seen[fault], httpx.RemoteProtocolError)


def test_faults_come_in_their_shares_and_the_same_for_the_same_seed(http):
    faults = {Fault.SERVER_ERROR: 0.2, Fault.CLOSED: 0.2, Fault.TOO_MANY: 0.1}

    def run(seed):
        with serving(Manners(seed=seed, faults=faults)) as apis:
            return [answer for _ in range(10) for answer in each(apis, http)]

    one = run(1)
    assert one == run(1)
    assert one != run(2)
    came = Counter(answer if isinstance(answer, str) else answer // 100 for answer in one)
    # 300 draws: five standard deviations of a binomial count are 5·√(300·p·(1-p))
    for answer, share in (("RemoteProtocolError", 0.2), (5, 0.2), (4, 0.1), (2, 0.5)):
        assert abs(came[answer] - 300 * share) < 5 * (300 * share * (1 - share)) ** 0.5
    assert one[:30] != one[30:60]  # what fails once may go well the next time


def test_more_than_so_many_requests_a_second_are_refused(http):
    clock = ManualClock()
    with serving(Manners(requests_per_second=10), clock=clock) as apis:
        statuses = each(apis, http)
        assert statuses == [200] * 10 + [429] * 20
        clock.sleep(1)
        assert each(apis, http) == [200] * 10 + [429] * 20
        assert apis.answers == {"found": 20, "limited": 40}


def test_ending_wakes_those_who_hang():
    with serving(Manners(faults={Fault.HANG: 1.0}, hang_seconds=3_600)) as apis:
        with httpx.Client(trust_env=False, timeout=0.1) as impatient, pytest.raises(httpx.ReadTimeout):
            impatient.get(apis.item_url.format(id=CATALOGUE.ids[0]))
        assert apis.answers == {"hang": 1}


@pytest.mark.parametrize("wrong", [{"unknown": 0.6, "odd": 0.6}, {"faults": {Fault.HTML: 1.1}}, {"unknown": -0.1}])
def test_shares_are_shares(wrong):
    with pytest.raises(ConfigurationError, match="shares of one whole"):
        Manners(**wrong)


def test_a_bad_day_has_every_fault():
    manners = Manners.bad(seed=5)
    assert set(manners.faults) == set(Fault)
    assert sum(manners.faults.values()) == pytest.approx(0.1)
    assert json.dumps(sorted(manners.faults))  # names are texts
