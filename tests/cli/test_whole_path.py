"""From a stream to answers, as a newcomer and as an operator would go."""

import json
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import polars as pl
import pytest

from matinee.simulation.options import MINUTES_A_DAY
from tests_root import ROOT


def _adds_up(counts):
    return counts["read"] == sum(counts[key] for key in ("accepted", "repaired", "duplicate", "quarantined"))


@pytest.fixture
def demo(matinee, free_port, tmp_path):
    """Where neither the publisher nor a package index can be reached."""
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    matinee.environment |= nowhere
    done = matinee("demo", "--seconds", 8, "--port", free_port, "--json")
    assert "could not be reached" in done.stderr
    document = json.loads(done.stdout)
    assert document["dataset"] == "made-up"
    return document


def test_the_demo_answers_personally_traces_and_starts_again_from_what_is_there(matinee, demo, free_port):
    assert _adds_up(demo["ingested"])
    assert demo["ingested"]["quarantined"] == 0
    assert demo["training"]["candidates"]["als"]["gate"]["ranking"] == "passed"
    first, second = demo["users"][:2]
    for user in (first, second):
        seen = {entry["item"] for entry in matinee.json("history", "show", user)["entries"]}
        items = demo["answers"][user]["items"]
        assert len(items) == len(set(items)) == 20
        assert not seen & set(items)
    assert demo["answers"][first]["items"] != demo["answers"][second]["items"]

    answered = demo["answers"][first]
    trace = matinee.json("trace", answered["request_id"])
    assert trace["served"]["items"] == answered["items"]
    assert trace["manifest"]["version"] == answered["model_version"] == demo["training"]["bundle"]
    assert trace["manifest"]["lake_versions"] == demo["training"]["lake_versions"]

    here = matinee.json("recommend", first, "--n", 20)
    assert [entry["item"] for entry in here["items"]] == answered["items"]
    assert all(entry["title"] for entry in here["items"])

    again = matinee.json("demo", "--made-up", "--seconds", 0, "--port", free_port)
    assert again["reused"]
    assert again["answers"][first]["items"] == answered["items"]
    assert again["answers"][first]["model_version"] == answered["model_version"]

    _, at_least, _ = demo["world"]["gain"]
    assert at_least > 0.02  # 95% sure: simulated viewers get more than from what is popular
    assert again["world"] == demo["world"]
    _its_viewers_live_on(matinee, free_port)

    _the_tour_of_the_readme_works(matinee, first)


def _its_viewers_live_on(matinee, port):
    world = matinee.home / "data" / "world" / "data"
    lived = _minute(world)
    assert lived >= 2 * MINUTES_A_DAY
    with closing(sqlite3.connect(world / "log.sqlite")) as log:

        def written():
            return log.execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'").fetchone()

        before = written()
        words = [sys.executable, "-m", "matinee", "demo", "--made-up", "--port", str(port)]
        demo = subprocess.Popen(words, env=matinee.environment, stdout=subprocess.PIPE, text=True)
        try:
            end = time.monotonic() + 120
            while written() == before:
                assert time.monotonic() < end
                time.sleep(0.1)
        finally:
            demo.terminate()
            told, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0
    assert f"goes on at minute {lived:,}" in told
    assert _minute(world) > lived


def _minute(world):
    with np.load(world / "world.npz") as kept:
        return int(kept["minute"])


def _the_tour_of_the_readme_works(matinee, user):
    readme = (ROOT / "README.md").read_text()
    tour = re.findall(r"^\$ matinee (.+?)(?:\s+#.*)?$", readme.split("## Five minutes")[1], re.MULTILINE)
    beside_the_demo = [line for line in tour if line.startswith(("read", "recommend", "release", "lake"))]
    assert len(beside_the_demo) == 4
    for line in beside_the_demo:
        import shlex

        assert matinee(*shlex.split(line)).stdout


def test_the_readmes_stream_comes_in(matinee):
    readme = (ROOT / "README.md").read_text()
    code = readme.split("```python\n")[1].split("```")[0].replace(".matinee", str(matinee.home))
    (matinee.home / "data").mkdir(parents=True)
    subprocess.run([sys.executable, "-c", code], check=True)
    taken = matinee.json("ingest", "--until-idle")
    assert (taken["read"], taken["accepted"]) == (2, 2)
    shown = matinee.json("history", "show", "1")["entries"]
    assert {entry["item"]: entry["rating"] for entry in shown} == {"alien+1979": 5.0, "260": 4.5}


def test_the_readmes_models_answer_by_themselves():
    users = ("ann", "bob", "cat")
    rows = [(user, f"m{item}", 1 + (u + item) % 5) for u, user in enumerate(users) for item in range(9)]
    ratings = pl.DataFrame(rows, schema=["user", "item", "rating"], orient="row")
    code = (ROOT / "README.md").read_text().split("```python\n")[2].split("```")[0]
    told = {"ratings": ratings}
    exec(code, told)
    assert told["items"].shape == told["scores"].shape == (1, 10)


def test_a_home_with_other_data_is_not_touched_by_the_demo(matinee, rating_table, free_port):
    matinee.json("import", rating_table)
    refused = matinee.json("demo", "--made-up", "--port", free_port, status=1)
    assert refused["kind"] == "ConfigurationError"


@pytest.mark.real_data
def test_the_real_stream_comes_in_and_popularity_answers(matinee, real_data):
    file = real_data / "movielog" / "movielog.csv.gz"
    counts = matinee.json("import", file)
    assert _adds_up(counts)
    assert (counts["read"], counts["accepted"], counts["repaired"], counts["quarantined"]) == (
        50_000,
        49_419,
        561,
        20,
    )
    before = matinee.json("lake", "status")
    assert matinee.json("import", file)["already_imported"]
    assert matinee.json("lake", "status") == before
    # 99 seconds of a stream: nearly nobody has watched two movies, so there is nothing personal to learn.
    refused = matinee.json("train", "--model", "als", "--param", "n_factors=8", status=1)
    assert refused["candidates"]["als"]["gate"]["ranking"] == "refused"
    assert refused["bundle"] is None
    matinee.json("train", "--model", "popularity")
    answer = matinee.json("recommend", "a-stranger", "--n", 20)
    assert answer["step"].startswith("popular")
    assert len(answer["items"]) == 20


@pytest.mark.real_data
def test_movielens_1m_is_untimed_and_als_passes_the_gate_that_svd_does_not(matinee, real_data):
    counts = matinee.json("import", "movielens-1m", "--path", real_data / "ml-1m")
    assert _adds_up(counts)
    assert (counts["read"], counts["accepted"], counts["timed"]) == (1_000_209, 1_000_209, False)
    run = matinee.json("train", "--model", "als", "--model", "svd")
    gates = {name: candidate["gate"] for name, candidate in run["candidates"].items()}
    assert run["model"] == "als"
    assert gates["als"]["ranking"] == "passed"
    assert (gates["svd"]["ranking"], gates["svd"]["rating"]) == ("refused", "passed")
    assert run["candidates"]["svd"]["metrics"]["rmse"] == pytest.approx(0.873, abs=0.003)
    assert run["candidates"]["svd"]["metrics"]["mae"] == pytest.approx(0.686, abs=0.003)
    matinee.environment["MATINEE_TRAINING__SPLIT"] = "time"
    assert matinee.json("train", status=1)["kind"] == "Unsuitable"
    answer = matinee.json("recommend", "1", "--n", 20)
    assert answer["step"] == "personal"
    assert all(entry["title"] for entry in answer["items"])
