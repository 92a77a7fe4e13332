"""Ingest that gathers days, joins and removes files and erases a user, all while lines come in: nothing is lost."""

import os
import random
import re
import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ingest_world import MovedClock, World, again_and_again, files_that_tell, until
from kafka_stream import as_line

from matinee.core.erasures import ERASED, add_erasure, read_erasures
from matinee.core.settings import HistorySettings, LakeSettings
from matinee.history.lmdb import LmdbHistory
from matinee.ingest import upkeep
from matinee.ingest.rebuild import catch_up

WHO = "740193862517"
"""So long that finding it is no accident."""
BEGIN = datetime(2022, 1, 1, tzinfo=UTC)
THREE_DAYS = 3 * 86_400
WATCHED = re.compile(r",(\d+),GET /data/m/(.+)/(\d+)\.mpg")
RATED = re.compile(r",(\d+),GET /rate/(.+)=")


class Stream:
    """Lines of all forms, some to be repaired, repeated or past repair, one in seven of `WHO` while they are there.

    All are of ten minutes, so that every repeat is a duplicate.
    """

    def __init__(self, log):
        self._log = log
        self._chance = random.Random(1)
        self._turn = threading.Lock()
        self.who_is_there = True
        self.sent = []

    def flowing(self):
        """Lines are appended all the time until the block is left."""
        return again_and_again(self._append_in_turn, 0.01)

    @contextmanager
    def paused(self):
        with self._turn:
            yield

    def flows_on(self, lines, condition):
        """Wait until so many more lines were sent, and something is the case."""
        goal = len(self.sent) + lines
        # Looks are few, not to take the processor from ingest.
        until(lambda: len(self.sent) >= goal and condition(), seconds=200, every=0.1)

    def _append_in_turn(self):
        with self._turn:
            self._append()

    def _append(self):
        again = [line for line in self.sent[-100:] if self.who_is_there or WHO not in line]
        new = [self._line(len(self.sent) + k) for k in range(10)]
        new += self._chance.sample(again, min(1, len(again)))
        self._log.append([line.encode() for line in new])
        self.sent += new

    def _line(self, n):
        moment = BEGIN + timedelta(milliseconds=n)
        user = WHO if n % 7 == 0 and self.who_is_there else n % 50
        film = f"film+{n % 97}+1999"
        request = {
            16: f"GET /rate/{film}={1 + n // 20 % 5}",
            17: f"recommendation request h:80, status 200, result: {film}, heat+1995, {n % 90} ms",
            18: f"GZET /data/m/{film}/{n % 120}.mpg",
            19: f"GET /nothing/{film}" if n % 60 == 19 else f"GET /rate/{film}=5",
        }.get(n % 20, f"GET /data/m/{film}/{n % 120}.mpg")
        return f"{moment:%Y-%m-%dT%H:%M:%S.%f},{user},{request}"


def test_days_are_gathered_files_joined_and_removed_and_a_user_erased_while_lines_come_in(tmp_path, monkeypatch):
    monkeypatch.setattr(upkeep, "OTHERS_EVERY_SECONDS", 0.05)
    world = World(tmp_path)
    lake = world.stores.lake()
    lake.clock = MovedClock(world.clock)
    world.stores = replace(world.stores, lake=lambda: lake)
    settings = LakeSettings(commit_seconds=0.05, compact_after_commits=3, keep_watches_days=1, keep_versions_days=1)
    history = HistorySettings(poll_seconds=0.01)
    world.settings = world.settings.model_copy(update={"lake": settings, "history": history})

    with world.stores.log() as log, world.running() as running:
        stream = Stream(log)
        with stream.flowing():
            stream.flows_on(500, lambda: WHO in users_of(lake, "events"))
            left_over = of_a_dead_writer(lake)
            lake.clock.ahead += THREE_DAYS
            stream.flows_on(500, lambda: WHO in users_of(lake, "watch_days") and joined(lake))
            stream.flows_on(500, lambda: not left_over.exists())
            with stream.paused():
                until(lambda: all_in(world, stream))
                add_erasure(world.home, WHO, lake.clock.now_us())
                known = len(stream.sent)
            stream.flows_on(500, lambda: True)
            with stream.paused():
                stream.who_is_there = False
            stream.flows_on(500, lambda: erased(world))
            stream.flows_on(500, lambda: joined(lake))
        until(lambda: all_in(world, stream))

    assert (running.error, world.alarms) == (None, [])
    assert files_that_tell(world.home.path, WHO) == []
    classes, kept, refused = what_became(stream.sent, known)
    assert all(classes[name] for name in ("accepted", "repaired", "duplicate", "quarantined", "erased"))
    counts = running.report.counts.as_dict()
    assert {name: counts[name] for name in classes} == classes
    batches = world.rows("batches")
    of_lake = {"read": len(stream.sent) - classes.pop("erased"), **classes}
    assert {name: batches[name].sum() for name in of_lake} == of_lake
    check_lake(world, kept, refused)
    check_history(world, kept)
    assert world.ingest().counts.read == 0


def users_of(lake, table):
    return lake.read(table, columns=["user"]).collect()["user"]


def of_a_dead_writer(lake):
    """A data file that was written days ago and never committed."""
    path = lake.folder / "events" / "part-00000-dead.parquet"
    path.touch()
    os.utime(path, (time.time() - THREE_DAYS,) * 2)
    return path


def joined(lake):
    """Whether small files of `events` were joined, as far back as its log goes."""
    return any(entry["operation"] == "OPTIMIZE" for entry in lake.table("events").history())


def all_in(world, stream):
    return world.rows("batches")["end"].max() == len(stream.sent) + 1


def erased(world):
    """Whether it is done; each time that it is asked, ten a second, the lake's clock goes on by 20 s.

    So it is given up before twelve hours make an alarm.
    """
    world.stores.lake().clock.ahead += 20
    return not read_erasures(world.home.data / ERASED).pending("stores")


def what_became(sent, known):
    """How many lines there were of each class; the others' good lines, once each; the others' bad ones.

    What `WHO` sent from the index `known` on was dropped.
    """
    classes, seen, refused = Counter(), set(), []
    for n, line in enumerate(sent):
        theirs = f",{WHO}," in line
        if theirs and n >= known:
            classes["erased"] += 1
        elif "/nothing/" in line:
            classes["quarantined"] += 1
            refused += [] if theirs else [line]
        elif line in seen:
            classes["duplicate"] += 1
        else:
            classes["repaired" if "GZET" in line else "accepted"] += 1
            seen.add(line)
    return classes, [line.replace("GZET", "GET") for line in seen if f",{WHO}," not in line], refused


def check_lake(world, kept, refused):
    """It holds the good lines, those of watching as events or as minutes of their day, and the bad ones."""
    events = world.rows("events")
    watched = set(events.filter(kind="watch").select("user", "item", "minute").rows())
    days = world.stores.lake().read("watch_days").collect()
    watched |= set(days.explode("minutes").select("user", "item", "minutes").rows())
    assert watched == {(user, item, int(minute)) for user, item, minute in fields(WATCHED, kept)}
    assert days["day"].unique().to_list() == [BEGIN.date()]
    others = [*events.filter(kind="rating").iter_rows(named=True), *world.rows("received").iter_rows(named=True)]
    assert sorted(map(as_line, others)) == sorted(line for line in kept if not WATCHED.search(line))
    assert sorted(world.rows("quarantine")["raw"]) == sorted(line.encode() for line in refused)


def check_history(world, kept):
    """Every user has the items of their lines, with the minutes seen; as one has that is made from the lake."""
    minutes = defaultdict(set)
    for user, item, minute in fields(WATCHED, kept):
        minutes[user, item].add(minute)
    for user, item in fields(RATED, kept):
        minutes[user, item] |= set()
    with world.stores.history() as live, LmdbHistory(world.folder / "again") as again:
        catch_up(world.stores.lake(), again)
        for history in (live, again):
            seen = {(user, e.item): e.minutes_seen for user, of in history.items() for e in of.entries}
            assert seen == {pair: len(of) for pair, of in minutes.items()}


def fields(form, lines):
    return [found.groups() for line in lines if (found := form.search(line))]
