"""Ingest killed a hundred times under load: nothing lost, nothing twice, history as the lake implies."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import kill_roles
import polars as pl
import pytest

from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.history.open import open_history
from matinee.ingest.rebuild import catch_up, differences
from matinee.ingest.service import ingest
from matinee.lake.lake import Lake

KILLS = 100
MEMORY = Path("/dev/shm")


def in_lake(lake, table):
    return lake.read(table).collect().sort("position")


@pytest.fixture(scope="module")
def aftermath():
    """The home after a hundred kills and one run to the end, and what was acknowledged, by position."""
    # In memory where that can be had: a killed process never loses what the disk was not forced to keep, and a
    # hundred starts then take a third of the time.
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield kill_and_finish(Path(name))


def kill_and_finish(folder):
    (folder / "failure").touch()
    script = [sys.executable, str(Path(kill_roles.__file__))]
    with (folder / "output").open("w") as output:
        shared = {"stdout": output, "stderr": output, "env": {**os.environ, "POLARS_MAX_THREADS": "1"}}
        producer = subprocess.Popen([*script, "produce", str(folder)], **shared)
        try:
            subprocess.run([*script, "kill", str(folder), str(KILLS), "20260101"], check=True, **shared)
        finally:
            (folder / kill_roles.STOP).touch()
            producer.wait(timeout=30)
    home = Home(folder)
    report = ingest(
        settings=kill_roles.SETTINGS,
        home=home,
        clock=SystemClock(),
        raise_alarm=kill_roles.alarm_to(folder),
        until_idle=True,
    )
    acknowledged = [json.loads(text) for text in (folder / "acknowledged").read_text().splitlines()]
    return home, {position: (text, outcome) for position, text, outcome in acknowledged}, report


def test_the_kills_found_it_at_work(aftermath):
    home, sent, last_run = aftermath
    assert (home.path / "ended_by_itself").read_text() == "0", (home.path / "failure").read_text()
    assert not (home.path / "alarms").exists()
    committed_before = len(sent) - last_run.counts.read
    assert committed_before > 1_000, "most was committed by processes that were killed later"
    lake = Lake(home.resolve(kill_roles.SETTINGS.lake.url), SystemClock())
    assert in_lake(lake, "batches").height > 20


def test_every_record_is_where_it_belongs_and_only_once(aftermath):
    home, sent, _ = aftermath
    lake = Lake(home.resolve(kill_roles.SETTINGS.lake.url), SystemClock())
    assert sorted(sent) == list(range(1, len(sent) + 1))
    expected = {"events": [], "received": [], "quarantine": []}
    for position, (text, outcome) in sorted(sent.items()):
        if outcome == "quarantined":
            expected["quarantine"].append(position)
        elif outcome != "duplicate":
            expected["received" if "recommendation" in text else "events"].append(position)
    for table, positions in expected.items():
        assert in_lake(lake, table)["position"].to_list() == positions, table


def test_every_event_says_what_its_line_said(aftermath):
    home, sent, _ = aftermath
    lake = Lake(home.resolve(kill_roles.SETTINGS.lake.url), SystemClock())
    for row in in_lake(lake, "events").iter_rows(named=True):
        time, user, request = sent[row["position"]][0].split(",", 2)
        if row["kind"] == "rating":
            said = f"GET /rate/{row['item']}={row['rating']:.0f}"
        else:
            said = f"GET /data/m/{row['item']}/{row['minute']}.mpg"
        assert (row["user"], said) == (user, request)
        assert row["time"].isoformat().startswith(time)


def test_the_counts_add_up(aftermath):
    home, sent, _ = aftermath
    lake = Lake(home.resolve(kill_roles.SETTINGS.lake.url), SystemClock())
    batches = in_lake(lake, "batches")
    assert batches["start"].to_list() == [0, *batches["end"].to_list()[:-1]]  # no gap, no overlap
    assert batches["end"].max() == len(sent) + 1
    outcomes = Counter(outcome for _, outcome in sent.values())
    columns = ["accepted", "repaired", "duplicate", "quarantined"]
    assert {name: batches[name].sum() for name in columns} == {name: outcomes[name] for name in columns}
    assert batches["read"].sum() == len(sent)
    assert batches.select((pl.sum_horizontal(columns) == pl.col("read")).all()).item()


def test_history_is_what_the_lake_implies(aftermath, tmp_path):
    home, _, _ = aftermath
    lake = Lake(home.resolve(kill_roles.SETTINGS.lake.url), SystemClock())
    url = home.resolve(kill_roles.SETTINGS.history.url)
    with open_history(url, read_only=True) as live, LmdbHistory(tmp_path / "again") as again:
        assert catch_up(lake, again) == in_lake(lake, "events").height
        assert list(differences(live, again)) == []
        assert {user for user, _ in live.items()} == set(in_lake(lake, "events")["user"])
