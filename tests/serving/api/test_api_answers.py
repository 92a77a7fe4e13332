"""What the operations answer, where it can be derived."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from api_samples import ADULTS_ONLY, TestClient, attributes, opened_api, published
from serving_samples import N_ITEMS, SNAPSHOT_END, act, fold_in, ratings

from matinee.core.breaker import FAILURES, State
from matinee.core.clock import ManualClock
from matinee.core.errors import StoreUnavailable
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.models.preference import confidence
from matinee.serving.answer import Answer
from matinee.serving.api.recommendations import ENOUGH_SECONDS
from matinee.serving.request import Question
from matinee.serving.service import Arrival
from matinee.serving.telemetry import Counts


def ids(answer: dict) -> list[str]:
    return [item["item"] for item in answer["items"]]


def named(*indices: int) -> list[str]:
    return [f"a+{index}" for index in indices]


def assert_says_where_it_is_from(response) -> None:
    body = response.json()
    assert body["request_id"] == response.headers["X-Request-Id"]
    assert body["model_version"] == response.headers["X-Model-Version"]
    assert body["step"] == response.headers["X-Matinee-Step"]


def test_a_user_gets_the_bundle_s_list_with_titles_and_scores(client: TestClient, version: str):
    response = client.get("/v1/users/u001/recommendations", params={"n": 3})
    assert response.status_code == 200
    assert_says_where_it_is_from(response)
    body = response.json()
    assert (body["user"], body["arm"], body["step"], body["model_version"]) == ("u001", "main", "personal", version)
    assert ids(body) == named(1, 2, 3)
    assert [item["title"] for item in body["items"]] == ["Title 1", "Title 2", "Title 3"]
    assert [item["score"] for item in body["items"]] == pytest.approx(np.linspace(1, 0.1, 10)[:3])
    assert [item["because"] for item in body["items"]] == [[], [], []]


def test_a_stranger_gets_what_is_popular_and_may_be_shown_to_anybody(client: TestClient):
    body = client.get("/v1/users/nobody/recommendations", params={"n": 3}).json()
    assert (body["step"], ids(body)) == ("popular", named(38, 37, 36))  # 39 is for adults
    assert [item["score"] for item in body["items"]] == [None, None, None]


def test_what_is_asked_of_items_holds_for_all_of_them(client: TestClient):
    wanted = {"n": 5, "genre": ["Comedy", "Sci-Fi"], "not_genre": "comedy", "year_from": 1985, "year_to": 2000}
    body = client.get("/v1/users/u001/recommendations", params=wanted).json()
    assert len(body["items"]) == 5
    for item in body["items"]:
        index = int(item["item"].removeprefix("a+"))
        assert index % 3 == 2
        assert 1985 <= 1980 + index <= 2000


def test_what_is_excluded_or_seen_is_not_shown_unless_it_may_be(client: TestClient):
    url = "/v1/users/u003/recommendations"  # has seen 0, 1 and 2
    assert ids(client.get(url, params={"n": 2, "exclude": named(3, 5)}).json()) == named(4, 6)
    everything = ids(client.get(url, params={"n": 100, "include_seen": True}).json())
    assert set(everything) == set(named(*range(N_ITEMS))) - set(named(ADULTS_ONLY))


def test_genres_that_the_catalogue_does_not_have_are_named(client: TestClient):
    body = client.get("/v1/users/u001/recommendations", params={"genre": ["Western", "Drama"]}).json()
    assert body["unknown_genres"] == ["Western"]
    assert {int(item.removeprefix("a+")) % 3 for item in ids(body)} == {1}


def test_what_a_user_just_did_is_given_as_the_reason(client: TestClient, history: LmdbHistory):
    act(history, "new", named(4), position=SNAPSHOT_END)
    body = client.get("/v1/users/new/recommendations", params={"n": 3, "explain": True}).json()
    # Tastes are even and odd items; within one the lower index scores higher.
    assert (body["step"], ids(body)) == ("folded_in", named(0, 2, 6))
    assert [item["because"] for item in body["items"]] == [[{"item": "a+4", "title": "Title 4"}]] * 3
    assert body["unexplained"] is None


def explained(client: TestClient, user: str) -> list[tuple[str | None, bool]]:
    """Of each way of asking for reasons: why there are none, and whether there are any."""
    one = client.get(f"/v1/users/{user}/recommendations", params={"n": 3, "explain": True}).json()
    several = client.post("/v1/recommendations", json={"users": [user], "n": 3, "explain": True}).json()
    session = client.post("/v1/sessions/recommendations", json={"items": ["a+5"], "n": 3, "explain": True}).json()
    return [
        (body["unexplained"], any(item["because"] for item in body["items"]))
        for body in (one, several["results"][0]["recommendations"], session)
    ]


def test_while_the_history_is_away_an_answer_says_why_it_explains_nothing(client: TestClient, history: LmdbHistory):
    act(history, "new", named(4), position=SNAPSHOT_END)
    assert explained(client, "new") == [(None, True)] * 3
    assert explained(client, "nobody") == [(None, False)] * 2 + [(None, True)]  # there is nothing to name
    live = client.app.state.service.history

    def away(_: str) -> None:
        raise StoreUnavailable("away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "glance", away)
        for _ in range(2 * FAILURES):  # each fails at first, then the store is given up
            assert explained(client, "new") == [("history", False)] * 2 + [(None, True)]
        assert live.breaker.state is not State.CLOSED
    assert client.get("/v1/users/new/recommendations").json()["unexplained"] is None  # it was not asked for


def test_where_there_never_was_a_history_an_answer_says_so(home: Home):
    published(home)
    with opened_api(home, ready=False) as client:
        service = client.app.state.service
        end = time.monotonic() + 20
        while service.releases.why_not:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert not service.history.is_open
        assert explained(client, "u001") == [("history", False)] * 2 + [(None, True)]


def test_a_model_that_cannot_tell_says_so(home: Home, history: LmdbHistory):
    published(home, folds_in=False)
    with opened_api(home, history) as client:
        assert explained(client, "u001") == [("model", False)] * 3


def test_a_session_gets_more_of_its_taste_and_hears_what_was_not_known(client: TestClient):
    response = client.post("/v1/sessions/recommendations", json={"items": ["a+5", "gone+1999"], "n": 3})
    assert_says_where_it_is_from(response)
    body = response.json()
    assert (body["user"], body["step"], ids(body)) == (None, "folded_in", named(1, 3, 7))
    assert body["unknown_items"] == ["gone+1999"]


def test_diversity_sets_the_other_taste_beside_the_best(client: TestClient, history: LmdbHistory):
    act(history, "new", named(5), position=SNAPSHOT_END)
    for diversity, expected in ((0, named(1, 3)), (1, named(1, 0))):
        wanted = {"n": 2, "diversity": diversity}
        one = client.get("/v1/users/new/recommendations", params=wanted).json()
        several = client.post("/v1/recommendations", json={"users": ["new"], **wanted}).json()
        session = client.post("/v1/sessions/recommendations", json={"items": ["a+5"], **wanted}).json()
        answers = (one, several["results"][0]["recommendations"], session)
        assert [ids(answer) for answer in answers] == [expected] * 3


def test_several_users_get_what_each_would_get_alone(client: TestClient):
    users = ["u001", "nobody", "u003"]
    response = client.post("/v1/recommendations", json={"users": users, "n": 4})
    assert_says_where_it_is_from(response)
    results = response.json()["results"]
    assert [result["user"] for result in results] == users
    for user, result in zip(users, results, strict=True):
        alone = client.get(f"/v1/users/{user}/recommendations", params={"n": 4}).json()
        assert ids(result["recommendations"]) == ids(alone)
        assert result["problem"] is None
    assert response.json()["step"] == "mixed"
    assert (
        len({result["recommendations"]["request_id"] for result in results} | {response.json()["request_id"]}) == 4
    )


def test_one_user_s_mistake_is_only_that_user_s(client: TestClient):
    results = client.post("/v1/recommendations", json={"users": ["a b", "u001"], "n": 1}).json()["results"]
    assert results[0]["recommendations"] is None
    assert results[0]["problem"]["status"] == 422
    assert "' '" in results[0]["problem"]["detail"]
    assert ids(results[1]["recommendations"]) == named(1)


def test_a_hundred_users_are_answered_within_one_request(client: TestClient):
    users = [f"u{i:03d}" for i in range(100)]
    results = client.post("/v1/recommendations", json={"users": users, "n": 100}).json()["results"]
    assert [result["user"] for result in results] == users
    assert all(result["recommendations"]["items"] for result in results)


def test_an_item_is_described(client: TestClient):
    response = client.get("/v1/items/a+39")
    assert_says_where_it_is_from(response)
    body = response.json()
    assert (body["item"], body["title"], body["genres"], body["year"]) == ("a+39", "Title 39", ["Comedy"], 2019)
    assert (body["age_limit"], body["interactions"], body["rank"]) == (18, 40, 1)
    assert (body["minutes"], body["available_from"], body["available_until"]) == (100, None, None)
    assert client.get("/v1/items/a+0").json()["rank"] == N_ITEMS


def test_when_an_item_is_available_is_told_as_a_time(home: Home, history: LmdbHistory):
    about = attributes()
    about.available_from_us[7] = 1_700_000_000_000_000
    published(home, attributes=about)
    with opened_api(home, history) as client:
        body = client.get("/v1/items/a+7").json()
    assert (body["available_from"], body["available_until"]) == ("2023-11-14T22:13:20Z", None)


def test_similar_items_point_the_same_way(client: TestClient):
    response = client.get("/v1/items/a+4/similar", params={"n": 100})
    assert_says_where_it_is_from(response)
    items = response.json()["items"]
    cosine = {int(item["item"].removeprefix("a+")): item["score"] for item in items}
    assert set(cosine) == set(range(N_ITEMS)) - {4, ADULTS_ONLY}
    assert all(score == pytest.approx(1 - index % 2, abs=1e-6) for index, score in cosine.items())
    comedies = client.get("/v1/items/a+4/similar", params={"n": 2, "genre": "Comedy"}).json()
    assert all(int(item.removeprefix("a+")) in range(0, N_ITEMS, 6) for item in ids(comedies))


def test_an_item_that_is_not_there_is_named_with_those_that_nearly_are(client: TestClient):
    for path in ("/v1/items/a+99", "/v1/items/a+99/similar"):
        response = client.get(path)
        assert response.status_code == 404
        assert response.json()["type"] == "urn:matinee:problem:unknown-item"
        assert "'a+99'" in response.json()["detail"]
        assert "a+0, a+1" in response.json()["detail"]


def test_trending_is_of_all_or_by_segment_or_by_genre(client: TestClient):
    def groups(**params) -> dict[str | None, list[str]]:
        response = client.get("/v1/trending", params=params)
        assert_says_where_it_is_from(response)
        return {group["name"]: ids(group) for group in response.json()["groups"]}

    assert groups(n=2) == {None: named(38, 37)}
    assert groups(n=2, by="segment") == {"young": named(0, 1), "old": named(20, 21)}
    assert groups(n=2, by="genre") == {"Comedy": named(36, 33), "Drama": named(37, 34), "Sci-Fi": named(38, 35)}
    assert groups(n=1, by="segment", year_from=1990) == {"young": named(10), "old": named(20)}


def test_what_nobody_met_is_not_trending(home: Home, history: LmdbHistory):
    met = np.arange(N_ITEMS) < 36
    published(home, attributes=replace(attributes(), interactions=met.astype(np.int32)))
    with opened_api(home, history) as client:
        answer = client.get("/v1/trending", params={"n": 2, "by": "genre", "year_from": 1980 + 33}).json()
    assert [ids(group) for group in answer["groups"]] == [named(33), named(34), named(35)]


def test_a_history_is_what_was_done_lately_and_then_what_the_model_knew(client: TestClient, history: LmdbHistory):
    act(history, "u003", named(1), position=SNAPSHOT_END)
    act(history, "u003", named(9), position=SNAPSHOT_END + 1, minute=3)
    response = client.get("/v1/users/u003/history")  # the bundle says: has seen 0, 1 and 2
    assert_says_where_it_is_from(response)
    body = response.json()
    assert (body["live"], body["total"], ids(body)) == (True, 4, named(9, 1, 0, 2))
    assert [(met["minutes"], met["rating"]) for met in body["items"]] == [
        (1, None),
        (0, 5.0),
        (None, None),
        (None, None),
    ]
    assert body["items"][1]["last"] == "1970-01-01T00:00:01.000100Z"
    assert ids(client.get("/v1/users/u003/history", params={"n": 3}).json()) == named(9, 1, 0)
    assert client.get("/v1/users/nobody/history").json()["items"] == []


def test_predictions_are_what_folding_in_gives(client: TestClient, history: LmdbHistory):
    act(history, "u003", named(4), position=SNAPSHOT_END)
    response = client.post("/v1/predictions", json={"users": ["u003", "u002", "nobody"], "items": named(6, 7, 99)})
    assert_says_where_it_is_from(response)
    body = response.json()
    assert body["unknown_items"] == named(99)
    one = np.ones(2, dtype=np.float32)
    expected = {
        "history": fold_in().scores(np.array([4], dtype=np.int32), confidence([5.0], [math.nan])),
        "seen": fold_in().scores(np.array([0, 1], dtype=np.int32), one),
        "nothing": fold_in().scores(np.empty(0, dtype=np.int32), one[:0]),
    }
    for prediction, (based_on, scores) in zip(body["predictions"], expected.items(), strict=True):
        assert (prediction["based_on"], prediction["kind"]) == (based_on, "score")
        assert prediction["values"] == [*(pytest.approx(scores[i], abs=1e-5) for i in (6, 7)), None]


def test_nothing_is_predicted_of_an_item_that_nobody_liked(home: Home, history: LmdbHistory):
    arrays = fold_in().to_arrays()
    arrays["item_factors"][[0, 6]] = 0
    published(home, fold_in=arrays)
    act(history, "u003", named(6), position=SNAPSHOT_END)  # nor is anything from it
    with opened_api(home, history) as client:
        body = client.post("/v1/predictions", json={"users": ["u003"], "items": named(6, 7)}).json()
        only = client.post("/v1/predictions", json={"users": ["u001"], "items": named(7)}).json()
    (prediction,) = body["predictions"]
    assert (body["unknown_items"], prediction["based_on"]) == ([], "seen")
    assert prediction["values"][0] is None
    assert prediction["values"][1] > 0
    assert only["predictions"][0]["based_on"] == "nothing"  # what this one has seen says nothing


def test_ratings_are_predicted_where_people_rate(home: Home, history: LmdbHistory):
    published(home, ratings=ratings())
    act(history, "u003", named(4), position=SNAPSHOT_END, rating=5.0)
    act(history, "u003", named(5), position=SNAPSHOT_END + 1, rating=1.0)
    act(history, "new", named(8), position=SNAPSHOT_END + 2, minute=3)  # watched: that is no rating
    asked_for = {"users": ["u003", "new", "nobody"], "items": named(6, 7, 99)}
    with opened_api(home, history) as client:
        body = client.post("/v1/predictions", json=asked_for).json()
        again = client.post("/v1/predictions", json={**asked_for, "kind": "rating"}).json()
        scores = client.post("/v1/predictions", json={**asked_for, "kind": "score"}).json()
    assert again["predictions"] == body["predictions"]
    own = ratings().ratings(np.array([4, 5], dtype=np.int32), np.array([5, 1], dtype=np.float32), np.array([6, 7]))
    assert own[0] > 3 + 6 / N_ITEMS > 3 > own[1]  # even items are to the taste, and odd ones are not
    found, watcher, stranger = body["predictions"]
    assert {each["kind"] for each in body["predictions"]} == {"rating"}
    assert (found["based_on"], found["values"]) == (
        "history",
        [*(pytest.approx(value, abs=1e-5) for value in own.tolist()), None],
    )
    for mean_user in (watcher, stranger):
        assert mean_user["based_on"] == "nothing"
        assert mean_user["values"] == [pytest.approx(3 + 6 / N_ITEMS), pytest.approx(3 + 7 / N_ITEMS), None]
    assert {each["kind"] for each in scores["predictions"]} == {"score"}
    assert [each["based_on"] for each in scores["predictions"]] == ["history", "history", "nothing"]


def test_without_ratings_none_is_predicted(client: TestClient):
    body = client.post("/v1/predictions", json={"users": ["u003"], "items": named(6), "kind": "rating"}).json()
    (prediction,) = body["predictions"]
    assert (prediction["kind"], prediction["based_on"], prediction["values"]) == ("rating", "nothing", [None])


def test_ratings_are_those_of_the_mean_user_while_the_history_is_away(
    home: Home, history: LmdbHistory, monkeypatch: pytest.MonkeyPatch
):
    def away(_: str):
        raise StoreUnavailable("away")

    published(home, ratings=ratings())
    act(history, "u003", named(4), position=SNAPSHOT_END, rating=5.0)
    wanted = {"users": ["u003"], "items": named(6)}
    with opened_api(home, history) as client:
        (known,) = client.post("/v1/predictions", json=wanted).json()["predictions"]
        monkeypatch.setattr(history, "glance", away)
        (unknown,) = client.post("/v1/predictions", json=wanted).json()["predictions"]
    assert (known["based_on"], unknown["based_on"]) == ("history", "nothing")
    assert known["values"][0] > unknown["values"][0] == pytest.approx(3 + 6 / N_ITEMS)


def test_a_model_that_folds_nobody_in_scores_only_what_it_listed(home: Home, history: LmdbHistory):
    published(home, folds_in=False, ratings=ratings())
    act(history, "u001", named(4), position=SNAPSHOT_END)
    asked_for = {"users": ["u001", "nobody"], "items": named(1, 0)}
    with opened_api(home, history) as client:
        body = client.post("/v1/predictions", json={**asked_for, "kind": "score"}).json()
        rated = client.post("/v1/predictions", json=asked_for).json()
        assert client.get("/v1/items/a+1/similar").json()["items"] == []
    listed, stranger = body["predictions"]
    assert (listed["kind"], listed["based_on"], listed["values"]) == ("score", "top", [1.0, None])
    assert stranger["values"] == [None, None]
    assert [each["based_on"] for each in rated["predictions"]] == ["history", "nothing"]
    assert None not in rated["predictions"][0]["values"]


def test_an_answer_of_the_api_is_counted_and_logged_like_any_other(client: TestClient):
    service = client.app.state.service
    response = client.get("/v1/users/u001/recommendations")
    client.get("/v1/items/none")
    assert service.counters.answers["personal", response.headers["X-Model-Version"]] == 1
    assert (service.counters.responses[200], service.counters.responses[404]) == (1, 1)
    assert service.telemetry.stop(5) == Counts(offered=1, written=1, dropped=0, waiting=0)


def test_users_at_the_end_of_a_long_list_are_answered_under_the_deadline_of_the_whole(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
):
    service = client.app.state.service
    arrivals, recommend = [], service.recommend
    clock = ManualClock()

    def slow(question: Question, arrival: Arrival) -> Answer | None:
        arrivals.append(arrival.monotonic)
        clock.sleep(ENOUGH_SECONDS / 2)
        return recommend(question, arrival)

    begin = clock.monotonic()
    monkeypatch.setattr(service, "clock", clock)
    monkeypatch.setattr(service, "recommend", slow)
    users = [f"u{i:03d}" for i in range(5)]
    results = client.post("/v1/recommendations", json={"users": users}).json()["results"]
    assert [result["problem"] for result in results] == [None] * 5
    assert arrivals == [begin, begin + ENOUGH_SECONDS / 2, begin + ENOUGH_SECONDS, begin, begin]


def test_a_release_that_is_exchanged_while_an_answer_is_made_breaks_nothing(
    client: TestClient, home: Home, monkeypatch: pytest.MonkeyPatch
):
    service = client.app.state.service
    recommend = service.recommend
    old = service.releases.current

    def exchanged(question: Question, arrival: Arrival) -> Answer | None:
        answer = recommend(question, arrival)
        service.releases.current = replace(old, bundles={"another": next(iter(old.bundles.values()))})
        return answer

    monkeypatch.setattr(service, "recommend", exchanged)
    response = client.get("/v1/users/u001/recommendations", params={"n": 1})
    service.releases.current = old
    assert (response.status_code, response.headers["X-Model-Version"]) == (200, old.main_version)
    assert response.json()["items"][0]["title"] == "Title 1"


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"minute": 12.0}, 202), ({"time": 1.7e15}, 202), ({"minute": 12.5}, 422), ({"minute": 1e300}, 422),
     ({"minute": 1440.0}, 422), ({"time": -1.0}, 422), ({"time": 1.7e15, "minute": "12"}, 422)],
)  # fmt: skip
def test_a_whole_number_of_an_event_may_be_written_with_a_point(client: TestClient, changes: dict, status: int):
    event = {"kind": "watch", "user": "u001", "item": "a+1", "minute": 12} | changes
    response = client.post("/v1/events", json=event)
    assert response.status_code == status, response.text
