"""The benchmark of exchanging bundles in small form."""

import json
import subprocess
import sys

from matinee.bundle.manifest import list_versions
from matinee.core.home import Home
from tests_root import ROOT

USERS, ROUNDS = 200, 1


def test_every_exchange_verifies_and_opens_a_bundle_that_is_new_and_only_those_in_use_are_kept(tmp_path):
    home = Home(tmp_path / "home")
    options = {"users": USERS, "rounds": ROUNDS, "rate": 100, "seconds": 5.1, "home": home.path}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(ROOT / "benchmarks" / "swap.py"), *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["openings"] == ROUNDS
    assert set(report["milliseconds"]) == {"without", "opening", "after"}
    for kinds in report["milliseconds"].values():
        assert set(kinds) == {"looked_up", "folded_in"}
        for of in kinds.values():
            assert 0 < of["p50"]["median"] <= of["p99"]["median"] <= of["slowest"]["median"]
    verified = {path.stem for path in (home.run / "verified").iterdir()}
    assert len(verified) == 1 + ROUNDS + 1  # the first one, and one for each round and the one that warms up
    kept = list_versions(home.bundles)
    assert len(kept) == 2  # what is released, and what was before it; the first one is gone
    assert set(kept) < verified
