"""Erasure on the command line, as far as bundles go: `matinee release erase`, the schedule, and the trace."""

import json
import threading
import time
from datetime import UTC, datetime

import polars as pl
import pytest

from bundle.bundle_samples import contents, provenance, user_block
from matinee.bundle.manifest import Gate, list_versions
from matinee.bundle.write import write_bundle
from matinee.cli.context import Context
from matinee.cli.release import erase_from_bundles
from matinee.cli.schedule import ERASE_AFTER_US, ERASE_LATE_US, Schedule, trigger
from matinee.cli.trace import follow
from matinee.core.clock import ManualClock, SystemClock
from matinee.core.erasures import ERASED, add_erasure, mark_done, read_erasures
from matinee.core.errors import InvalidInput
from matinee.core.home import Home
from matinee.core.settings import Settings
from matinee.events.offsets import Source
from matinee.ingest.erasure import erase_now
from matinee.ingest.stores import Opened
from matinee.lake.erasure import delete_files, old_files
from matinee.lake.schemas import EVENTS, SERVED, TableSchema
from matinee.release.plan import publish, read_plan

WHO, OTHER = "who-is-it", "ann"
BY_WHO, BY_OTHER, BY_GONE = (f"{n:032x}" for n in (1, 2, 3))
SOURCE = Source("log", 0)


def made(context: Context, users: list[str]) -> str:
    """A released bundle that learnt from the lake as it is."""
    run = provenance(
        lake_versions={"events": context.lake.table("events").version()},
        metrics={"all": {"ndcg": 0.5}},
        gate=Gate(passed=True, evidence={"verdict": "passed"}),
    )
    given = contents([user_block(users)], provenance=run)
    version = write_bundle(context.home.bundles, contents=given, clock=context.clock)
    publish(context.home.data, version, clock=context.clock)
    return version


def commit(context: Context, table: TableSchema, rows: list[dict[str, object]]) -> None:
    """Let the lake hold rows; what is not said of them is empty."""
    start = context.lake.resume_position(SOURCE)
    names = [name for name in table.columns if name not in table.filled]
    empty = {pl.String: "", pl.Datetime("us", "UTC"): datetime.fromtimestamp(1_700_000_000, UTC)}
    nothing = {name: empty.get(table.columns[name]) for name in names}
    full = [nothing | row | {"position": start + at} for at, row in enumerate(rows)]
    frame = pl.DataFrame(full, schema={name: table.columns[name] for name in names})
    context.lake.commit(SOURCE, {table.name: frame}, start=start, end=start + len(rows))


def serve(context: Context, answers: dict[str, tuple[str, str]]) -> None:
    """Let the lake hold answers: request id → user and bundle."""
    commit(
        context,
        SERVED,
        [
            {"request_id": request_id, "user": user, "model_version": version, "items": ["y"], "latency_ms": 1.0}
            for request_id, (user, version) in answers.items()
        ],
    )


@pytest.fixture
def context(tmp_path):
    home = Home(tmp_path / "home")
    return Context(Settings(home=home.path), home, SystemClock())


@pytest.fixture
def version(context):
    commit(context, EVENTS, [{"user": user, "item": "x", "rating": 5.0} for user in (OTHER, WHO)])
    found = made(context, [OTHER, WHO])
    serve(context, {BY_WHO: (WHO, found), BY_OTHER: (OTHER, found), BY_GONE: (OTHER, "gone")})
    return found


def test_the_verb_rewrites_says_so_and_the_trace_says_that_it_is_no_longer_repeatable(matinee, context, version):
    before = matinee.json("trace", BY_OTHER)
    assert (before["repeatable"], before["erased"], before["note"]) == (True, False, "")
    assert before["manifest"]["version"] == version
    assert "Repeat the run" in matinee("trace", BY_OTHER).stdout
    assert matinee.json("release", "erase") == {"replaced": {}}
    add_erasure(context.home, WHO, SystemClock().now_us())
    said = matinee.json("release", "erase")
    after = said["replaced"][version]
    assert matinee.json("release", "list")["released"] == [after]
    assert "No bundle holds an erased user." in matinee("release", "erase").stdout

    trace = matinee.json("trace", BY_OTHER, status=1)
    assert (trace["repeatable"], trace["erased"]) == (False, True)
    assert trace["manifest"]["version"] == after
    assert trace["served"]["model_version"] == version
    shown = matinee("trace", BY_OTHER, status=1).stdout
    assert "No longer repeatable, erased" in shown
    assert "Repeat the run" not in shown

    trace = matinee.json("trace", BY_WHO, status=1)
    assert (trace["served"], trace["manifest"], trace["erased"], trace["repeatable"]) == (None, None, True, False)
    shown = matinee("trace", BY_WHO, status=1).stdout
    assert "No longer repeatable, erased" in shown
    assert WHO not in shown

    refused = matinee.json("train", "--repeat", version, status=1)
    assert refused["kind"] == "DataUnavailable"
    assert "erased" in refused["error"]
    assert matinee.json("release", "publish", version)["released"] == [after]  # the old name leads to the copy


def test_a_trace_says_what_of_the_lake_is_gone_and_whether_for_an_erasure(context, version):
    trail = follow(context, BY_OTHER)
    assert (trail.note, trail.erased) == ("", False)
    events = context.lake.table("events")
    events.delete(f"user = '{WHO}'")
    assert follow(context, BY_OTHER) == trail  # the version that was learnt from is still there
    events.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    trail = follow(context, BY_OTHER)
    assert "can no longer be read" in trail.note
    assert not trail.erased
    add_erasure(context.home, "somebody-else", 1)
    assert not follow(context, BY_OTHER).erased  # nothing went for it yet
    delete_files(context.lake, old_files(context.lake))
    trail = follow(context, BY_OTHER)
    assert trail.note.startswith("No longer repeatable, erased: ")
    assert trail.erased


def test_a_trace_says_what_an_erasure_took_also_when_it_was_lifted(matinee, context, version):
    add_erasure(context.home, WHO, context.clock.now_us())
    with context.log() as log, context.history() as history:
        assert erase_now(context.home, Opened(log, context.lake, history))
    mark_done(context.home, "bundles", read_erasures(context.home.data / ERASED).pending("bundles"), 1)
    tombstone = follow(context, BY_OTHER)
    assert tombstone.erased
    assert matinee.json("erase", WHO, "--lift") == {"lifted": True}
    assert follow(context, BY_OTHER) == tombstone
    assert "No longer repeatable, erased" in matinee("trace", BY_OTHER, status=1).stdout
    with pytest.raises(InvalidInput) as missing:
        follow(context, BY_WHO)
    assert "no longer repeatable, erased" in missing.value.remedy
    later = made(context, [OTHER])  # learnt from what is left, of which nothing went
    serve(context, {f"{8:032x}": (OTHER, later)})
    assert not follow(context, f"{8:032x}").note


def test_what_is_not_in_the_lake_may_be_an_erased_users_and_a_bundle_that_is_gone_is_said(context, version):
    assert "no longer here" in follow(context, BY_GONE).note
    with pytest.raises(InvalidInput) as missing:
        follow(context, f"{9:032x}")
    assert "erased" not in missing.value.remedy
    add_erasure(context.home, WHO, 1)
    with pytest.raises(InvalidInput) as missing:
        follow(context, f"{9:032x}")
    assert "no longer repeatable, erased" in missing.value.remedy


class _Ran(Schedule):
    """A schedule whose verbs end as they are told."""

    ran: list[tuple[str, ...]]
    ends: tuple[int, bytes] | None = (0, b"{}")

    def _run(self, *words: str) -> tuple[int, bytes] | None:
        self.ran.append(words)
        return self.ends


@pytest.fixture
def planned(context):
    clock = ManualClock()
    made = _Ran(Context(context.settings, context.home, clock), trigger("0 * * * *"), threading.Event())
    made.ran = []
    return made, clock


def alarms(context: Context) -> list[tuple[str, str]]:
    with context.alarms() as raised:
        return [(alarm.name, alarm.evidence["kind"]) for alarm in raised.latest()]


def test_the_schedule_erases_what_has_waited_for_an_hour_until_it_is_done(context, planned):
    schedule, clock = planned
    schedule.erase()
    add_erasure(context.home, WHO, clock.now_us())
    clock.step(ERASE_AFTER_US / 1e6 - 1)
    schedule.erase()
    assert schedule.ran == []
    clock.step(1)
    schedule.erase()
    assert schedule.ran == [("release", "erase")]
    pending = read_erasures(context.home.data / ERASED).pending("bundles")
    mark_done(context.home, "bundles", pending, clock.now_us())
    schedule.erase()
    assert len(schedule.ran) == 1
    assert alarms(context) == []


def test_a_failure_to_erase_is_an_alarm_and_tried_again_and_a_run_under_way_is_no_failure_at_first(
    context, planned
):
    schedule, clock = planned
    add_erasure(context.home, WHO, clock.now_us())
    clock.step(ERASE_AFTER_US / 1e6)
    schedule.ends = 75, json.dumps({"kind": "Locked", "error": "…", "remedy": "…"}).encode()
    for _ in range(2):
        schedule.erase()
    assert (len(schedule.ran), alarms(context)) == (1, [])
    clock.sleep(ERASE_LATE_US / 1e6)
    schedule.erase()
    assert alarms(context) == [("erasure_failed", "Locked")]
    clock.sleep(3_600)
    schedule.ends = -9, b""
    schedule.erase()
    assert alarms(context)[0] == ("erasure_failed", "Crashed")
    clock.sleep(3_600)
    (context.home.data / ERASED).write_bytes(b"{")
    for _ in range(2):
        schedule.erase()
    assert [kind for _, kind in alarms(context)] == ["Corrupt", "Crashed", "Locked"]
    assert len(schedule.ran) == 3


def test_the_schedule_looks_while_it_waits_and_ends_when_told(context, version, monkeypatch):
    monkeypatch.setattr("matinee.cli.schedule.ERASE_AFTER_US", 0)
    monkeypatch.setattr("matinee.cli.schedule.ERASE_LOOK_SECONDS", 0.01)
    told = threading.Event()
    schedule = Schedule(context, trigger("0 0 1 1 *"), told)
    running = threading.Thread(target=schedule.run)
    running.start()
    try:
        add_erasure(context.home, WHO, context.clock.now_us())
        end = time.monotonic() + 120
        while read_erasures(context.home.data / ERASED).pending("bundles"):
            assert running.is_alive()
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        told.set()
        running.join(60)
    assert not running.is_alive()
    assert version not in list_versions(context.home.bundles)
    assert read_plan(context.home.data).bundles == {*list_versions(context.home.bundles)}
    assert erase_from_bundles(context) == {}
