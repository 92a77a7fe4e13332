"""Taking in a Kafka topic within one process: being fenced, waiting, the group's name, who maintains."""

import shutil

import pytest
from ingest_world import OutOfRoom, Running, World, overtaken, until, watch

from kafka_brokers import new_topic, tansu
from matinee.core.errors import Locked
from matinee.core.home import Home
from matinee.core.settings import LakeSettings, LogSettings
from matinee.ingest.stores import group_of, stores_of
from matinee.lake.lake import Lake

ANN = "17"


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with tansu(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def world(tmp_path, broker):
    url = broker.url(new_topic(), session_timeout_ms=6_000, heartbeat_interval_ms=500)
    world = World(tmp_path)
    world.settings = world.settings.model_copy(update={"log": LogSettings(url=url)})
    world.stores = stores_of(world.settings, world.home, world.clock)
    return world


def test_who_is_fenced_begins_again_where_the_lake_ends(world):
    with overtaken(world, ANN, end=7) as running:  # by one who has read seven of the ten
        until(lambda: world.rows("events").height == 8)
        world.append(watch(ANN, "alien+1979", 1, 120))
        until(lambda: world.rows("events").height == 9)
    assert running.error is None
    assert world.rows("events")["position"].to_list() == list(range(7, 16))  # the other's are the other's
    assert not [alarm for alarm in world.alarms if alarm[0] == "ingest_fenced"]
    assert world.rows("batches")["end"].max() == 16


def test_a_full_disk_is_waited_for_and_told_of_once(world):
    lake = world.with_lake(error=OutOfRoom)
    lake.broken.set()
    world.append(*(watch(f"{n}", "up+2009", n, n) for n in range(20)))
    with world.running() as running:
        until(lambda: world.alarms)
        tries = lake.asked
        until(lambda: lake.asked > tries)  # it goes on trying, and says no more
        lake.broken.clear()
        until(lambda: world.rows("events").height == 20)
    assert running.report.counts.accepted == 20
    assert [(alarm[0], alarm[2]["kind"]) for alarm in world.alarms] == [("ingest_waiting", "OutOfRoom")]


def test_two_lakes_never_share_a_group(world, tmp_path):
    lake = world.stores.lake()
    assert group_of(lake) == group_of(world.stores.lake())
    copy = shutil.copytree(lake.folder, tmp_path / "copy")
    others = [Lake(str(copy), world.clock), Lake(str(tmp_path / "other"), world.clock)]
    assert len({group_of(lake), *map(group_of, others)}) == 3


def test_of_several_one_looks_after_the_lake(world):
    settings = LakeSettings(commit_seconds=0.05, compact_after_commits=1, retention_days=100_000)
    world.settings = world.settings.model_copy(update={"lake": settings})
    asked = []
    world.append(watch(ANN, "up+2009", 1))
    with world.home.lock("upkeep"), Running(world.service(protected=lambda: asked.append(1) or [])) as running:
        until(lambda: world.rows("batches").height == 1)
    assert running.error is None
    assert asked == []  # another process does


def test_the_lock_of_a_shared_log_keeps_out_who_needs_it_alone(tmp_path):
    home, other = Home(tmp_path), Home(tmp_path)
    shared = home.lock("ingest", shared=True), other.lock("ingest", shared=True)
    with shared[0], shared[1], pytest.raises(Locked), home.lock("ingest"):
        pass
    with home.lock("ingest"), pytest.raises(Locked), other.lock("ingest", shared=True):
        pass
