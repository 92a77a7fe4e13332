"""The benchmarks of the stream in small form, and what the soak calls growing without bound."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.core.clock import SystemClock
from matinee.events.frames import read_records
from tests_root import ROOT

FOLDER = ROOT / "benchmarks"
sys.path.append(str(FOLDER))

from soak_watch import ALLOWED_MEGABYTES, Sample, complaints, failed, grows, slope, summary  # noqa: E402
from soak_world import stamped  # noqa: E402
from stream_load import lines  # noqa: E402

sys.path.remove(str(FOLDER))  # its `serving.py` would stand in front of the tests' folder of that name

TIMES = [5.0 * number for number in range(1, 41)]
RATE = 1_000


def run(script, *words):
    command = [sys.executable, str(FOLDER / script), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def steady():
    """A soak in which nothing grows but the lake, by 40 bytes a line."""
    return [
        Sample(
            seconds=seconds,
            pids={"ingest": 7, "server1": 8},
            memory={"ingest": 300.0, "server1": 100.0},
            private={"ingest": 250.0, "server1": 80.0},
            disk={"log": 5.0, "lake": 900.0, "history": 10.0, "logs": 0.1, "run": 1.0},
            lake=40e-6 * RATE * seconds,
            end=int(RATE * seconds),
            lag=3 * RATE,
            p99=0.05,
            answers=100,
        )
        for seconds in TIMES
    ]


def with_series(name, part, values):
    return [
        replace(sample, **{name: getattr(sample, name) | {part: value}})
        for sample, value in zip(steady(), values, strict=True)
    ]


def test_a_steady_soak_has_nothing_to_complain_of():
    assert complaints(steady(), viewers=1_000, rate=RATE) == []


def test_a_leak_of_a_role_is_found_and_named():
    samples = with_series("private", "server1", [80 + 0.1 * seconds for seconds in TIMES])
    (found,) = complaints(samples, viewers=1_000, rate=RATE)
    assert found == "memory of server1 grows by 360 MB an hour, from 90 MB"


@pytest.mark.parametrize("part", ["log", "logs", "run"])
def test_a_part_of_the_disk_that_grows_is_found_and_named(part):
    samples = with_series("disk", part, TIMES)
    (found,) = complaints(samples, viewers=1_000, rate=RATE)
    assert found.startswith(f"disk of {part} grows by 3,600 MB an hour")


def test_a_lake_that_takes_too_much_of_a_line_is_found():
    samples = [replace(sample, lake=101e-6 * RATE * sample.seconds) for sample in steady()]
    assert complaints(samples, viewers=1_000, rate=RATE) == ["the lake takes 101 bytes of each line, more than 100"]


def test_a_history_larger_than_its_viewers_may_make_it_is_found():
    samples = with_series("disk", "history", [81.0] * len(TIMES))
    assert complaints(samples, viewers=1_000, rate=RATE) == ["history has 81 MB of 1,000 viewers"]
    assert complaints(samples, viewers=2_000, rate=RATE) == []


def test_an_ingest_that_falls_behind_is_found():
    samples = [replace(sample, lag=int(RATE * sample.seconds / 2)) for sample in steady()]
    assert complaints(samples, viewers=1_000, rate=RATE) == ["97,500 lines are not in the lake, more than of 30 s"]


@pytest.mark.parametrize("p99", [0.7, None])
def test_late_answers_and_none_at_all_are_found(p99):
    samples = [replace(sample, p99=p99) for sample in steady()]
    (found,) = complaints(samples, viewers=1_000, rate=RATE)
    assert found.startswith("p99 of the answers is ")


def test_a_role_that_was_started_again_is_named():
    samples = steady()
    samples[3] = replace(samples[3], pids={"ingest": 7, "server1": 9})
    assert complaints(samples, viewers=1_000, rate=RATE) == ["server1 was started again"]


def test_a_role_that_does_not_run_is_named():
    samples = steady()
    samples[-1] = replace(samples[-1], pids={"ingest": 0, "server1": 8})
    assert complaints(samples, viewers=1_000, rate=RATE) == ["ingest was down"]


def test_a_broker_may_grow_that_keeps_its_topic_in_memory():
    samples = with_series("private", "broker 1", TIMES)
    assert len(complaints(samples, viewers=1_000, rate=RATE)) == 1
    assert complaints(samples, viewers=1_000, rate=RATE, unjudged=["broker 1"]) == []


def test_the_growth_of_every_role_is_reported():
    told = summary(with_series("private", "ingest", [250 + 0.01 * seconds for seconds in TIMES]))
    grown = {role: of["an_hour"] for role, of in told["private_megabytes"].items()}
    assert grown == pytest.approx({"ingest": 36.0, "server1": 0.0})


def test_requests_that_failed_are_told_of():
    well, badly = {"folded_in": 5_000, "failed": 5}, {"folded_in": 5_000, "failed": 6}
    assert failed(well, {"requests": 1_000, "failed": 1}) == []
    assert failed(badly, {"requests": 1_000, "failed": 2}) == [
        "6 of the client's 5,006 requests failed", "2 of the viewers' 1,000 requests failed",
    ]  # fmt: skip
    assert failed({}, {"requests": 0, "failed": 0})


def test_a_soak_of_four_samples_says_nothing():
    with pytest.raises(SystemExit, match="too short"):
        complaints(steady()[:4], viewers=1_000, rate=RATE)


@given(level=st.floats(0, 1_000), a_second=st.floats(-10, 10))
def test_the_slope_of_a_line_is_its_slope(level, a_second):
    assert slope(TIMES, [level + a_second * x for x in TIMES]) == pytest.approx((a_second, a_second), abs=1e-9)


@given(height=st.floats(0, 500), period=st.integers(2, 8), seed=st.integers(0, 99))
def test_a_saw_that_falls_back_each_time_does_not_grow(height, period, seed):
    noise = np.random.default_rng(seed).random(len(TIMES))
    values = [1_000 + height * (n % period) / period + x for n, x in enumerate(noise)]
    assert not grows(TIMES, values)


def test_what_is_small_may_double():
    an_hour = [1 + ALLOWED_MEGABYTES * x / 3600 for x in TIMES]
    assert not grows(TIMES, an_hour)


def test_every_line_of_the_load_is_accepted():
    made = lines(600, np.random.default_rng(0))
    frame = read_records(made, np.full(len(made), SystemClock().now_us()))
    assert frame["outcome"].cast(pl.String).unique().to_list() == ["accepted"]
    assert frame["kind"].cast(pl.String).value_counts().sort("kind").rows() == [("rating", 20), ("watch", 580)]


def test_ingest_in_small(tmp_path):
    (tmp_path / "lines").write_bytes(b"\n".join(lines(500, np.random.default_rng(1))))
    out = run("ingest.py", "--path", tmp_path / "lines", "--lines", 1_500, "--runs", 1, "--core", _a_core())
    seconds = json.loads(out.splitlines()[-1])["wall_and_processor_seconds"]
    assert set(seconds) == {"sqlite log to lake and history", "file to lake and history"}
    assert all(runs[0][0] > 0 and runs[0][1] > 0 for runs in seconds.values())


def test_freshness_in_small():
    words = ("--events", 3, "--users", 40, "--rates", 0, 300, "--settle", 0.5, "--json")
    rows = json.loads(run("freshness.py", *words))
    assert [row["told_by"] for row in rows] == ["post", "line", "post", "line"]
    assert [row["lines_per_second"] > 0 for row in rows] == [False, False, True, True]
    assert all(0 < row["p50"] <= row["p99"] <= row["longest"] and row["events"] == 3 for row in rows)


def test_lines_of_the_clock_have_its_time_where_they_had_one():
    watch = b",7,GET /data/m/a+film+1999/3.mpg"
    dirty = [b"2026-01-0x3T10:00:01" + watch, b",7", b"", b"2026-01-03T10:00"]
    given = [b"2026-01-03T10:00:01" + watch, b"2026-01-03T10:00" + watch, *dirty]
    assert stamped(given, 86_400 + 61.7) == [b"1970-01-02T00:01:01" + watch] * 2 + dirty
    assert stamped(given, 86_400 + 60.2) == [b"1970-01-02T00:01" + watch] * 2 + dirty
    now_us = 1_790_000_000_000_000
    read = read_records(stamped(given[:1], now_us / 1e6), np.array([now_us]))
    assert read["time"].dt.timestamp("us").to_list() == [now_us]


def _a_core():
    return min(os.sched_getaffinity(0))
