"""`matinee schedule`: a first release comes by itself, then one at each set time; failures are alarms."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from matinee.cli.context import Context
from matinee.cli.schedule import Schedule, trigger
from matinee.core.clock import MINUTE, SECOND, ManualClock, SystemClock
from matinee.core.home import Home
from matinee.core.settings import Settings
from matinee.release.plan import read_plan

HALF_PAST_NINE_US = 1_700_040_600 * SECOND  # 2023-11-15T09:30:00Z, a Wednesday


def fill(matinee, viewers, past):
    (matinee.home / "data").mkdir(parents=True)
    log = f"sqlite:///{matinee.home / 'data' / 'log.sqlite'}"
    words = ("nothing", "--days", 1, "--viewers", viewers, "--items", viewers // 3, "--past", past, "--lines", log)
    matinee.json("simulate", *words, "--start", "2026-01-05", "--seed", 1)
    matinee.json("ingest", "--until-idle")


@pytest.mark.parametrize(("viewers", "past", "model"), [(600, 20, "ease"), (30, 2, "popularity")])
def test_the_first_release_comes_by_itself_from_what_passes_or_from_popularity(matinee, viewers, past, model):
    matinee.environment |= {"MATINEE_TRAINING__CANDIDATES": '["ease"]'}
    fill(matinee, viewers, past)
    process = subprocess.Popen(
        [sys.executable, "-m", "matinee", "schedule", "--train", "0 0 1 1 *"],
        env=matinee.environment, cwd=matinee.home.parent, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 240
        while (plan := read_plan(matinee.home / "data")) is None:
            assert process.poll() is None
            assert time.monotonic() < end, "nothing was released"
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    assert status == 0
    assert f"-{model}-" in plan.arms[0].bundle


@pytest.fixture
def context(tmp_path):
    home = Home(tmp_path / "home")
    return Context(Settings(home=home.path), home, SystemClock())


def schedule(context, text="0 * * * *", clock=None):
    clock = clock or context.clock
    return Schedule(Context(context.settings, context.home, clock), trigger(text), threading.Event())


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("0 * * * *", 30), ("*/10 * * * *", 10), ("0 3 * * *", 17.5 * 60), ("0 0 * * mon", (4 * 24 + 14.5) * 60)],
)
def test_the_next_run_is_when_the_crontab_says_or_after_a_shorter_pause(context, text, minutes):
    clock = ManualClock(HALF_PAST_NINE_US + 1)
    planned = schedule(context, text, clock)
    assert planned.seconds(None) == pytest.approx(minutes * MINUTE / SECOND, abs=0.01)
    assert planned.seconds(45.0) == 45.0
    assert planned.seconds(1e9) == planned.seconds(None)


def test_what_is_no_crontab_is_refused(matinee):
    refused = json.loads(matinee("schedule", "--train", "hourly", "--json", status=2).stdout or "{}")
    assert refused == {}  # it is no verb for programs
    assert "schedule.train" in matinee("schedule", "--train", "hourly", status=1).stderr


def alarms(context):
    with context.alarms() as raised:
        return [(alarm.name, alarm.evidence["kind"]) for alarm in raised.latest()]


def test_a_refusal_is_no_alarm_and_a_failure_is_one(context):
    planned = schedule(context)
    refusal = {"candidates": {}, "bundle": None, "error": "no candidate passed the gate", "remedy": "…"}
    for output in (refusal, {"kind": "Locked", "error": "…", "remedy": "…"}):
        assert planned.note("auto", 1, json.dumps(output).encode()) is None
    assert alarms(context) == []
    failure = {"kind": "QualityRefused", "error": "the data failed 1 of 9 checks", "remedy": "Find out."}
    assert planned.note("auto", 1, json.dumps(failure).encode()) is None
    assert planned.note("auto", -9, b"") is None
    assert alarms(context) == [("training_failed", "Crashed"), ("training_failed", "QualityRefused")]
    assert planned.note("auto", 0, b'{"bundle": "b-1", "model": "als"}') == "b-1"
