"""Whatever is wrong with a request is answered as a problem that says what, and never with a 5xx."""

import json
from collections import Counter
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from api_samples import TestClient, opened_api, published
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from matinee.core.breaker import FAILURES
from matinee.core.home import Home
from matinee.core.ids import is_id
from matinee.history.lmdb import LmdbHistory

USER = "/v1/users/u001/recommendations"
MANY = "/v1/recommendations"
on_one_server = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def problem(response, status: int) -> dict[str, Any]:
    """The problem that was answered, after making sure that it has the form of all problems."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert set(body) == {"type", "title", "status", "detail", "remedy", "request_id", "errors"}
    assert (body["status"], body["request_id"]) == (status, response.headers["X-Request-Id"])
    assert body["title"]
    assert body["detail"]
    assert body["type"] == "about:blank" or body["type"].startswith("urn:matinee:problem:")
    assert "Traceback" not in response.text
    return body


@pytest.mark.parametrize(
    ("query", "where", "says"),
    [
        ("n=0", "query.n", "greater than or equal to 1"),
        ("n=101", "query.n", "less than or equal to 100"),
        ("n=many", "query.n", "integer"),
        ("n=", "query.n", "integer"),
        ("n=1&n=2", "query.n", "more than once"),
        ("limit=3", "query.limit", "no such parameter"),
        ("diversity=1.5", "query.diversity", "less than or equal to 1"),
        ("diversity=nan", "query.diversity", "than or equal to"),
        ("include_seen=perhaps", "query.include_seen", "boolean"),
        ("exclude=a%20b", "query.exclude[0]", "an id is"),
        ("genre=", "query.genre[0]", "at least 1 character"),
        ("year_from=0", "query.year_from", "greater than or equal to 1"),
        ("year_from=2001&year_to=1999", "query", "year_from (2001) comes after year_to (1999)"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(client: TestClient, query: str, where: str, says: str):
    body = problem(client.get(f"{USER}?{query}"), 422)
    assert [mistake["where"] for mistake in body["errors"]] == [where]
    assert says in body["errors"][0]["message"]
    assert where in body["detail"]
    assert body["remedy"]


@pytest.mark.parametrize(
    "path", ["/v1/items/a+1", "/v1/users/u001/history", "/v1/trending", "/v1/items/a+1/similar"]
)
def test_no_operation_takes_a_parameter_that_it_does_not_have(client: TestClient, path: str):
    assert problem(client.get(f"{path}?debug=1"), 422)["errors"][0]["where"] == "query.debug"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "body.users"),
        ({"users": []}, "body.users"),
        ({"users": ["u001"] * 101}, "body.users"),
        ({"users": "u001"}, "body.users"),
        ({"users": [7]}, "body.users[0]"),
        ({"users": ["u001"], "n": "3"}, "body.n"),
        ({"users": ["u001"], "n": True}, "body.n"),
        ({"users": ["u001"], "n": 2.5}, "body.n"),
        ({"users": ["u001"], "include_seen": 1}, "body.include_seen"),
        ({"users": ["u001"], "exclude": ["a b"]}, "body.exclude[0]"),
        ({"users": ["u001"], "colour": "red"}, "body.colour"),
        (["u001"], "body"),
        (None, "body"),
    ],
)
def test_a_field_that_is_wrong_is_named(client: TestClient, body: object, where: str):
    assert [mistake["where"] for mistake in problem(client.post(MANY, json=body), 422)["errors"]] == [where]


def test_every_mistake_is_listed_at_once(client: TestClient):
    body = problem(client.get(f"{USER}?n=0&year_to=x&colour=red"), 422)
    assert [mistake["where"] for mistake in body["errors"]] == ["query.year_to", "query.n", "query.colour"]
    assert body["detail"].endswith("; and 2 more")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b'{"users": ["u001",\n  }', "line 2, column 3"),
        (b"nothing", "line 1, column 1"),
    ],
)
def test_where_a_body_ceases_to_be_json_is_said(client: TestClient, text: bytes, place: str):
    response = client.post(MANY, content=text, headers={"Content-Type": "application/json"})
    body = problem(response, 400)
    assert body["type"] == "urn:matinee:problem:invalid-json"
    assert place in body["detail"]


def test_a_body_that_is_no_text_is_refused(client: TestClient):
    body = problem(client.post(MANY, content=b"\xff{}", headers={"Content-Type": "application/json"}), 400)
    assert "no UTF-8" in body["detail"]
    assert body["remedy"]


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200_000,  # deeper than any parser follows
        b'{"users": ["u001"], "n": ' + b"9" * 5_000 + b"}",
        b'{"users": ["u001"], "n": 1e999}',
        b'{"users": ["u001"], "year_from": -1e30}',
        b'{"users": {"\\ud800": 1}}',
    ],
)
def test_absurd_json_is_refused(client: TestClient, text: bytes):
    response = client.post(MANY, content=text, headers={"Content-Type": "application/json"})
    assert problem(response, response.status_code)["remedy"]
    assert response.status_code in {400, 422}


def test_numbers_that_json_does_not_have_are_refused_or_harmless(client: TestClient):
    response = client.post(
        MANY, content=b'{"users": ["u001"], "diversity": NaN}', headers={"Content-Type": "application/json"}
    )
    assert problem(response, 422)["errors"][0]["where"] == "body.diversity"


@pytest.mark.parametrize("kind", ["text/plain", "", None])
def test_a_body_that_is_not_called_json_is_refused(client: TestClient, kind: str | None):
    headers = {} if kind is None else {"Content-Type": kind}
    problem(client.post(MANY, content=b'{"users": ["u001"]}', headers=headers), 415)


def test_a_body_that_is_too_large_is_refused(client: TestClient):
    problem(client.post(MANY, content=b" " * 11_000_000, headers={"Content-Type": "application/json"}), 413)


def test_a_path_that_is_not_there_and_a_method_that_is_not_answered(client: TestClient):
    assert "/docs" in problem(client.get("/v1/nothing"), 404)["remedy"]
    refused = client.delete(USER)
    problem(refused, 405)
    assert refused.headers["Allow"] == "GET"


PAGES = ["/docs", "/docs/start.js", "/docs/assets/swagger-ui.css", "/openapi.json"]


@pytest.mark.parametrize("path", [USER, "/v1", "/v1/nothing", *PAGES])
def test_without_a_key_nothing_is_answered(client: TestClient, path: str):
    response = TestClient(client.app).get(path)
    assert "matinee keys create" in problem(response, 401)["detail"]
    is_page = path in PAGES
    assert response.headers["WWW-Authenticate"].split()[0] == ("Basic" if is_page else "Bearer")
    assert ("the key as the password" in response.json()["detail"]) == is_page


@pytest.mark.parametrize("path", PAGES)
def test_a_browser_opens_the_documentation_with_a_key_as_the_password(client: TestClient, path: str):
    key = client.headers["X-Api-Key"]
    bare = TestClient(client.app)
    assert bare.get(path, auth=("anybody", key)).status_code == client.get(path).status_code == 200
    for wrong in (("anybody", key[:-1]), (key, ""), ("anybody", "é:ü")):
        problem(bare.get(path, auth=wrong), 401)
    for broken in ("Basic", "Basic ", "Basic %%%", "Basic YQ", "Basic \xff"):
        problem(bare.get(path, headers={"Authorization": broken.encode("latin-1")}), 401)
    problem(bare.get(USER, auth=("anybody", key)), 401)  # what a browser adds by itself opens nothing else


def test_while_no_release_is_open_the_answer_says_when_to_ask_again(home: Home, history: LmdbHistory):
    with opened_api(home, history, ready=False) as client:
        for response in (
            client.get(USER), client.get("/v1/items/a"), client.get("/v1/trending"),
            client.get("/v1/users/u001/history"),
            client.post(MANY, json={"users": ["u001"]}),
            client.post("/v1/predictions", json={"users": ["u001"], "items": ["a"]}),
        ):  # fmt: skip
            assert "matinee train" in problem(response, 503)["remedy"]
            assert response.headers["Retry-After"] == "1"
            assert response.headers["X-Model-Version"] == "none"


def test_what_nobody_foresaw_is_not_shown(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(client.app.state.service, "recommend", broken)
    with capture_logs() as logs:
        response = client.get(USER)
    assert "secret" not in str(problem(response, 500))
    failed = next(entry for entry in logs if entry["event"] == "api_failed")
    assert (failed["request_id"], failed["exc_info"]) == (response.headers["X-Request-Id"], True)
    assert client.get("/v1/trending").status_code == 200


def test_a_history_that_fails_is_done_without(home: Home, history: LmdbHistory, monkeypatch: pytest.MonkeyPatch):
    published(home)
    with opened_api(home, history) as client:
        for name in ("get", "glance"):
            monkeypatch.setattr(history, name, broken_store)
        body = client.get("/v1/users/u002/history").json()
        assert (body["live"], [met["item"] for met in body["items"]]) == (False, ["a+0", "a+1"])
        body = client.post("/v1/predictions", json={"users": ["u002"], "items": ["a+3"]}).json()
        assert body["predictions"][0]["based_on"] == "seen"
        assert client.get("/v1/users/u002/recommendations").status_code == 200


def test_a_store_that_stays_away_is_told_of_when_it_is_left_alone_and_not_for_every_user(
    home: Home, history: LmdbHistory, monkeypatch: pytest.MonkeyPatch
):
    version = published(home)
    with opened_api(home, history) as client, capture_logs() as logs:
        for name in ("get", "glance"):
            monkeypatch.setattr(history, name, broken_store)
        with (home.bundles / version / "users.lmdb").open("r+b") as file:
            file.truncate(8_192)
        for number in range(4 * FAILURES):
            body = client.get(f"/v1/users/u{number:03d}/history").json()
            assert (body["live"], body["items"]) == (False, [])
            client.post("/v1/predictions", json={"users": [f"u{number:03d}"], "items": ["a+3"]}).raise_for_status()
        tries = client.app.state.service.recommender.users_breaker.opened  # each lets one through
    told = Counter(line.get("store") for line in logs if line["event"] == "store_not_read")
    assert 0 < told["history"] <= FAILURES
    assert 0 < told["bundle_user"] <= FAILURES + tries


def broken_store(_: str) -> None:
    from matinee.core.errors import StoreUnavailable

    raise StoreUnavailable("it is gone")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    home = Home(tmp_path_factory.mktemp("shared") / "home")
    published(home)
    with LmdbHistory(home.data / "history", map_bytes=1 << 24) as history, opened_api(home, history) as client:
        yield client


@on_one_server
@given(user=st.text(min_size=1, max_size=300))
@example(user="..")
@example(user=".")
@example(user="%2F")
@example(user="u001?n=5")
@example(user="\ud800")
@example(user="a" * 201)
def test_any_text_as_a_user_is_answered_or_refused(shared: TestClient, user: str):
    with suppress(UnicodeEncodeError):  # half a character cannot be sent
        response = shared.get(f"/v1/users/{quote(user, safe='')}/recommendations?n=1")
        if is_id(user) and user not in {".", ".."}:
            assert response.status_code == 200
            assert response.json()["user"] == user
        else:
            assert response.status_code in {404, 405, 422}  # a client makes another path of `..`
            problem(response, response.status_code)


@on_one_server
@given(item=st.text(min_size=1, max_size=300))
def test_any_text_as_an_item_is_unknown_or_refused(shared: TestClient, item: str):
    with suppress(UnicodeEncodeError):
        response = shared.get(f"/v1/items/{quote(item, safe='')}")
        if not response.is_success:
            problem(response, 404 if is_id(item) else response.status_code)
            assert response.status_code in {404, 422}


@on_one_server
@given(query=st.lists(st.tuples(st.sampled_from(["n", "exclude", "genre", "year_to", "by"]) | st.text(max_size=8),
                                st.text(max_size=12)), max_size=5))  # fmt: skip
def test_any_query_is_answered_or_refused(shared: TestClient, query: list[tuple[str, str]]):
    with suppress(UnicodeEncodeError):
        response = shared.get("/v1/trending", params=query)
        if response.status_code != 200:
            problem(response, 422)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
bodies = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ["users", "items", "n", "exclude", "genre", "year_from", "year_to", "diversity", "explain"],
        json_values | st.lists(st.sampled_from(["u001", "a+1", "a b"]), max_size=3),
    ),
)


@on_one_server
@given(path=st.sampled_from([MANY, "/v1/sessions/recommendations", "/v1/predictions", "/v1/events"]),
       body=bodies | json_values)  # fmt: skip
def test_any_json_is_answered_or_refused(shared: TestClient, path: str, body: object):
    text = json.dumps(body)  # with NaN and Infinity, and halves of characters as escapes
    response = shared.post(path, content=text, headers={"Content-Type": "application/json"})
    if not response.is_success:
        assert response.status_code in {400, 409, 422}
        problem(response, response.status_code)


@on_one_server
@given(path=st.sampled_from([MANY, "/v1/predictions", "/v1/events"]), body=st.binary(max_size=200))
def test_any_bytes_are_answered_or_refused(shared: TestClient, path: str, body: bytes):
    response = shared.post(path, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in {400, 422}
    problem(response, response.status_code)
