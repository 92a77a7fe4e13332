"""The metadata client as a whole: from the lake's events through real sockets into the lake's tables."""

import json
import random
import threading
from pathlib import Path

import polars as pl
import pytest
from ingest_world import until
from prometheus_client import CollectorRegistry, generate_latest

from matinee.core.breaker import FAILURES
from matinee.core.clock import DAY, SECOND, ManualClock, SystemClock
from matinee.core.errors import ConfigurationError, Corrupt, FormatTooNew, Locked, StoreUnavailable
from matinee.core.home import Home
from matinee.core.settings import BudgetSettings, MetadataSettings, Settings
from matinee.events.offsets import Source
from matinee.ingest.metadata import AWAY_ALARM_SECONDS, GIVE_UP_SECONDS, Describer
from matinee.ingest.metadata_metrics import MetadataMetrics
from matinee.ingest.metadata_state import FILE, State, forget_users
from matinee.lake.lake import Lake
from matinee.lake.rollup import roll_up
from matinee.simulation.apis import Fault, Manners
from metadata_samples import CATALOGUE, ITEMS, NOON_US, USERS, VIEWERS, apis, everybody_watches, watch


class Place:
    """A home with a lake, and whoever describes it."""

    def __init__(self, folder, clock=None):
        self.home = Home(folder / "home")
        self.clock = clock or ManualClock(NOON_US)
        self.lake = Lake(str(self.home.data / "lake"), self.clock)
        self.alarms = []
        self.stopping = threading.Event()

    def describer(self, its, lake=None, **changes):
        urls = {"item_url": its.item_url, "user_url": its.user_url}
        self.stopping.clear()  # the one before has ended with it
        metadata = MetadataSettings(**({"requests_per_second": 100, "connections": 1} | urls | changes))
        return Describer(
            settings=Settings(metadata=metadata, budget=BudgetSettings(reserve_megabytes=0)),
            home=self.home,
            clock=self.clock,
            raise_alarm=lambda name, *_: self.alarms.append(name),
            lake=lake or self.lake,
            stopping=self.stopping,
            rng=random.Random(1),
        )

    def describe(self, its, **changes):
        return self.describer(its, **changes).run(until_idle=True)

    def rows(self, table):
        return {row.pop(table[:-1]): row for row in self.lake.read(table).collect().to_dicts()}

    def outcomes(self):
        with State(self.home) as state:
            return state.outcomes("item"), state.outcomes("user")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_who_and_what_is_in_the_events_is_described(place):
    everybody_watches(place.lake)
    with apis() as its:
        report = place.describe(its)
    assert report.as_dict() == {
        "asked": 20,
        "rows": 20,
        "items": {"described": 8},
        "users": {"described": 12},
        "due": {"item": 8, "user": 12},
    }
    items, users = place.rows("items"), place.rows("users")
    assert {item: (row["title"], row["minutes"]) for item, row in items.items()} == {
        item: (CATALOGUE.titles[index], CATALOGUE.minutes[index]) for index, item in enumerate(ITEMS)
    }
    assert {user: row["age"] for user, row in users.items()} == {
        user: VIEWERS.age[index] for index, user in enumerate(USERS)
    }


def test_what_is_described_is_asked_for_again_when_it_is_old_and_written_where_it_changed(place):
    everybody_watches(place.lake)
    with apis() as its:
        place.describe(its, max_age_days=3)
        versions = place.lake.versions()
        place.clock.sleep(2.9 * 86_400)
        assert place.describe(its, max_age_days=3).as_dict()["asked"] == 0
        place.clock.sleep(86_400)  # old, and its day is over
        assert place.describe(its, max_age_days=3).as_dict()["asked"] == 20
        assert its.requests == 40
    assert place.lake.versions() == versions  # it said the same


def test_an_id_that_is_not_known_is_remembered_for_so_long(place):
    watch(place.lake, [("999", "none+1990"), ("1", ITEMS[0])])
    with apis() as its:
        place.describe(its, unknown_days=2)
        for _ in range(3):
            place.describe(its, unknown_days=2)
        assert its.answers == {"found": 2, "unknown": 2}
        place.clock.sleep(2 * 86_400 + 1)
        place.describe(its, unknown_days=2)
        assert its.answers == {"found": 2, "unknown": 4}
    assert set(place.rows("items")) == {ITEMS[0]}
    assert set(place.rows("users")) == {"1"}


def test_what_an_import_described_is_asked_for_when_that_is_old(place):
    everybody_watches(place.lake)
    columns = place.lake.read("items").drop("updated_at").collect_schema()
    brought = {"item": ITEMS, "title": ["Mine"] * len(ITEMS)}
    place.lake.upsert("items", pl.DataFrame(brought, schema_overrides=columns).select(
        pl.col(name) if name in brought else pl.lit(None, kind).alias(name) for name, kind in columns.items()
    ))  # fmt: skip
    with apis() as its:
        assert place.describe(its).results == {"item": {}, "user": {"described": 12}}
        place.clock.sleep(31 * 86_400)
        place.describe(its, user_url="")
        assert place.rows("items")[ITEMS[0]]["title"] == CATALOGUE.titles[0]


def test_new_ids_are_found_and_only_they_are_asked_for(place):
    watch(place.lake, [("1", ITEMS[0]), ("2", ITEMS[0])])
    with apis() as its:
        place.describe(its)
        watch(place.lake, [("1", ITEMS[1]), ("2", ITEMS[0])])
        watch(place.lake, [("3", ITEMS[0])], Source("another", 1))
        assert place.describe(its).results == {"item": {"described": 1}, "user": {"described": 1}}
        assert its.requests == 5


def test_events_that_were_gathered_into_days_count_too(place):
    watch(place.lake, [("1", ITEMS[0]), ("2", ITEMS[1])], time_us=NOON_US - 9 * DAY)
    assert roll_up(place.lake, 2).events == 2
    watch(place.lake, [("3", ITEMS[2])])
    with apis() as its:
        place.describe(its)
    assert set(place.rows("users")) == {"1", "2", "3"}
    assert set(place.rows("items")) == set(ITEMS[:3])


def test_an_api_that_is_set_later_is_asked_for_what_came_before(place):
    everybody_watches(place.lake)
    with apis() as its:
        assert place.describe(its, user_url="").results == {"item": {"described": 8}, "user": {}}
        assert place.describe(its).results == {"item": {}, "user": {"described": 12}}


def test_on_a_bad_day_everything_is_described_in_the_end_and_nothing_is_wrong(place):
    """A third of the requests fail, in every way there is."""
    everybody_watches(place.lake)
    faults = dict.fromkeys(Fault, 0.033) | {Fault.HANG: 0.01}
    with apis() as good:
        best = Place(place.home.path / "best")
        everybody_watches(best.lake)
        best.describe(good)
    failures = 0
    with apis(Manners(seed=2, faults=faults, trickle_seconds=0.001)) as its:
        for _ in range(40):
            results = place.describe(its, timeout_seconds=0.25).results
            failures += sum(counts.total() - counts["described"] for counts in results.values())
            if place.outcomes() == ({"described": 8}, {"described": 12}):
                break
            place.clock.sleep(600)
        assert its.answers["found"] < its.requests
    assert failures >= 3
    for table in ("items", "users"):
        found, expected = place.rows(table), best.rows(table)
        for rows in (found, expected):
            for row in rows.values():
                row.pop("updated_at")
        assert found == expected


def test_an_id_that_fails_is_tried_again_at_growing_intervals(place):
    watch(place.lake, [("1", ITEMS[0])])
    with apis(Manners(faults={Fault.BROKEN_JSON: 1.0})) as its:
        for number in range(17):
            assert place.describe(its, user_url="").results["item"] == {"not_json": 1}
            with State(place.home) as state:
                due_us, asked_us = state._connection.execute("SELECT due_us, asked_us FROM ids").fetchone()
            most = min(2 * 2**number, 86_400)
            assert 0.5 * most <= (due_us - asked_us) / SECOND <= most
            place.clock.sleep((due_us - place.clock.now_us() - 1) / SECOND)
            assert place.describe(its, user_url="").results["item"] == {}
            place.clock.sleep(1e-6)
        assert its.requests == 17


def test_ids_that_fail_together_are_not_due_together_again(place):
    everybody_watches(place.lake)
    with apis(Manners(faults={Fault.BROKEN_JSON: 1.0})) as its:
        assert place.describe(its, user_url="").results["item"] == {"not_json": len(ITEMS)}
    with State(place.home) as state:
        waits = state._connection.execute("SELECT due_us - asked_us FROM ids WHERE asked_us").fetchall()
    assert len(set(waits)) == len(waits) == len(ITEMS)


def test_while_an_api_is_away_it_is_left_alone_and_the_other_goes_on(place):
    everybody_watches(place.lake)
    with apis(Manners(faults={Fault.SERVER_ERROR: 1.0})) as bad, apis() as good:
        began = place.clock.monotonic()
        report = place.describe(bad, user_url=good.user_url)
        assert GIVE_UP_SECONDS <= place.clock.monotonic() - began < 2 * GIVE_UP_SECONDS
        # Pauses of at most 1, 2, 4, … s, at least half of that: the minute has room for six to nine of them.
        assert FAILURES + 5 <= bad.requests <= FAILURES + 9
    assert report.results == {"item": {"http_5xx": bad.requests}, "user": {"described": 12}}
    assert set(report.away) == {"item", "user"}
    assert not report.away["user"]


def test_one_that_is_away_for_long_is_an_alarm_once(place):
    everybody_watches(place.lake)
    with apis() as good:
        gone = good.item_url
    with apis() as its:
        describer = place.describer(its, item_url=gone)
        thread = threading.Thread(target=describer.run)
        thread.start()
        until(lambda: place.clock.monotonic() > 1.5 * AWAY_ALARM_SECONDS)  # the clock moves as fast as it can
        place.stopping.set()
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert place.alarms == ["metadata_api_away"]
    assert describer.report.results["user"] == {"described": 12}


def test_the_rate_is_kept(place):
    watch(place.lake, [(user, item) for user in USERS for item in ITEMS])
    with apis(Manners(requests_per_second=6), clock=place.clock) as its:
        began = place.clock.monotonic()
        place.describe(its, requests_per_second=5)
        assert its.answers == {"found": 20}  # none was too many
        assert place.clock.monotonic() - began >= 19 / 5


def test_more_than_the_api_allows_is_asked_for_again(place):
    everybody_watches(place.lake)
    with apis(Manners(requests_per_second=3), clock=place.clock) as its:
        report = place.describe(its, requests_per_second=50)
        assert its.answers["limited"] > 0
    assert sum(counts["described"] for counts in report.results.values()) == 20
    assert set(place.rows("users")) == set(USERS)


class FailingLake(Lake):
    """Its tables of metadata take nothing for so many times."""

    failures = 3

    def upsert(self, table, frame):
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the lake was told to fail")
        return super().upsert(table, frame)


def test_answers_that_the_lake_did_not_take_are_kept_and_written_later(place):
    everybody_watches(place.lake)
    failing = FailingLake(str(place.lake.folder), place.clock)
    with apis() as its:
        place.describer(its, lake=failing).run(until_idle=True)
        assert place.rows("items") == place.rows("users") == {}
        with State(place.home) as state:
            assert state.waiting() == 20
        place.describe(its)
        assert its.requests == 20
    assert set(place.rows("items")) == set(ITEMS)
    assert set(place.rows("users")) == set(USERS)


def test_a_lake_that_does_not_answer_is_waited_for(place):
    everybody_watches(place.lake)
    failing = FailingLake(str(place.lake.folder), place.clock)
    failing.failures = 10
    with apis() as its:
        describer = place.describer(its, lake=failing)
        thread = threading.Thread(target=describer.run)
        thread.start()
        until(lambda: describer.report.rows == 20)
        place.stopping.set()
        thread.join(timeout=60)
        assert not thread.is_alive()
        assert its.requests == 20
    assert place.alarms == ["metadata_waiting"]


def test_what_was_asked_is_written_when_an_end_is_asked_for(tmp_path):
    place = Place(tmp_path, SystemClock())
    everybody_watches(place.lake)
    with apis() as its:
        describer = place.describer(its)
        thread = threading.Thread(target=describer.run)
        thread.start()
        until(lambda: its.requests == 20)
        place.stopping.set()
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert set(place.rows("users")) == set(USERS)


def test_only_one_works_on_a_home(place):
    with apis() as its, place.home.lock("metadata"), pytest.raises(Locked):
        place.describe(its)


def test_without_an_api_it_says_what_to_set(place):
    with apis() as its, pytest.raises(ConfigurationError, match=r"metadata\.item_url"):
        place.describe(its, item_url="", user_url="")


@pytest.mark.parametrize("url", ["http://host/movie/", "ftp://host/{id}", "host/{id}"])
def test_a_url_has_a_place_for_the_id(url):
    with pytest.raises(ValueError, match="no URL with a place for the id"):
        MetadataSettings(item_url=url)


def test_a_user_who_is_forgotten_is_in_no_byte(place):
    user = "userid-of-somebody"
    watch(place.lake, [(user, ITEMS[0]), ("1", ITEMS[0])])
    with apis() as its:
        place.describer(its, lake=FailingLake(str(place.lake.folder), place.clock)).run(until_idle=True)
    file = place.home.data / FILE
    assert user.encode() in file.read_bytes()
    assert forget_users(place.home, {user})
    assert not forget_users(place.home, {user})
    beside = [path for path in place.home.data.iterdir() if path.name.startswith(FILE)]
    assert beside == [file]
    assert user.encode() not in file.read_bytes()
    with State(place.home) as state:
        assert state.outcomes("user") == {"described": 1}


def test_who_forgets_an_id_waits_until_it_is_in_the_lake_where_it_can_be_deleted(place):
    watch(place.lake, [("1", ITEMS[0])])
    forgetting = threading.Thread(target=forget_users, args=(place.home, {"1"}))

    class Watched(Lake):
        def upsert(self, table, frame):
            forgetting.start()
            forgetting.join(timeout=0.2)
            assert forgetting.is_alive()
            return super().upsert(table, frame)

    with apis() as its:
        watched = Watched(str(place.lake.folder), place.clock)
        place.describer(its, lake=watched, item_url="").run(until_idle=True)
    forgetting.join(timeout=60)
    assert set(place.rows("users")) == {"1"}
    assert place.outcomes() == ({}, {})


def test_an_id_that_is_forgotten_while_it_is_asked_for_stays_forgotten(place):
    watch(place.lake, [("1", ITEMS[0])])

    class Forgetting(dict):
        """Answers, and has the user forgotten meanwhile."""

        def __getitem__(self, name):
            forget_users(place.home, {"1"})
            return super().__getitem__(name)

        def get(self, name):
            return self[name]

    with apis() as its:
        its.answer_of = Forgetting(its.answer_of)
        place.describe(its, item_url="")
        assert its.answers == {"found": 1}
    assert place.rows("users") == {}
    assert place.outcomes() == ({}, {})


def test_a_home_without_the_file_has_nothing_to_forget(place):
    assert not forget_users(place.home, {"1"})
    assert not (place.home.data / FILE).exists()


def test_a_newer_or_a_damaged_file_is_refused(place):
    with State(place.home) as state:
        state._connection.execute("UPDATE meta SET value = '2'")
    with pytest.raises(FormatTooNew, match=r"metadata\.sqlite"):
        State(place.home)
    (place.home.data / FILE).write_bytes(b"no database " * 1_000)
    with pytest.raises(Corrupt, match="not a database"):
        State(place.home)


def test_a_state_that_was_lost_costs_only_what_was_unknown(place):
    everybody_watches(place.lake)
    watch(place.lake, [("999", ITEMS[0])])
    with apis() as its:
        place.describe(its)
        Path(place.home.data / FILE).unlink()
        place.describe(its)
        assert its.answers == {"found": 20, "unknown": 2}


def test_the_metrics_say_what_was_asked(place):
    everybody_watches(place.lake)
    watch(place.lake, [("999", ITEMS[0])])
    with apis() as its:
        report = place.describe(its)
    registry = CollectorRegistry()
    registry.register(MetadataMetrics(report))
    text = generate_latest(registry).decode()
    assert 'matinee_metadata_requests_total{api="item",result="described"} 8.0' in text
    assert 'matinee_metadata_requests_total{api="user",result="unknown"} 1.0' in text
    assert 'matinee_metadata_away{api="user"} 0.0' in text
    assert "matinee_metadata_rows_total 20.0" in text
    assert json.dumps(report.as_dict())
