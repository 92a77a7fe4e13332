"""The soak in small form: everything at once for some seconds, and every line accounted for."""

import json
import os
import subprocess
import sys

import pytest

from tests_root import ROOT

FOLDER = ROOT / "benchmarks"
sys.path.append(str(FOLDER))

from soak_watch import CLASSES, failed, lost  # noqa: E402

sys.path.remove(str(FOLDER))  # its `serving.py` would stand in front of the tests' folder of that name

LINES = {
    "written": 100, "read": 107, "accepted": 90, "repaired": 5, "duplicate": 4, "quarantined": 8,
    "events_rows": 60, "rolled_up": 20, "received_rows": 8, "served_rows": 7, "quarantine_rows": 8,
}  # fmt: skip


def test_a_soak_of_seconds_loses_nothing_and_tells_of_every_role(tmp_path, tmp_path_factory):
    report = tmp_path / "soak.json"
    given = {
        "minutes": 0.1, "every": 1, "viewers": 400, "items": 200, "past": 10, "rate": 300, "dirt": 0.1,
        "maintain": 2, "model": "popularity", "times": "clock", "log": "sqlite",
    }  # fmt: skip
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(FOLDER / "soak.py"), *words, "--report", str(report)]
    kernels = tmp_path_factory.getbasetemp().parent / "matinee-kernels"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(kernels), "MATINEE_INGEST__QUARANTINE_SHARE": "0.001"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert report.exists(), done.stderr
    told = json.loads(report.read_text())
    assert done.returncode == bool(told["grows"])  # it is too short to foretell an hour
    assert len(told["samples"]) == 6
    assert {"ingest", "server1", "server2", "haproxy", "world", "up"} <= set(told["samples"][-1]["memory"])
    assert all(sample["disk"]["lake"] > 0 for sample in told["samples"])
    assert told["world"]["lines"] > 0
    assert failed(told["answers"], told["world"]) == []
    assert "alarm: quarantine_surge" in told["grows"]  # a tenth of the lines is dirty
    assert not [name for name in told["grows"] if "started again" in name or "down" in name]
    lines = told["lines"]
    assert lost(lines) == []
    assert all(lines[name] > 0 for name in (*CLASSES, "received_rows", "served_rows"))


def test_a_soak_whose_sums_come_out_has_lost_nothing():
    assert lost(LINES) == []


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("written", "lines written and answers recorded"),
        ("events_rows", "accepted and repaired"),
        ("rolled_up", "accepted and repaired"),
        ("quarantine_rows", "quarantined"),
        ("duplicate", "all classes"),
    ],
)
def test_a_line_that_is_missing_is_told_of(name, complaint):
    (found,) = lost(LINES | {name: LINES[name] - 1})
    assert found.startswith(f"{complaint}: ")
