"""Erasure from the stores: no byte of the user is left, and nothing of anybody else is lost."""

import contextlib
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import erasing
import polars as pl
import pytest
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction
from hypothesis import given
from hypothesis import strategies as st
from ingest_world import MovedClock, World, files_that_tell, until, watch

from matinee.core.clock import HOUR
from matinee.core.erasures import ERASED, Erasure, Erasures, add_erasure, lift_erasure, read_erasures
from matinee.core.errors import Corrupt, InvalidInput, StoreUnavailable
from matinee.core.ids import ID_PATTERN
from matinee.events.envelope import wrap_event
from matinee.events.offsets import Source
from matinee.events.types import Rating, Served
from matinee.history.lmdb import LmdbHistory
from matinee.ingest import erasure
from matinee.ingest.erased import Tombstones, is_named
from matinee.ingest.erasure import READ_SECONDS, SEEN_US, StoreErasure, erase_now
from matinee.ingest.metadata_state import Noted, State
from matinee.ingest.rebuild import catch_up
from matinee.ingest.stores import Opened
from matinee.lake import erasure as of_lake
from matinee.lake.lake import Lake
from matinee.lake.maintenance import compact, maintain
from matinee.lake.rollup import roll_up
from matinee.lake.schemas import INGEST_TABLES, TABLES
from matinee.lake.storage import exactly_here

WHO, OTHER = "740193862517", "308415527096"
"""So long that finding them is no accident."""


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def people(*users):
    """Rows for the lake's `users`."""
    schema = {name: kind for name, kind in TABLES["users"].columns.items() if name != "updated_at"}
    return pl.DataFrame({"user": users}).select(
        pl.col(name).cast(kind) if name == "user" else pl.lit(None, kind).alias(name)
        for name, kind in schema.items()
    )


def lived_in(world):
    """A home in which two users left something in every store, and in versions of every table."""
    time_us = world.clock.now_us()
    for turn in range(3):
        for user in (WHO, OTHER):
            world.append(
                *(watch(user, "up+2009", 10 * turn + minute, second=turn) for minute in range(3)),
                f"2022-01-01T00:00:00,{user},GET /rate/up+2009=17",  # quarantined: no such rating
                f"2022-01-01T00:00:00,{user},recommendation request h:8082, status 200, result: up+2009, {turn} ms",
            )
            common = {"received_us": time_us, "producer": "key:k"}
            served = Served(
                time_us=time_us, request_id=f"{time_us + turn:032x}", user=user, items=("up+2009",),
                model_version="v", arm="main", step="personal", latency_ms=1.0,
            )  # fmt: skip
            rating = Rating(time_us=time_us + turn, user=user, item="jaws+1975", rating=4.5)
            with world.stores.log() as log:
                log.append([
                    wrap_event(served, event_id=f"s-{user}-{turn}", **common),
                    wrap_event(rating, event_id=f"r-{user}-{turn}", **common),
                ])  # fmt: skip
        world.ingest()
    lake = world.stores.lake()
    lake.upsert("users", people(WHO, OTHER))
    lake.clock = MovedClock(world.clock)
    lake.clock.ahead = 3 * 86_400
    assert roll_up(lake, 1).events
    with State(world.home) as state:
        state.add("user", {WHO: 0, OTHER: 0})
        row = {"user": WHO, "age": 30}
        state.note([Noted("user", WHO, "described", time_us, time_us, row=row)])
    return world


def opened(world, stack):
    return Opened(
        stack.enter_context(world.stores.log()), world.stores.lake(), stack.enter_context(world.stores.history())
    )


def rows_of(lake, user):
    """By table, the rows without those of a user."""
    found = {}
    for name, schema in TABLES.items():
        frame = lake.read(name).collect()
        if "user" in schema.columns:
            frame = frame.filter(pl.col("user").ne_missing(user))
        if name == "quarantine":
            frame = frame.remove(pl.col("raw").bin.contains(user.encode()))
        found[name] = sorted(map(str, frame.to_dicts()))
    return found


def test_no_byte_of_an_erased_user_is_left_and_every_row_of_others_is(world):
    lived_in(world)
    told = files_that_tell(world.home.path, WHO)
    for store in ("lake/events", "lake/served", "lake/received", "lake/quarantine", "lake/watch_days",
                  "lake/users", "history", "metadata.sqlite"):  # fmt: skip
        assert any(store in path for path in told), f"{store} is to hold the user before"
    before = rows_of(world.stores.lake(), WHO)
    assert add_erasure(world.home, WHO, world.clock.now_us())
    with contextlib.ExitStack() as stack:
        stores = opened(world, stack)
        entries = stores.history.get(OTHER)
        assert erase_now(world.home, stores)
        assert stores.history.get(WHO) is None
        assert stores.history.get(OTHER) == entries
        assert rows_of(stores.lake, WHO) == before
    assert files_that_tell(world.home.path, WHO) == []
    assert files_that_tell(world.home.path, OTHER)
    assert not read_erasures(world.home.data / ERASED).pending("stores")


def test_after_an_erasure_all_goes_on_as_if_the_user_had_never_been(world):
    lived_in(world)
    add_erasure(world.home, WHO, world.clock.now_us())
    with contextlib.ExitStack() as stack:
        assert erase_now(world.home, opened(world, stack))
    world.append(watch(OTHER, "alien+1979", 1), watch(WHO, "alien+1979", 1), watch(OTHER, "alien+1979", 2))
    report = world.ingest()
    assert (report.counts.accepted, report.counts.erased, report.counts.read) == (2, 1, 3)
    lake = world.stores.lake()
    maintain(lake, retention_days=None, keep_versions_days=1)
    with world.stores.history() as live, LmdbHistory(world.folder / "again") as again:
        catch_up(lake, again)
        found, expected = (
            {user: {entry.item: entry.minutes_seen for entry in seen.entries} for user, seen in store.items()}
            for store in (live, again)
        )
        assert found == expected == {OTHER: {"up+2009": 9, "alien+1979": 2, "jaws+1975": 0}}
        assert live.get(WHO) is None
    assert WHO not in str(rows_of(lake, "nobody"))


def test_what_an_erased_user_does_is_dropped_by_an_ingest_that_runs(world):
    with world.running() as running:
        world.append(watch(WHO, "up+2009", 1), watch(OTHER, "up+2009", 1))
        until(lambda: world.items_of(WHO) == ["up+2009"])
        add_erasure(world.home, WHO, world.clock.now_us())
        world.append(
            watch(WHO, "jaws+1975", 2), f"nonsense about {WHO}", watch(OTHER, "jaws+1975", 2), "other nonsense"
        )
        until(lambda: world.items_of(OTHER) == ["jaws+1975", "up+2009"])
        assert world.items_of(WHO) == ["up+2009"]
    assert running.report.counts.erased == 2
    assert world.rows("quarantine")["raw"].to_list() == [b"other nonsense"]
    assert world.rows("events")["user"].to_list() == [WHO, OTHER, OTHER]
    batches = world.rows("batches").select("read", "accepted", "repaired", "duplicate", "quarantined").sum().row(0)
    assert batches[0] == sum(batches[1:]) == 4


def test_a_batch_of_erased_users_alone_moves_the_offset_on(world):
    add_erasure(world.home, WHO, world.clock.now_us())
    world.append(watch(WHO, "up+2009", 1), watch(WHO, "up+2009", 2))
    assert world.ingest().counts.erased == 2
    assert world.ingest().counts.read == 0
    assert world.rows("events").is_empty()
    with world.stores.log() as log:
        assert log.begins() == log.ends()


def test_an_import_drops_what_is_of_erased_users_too(world, tmp_path):
    add_erasure(world.home, WHO, world.clock.now_us())
    file = tmp_path / "lines"
    file.write_text("\n".join([watch(WHO, "up+2009", 1), watch(OTHER, "up+2009", 1)]))
    report = world.importer().lines(file)
    assert (report.counts.accepted, report.counts.erased) == (1, 1)
    ratings = pl.DataFrame({"user": [WHO, OTHER], "item": ["a", "a"], "rating": [1.0, 2.0], "time": [None, None]},
                           schema_overrides={"time": pl.Datetime("us", "UTC")})  # fmt: skip
    world.importer().frame(ratings, name="n", content_hash="0" * 32, users=people(WHO, OTHER))
    assert set(world.rows("events")["user"]) == {OTHER}
    assert world.stores.lake().read("users").collect()["user"].to_list() == [OTHER]


def worker(world, stack):
    """What ingest's upkeep runs, with a clock that the test moves."""
    clock = MovedClock(world.clock)
    stores = opened(world, stack)
    stores.lake.clock = clock
    return StoreErasure(world.home, stores, lambda *alarm: world.alarms.append(alarm)), clock, stores


def test_beside_ingest_rows_go_first_and_old_files_when_nobody_reads_them_any_more(world):
    lived_in(world)
    version = world.stores.lake().versions()["events"]
    add_erasure(world.home, WHO, world.clock.now_us())
    with contextlib.ExitStack() as stack:
        work, clock, stores = worker(world, stack)
        work.work()
        assert stores.lake.versions()["events"] == version  # there may be an ingest that has not seen it yet
        clock.ahead += SEEN_US / 1e6
        work.work()
        assert stores.history.get(WHO) is None
        assert WHO not in str(rows_of(stores.lake, "nobody"))
        assert WHO in stores.lake.read("events", version).collect()["user"]  # somebody may be reading it
        work.work()
        assert read_erasures(world.home.data / ERASED).pending("stores")
        clock.ahead += READ_SECONDS
        work.work()
        assert not read_erasures(world.home.data / ERASED).pending("stores")
        with pytest.raises(InvalidInput):
            stores.lake.read("events", version)
    assert files_that_tell(world.home.path, WHO) == []
    assert world.alarms == []


def test_what_came_in_late_is_deleted_before_it_is_called_done(world):
    lived_in(world)
    add_erasure(world.home, WHO, world.clock.now_us())
    with contextlib.ExitStack() as stack:
        work, clock, _ = worker(world, stack)
        clock.ahead += SEEN_US / 1e6
        work.work()
        unseen = replace(world, folder=world.folder)  # an ingest that slept over the tombstone
        rows = world.rows("batches")
        end = int(rows["end"].max())
        (world.home.data / ERASED).rename(world.home.data / "elsewhere")
        unseen.append(watch(WHO, "alien+1979", 7))
        stack.pop_all().close()
        unseen.ingest()
        (world.home.data / "elsewhere").rename(world.home.data / ERASED)
        assert int(world.rows("batches")["end"].max()) == end + 1
    with contextlib.ExitStack() as stack:
        again = StoreErasure(world.home, opened(world, stack), lambda *_: None)
        again._begun, again._clock = work._begun, clock
        clock.ahead += READ_SECONDS
        again.work()
        assert read_erasures(world.home.data / ERASED).pending("stores")
        again.work()
        clock.ahead += READ_SECONDS
        again.work()
        assert not read_erasures(world.home.data / ERASED).pending("stores")
    assert files_that_tell(world.home.path, WHO) == []


def test_it_waits_for_a_log_that_is_not_taken_in_yet_and_that_is_an_alarm_when_it_is_late(world):
    lived_in(world)
    world.append(watch(WHO, "up+2009", 50))
    add_erasure(world.home, WHO, world.clock.now_us())
    with contextlib.ExitStack() as stack:
        work, clock, _ = worker(world, stack)
        clock.ahead += SEEN_US / 1e6
        work.work()
        clock.ahead += READ_SECONDS
        work.work()
        assert read_erasures(world.home.data / ERASED).pending("stores")
        assert world.alarms == []
        clock.ahead += 12 * HOUR / 1e6
        work.work()
        clock.ahead += 60
        work.work()
        assert [name for name, *_ in world.alarms] == ["erasure_late"]
    with contextlib.ExitStack() as stack:
        assert not erase_now(world.home, opened(world, stack))
    world.ingest()
    with contextlib.ExitStack() as stack:
        assert erase_now(world.home, opened(world, stack))
    assert files_that_tell(world.home.path, WHO) == []


STEPS = ("delete_users", "_delete_unread", "forget_users", "old_files", "delete_files", "mark_done")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_broken_off_anywhere_the_next_call_finishes_it(world, monkeypatch, step, after):
    lived_in(world)
    before = rows_of(world.stores.lake(), WHO)
    add_erasure(world.home, WHO, world.clock.now_us())
    real = getattr(erasure, step)

    class Killed(BaseException):
        pass

    def breaks_off(*arguments):
        if after:
            real(*arguments)
        raise Killed

    monkeypatch.setattr(erasure, step, breaks_off)
    with contextlib.ExitStack() as stack, pytest.raises(Killed):
        erase_now(world.home, opened(world, stack))
    monkeypatch.undo()
    with contextlib.ExitStack() as stack:
        stores = opened(world, stack)
        assert erase_now(world.home, stores)
        assert erase_now(world.home, stores)  # and again, for nothing
        assert rows_of(stores.lake, WHO) == before
    assert files_that_tell(world.home.path, WHO) == []


KILLED_IN = (
    ("history", "rewrite"),
    ("store", "copy_without"),
    ("store", "swap"),
    ("log", "scrub"),
    ("lake", "_forget_older_versions"),
    ("lake", "checkpoint"),
    ("lake", "fsync_folder"),
)


@pytest.mark.parametrize(("owner", "function"), KILLED_IN)
def test_killed_anywhere_the_next_call_finishes_it(world, owner, function):
    lived_in(world)
    before = rows_of(world.stores.lake(), WHO)
    add_erasure(world.home, WHO, world.clock.now_us())
    for when in ("before", "after"):
        words = [sys.executable, erasing.__file__, str(world.folder), owner, function, when]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
    with contextlib.ExitStack() as stack:
        stores = opened(world, stack)
        assert erase_now(world.home, stores)
        assert rows_of(stores.lake, WHO) == before
        assert stores.history.get(OTHER) is not None
    assert files_that_tell(world.home.path, WHO) == []


def test_a_writer_that_slept_cannot_bring_back_a_file_that_goes(world, monkeypatch):
    """It wrote its file, and wakes between the look at what is in use and the deletion."""
    lived_in(world)
    add_erasure(world.home, WHO, world.clock.now_us())
    with contextlib.ExitStack() as stack:
        stores = opened(world, stack)
        lake = stores.lake
        assert erase_now(world.home, stores)
        add_erasure(world.home, "999999999999", world.clock.now_us())  # of whom there is nothing: no table changes
        erased = read_erasures(world.home.data / ERASED)
        asleep, rows = lake.table("users"), lake.read("users").collect()
        file = lake.folder / "users" / "part-asleep.parquet"
        rows.write_parquet(file)
        action = AddAction(file.name, file.stat().st_size, {}, 0, True, json.dumps({"numRecords": rows.height}))
        begun = erasure.begin(world.home, stores, erased, erased.pending("stores"))
        look, woken = of_lake._in_use, []

        def wakes(of, name):
            found = look(of, name)
            if name == "users" and not woken:
                with pytest.raises(CommitFailedError) as refused:
                    asleep.create_write_transaction(
                        [action], "append", asleep.schema(), commit_properties=exactly_here()
                    )
                woken.append(refused)
            return found

        monkeypatch.setattr(of_lake, "_in_use", wakes)
        assert erasure.finish(world.home, stores, erased, begun)
        assert woken
        assert lake.read("users").collect().equals(rows)
        assert not file.exists()


def test_minutes_that_were_gathered_before_the_rows_went_and_stored_after_do_not_stay(world):
    """Another process that gathers days beside the erasure stores a user's minutes again."""
    lived_in(world)
    world.append(watch(WHO, "alien+1979", 1), watch(OTHER, "alien+1979", 1))
    world.ingest()
    add_erasure(world.home, WHO, world.clock.now_us())
    erased = read_erasures(world.home.data / ERASED)
    begun = []

    with contextlib.ExitStack() as stack:
        stores = opened(world, stack)

        def begins(table):
            if table == "watch_days" and not begun:
                begun.append(erasure.begin(world.home, stores, erased, erased.pending("stores")))

        gathering = Lake(str(stores.lake.folder), MovedClock(world.clock), on_loaded=begins)
        gathering.clock.ahead = 3 * 86_400
        assert roll_up(gathering, 1).events == 1  # the other's
        assert begun
        assert WHO in stores.lake.read("watch_days").collect()["user"]
        assert not erasure.finish(world.home, stores, erased, begun[0])
        assert read_erasures(world.home.data / ERASED).pending("stores")
        assert erase_now(world.home, stores)
        minutes = stores.lake.read("watch_days").filter(pl.col("item") == "alien+1979").collect()
        assert minutes["user"].to_list() == [OTHER]
    assert files_that_tell(world.home.path, WHO) == []


def test_what_was_written_late_and_never_committed_goes_and_what_may_be_read_stays(world):
    """A compaction that began before the rows went writes a file that holds them, and loses the conflict."""
    lived_in(world)
    lake = world.stores.lake()
    held = lake.read("events").filter(pl.col("user") == WHO).collect()
    assert held.height
    add_erasure(world.home, WHO, world.clock.now_us())
    erased = read_erasures(world.home.data / ERASED)
    with contextlib.ExitStack() as stack:
        stores = opened(world, stack)
        begun = erasure.begin(world.home, stores, erased, erased.pending("stores"))
        late = lake.folder / "events" / "date=2022-01-01" / "part-00000-late.parquet"
        late.parent.mkdir(exist_ok=True)
        held.write_parquet(late)
        own = [name for name in TABLES["events"].columns if name not in TABLES["events"].filled]
        others = lake.read("events", columns=own).filter(pl.col("user") == OTHER).collect()
        lake.commit(Source("file-more", 0), {"events": others}, start=0, end=100)
        joined = [*lake.table("events").file_uris()]
        assert compact(lake, "events") == (len(joined), 1)
        assert erasure.finish(world.home, stores, erased, begun)
    assert not late.exists()
    assert all(Path(file).exists() for file in joined)
    assert files_that_tell(world.home.path, WHO) == []


def test_a_store_that_is_away_is_asked_again_after_a_minute(world, monkeypatch):
    lived_in(world)
    add_erasure(world.home, WHO, world.clock.now_us())
    asked = []

    def away(*_):
        asked.append(1)
        raise StoreUnavailable("it was told to fail")

    with contextlib.ExitStack() as stack:
        work, clock, _ = worker(world, stack)
        clock.ahead += SEEN_US / 1e6
        with monkeypatch.context() as patch:
            patch.setattr(erasure, "delete_users", away)
            work.work()
            work.work()
            assert len(asked) == 1
            clock.ahead += 60
            work.work()
            assert len(asked) == 2
        clock.ahead += 60
        work.work()
        clock.ahead += READ_SECONDS
        work.work()
    assert not read_erasures(world.home.data / ERASED).pending("stores")


def test_a_user_whose_erasure_is_lifted_is_kept_from_then_on(world):
    lived_in(world)
    add_erasure(world.home, WHO, world.clock.now_us())
    with pytest.raises(InvalidInput, match="stores and bundles"):
        lift_erasure(world.home, WHO)
    with contextlib.ExitStack() as stack:
        assert erase_now(world.home, opened(world, stack))
    with pytest.raises(InvalidInput, match="bundles"):
        lift_erasure(world.home, WHO)
    erasure.mark_done(world.home, "bundles", read_erasures(world.home.data / ERASED).pending("bundles"), 1)
    assert lift_erasure(world.home, WHO)
    assert not lift_erasure(world.home, WHO)
    world.append(watch(WHO, "up+2009", 1))
    assert world.ingest().counts.accepted == 1


def test_tombstones_that_cannot_be_read_stop_ingest_with_the_remedy(world):
    (world.home.data / ERASED).write_text("{}")
    world.append(watch(OTHER, "up+2009", 1))
    with pytest.raises(Corrupt, match=r"erased\.json"):
        world.ingest()
    assert [name for name, *_ in world.alarms] == ["ingest_stopped"]
    (world.home.data / ERASED).unlink()
    assert world.ingest().counts.accepted == 1


def test_tombstones_are_followed(world):
    tombstones = Tombstones(world.home.data / ERASED)
    assert not tombstones.current()
    add_erasure(world.home, WHO, 5)
    assert WHO in tombstones.current()
    assert OTHER not in tombstones.current()


def those(*users):
    empty = Erasures(b"key")
    return Erasures(b"key", [Erasure(empty.digest(user).hex(), 0) for user in users])


@given(st.from_regex(ID_PATTERN, fullmatch=True), st.sampled_from([
    "2022-01-01T00:00:00,{},nonsense", '{{"user":"{}","item":', "{}", "GET /recommend/{}?n=3", "a {} b\xff",
]))  # fmt: skip
def test_an_id_is_found_in_what_could_not_be_read(user, form):
    assert is_named(form.format(user).encode("latin-1"), those(user))


@given(st.binary(max_size=60))
def test_nothing_is_found_where_nobody_is_named(raw):
    assert not is_named(raw, those(WHO)) or WHO.encode() in raw


def test_an_id_within_a_longer_one_is_somebody_elses():
    assert not is_named(f"2022-01-01T00:00:00,{WHO}b,nonsense".encode(), those(WHO))
    assert not is_named(None, those(WHO))


def test_every_table_that_has_users_is_erased_from():
    from matinee.lake.erasure import BY_USER

    assert {table.name for table in BY_USER} == {name for name, table in TABLES.items() if "user" in table.columns}
    assert set(INGEST_TABLES) <= set(TABLES)
