"""The API is made when it is first needed, once, and `/docs` is all there without the internet."""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from api_samples import TestClient, document, published
from serving_samples import server, settings, wait_for
from structlog.testing import capture_logs

from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.serving.api import mount
from matinee.serving.app import create_app
from matinee.serving.key_file import Scope, create_key

CLOCK = SystemClock()


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/users/u/history", "/docs", "/docs/start.js", "/openapi.json"])
def test_these_paths_are_the_api_s(path: str):
    assert mount.is_api(path)


@pytest.mark.parametrize("path", ["/", "/v10", "/recommend/v1", "/docs2", "/readyz", "/metrics", "/openapi"])
def test_these_are_not(path: str):
    assert not mount.is_api(path)


def test_a_server_that_was_not_asked_has_not_imported_fastapi():
    program = "import sys, matinee.serving.app; print(sorted({'fastapi', 'pydantic.main'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "fastapi" not in output


def test_it_is_made_once_whoever_asks(client: TestClient):
    service = client.app.state.service
    api = mount.LazyApi(service, service.guard)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: api.prepare(), range(8)))
    assert len(set(map(id, made))) == 1


def test_an_api_that_cannot_be_made_is_answered_for_and_tried_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
):
    service = client.app.state.service
    lazy = TestClient(mount.LazyApi(service, service.guard), headers={"X-Api-Key": client.headers["X-Api-Key"]})
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setitem(sys.modules, "matinee.serving.api.app", None)  # as if FastAPI could not be imported
        response = lazy.get("/v1/trending")
    assert (response.status_code, "Traceback" in response.text) == (503, False)
    assert [entry["event"] for entry in logs] == ["api_not_made"]
    assert lazy.get("/docs").status_code == 200


def test_a_server_whose_api_cannot_be_made_is_ready_for_all_else_and_says_so(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    published(home)
    _, key = create_key(home, "tests", Scope.READ, clock=CLOCK)
    app = create_app(settings(home), home, CLOCK)
    monkeypatch.setattr(app._api, "prepare", lambda: 1 / 0)
    with capture_logs() as logs, TestClient(app, client=("127.0.0.1", 50_000)) as client:
        end = time.monotonic() + 20
        while (response := client.get("/readyz")).status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert "the API could not be started" in response.text
        assert client.get("/recommend/u001").status_code == 200
        monkeypatch.undo()
        assert client.get("/docs", headers={"X-Api-Key": key}).status_code == 200  # made by whoever asks for it
        assert "API" not in client.get("/readyz").text
    assert "api_not_prepared" in [line["event"] for line in logs]


def test_a_server_process_answers_the_api_beside_the_short_way(home: Home):
    version = published(home)
    _, key = create_key(home, "tests", Scope.READ, clock=CLOCK)
    with (
        server(home, MATINEE_SERVING__DEADLINE_MS="60000") as (url, _),
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client,
    ):
        wait_for(url)
        short = client.get("/recommend/u001", params={"n": 3})
        response = client.get("/v1/users/u001/recommendations", params={"n": 3})
        assert [item["item"] for item in response.json()["items"]] == short.text.split(",")
        for answer in (short, response, client.get("/v1/nothing")):
            assert answer.headers["X-Model-Version"] == version
            for name in ("X-Request-Id", "X-Model-Version", "X-Matinee-Step", "X-Content-Type-Options"):
                assert len(answer.headers.get_list(name)) == 1
        assert httpx.get(f"{url}/v1/trending").status_code == 401
        assert httpx.get(f"{url}/docs").status_code == 401
        assert client.get("/docs").status_code == 200
        for path in ("/v1/users/%FF/history", "/v1/items/%00", "/v1/items/a%2Fb", "/v1//", "/v1/users//history"):
            answer = client.get(path)
            assert answer.status_code in {404, 422}, path
            assert answer.headers["Content-Type"] == "application/problem+json"


def test_the_documentation_is_whole_and_loads_nothing_from_elsewhere(client: TestClient):
    page = client.get("/docs")
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    assert not re.search(
        r"<script(?![^>]*\ssrc=)|\son\w+=|<style|https?:", page.text
    )  # the policy would stop those
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(parts) == 5
    for part in parts:
        assert client.get(part).status_code == 200, part
    assert client.get("/docs/assets/swagger-ui-bundle.js").headers["Content-Type"].startswith("text/javascript")


def test_the_document_says_everything_of_every_operation():
    described = document()
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    assert len(operations) == 9
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        assert operation["security"]
        assert len(operation["tags"]) == 1
        assert operation["operationId"].isidentifier()
        for status, response in operation["responses"].items():
            assert response["description"]
            assert {"X-Request-Id", "X-Model-Version", "X-Matinee-Step"} <= set(response["headers"])
            kinds = ["application/json"] if status.startswith("2") else ["application/problem+json"]
            assert list(response["content"]) == kinds
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), parameter
