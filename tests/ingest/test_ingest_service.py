"""The loop: resuming, waiting, stopping, and a log that is not the one it was."""

import fcntl
import os
import signal

import polars as pl
import pytest
from ingest_world import OutOfRoom, World, overtaken, until, watch

from matinee.core.errors import Fenced, GenerationChanged, Locked
from matinee.core.settings import LakeSettings
from matinee.history.lmdb import LmdbHistory
from matinee.ingest import intake
from matinee.ingest.rebuild import catch_up, differences
from matinee.ingest.service import ingest

ANN, BOB = "17", "23"


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def history_equals_lake(world, tmp_path):
    with world.stores.history() as live, LmdbHistory(tmp_path / "again") as again:
        catch_up(world.stores.lake(), again)
        return list(differences(live, again)) == []


def test_a_log_goes_into_lake_and_history(world, tmp_path):
    world.append(watch(ANN, "up+2009", 3), watch(ANN, "up+2009", 3), "nonsense", watch(BOB, "jaws+1975", 1))
    report = world.ingest()
    assert report.counts.as_dict() == {
        "read": 4, "accepted": 2, "repaired": 0, "duplicate": 1, "quarantined": 1, "reasons": {"unknown_form": 1},
        "erased": 0,
    }  # fmt: skip
    assert world.rows("events")["position"].to_list() == [1, 4]
    assert world.rows("quarantine")["raw"].to_list() == [b"nonsense"]
    assert world.items_of(ANN) == ["up+2009"]
    assert history_equals_lake(world, tmp_path)
    assert world.alarms == []


def test_it_goes_on_where_it_ended_and_trims_behind(world):
    world.append(*(watch(ANN, "up+2009", n, n) for n in range(50)))
    assert world.ingest().counts.read == 50
    with world.stores.log() as log:
        assert log.reader(lambda _: 0).poll(max_records=10, timeout=0) == []  # all of it is in the lake
    assert world.ingest().counts.read == 0
    world.append(watch(ANN, "up+2009", 50, 50), watch(ANN, "up+2009", 49, 49))
    report = world.ingest()
    assert (report.counts.accepted, report.counts.duplicate) == (1, 1)  # the window came back from the lake
    assert world.rows("batches")["start"].to_list() == [0, 51]


def test_of_two_the_second_says_who_works(world):
    with world.running(), pytest.raises(Locked, match=f'"pid": {os.getpid()}'):
        world.ingest()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_everything_committed(world, number):
    world.append(*(watch(ANN, "up+2009", n, n) for n in range(30)))
    seen = []

    def progress(_what, done, _total):
        if done >= 30 and not seen:
            seen.append(done)
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    report = ingest(
        settings=world.settings, home=world.home, clock=world.clock, raise_alarm=pytest.fail, progress=progress
    )
    assert report.counts.accepted == 30
    assert report.left_in_log == 0
    assert signal.getsignal(number) is before


def test_a_log_made_again_while_it_was_down_stops_it(world):
    world.append(watch(ANN, "up+2009", 1))
    world.ingest()
    world.log_file.unlink()
    world.append(watch(BOB, "jaws+1975", 1))
    with pytest.raises(GenerationChanged) as caught:
        world.ingest()
    assert "--accept-new-generation" in caught.value.remedy
    (name, severity, evidence, remedy) = world.alarms[0]
    assert (name, severity, remedy) == ("log_generation_changed", "critical", caught.value.remedy)
    assert evidence["log"] == world.settings.log.url
    assert world.ingest(accept_new_generation=True).counts.accepted == 1
    assert world.rows("events")["user"].to_list().count(BOB) == 1
    assert world.ingest().counts.read == 0  # it is the known one from now on


def test_the_lake_remembers_the_generation_where_the_note_is_lost(world):
    world.append(watch(ANN, "up+2009", 1))
    world.ingest()
    (world.home.data / "ingest.json").unlink()
    assert world.ingest().counts.read == 0  # the same log: nothing to complain of
    (world.home.data / "ingest.json").unlink()
    world.log_file.unlink()
    with pytest.raises(GenerationChanged):
        world.ingest()


def test_a_log_made_again_under_it_stops_it_with_what_was_read_committed(world):
    world.append(watch(ANN, "up+2009", 1))
    with world.running() as running:
        until(lambda: world.items_of(ANN))
        world.log_file.unlink()
        world.append(watch(BOB, "jaws+1975", 1))
        until(lambda: not running.thread.is_alive())
    assert isinstance(running.error, GenerationChanged)
    assert [alarm[0] for alarm in world.alarms] == ["log_generation_changed"]
    assert world.rows("events")["user"].to_list() == [ANN]


def test_an_older_copy_of_the_log_is_refused(world):
    world.append(watch(ANN, "up+2009", 1))
    copy = world.log_file.read_bytes()
    world.append(*(watch(ANN, "up+2009", n, n) for n in range(2, 9)))
    world.ingest()
    for file in world.log_file.parent.glob(world.log_file.name + "*"):
        file.unlink()
    world.log_file.write_bytes(copy)
    with pytest.raises(GenerationChanged, match="older copy"):
        world.ingest()


@pytest.mark.parametrize("failures", [1, 4])
def test_a_lake_that_fails_some_times_loses_nothing(world, tmp_path, failures):
    lake = world.with_lake(failures=failures, error=OutOfRoom)
    world.append(*(watch(f"{n}", "up+2009", n, n) for n in range(20)))
    report = world.ingest()
    assert report.waits == 1  # said once, however often it was asked
    assert lake.asked == failures + 1
    assert world.rows("events")["position"].to_list() == list(range(1, 21))
    assert history_equals_lake(world, tmp_path)


def test_history_goes_on_while_the_lake_is_away(world, tmp_path):
    lake = world.with_lake()
    lake.broken.set()
    with world.running() as running:
        for n in range(5):
            world.append(watch(ANN, f"film+{n}+2000", 1, n))
            until(lambda n=n: len(world.items_of(ANN) or []) == n + 1)
        assert world.rows("events").is_empty()
        until(lambda: any(alarm[0] == "ingest_waiting" for alarm in world.alarms))
        lake.broken.clear()
        until(lambda: world.rows("events").height == 5)
    assert running.report.counts.accepted == 5
    assert history_equals_lake(world, tmp_path)
    assert [(name, evidence["waiting_for"]) for name, _, evidence, _ in world.alarms] == [
        ("ingest_waiting", "lake")
    ]


def test_what_memory_cannot_hold_is_read_again_when_the_lake_is_back(tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "POLL_RECORDS", 10)
    world = World(tmp_path)
    world.settings = world.settings.model_copy(
        update={"lake": LakeSettings(commit_seconds=0.05, commit_rows=20, retention_days=100_000)}
    )
    lake = world.with_lake()
    lake.broken.set()
    lines = [watch(f"{n}", "up+2009", n, n) for n in range(200)]
    world.append(*lines, *lines[:50])
    with world.running() as running:
        until(lambda: world.items_of("199"))  # history read all of it; the lake's rows do not fit
        assert world.rows("events").is_empty()
        lake.broken.clear()
        until(lambda: world.rows("batches")["read"].sum() == 250)
    assert (running.report.counts.accepted, running.report.counts.duplicate) == (200, 50)
    assert world.rows("events")["position"].to_list() == list(range(1, 201))
    assert history_equals_lake(world, tmp_path)


def test_stopped_while_the_lake_is_away_it_leaves_the_rest_in_the_log(world):
    lake = world.with_lake()
    lake.broken.set()
    world.append(*(watch(ANN, "up+2009", n, n) for n in range(10)))
    with world.running() as running:
        until(lambda: lake.asked)
    assert running.error is None
    assert (running.report.counts.read, running.report.left_in_log) == (0, 10)
    lake.broken.clear()
    assert world.ingest().counts.accepted == 10


def test_a_history_that_was_lost_is_filled_from_the_lake_first(world, tmp_path):
    world.append(watch(ANN, "up+2009", 1))
    world.ingest()
    folder = world.home.data / "history"
    for file in folder.iterdir():
        file.unlink()
    world.append(watch(ANN, "jaws+1975", 1, 60))
    report = world.ingest()
    assert report.caught_up == 1
    assert world.items_of(ANN) == ["jaws+1975", "up+2009"]
    assert history_equals_lake(world, tmp_path)


def test_it_waits_for_a_history_that_somebody_else_writes(world):
    world.append(watch(ANN, "up+2009", 1))
    lock = (world.home.data / "history").mkdir() or (world.home.data / "history" / "writer.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # as an import holds it in another process
    with world.running(until_idle=True) as running:
        assert running.waiting
        lock.close()
        running.thread.join(timeout=60)
    assert (running.report.counts.accepted, running.report.waits) == (1, 1)


def test_an_owner_that_another_has_overtaken_is_fenced(world):
    with overtaken(world, ANN, end=13) as running:  # by one who has read three of the five
        until(lambda: not running.thread.is_alive())
    assert isinstance(running.error, Fenced)
    assert world.alarms[-1][0] == "ingest_fenced"
    assert world.rows("events").filter(pl.col("position") < 13).is_empty()  # the other's positions are the other's


def test_maintenance_runs_between_commits_and_protects_what_it_is_told(world):
    settings = LakeSettings(commit_seconds=0.05, compact_after_commits=1, retention_days=100_000)
    world.settings = world.settings.model_copy(update={"lake": settings})
    asked = []

    def protected():
        asked.append({"events": 1})
        return asked

    for n in range(4):
        world.append(watch(ANN, "up+2009", n, n))
        assert world.service(protected=protected).run(until_idle=True).counts.accepted == 1
    assert len(asked) == 4
    lake = world.stores.lake()
    assert len(lake.table("events").file_uris()) == 1  # four small files were joined
    assert world.rows("events")["position"].to_list() == [1, 2, 3, 4]
    assert lake.read("events", version=1).collect().height == 1
