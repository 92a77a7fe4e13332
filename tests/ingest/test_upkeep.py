"""What ingest does though nothing comes in: it maintains the lake by time, and tells of roots that fill up."""

from dataclasses import replace

import pytest
from ingest_world import MovedClock, Running, World, until, watch
from structlog.testing import capture_logs

from matinee.core.clock import ManualClock
from matinee.core.settings import BudgetSettings, LakeSettings
from matinee.ingest.stores import Opened
from matinee.ingest.upkeep import Upkeep
from small_disks import filled, small_disk

HALF_AN_HOUR = 1_800.0


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    lake = LakeSettings(commit_seconds=0.05, retention_days=100_000, maintain_minutes=HALF_AN_HOUR / 60)
    world.settings = world.settings.model_copy(update={"lake": lake, "budget": BudgetSettings(reserve_megabytes=4)})
    return world


@pytest.mark.parametrize(
    "turn", [Upkeep.between_commits, lambda upkeep: upkeep.after_commit(1)], ids=["idle", "slow"]
)
def test_a_lake_with_few_commits_or_none_is_maintained_after_so_many_minutes(world, turn):
    for n in range(3):
        world.append(watch("17", "up+2009", n, n))
        world.ingest()
    asked = []
    lake = world.stores.lake()
    lake.clock = ManualClock(world.clock.now_us())
    with world.stores.log() as log, world.stores.history() as history:
        upkeep = Upkeep(
            Opened(log, lake, history), world.settings, world.home, pytest.fail, lambda: asked.append(1) or (), bool
        )

        def files_after(seconds):
            lake.clock.sleep(seconds)
            turn(upkeep)
            return len(lake.table("events").file_uris())

        assert files_after(HALF_AN_HOUR - 1) == 3
        assert files_after(1) == 1
        files_after(HALF_AN_HOUR - 1)
        assert len(asked) == 1
        files_after(1)
        assert len(asked) == 2
        upkeep.close()


def test_an_ingest_that_runs_idle_maintains_its_lake_when_it_is_time(world):
    lake = world.stores.lake()
    lake.clock = MovedClock(world.clock)
    world.stores = replace(world.stores, lake=lambda: lake)
    world.append(watch("17", "up+2009", 1))
    asked = []
    with Running(world.service(protected=lambda: asked.append(1) or ())) as running:
        until(lambda: world.rows("batches").height == 1)
        assert asked == []
        lake.clock.ahead += HALF_AN_HOUR
        until(lambda: asked)
    assert running.error is None


@pytest.mark.parametrize("root", ["data", "logs"])
def test_a_disk_that_fills_up_under_an_idle_ingest_is_an_alarm_first_nearly_and_then_full(world, root):
    with small_disk(getattr(world.home, root)) as disk, capture_logs() as logs, world.running() as running:
        with filled(disk, leave=4_600_000):
            until(lambda: world.alarms)
        until(lambda: told(logs) == [root])
        with filled(disk, leave=3_000_000):
            until(lambda: world.alarms[-1][0] == "root_full")
        until(lambda: told(logs) == [root] * 2)
    assert running.error is None
    (nearly, *_, full) = world.alarms
    assert nearly[:2] == ("root_nearly_full", "warning")
    assert full[:2] == ("root_full", "critical")
    assert [alarm[0] for alarm in world.alarms].count("root_full") == 1
    for _, _, evidence, remedy in world.alarms:
        assert evidence["root"] == root
        assert "disk-full.md" in remedy


@pytest.mark.parametrize("root", ["data", "logs"])
def test_where_not_even_the_lock_of_upkeep_has_room_the_roots_are_told_of_all_the_same(world, root):
    alarms = []
    with (
        small_disk(getattr(world.home, root)) as disk,
        small_disk(world.home.run, "nr_inodes=1"),
        world.stores.log() as log,
        world.stores.history() as history,
    ):
        stores = Opened(log, world.stores.lake(), history)
        upkeep = Upkeep(stores, world.settings, world.home, lambda *alarm: alarms.append(alarm), tuple, bool)
        with filled(disk, leave=3_000_000):
            upkeep.between_commits()
    assert [(kind, evidence["root"]) for kind, _, evidence, _ in alarms] == [("root_full", root)]


def told(logs):
    """The roots of which it was said that they have room again."""
    return [entry["root"] for entry in logs if entry["event"] == "root_has_room_again"]
