"""The disk of the data root, or of all of a home, is full: servers that run answer on, those that start as well."""

import subprocess

import pytest
from fault_samples import CLOCK, all_answered, answer, measured, metrics, publish_two
from test_fault_log import telemetry

from matinee.core.errors import OutOfRoom
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.log.sqlite import SqliteLog
from operation.operation_samples import until
from serving.serving_samples import SNAPSHOT_END, act, server, wait_for
from small_disks import filled, small_disk

ANSWERS = {
    "u003": (200, "b+4,b+6,b+8", "folded_in"),
    "u007": (200, "b+7,b+8,b+9", "personal"),
    "nobody": (200, "b+39,b+38,b+37", "popular"),
}
"""Of one who has acted since the snapshot, one who has not, and a stranger."""
QUEUE = {"MATINEE_SERVING__TELEMETRY_QUEUE": "50"}


@pytest.fixture(params=["data", "home"])
def place(folder, request):
    """A home with two bundles, a history, a plan and a log; and its disk, or that of its data alone."""
    where = folder / "home"
    with small_disk(where / "data" if request.param == "data" else where) as disk:
        home = Home(where)
        publish_two(home)
        SqliteLog(home.data / "log.sqlite", CLOCK).close()
        with LmdbHistory(home.data / "history") as history:
            act(history, "u003", ["b+30"], position=SNAPSHOT_END)
        yield home, disk


def answers(url):
    return {user: answer(url, user) for user in ANSWERS}


def test_a_disk_that_fills_up_costs_records_and_no_answer(place):
    home, disk = place
    with server(home, **QUEUE) as (url, process):
        wait_for(url)
        with filled(disk):
            with all_answered(url, at_least=300) as counted:
                until(lambda: telemetry(url)["dropped"] > 0, "records are dropped")
            assert answers(url) == ANSWERS
            assert process.poll() is None
        until(lambda: telemetry(url)["queued"] == 0, "what waited is written")
        assert answers(url) == ANSWERS
    measured(fault="disk of the data root full", requests=counted["good"], slowest=counted["slowest"])


def test_a_server_starts_on_a_disk_that_is_full(place):
    home, disk = place
    with filled(disk), server(home, **QUEUE) as (url, process):
        wait_for(url)
        with all_answered(url, at_least=100):
            until(lambda: answers(url) == ANSWERS, "the history is read")
        assert process.poll() is None


def test_a_server_on_a_full_disk_does_without_a_history_whose_table_of_readers_is_missing(place):
    home, disk = place
    (home.data / "history" / "lock.mdb").unlink()  # as after a restore
    with filled(disk) as ballast, server(home, **QUEUE) as (url, process):
        wait_for(url)
        with all_answered(url, at_least=100):
            until(lambda: metrics(url)["matinee_history_failed_total"] > 0, "the history is refused")
        assert process.poll() is None
        ballast.unlink()
        until(lambda: answers(url) == ANSWERS, "the history is read")
        assert process.poll() is None


def test_a_history_on_a_disk_that_is_read_only_needs_no_table_of_readers(place):
    home, disk = place
    (home.data / "history" / "lock.mdb").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with LmdbHistory(home.data / "history", read_only=True) as history:
        assert [entry.item for entry in history.get("u003").entries] == ["b+30"]


def test_a_history_that_would_be_made_there_is_refused_with_the_remedy(place):
    home, disk = place
    with filled(disk), pytest.raises(OutOfRoom, match="No space left") as refused:
        LmdbHistory(home.data / "another")
    assert "Make room" in refused.value.remedy
