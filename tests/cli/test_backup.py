"""`matinee backup` of a home under load and `matinee restore` into an empty one: nothing lost, the same answers."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from matinee.core.clock import SystemClock
from matinee.core.errors import StoreUnavailable
from matinee.core.home import Home
from matinee.core.settings import Settings
from matinee.events.offsets import Source
from matinee.history.base import Actions
from matinee.history.lmdb import LmdbHistory
from matinee.ingest.backup import BackedUp, back_up, restore
from matinee.ingest.copying import copy_history
from matinee.lake.erasure import delete_files, old_files
from matinee.lake.lake import Lake
from matinee.lake.maintenance import compact
from matinee.lake.schemas import EVENTS
from matinee.log.open import open_log

VIEWERS = ("v1", "v2")
WHO = "740193862517"
"""So long that finding it is no accident."""
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
    rows += [(WHO, f"m{item}", 4, 1_600_000_000 + item) for item in range(5)]
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


def test_a_backup_from_before_an_erasure_brings_the_user_back_and_says_whom_to_erase_again(matinee, home, tmp_path):
    taken_at_us = matinee.json("backup", tmp_path / "copy")["taken_at_us"]
    everywhere = {"added": True, "stores": "done", "bundles": "done"}
    assert matinee.json("erase", WHO, "--now") == everywhere
    assert told(home) == []
    expected = answers(matinee)

    elsewhere = tmp_path / "elsewhere"
    matinee.environment["MATINEE_HOME"] = str(elsewhere)
    said = " ".join(matinee("restore", tmp_path / "copy").stdout.split())
    assert f"of {datetime.fromtimestamp(taken_at_us / 1e6, UTC):%Y-%m-%d %H:%M} UTC" in said
    assert "Erase again who was erased since then" in said
    assert matinee.json("erase", "--list") == {"erased": []}
    stores = {path.relative_to(elsewhere / "data").parts[0] for path in told(elsewhere)}
    assert stores >= {"lake", "history", "bundles"}
    assert matinee.json("history", "show", WHO)["known"]

    assert matinee.json("erase", WHO, "--now") == everywhere
    matinee.json("ingest", "--until-idle")
    assert told(elsewhere) == []
    assert not matinee.json("history", "show", WHO)["known"]
    assert answers(matinee) == expected


def told(home):
    """The files that hold the id of who is to be erased."""
    return [path for path in home.rglob("*") if path.is_file() and WHO.encode() in path.read_bytes()]


def test_what_is_no_backup_is_refused(matinee, tmp_path):
    (tmp_path / "empty").mkdir()
    refused = matinee.json("restore", tmp_path / "empty", status=1)
    assert refused["kind"] == "InvalidInput"
    assert "backup.json" in refused["error"]


@dataclass
class Kept:
    """A home with a lake, and bundles of one file each, of which a plan names the newest."""

    home: Home
    lake: Lake
    destination: Path
    bundles: int = 0
    rows: int = 0

    def publish(self) -> None:
        self.bundles += 1
        folder = self.home.bundles / f"bundle-{self.bundles}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
        (self.home.data / "plan").write_text(folder.name)

    def prune(self) -> None:
        """All but what the plan names."""
        for folder in list(self.home.bundles.iterdir()):
            if folder.name != (self.home.data / "plan").read_text():
                shutil.rmtree(folder)

    def commit(self) -> None:
        frame = pl.DataFrame({"position": [self.rows], "user": ["v"], "item": [f"m{self.rows}"]})
        columns = {name: kind for name, kind in EVENTS.columns.items() if name not in EVENTS.filled}
        empty = {"dedup_key": bytes(16), "kind": "watch"}
        missing = [pl.lit(empty.get(name)).alias(name) for name in columns if name not in frame]
        rows = frame.with_columns(missing).select(pl.col(name).cast(kind) for name, kind in columns.items())
        self.lake.commit(Source("log", 0), {"events": rows}, start=self.rows, end=self.rows + 1)
        self.rows += 1

    def compact_and_vacuum(self) -> None:
        """What was newest is gone from the disk, with its log entries."""
        self.commit()
        compact(self.lake, "events")
        delete_files(self.lake, old_files(self.lake))

    def back_up(self, on_step: Callable[[str], None]) -> BackedUp:
        lake = Lake(str(self.lake.folder), self.lake.clock)
        settings = Settings(home=self.home.path)
        return back_up(self.home, settings, lake, lake.clock, self.destination, on_step=on_step)


@pytest.fixture
def kept(tmp_path):
    home = Home(tmp_path / "home")
    kept = Kept(home, Lake(str(home.data / "lake"), SystemClock()), tmp_path / "copy")
    for _ in range(2):
        kept.publish()
        kept.commit()
    return kept


def times(wanted: str, count: int, fault: Callable[[], None]) -> Callable[[str], None]:
    """Does the fault at the first so many steps of that name."""
    left = [fault] * count

    def on_step(step: str) -> None:
        if step == wanted and left:
            left.pop()()

    return on_step


def test_a_backup_is_as_old_as_its_beginning(kept):
    """Who asks to be erased while it is copied may be in it, and their wish may not."""
    asked: list[int] = []
    kept.back_up(lambda _: asked.append(SystemClock().now_us()))
    manifest = json.loads((kept.destination / "backup.json").read_text())
    assert asked
    assert manifest["taken_at_us"] <= min(asked)


@pytest.mark.parametrize("tries", [1, 4])
def test_a_bundle_that_is_pruned_meanwhile_is_left_out_and_the_plan_names_one_that_is_there(kept, tries):
    def fault() -> None:
        kept.publish()
        kept.prune()

    kept.back_up(times("bundles", tries, fault))
    data = kept.destination / "data"
    assert (data / "plan").read_text() == f"bundle-{2 + tries}"
    assert [folder.name for folder in (data / "bundles").iterdir()] == [f"bundle-{2 + tries}"]
    assert (data / "bundles" / f"bundle-{2 + tries}" / "manifest.json").exists()


def test_a_bundle_that_is_pruned_each_time_is_told(kept):
    def fault() -> None:
        kept.publish()
        kept.prune()

    with pytest.raises(StoreUnavailable, match="was pruned while it was copied; 10 times in a row"):
        kept.back_up(times("bundles", 1_000, fault))
    assert not kept.destination.exists()


@pytest.mark.parametrize("tries", [1, 4])
def test_versions_of_the_lake_that_go_while_they_are_copied_give_way_to_newer_ones(kept, tries):
    done = kept.back_up(times("lake", tries, kept.compact_and_vacuum))
    assert done.lake_versions == kept.lake.versions()
    elsewhere = Home(kept.home.path.parent / "elsewhere")
    restore(elsewhere, kept.destination)
    restored = Lake(str(elsewhere.data / "lake"), SystemClock())
    assert sorted(restored.read("events").collect()["position"]) == list(range(2 + tries))
    on_disk = {path.name for path in (elsewhere.data / "lake" / "events").rglob("part-*.parquet")}
    assert on_disk == {path.name for path in (kept.lake.folder / "events").rglob("part-*.parquet")}


def test_versions_of_the_lake_that_go_each_time_are_told(kept):
    with pytest.raises(StoreUnavailable, match=r"events.* while it was copied; 10 times in a row"):
        kept.back_up(times("lake", 1_000, kept.compact_and_vacuum))
    assert not kept.destination.exists()


def test_a_history_is_copied_whole_and_one_that_a_power_cut_left_unsound_is_not(tmp_path):
    folder = tmp_path / "history"
    with LmdbHistory(folder) as history:
        history.apply(Source("g", 0), Actions([0], ["17"], ["up+2009"], [0], [1], [None]), end=1)
    copy_history(folder, tmp_path / "sound")
    with LmdbHistory(tmp_path / "sound") as copy:
        assert copy.applied() == {Source("g", 0): 1}
        assert [user for user, _ in copy.items()] == ["17"]
    (folder / "unsynced").write_text("another boot")
    copy_history(folder, tmp_path / "unsound")
    assert not (tmp_path / "unsound").exists()
