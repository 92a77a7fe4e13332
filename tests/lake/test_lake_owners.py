"""Owners in processes of their own, that are stopped, killed, or race."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lake_frames import SOURCE, assert_exactly_once, batch

from matinee.core.clock import SystemClock
from matinee.lake.lake import Lake
from matinee.lake.schemas import INGEST_TABLES

OWNER = Path(__file__).parent / "lake_owner.py"


def start_owner(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(OWNER), str(folder), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result_of(owner: subprocess.Popen[str]) -> dict[str, object]:
    out, _ = owner.communicate(timeout=120)
    assert owner.returncode == 0
    return json.loads(out)


def wait_until_stopped(owner: subprocess.Popen[str]) -> None:
    _, status = os.waitpid(owner.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


@pytest.mark.parametrize("table", ["events", "quarantine", "batches"])
@pytest.mark.parametrize("replacement_end", [35, 60], ids=["inside the old batch", "beyond the old batch"])
def test_an_owner_that_slept_through_its_replacement_writes_nothing_twice(
    tmp_path: Path, table: str, replacement_end: int
):
    lake = Lake(str(tmp_path), SystemClock())
    lake.commit(SOURCE, batch(0, 20), start=0, end=20)
    old = start_owner(tmp_path, "commit", 20, 50, "stop", table)
    try:
        wait_until_stopped(old)
        start = lake.resume_position(SOURCE)
        assert start == 20
        lake.commit(SOURCE, batch(start, replacement_end), start=start, end=replacement_end)
        os.kill(old.pid, signal.SIGCONT)
        outcome = result_of(old)
    finally:
        old.kill()
    if replacement_end < 50:
        assert "fenced" in outcome
    else:
        assert outcome["written"][table] == 0
    start = lake.resume_position(SOURCE)
    assert start == replacement_end
    lake.commit(SOURCE, batch(start, 80), start=start, end=80)
    assert_exactly_once(lake, 80)


@pytest.mark.parametrize("table", INGEST_TABLES)
def test_an_owner_killed_between_tables_is_resumed_without_loss_or_repeat(tmp_path: Path, table: str):
    lake = Lake(str(tmp_path), SystemClock())
    lake.commit(SOURCE, batch(0, 20), start=0, end=20)
    owner = start_owner(tmp_path, "commit", 20, 50, "kill", table)
    owner.communicate(timeout=120)
    assert owner.returncode == -signal.SIGKILL
    ends = {name: lake.committed_ends(name)[SOURCE] for name in INGEST_TABLES}
    order = list(INGEST_TABLES)
    assert ends == {name: 50 if order.index(name) < order.index(table) else 20 for name in order}
    successor = Lake(str(tmp_path), SystemClock())
    assert successor.resume_position(SOURCE) == 20
    for start, end in [(20, 33), (33, 70)]:  # cut elsewhere than before
        successor.commit(SOURCE, batch(start, end), start=start, end=end)
    assert_exactly_once(successor, 70)


@pytest.mark.parametrize("seed", [1, 2])
def test_owners_that_race_write_every_position_once(tmp_path: Path, seed: int):
    owners = [start_owner(tmp_path, "race", 120, 10 * seed + each) for each in range(3)]
    for owner in owners:
        result_of(owner)
    assert_exactly_once(Lake(str(tmp_path), SystemClock()), 120)
