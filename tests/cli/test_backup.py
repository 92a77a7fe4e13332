"""`matinee backup` of a home under load and `matinee restore` into an empty one: nothing lost, the same answers."""

import subprocess
import sys
import threading
from contextlib import contextmanager

import polars as pl
import pytest

from matinee.core.clock import SystemClock
from matinee.core.errors import StoreUnavailable
from matinee.ingest.backup import _require_whole_bundles
from matinee.lake.lake import Lake
from matinee.log.open import open_log

VIEWERS = ("v1", "v2")
LOAD = 900_000
"""Users from here on make the load."""


@pytest.fixture
def home(matinee, tmp_path):
    """A home with ratings, a bundle that answers, and ingest that commits and trims all the time."""
    rows = [
        (f"v{u}", f"m{item}", 1 + (u + item) % 5, 1_600_000_000 + 100 * u + item)
        for u in range(33)
        for item in range(u % 7, 40, 1 + u % 3)
    ]
    table = tmp_path / "ratings.csv"
    pl.DataFrame(rows, schema=["user", "item", "rating", "time"], orient="row").write_csv(table)
    matinee.environment |= {"MATINEE_LAKE__COMMIT_SECONDS": "0.1", "MATINEE_LAKE__COMPACT_AFTER_COMMITS": "5"}
    matinee.json("import", table)
    matinee.json("train", "--model", "popularity")
    return matinee.home


@contextmanager
def load(matinee, home):
    """`matinee ingest` takes in lines that a thread appends; leaving the block ends both. Yields the positions."""
    command = [sys.executable, "-m", "matinee", "ingest"]
    ingest = subprocess.Popen(command, env=matinee.environment, cwd=home.parent, stdout=subprocess.DEVNULL)
    stop, positions, enough = threading.Event(), [], threading.Event()

    def produce():
        with open_log(f"sqlite:///{home / 'data' / 'log.sqlite'}", SystemClock()) as log:
            while not stop.wait(0.002):
                n = len(positions)
                time = f"2024-01-01T{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}"
                line = f"{time},{LOAD + n},GET /rate/alien+1979=4"
                positions.append(log.append([line.encode()]))
                if n > 500:
                    enough.set()

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        assert enough.wait(60)
        yield positions
    finally:
        stop.set()
        producer.join()
        ingest.terminate()
        assert ingest.wait(60) == 0


def answers(matinee):
    return {user: [entry["item"] for entry in matinee.json("recommend", user)["items"]] for user in VIEWERS}


def test_a_backup_under_load_restored_elsewhere_answers_the_same_and_lost_nothing(matinee, home, tmp_path):
    with load(matinee, home) as positions:
        before = positions[-1]
        done = matinee.json("backup", tmp_path / "copy")
        assert positions[-1] > before  # it ran beside
    assert done["files"] > 10
    expected = answers(matinee)
    assert len({tuple(items) for items in expected.values()}) > 1  # history takes part

    matinee.environment["MATINEE_HOME"] = str(tmp_path / "elsewhere")
    restored = matinee.json("restore", tmp_path / "copy")
    assert (restored["files"], restored["bytes"]) == (done["files"], done["bytes"])
    assert answers(matinee) == expected

    with open_log(f"sqlite:///{tmp_path / 'elsewhere/data/log.sqlite'}", SystemClock()) as log:
        after = log.append([b"2024-01-02T00:00:00,1,GET /rate/alien+1979=5"])
    matinee.json("ingest", "--until-idle")
    lake = Lake(str(tmp_path / "elsewhere/data/lake"), SystemClock())
    here = lake.read("events").filter(pl.col("item") == "alien+1979").collect()
    assert after > before
    assert sorted(here["position"]) == [*positions[: after - positions[0]], after]
    assert matinee.json("history", "show", LOAD + before - positions[0])["known"]

    refused = matinee.json("restore", tmp_path / "copy", status=1)
    assert refused["kind"] == "InvalidInput"
    assert "not empty" in refused["error"]
    refused = matinee.json("backup", tmp_path / "copy", status=1)
    assert "is there already" in refused["error"]

    (damaged,) = (tmp_path / "copy" / "data").glob("log.sqlite")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    matinee.environment["MATINEE_HOME"] = str(tmp_path / "third")
    refused = matinee.json("restore", tmp_path / "copy", status=1)
    assert refused["kind"] == "Corrupt"
    assert "log.sqlite" in refused["error"]
    assert not list((tmp_path / "third" / "data").iterdir())  # nothing half restored
    assert not list((tmp_path / "third").glob(".restore*"))


def test_what_is_no_backup_is_refused(matinee, tmp_path):
    (tmp_path / "empty").mkdir()
    refused = matinee.json("restore", tmp_path / "empty", status=1)
    assert refused["kind"] == "InvalidInput"
    assert "backup.json" in refused["error"]


def test_a_bundle_that_goes_meanwhile_is_told(tmp_path):
    for folder in (tmp_path / "bundles" / "one", tmp_path / "copies" / "one", tmp_path / "copies" / "two"):
        folder.mkdir(parents=True)
    with pytest.raises(StoreUnavailable, match="bundle two was pruned"):
        _require_whole_bundles(tmp_path / "bundles", tmp_path / "copies")
    (tmp_path / "bundles" / "two").mkdir()
    _require_whole_bundles(tmp_path / "bundles", tmp_path / "copies")
