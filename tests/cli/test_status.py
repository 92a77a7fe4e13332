"""`matinee status`: sizes, budgets, growth, days left and alarms, for people and programs."""

import json
from contextlib import contextmanager

from matinee.core.alarms import Alarms
from matinee.core.clock import DAY, ManualClock, SystemClock
from matinee.core.control import open_control
from matinee.core.home import Home
from matinee.core.settings import Settings


@contextmanager
def alarms_of(home, clock):
    engine = open_control(Home(home).resolve(Settings().control_url))
    try:
        yield Alarms(engine, clock)
    finally:
        engine.dispose()


def test_status_tells_sizes_budgets_growth_and_days_left(matinee):
    matinee.environment |= {"MATINEE_BUDGET__DATA_MEGABYTES": "3", "MATINEE_BUDGET__RESERVE_MEGABYTES": "0"}
    first = matinee.json("status")["roots"]
    assert set(first) == {"data", "logs", "run"}
    assert first["data"]["growth_bytes_per_day"] is None  # nothing to compare with yet
    assert first["data"]["budget_bytes"] == 3_000_000

    two_days_ago = SystemClock().now_us() - 2 * DAY
    sizes = {"format_version": 1, "samples": [{"at_us": two_days_ago, "data": 0, "logs": 0, "run": 0}]}
    (matinee.home / "data" / "sizes.json").write_text(json.dumps(sizes))
    (matinee.home / "data" / "ballast").write_bytes(b"x" * 1_000_000)
    data = matinee.json("status")["roots"]["data"]
    assert 1_000_000 <= data["bytes"] < 1_100_000
    assert abs(data["growth_bytes_per_day"] - data["bytes"] / 2) < 1_000
    assert abs(data["days_left"] - data["left_bytes"] / data["growth_bytes_per_day"]) < 1e-6
    assert data["left_bytes"] == 3_000_000 - data["bytes"]
    assert data["state"] == "ok"

    (matinee.home / "data" / "ballast").write_bytes(b"x" * 3_000_000)
    assert matinee.json("status")["roots"]["data"]["state"] == "full"
    shown = matinee("status").stdout
    assert "full" in shown
    assert "days left" in shown


def test_the_latest_alarms_are_shown_with_what_to_do(matinee):
    assert matinee.json("status")["alarms"] == []
    assert "No alarms" in matinee("status").stdout
    clock = ManualClock(1_700_000_000_000_000)  # 2023-11-14 22:13:20 UTC
    with alarms_of(matinee.home, clock) as alarms:
        alarms.raise_alarm("root_nearly_full", "warning", {"root": "data"}, "Make some room.")
        clock.step(60)
        alarms.raise_alarm("ingest_stopped", "critical", {"error": "[bold]odd"}, "Upgrade matinee.")
    newest, oldest = matinee.json("status")["alarms"]
    assert newest == {
        "raised_at": "2023-11-14T22:14:20+00:00",
        "name": "ingest_stopped",
        "severity": "critical",
        "evidence": {"error": "[bold]odd"},
        "remedy": "Upgrade matinee.",
    }
    assert (oldest["name"], oldest["severity"]) == ("root_nearly_full", "warning")
    assert matinee.json("status", "--alarms", 1)["alarms"] == [newest]
    shown = matinee("status").stdout
    assert "2023-11-14 22:14:20 UTC, critical: ingest_stopped (error [bold]odd)\n    Upgrade matinee." in shown
    assert shown.index("ingest_stopped") < shown.index("root_nearly_full")


def test_sizes_are_shown_although_the_control_database_is_away(matinee):
    (matinee.home / "data").mkdir(parents=True)
    matinee.environment |= {"MATINEE_CONTROL_URL": f"sqlite:///{matinee.home}/no/folder/control.sqlite"}
    done = matinee("status", "--json")
    told = json.loads(done.stdout)
    assert told["alarms"] is None
    assert told["roots"]["data"]["state"] == "ok"
    assert "does not answer" in done.stderr


def test_a_lake_that_nothing_bounds_is_hinted_at(matinee):
    (hint,) = matinee.json("status")["hints"]
    assert "lake.retention_days" in hint
    assert "budget.data_megabytes" in hint
    assert hint in matinee("status").stdout
    for name, value in (("BUDGET__DATA_MEGABYTES", "9000"), ("LAKE__RETENTION_DAYS", "400")):
        matinee.environment[f"MATINEE_{name}"] = value
        assert matinee.json("status")["hints"] == []
        del matinee.environment[f"MATINEE_{name}"]


def test_import_replay_and_training_refuse_to_write_to_a_full_root(matinee, rating_table, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("what is [this]\n")
    assert matinee.json("import", lines, "--format", "lines")["quarantined"] == 1
    before = matinee.json("lake", "status")
    ballast = matinee.home / "data" / "ballast"
    ballast.write_bytes(b"x" * 3_000_000)
    matinee.environment |= {"MATINEE_BUDGET__DATA_MEGABYTES": "3"}
    for words in (("import", rating_table), ("quarantine", "replay"), ("train", "--model", "popularity")):
        refused = matinee.json(*words, status=75)  # worth another try
        assert refused["kind"] == "OutOfRoom"
        assert "budget of 3,000,000" in refused["error"]
        assert "give the same command again" in refused["remedy"]
    assert matinee.json("lake", "status") == before
    ballast.unlink()
    assert matinee.json("import", rating_table)["read"] == 3
