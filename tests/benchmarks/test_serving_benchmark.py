"""The benchmark of serving in small form: that it still finds the functions whose time it takes."""

import json
import subprocess
import sys

import pytest

from tests_root import ROOT

CASES = {"look_up", "cached_fold_in", "fresh_fold_in", "re_ranked", "popularity"}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    words = ["--users", "200", "--seconds", "0", "--rounds", "1", "--only", "steps", "--json"]
    picture = tmp_path_factory.mktemp("steps") / "steps.png"
    command = [sys.executable, str(ROOT / "benchmarks" / "serving.py"), *words, "--picture", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    return json.loads(done.stdout)  # all of it: nothing else is printed there


def test_each_path_through_the_service_is_taken_apart(report):
    assert set(report["steps"]) == CASES
    for found in report["steps"].values():
        assert sum(found["steps"].values()) == pytest.approx(found["whole"])


@pytest.mark.parametrize(
    ("case", "step"), [("look_up", "look up"), ("fresh_fold_in", "fold in"), ("re_ranked", "re-rank")]
)
def test_a_path_has_the_step_that_names_it(report, case, step):
    assert report["steps"][case]["steps"][step] > 0
    assert {"history", "filter", "telemetry", "render"} <= set(report["steps"][case]["steps"])
