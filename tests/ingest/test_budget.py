"""A root that is full stops the lake, never history, and goes on by itself; on disks that are really small."""

import logging
import os
from contextlib import ExitStack

import pytest
import structlog
from ingest_world import World, until, watch

from matinee.core.budget import Gate, Room, Sizes, data_gate, days_left, measure, used_bytes
from matinee.core.clock import DAY, HOUR, ManualClock
from matinee.core.errors import OutOfRoom
from matinee.core.home import Home
from matinee.core.logging import configure_logging, get_logger, prune_rotated
from matinee.core.settings import BudgetSettings, LakeSettings, LoggingSettings
from matinee.ingest.importing import Importer
from matinee.ingest.upkeep import keep_house
from small_disks import filled, small_disk

ANN = "17"
MEGABYTE = 1_000_000


@pytest.fixture
def disk(tmp_path):
    """A file system of 16 MB."""
    with small_disk(tmp_path / "disk") as disk:
        yield disk


def world_on(folder, **budget):
    world = World(folder)
    settings = {"budget": BudgetSettings(**budget), "lake": LakeSettings(commit_seconds=0.05)}
    world.settings = world.settings.model_copy(update=settings)
    return world


def alarm_names(world):
    return [name for name, *_ in world.alarms]


def full_roots(world):
    """The roots of which an alarm said that they are full, once for each alarm."""
    return [evidence["root"] for name, _, evidence, _ in world.alarms if name == "root_full"]


def test_a_disk_that_fills_up_stops_the_lake_and_not_history(disk):
    world = world_on(disk, reserve_megabytes=6)
    with world.running() as running:
        world.append(watch(ANN, "first+2000", 1, 0))
        until(lambda: world.rows("events").height == 1)
        with filled(disk, leave=5 * MEGABYTE):
            sent = 1
            while "data" not in full_roots(world):  # a gate that was open looks again within a second
                world.append(watch(ANN, "more+2000", sent, sent))
                until(lambda: world.rows("events").height > sent or "data" in full_roots(world))  # noqa: B023
                sent += 1
            held = world.rows("events").height
            world.append(watch(ANN, "last+2000", 1, sent))
            until(lambda: "last+2000" in world.items_of(ANN))  # what servers read goes on
            assert world.rows("events").height == held == sent - 1
        until(lambda: world.rows("events").height == sent + 1)
    assert running.error is None
    assert full_roots(world).count("data") == 1
    assert running.report.counts.read == sent + 1


def test_a_disk_without_one_byte_loses_nothing(disk):
    """No reserve: the stores' writes fail for real."""
    world = world_on(disk, reserve_megabytes=0)
    lake = world.settings.lake.model_copy(update={"commit_seconds": 1.0})  # the disk is full before that
    world.settings = world.settings.model_copy(update={"lake": lake})
    with world.running() as running:
        world.append(watch("0", "up+2009", 0, 0))
        until(lambda: world.rows("events").height == 1)
        world.append(*(watch(f"{n}", "up+2009", n, n) for n in range(1, 50)))
        with filled(disk, leave=0):
            until(lambda: "ingest_waiting" in alarm_names(world))
            assert world.rows("events").height == 1
        until(lambda: world.rows("events").height == 50)
    assert running.error is None
    assert world.rows("events")["position"].to_list() == list(range(1, 51))


def test_an_ingest_that_starts_on_a_disk_without_one_byte_waits_and_goes_on(disk):
    world = world_on(disk, reserve_megabytes=0)
    world.append(watch(ANN, "up+2009", 1))
    world.ingest()
    world.append(watch(ANN, "up+2009", 2, 60))
    with ExitStack() as full:
        full.enter_context(filled(disk))
        with world.running() as running:
            until(lambda: world.alarms)
            full.close()
            until(lambda: world.rows("events").height == 2)
    assert running.error is None
    assert {name for name, *_ in world.alarms} <= {"ingest_waiting", "root_full"}


def test_a_budget_stops_the_lake_until_it_is_raised_or_met(tmp_path):
    world = world_on(tmp_path, data_megabytes=20, reserve_megabytes=0)
    ballast = world.home.data / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 20 * MEGABYTE)
    world.append(watch(ANN, "up+2009", 1))
    with world.running() as running:
        until(lambda: full_roots(world) == ["data"])
        assert world.rows("events").is_empty()
        ballast.unlink()
        until(lambda: world.rows("events").height == 1)
    assert running.report.counts.accepted == 1


def test_a_full_lake_is_maintained_first_and_goes_on_where_that_made_room(tmp_path):
    """What a writer left that died is most of it. Small files are joined only when there is room for both."""
    world = world_on(tmp_path, data_megabytes=20, reserve_megabytes=0)
    for n in range(3):
        world.append(watch(ANN, "up+2009", n, n))
        world.ingest()
    lake = world.stores.lake()
    left_over = lake.folder / "events" / "part-00000-dead.parquet"
    with left_over.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 20 * MEGABYTE)
    os.utime(left_over, (0, 0))
    world.append(watch(ANN, "up+2009", 3, 3))
    with world.running() as running:
        until(lambda: world.rows("events").height == 4)
    assert (running.report.counts.accepted, running.report.waits) == (1, 0)
    assert full_roots(world) == ["data"]
    assert not left_over.exists()
    assert len(lake.table("events").file_uris()) == 4
    keep_house(lake, world.settings, world.home, ())
    assert len(lake.table("events").file_uris()) == 1


def test_a_gate_tells_every_change_once_and_looks_rarely_while_there_is_room():
    clock, told, looks = ManualClock(), [], []
    sizes = [(0, True), (95, True), (95, True), (100, False), (120, False), (95, True), (10, True)]

    def look():
        looks.append(sizes[min(len(looks), len(sizes) - 1)][0])
        return Room("data", looks[-1], 100, 10_000, 0)

    gate = Gate(look, clock, lambda state, _room: told.append(state))
    for _, through in sizes:
        clock.sleep(60)
        if through:
            gate.require()
        else:
            with pytest.raises(OutOfRoom, match="budget of 100"):
                gate.require()
    assert told == ["nearly_full", "full", "nearly_full", "ok"]
    looked = len(looks)
    for _ in range(100):
        gate.require()
    assert len(looks) == looked


@pytest.mark.parametrize(
    ("used", "budget", "free", "left", "state"),
    [
        (0, 100, 1_000, 100, "ok"),
        (89, 100, 1_000, 11, "ok"),
        (91, 100, 1_000, 9, "nearly_full"),
        (100, 100, 1_000, 0, "full"),
        (50, None, 60, 10, "ok"),
        (50, None, 55, 5, "nearly_full"),
        (50, None, 40, -10, "full"),
        (50, 100, 40, -10, "full"),
    ],
)
def test_room_is_what_budget_and_disk_leave(used, budget, free, left, state):
    room = Room("data", used, budget, free, 50)
    assert (room.left, room.state) == (left, state)


def test_growth_is_measured_from_samples(tmp_path):
    home, clock = Home(tmp_path), ManualClock()
    sizes = Sizes(home, clock)

    def room(used):
        return (Room("data", used, 10_000, 1 << 40, 0),)

    sizes.note(room(1_000))
    assert sizes.growth_per_day(room(1_000)) == {"data": None}
    clock.step(2 * DAY / MEGABYTE)
    sizes.note(room(3_000))
    sizes.note(room(9_999))  # within the hour: not kept
    growth = sizes.growth_per_day(room(3_000))
    assert growth == {"data": 1_000.0}
    assert days_left(room(3_000)[0], growth["data"]) == 7.0
    assert days_left(room(3_000)[0], -1.0) is None
    for _ in range(500):
        clock.step(HOUR / MEGABYTE)
        sizes.note(room(3_000))
    assert sizes.growth_per_day(room(3_000)) == {"data": 0.0}
    assert len(sizes._read()) == 24 * 14


def test_used_bytes_are_those_of_the_disk(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x" * 10_000)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert 10_000 <= used_bytes(tmp_path) < 100_000
    assert {room.root for room in measure(Home(tmp_path / "home"), BudgetSettings())} == {"data", "logs", "run"}


@pytest.fixture
def own_logging():
    """Loggers as they were, afterwards."""
    before = structlog.get_config()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def test_the_oldest_rotated_files_go_and_current_ones_never(tmp_path):
    for age, name in enumerate(["serve.jsonl", "serve.jsonl.1", "ingest.jsonl.1", "serve.jsonl.2", "serve.out.1"]):
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(tmp_path / name, (1_000 - age, 1_000 - age))
    prune_rotated(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["serve.jsonl", "serve.jsonl.1"]
    prune_rotated(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["serve.jsonl"]


def test_ingest_holds_the_budget_of_logs_that_others_rotate(tmp_path):
    world = world_on(tmp_path, logs_megabytes=1, reserve_megabytes=0)
    for name in ("serve.out", "serve.out.1", "serve.out.2", "supervisord.log.1"):
        (world.home.logs / name).write_bytes(b"x" * (MEGABYTE // 2))
    world.append(watch(ANN, "up+2009", 1))
    world.service().run(until_idle=True)
    left = list(world.home.logs.iterdir())
    assert sum(path.stat().st_size for path in left) <= MEGABYTE
    assert world.home.logs / "serve.out" in left


def test_an_idle_ingest_holds_the_budget_of_logs(tmp_path):
    world = world_on(tmp_path, logs_megabytes=1, reserve_megabytes=0)
    rotated = world.home.logs / "serve.out.1"
    rotated.write_bytes(b"x" * 2 * MEGABYTE)
    with world.running():
        until(lambda: not rotated.exists())


def test_an_import_stops_between_commits_and_goes_on_when_there_is_room(tmp_path, monkeypatch):
    monkeypatch.setattr("matinee.ingest.importing.CHUNK_ROWS", 2)
    world = world_on(tmp_path)
    file = tmp_path / "lines.txt"
    file.write_bytes(b"".join(f"{watch(ANN, f'm{n}+2009', 1)}\n".encode() for n in range(6)))
    asked = []

    def full_at_the_second():
        asked.append(world.rows("events").height)
        if len(asked) == 2:
            raise OutOfRoom("full")

    importer = Importer(
        home=world.home,
        lake=world.stores.lake(),
        history=world.stores.history,
        clock=world.clock,
        require_room=full_at_the_second,
    )
    with pytest.raises(OutOfRoom):
        importer.lines(file)
    report = importer.lines(file)
    assert asked == [0, 2, 2, 4]
    assert (report.resumed_at, report.counts.read, world.rows("events").height) == (2, 6, 6)


def test_the_gate_of_a_command_says_what_to_do_with_the_command(tmp_path):
    home = Home(tmp_path)
    (home.data / "ballast").write_bytes(b"x" * MEGABYTE)
    with pytest.raises(OutOfRoom, match="root data takes") as refused:
        data_gate(home, BudgetSettings(data_megabytes=1, reserve_megabytes=0), ManualClock()).require()
    assert "the same command again" in refused.value.remedy


def test_log_files_stay_within_their_budget(tmp_path, own_logging):
    settings = LoggingSettings(file_megabytes=1, files=5)
    configure_logging("test", tmp_path, settings, BudgetSettings(logs_megabytes=2.5, reserve_megabytes=0))
    logger = get_logger("budget")
    for n in range(600):
        logger.info("line", n=n, text="x" * 10_000)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3.6 * MEGABYTE
    assert (tmp_path / "test.jsonl").exists()


def test_a_log_disk_in_its_reserve_is_left_alone_and_then_used_again(disk, own_logging):
    configure_logging("test", disk, LoggingSettings(), BudgetSettings(reserve_megabytes=4))
    logger = get_logger("budget")
    logger.info("before")
    with filled(disk, leave=3 * MEGABYTE):
        logger.info("during")
    logger.info("after")
    text = (disk / "test.jsonl").read_text()
    assert ("before" in text, "during" in text, "after" in text) == (True, False, True)
