"""The benchmark of bundles in small form."""

import json
import subprocess
import sys

from tests_root import ROOT

USERS = 300


def test_a_bundle_is_built_opened_and_served_and_every_stage_is_told():
    command = [sys.executable, str(ROOT / "benchmarks" / "bundle.py"), "--users", str(USERS), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    stages = [row[stage] for stage in ("arrays", "answers", "writing", "hashing", "forcing")]
    assert all(seconds > 0 for seconds in stages)
    assert row["interactions"] > USERS
    assert 0 < row["data_mb"] <= row["peak_mb"]
    assert 0 < row["further_server_mb"] < row["first_server_mb"]
