"""The benchmark of serving in small form: that each part still runs, and that what it reports fits together."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests_root import ROOT

CASES = {"look_up", "cached_fold_in", "fresh_fold_in", "re_ranked", "popularity"}
STALL, RATE = 0.5, 200
ASKED = 120
"""At that rate in a loop, which is 1.2 times as long as the stall: by the one, or by its four slices together."""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Asks the benchmark for one part, on one core or on all; all parts share a home."""
    home = tmp_path_factory.mktemp("serving") / "home"
    cores = os.sched_getaffinity(0)

    def measured(part, *words, on=cores):
        options = ["--users", "200", "--rounds", "1", "--json", "--home", str(home), "--only", part, *words]
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / "serving.py"), *options],
            capture_output=True, text=True, check=False, preexec_fn=lambda: os.sched_setaffinity(0, on),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)  # all of it: nothing else is printed there

    return measured


@pytest.fixture(scope="module")
def steps(report, tmp_path_factory):
    picture = tmp_path_factory.mktemp("steps") / "steps.png"
    found = report("steps", "--seconds", "0", "--picture", str(picture))["steps"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    return found


def test_each_path_through_the_service_is_taken_apart(steps):
    assert set(steps) == CASES
    for found in steps.values():
        assert sum(found["steps"].values()) == pytest.approx(found["whole"])


@pytest.mark.parametrize(
    ("case", "step"), [("look_up", "look up"), ("fresh_fold_in", "fold in"), ("re_ranked", "re-rank")]
)
def test_a_path_has_the_step_that_names_it(steps, case, step):
    assert steps[case]["steps"][step] > 0
    assert {"history", "filter", "telemetry", "render"} <= set(steps[case]["steps"])


def median(of):
    """Of a spread of one value, or of a few."""
    assert 0 < of["least"] <= of["median"] <= of["greatest"]
    return of["median"]


@pytest.mark.parametrize("case", ["look_up", "mix"])
def test_latency_accounts_for_every_record(report, case):
    found = report("latency", "--stall", str(STALL), "--rate", str(RATE), "--cases", case)["latency"][case]
    assert (found["requests_per_second"], found["failed"]) == (RATE, 0)
    for name, records in found["records"].items():
        assert records["asked"] == ASKED
        assert records["offered"] == records["written"] + records["dropped"] == (0 if name == "off" else ASKED)
        p50, p99, p999 = (median(found["milliseconds"][name][label]) for label in ("p50", "p99", "p99.9"))
        assert p50 <= p99 <= p999
    assert found["lost_while_stalled"] == [found["records"]["stalled"]["dropped"]]
    assert set(found["records"]) == {"on", "off", "stalled"}
    assert median(found["p99_on_over_off"])
    assert median(found["p99_stalled_over_off"])


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_peak_stands_beside_those_of_the_constants(report):
    one_core = {min(os.sched_getaffinity(0))}
    found = report("peak", "--cases", "look_up", "look_up_stalled", "--seconds", "1", on=one_core)
    assert "peak_of_two" not in found
    assert set(found["peak"]) == {"look_up", "look_up_stalled"}
    assert median(found["peak"]["look_up_stalled"]["requests_per_second"]["look_up_stalled"])
    of = found["peak"]["look_up"]
    rates = {name: median(values) for name, values in of["requests_per_second"].items()}
    costs = {name: median(values) for name, values in of["processor_microseconds"].items()}
    assert set(rates) == set(costs) == {"look_up", "constant", "starlette"}
    for constant in ("constant", "starlette"):
        assert median(of["of_constant"][constant]) == pytest.approx(rates["look_up"] / rates[constant])
        share = of["of_constant_by_processor_time"][constant]
        assert median(share) == pytest.approx(costs[constant] / costs["look_up"])
    half = of["milliseconds_at_half_load"]
    assert median(half["p50"]) <= median(half["p99"])


def test_fold_ins_are_counted_by_the_second(report):
    assert median(report("fold_in", "--seconds", "1")["fold_ins_per_second"])
