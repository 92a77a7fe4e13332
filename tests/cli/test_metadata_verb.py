"""`matinee metadata`, run as people run it; killed in the middle, it goes on where it was."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families

from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.core.settings import load_settings
from matinee.lake.lake import Lake
from matinee.operation.layout import free_ports
from matinee.operation.supervisor import configuration
from matinee.simulation.apis import Manners
from metadata_samples import ALL_ITEMS, ALL_USERS, CATALOGUE, apis, everybody_watches, watch


@pytest.fixture
def described(matinee):
    """The command in a home whose lake has everybody and everything in it."""
    everybody_watches(lake_of(matinee), ALL_USERS, ALL_ITEMS)
    matinee.environment |= {"NO_PROXY": "127.0.0.1", "MATINEE_METADATA__REQUESTS_PER_SECOND": "500"}
    return matinee


def using(matinee, its):
    matinee.environment |= {
        "MATINEE_METADATA__ITEM_URL": its.item_url,
        "MATINEE_METADATA__USER_URL": its.user_url,
    }


def lake_of(matinee):
    home = Home(matinee.home)
    return Lake(str(home.data / "lake"), SystemClock())


def titles(matinee):
    return set(lake_of(matinee).read("items").filter(pl.col("title").is_not_null()).collect()["item"])


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


def test_it_describes_everything_and_says_so(described):
    with apis() as its:
        using(described, its)
        report = described.json("metadata", "run", "--until-idle")
        assert report["asked"] == report["rows"] == 90
        assert (report["items"], report["users"]) == ({"described": 30}, {"described": 60})
        assert "users: none asked for" in described("metadata", "run", "--until-idle").stdout
    assert titles(described) == set(ALL_ITEMS)
    assert "/user/" not in (described.home / "logs" / "metadata.jsonl").read_text()  # ids of users are in no log
    status = described.json("metadata", "status")
    assert status == {
        "items": {"due": 0, "last": {"described": 30}},
        "users": {"due": 0, "last": {"described": 60}},
        "not_yet_in_the_lake": 0,
    }
    assert "described 60" in described("metadata", "status").stdout


def test_one_id_can_be_asked_for(matinee):
    matinee.environment |= {"NO_PROXY": "127.0.0.1"}
    assert "MATINEE_METADATA__ITEM_URL" in matinee("metadata", "ask", "item", "x", status=1).stderr
    with apis() as its:
        using(matinee, its)
        assert CATALOGUE.titles[0] in matinee("metadata", "ask", "item", ALL_ITEMS[0]).stdout
        assert matinee.json("metadata", "ask", "user", "900") == {"result": "unknown"}
    assert "connection" in matinee("metadata", "ask", "user", "1", status=75).stderr


def test_killed_in_the_middle_it_goes_on_where_it_was(described):
    """What a round asks for is noted together: a kill costs that round's requests at most."""
    rate = 15
    described.environment |= {"MATINEE_METADATA__REQUESTS_PER_SECOND": str(rate)}
    with apis() as its:
        using(described, its)
        words = [sys.executable, "-m", "matinee", "metadata", "run", "--home", str(described.home)]
        with subprocess.Popen(words, env=described.environment, cwd=described.home.parent) as process:
            until(lambda: its.requests >= 40)
            os.kill(process.pid, signal.SIGKILL)
        described.environment |= {"MATINEE_METADATA__REQUESTS_PER_SECOND": "500"}
        before = described.json("metadata", "status")
        assert before["not_yet_in_the_lake"] >= 30  # asked for, and not lost
        described("metadata", "run", "--until-idle")
        assert 90 <= its.requests <= 90 + 2 * rate
    assert titles(described) == set(ALL_ITEMS)
    assert lake_of(described).read("users").collect().height == 60


def test_told_to_end_it_writes_what_it_has_and_shows_its_metrics_until_then(described):
    import httpx

    port = free_ports(1)[0]
    with apis() as its:
        using(described, its)
        words = [sys.executable, "-m", "matinee", "metadata", "run", "--home", str(described.home), "--json"]
        environment = described.environment | {"MATINEE_METADATA__METRICS_PORT": str(port)}
        with subprocess.Popen(words, env=environment, cwd=described.home.parent, stdout=subprocess.PIPE) as process:
            until(lambda: its.requests >= 90)
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
            process.terminate()
            output, _ = process.communicate(timeout=60)
            assert process.returncode == 0
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {sample.labels["api"] for sample in families["matinee_metadata_requests"].samples} <= {"item", "user"}
    assert b'"rows": 90' in output
    assert titles(described) == set(ALL_ITEMS)


def test_up_runs_it_where_an_api_is_set():
    def programs(home, **metadata):
        return configuration(load_settings(home=home.path, metadata=metadata), home, (), haproxy=["haproxy"])

    with tempfile.TemporaryDirectory(prefix="mat") as folder:  # short enough for the supervisor's socket
        home = Home(Path(folder))
        assert "[program:metadata]" not in programs(home)
        assert "[program:metadata]" in programs(home, item_url="http://host/movie/{id}")
        assert "[program:metadata]" in programs(home, user_url="http://host/user/{id}")


def test_what_nobody_describes_is_recommended_and_served_all_the_same(matinee):
    """The API knows half of the items and of the users: each user is still recommended everything unseen."""
    matinee.environment |= {"NO_PROXY": "127.0.0.1", "MATINEE_TRAINING__BOOTSTRAP_RESAMPLES": "200"}
    likes = [
        (user, item)
        for user in range(60)
        for item in range(30)
        if (user + item) % 3 == 0 and user % 10 != item % 10
    ]
    watch(lake_of(matinee), [(ALL_USERS[user], ALL_ITEMS[item]) for user, item in likes])
    with apis(Manners(unknown=0.5)) as its:
        using(matinee, its)
        matinee.environment |= {"MATINEE_METADATA__REQUESTS_PER_SECOND": "500"}
        report = matinee.json("metadata", "run", "--until-idle")
    assert min(*report["items"].values(), *report["users"].values()) > 5  # described, and unknown
    matinee("train", "--model", "ease")
    for user in (0, 1, 2, 3):
        seen = {ALL_ITEMS[item] for its, item in likes if its == user}
        answer = matinee.json("recommend", ALL_USERS[user], "--n", "30")["items"]
        assert {found["item"] for found in answer} == set(ALL_ITEMS) - seen
        assert {found["title"] is None for found in answer} == {True, False}
    assert len(matinee.json("recommend", "a-newcomer", "--n", "30")["items"]) == 30
