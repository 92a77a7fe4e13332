"""Weeks of a stream on a small disk: what lake, log and history take stays level, and what is kept is whole."""

from datetime import UTC, datetime, timedelta

import pytest
from ingest_world import MovedClock, World

from lake.lake_frames import age
from matinee.core.clock import SystemClock
from matinee.core.settings import BudgetSettings, LakeSettings
from matinee.ingest.stores import stores_of
from matinee.lake.schemas import TABLES
from small_disks import small_disk

DAYS, LINES_A_DAY, USERS = 18, 600, 40
RETENTION, WATCHES, VERSIONS = 6, 2, 1
SETTLED = 10
"""Days after which everything that is to go has begun to go."""
DAY_SECONDS = 86_400


def lines_of(day):
    """Each of the day's minutes is watched once, by one user, of one of 20 films."""
    return [
        f"{day + timedelta(seconds=20 * n):%Y-%m-%dT%H:%M:%S},{n % USERS},"
        f"GET /data/m/film+{n % 20}+1999/{n // USERS}.mpg"
        for n in range(LINES_A_DAY)
    ]


def taken(folder):
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def weeks(tmp_path, **changed):
    """A home in which as many days have passed, and the bytes that its data took at the end of each."""
    kept = {"retention_days": RETENTION, "keep_watches_days": WATCHES, "keep_versions_days": VERSIONS} | changed
    world = World(tmp_path)
    world.clock = MovedClock(SystemClock())
    lake = LakeSettings(commit_seconds=0.05, compact_after_commits=1, **kept)
    world.settings = world.settings.model_copy(update={"lake": lake, "budget": BudgetSettings(reserve_megabytes=4)})
    world.stores = stores_of(world.settings, world.home, world.clock)
    began = datetime.now(UTC).replace(hour=0, minute=0, second=0) - timedelta(days=1)
    used = []
    for day in range(DAYS):
        world.append(*lines_of(began + timedelta(days=day)))
        report = world.ingest()
        assert report.counts.accepted == LINES_A_DAY
        used.append(taken(world.home.data))
        world.clock.ahead += DAY_SECONDS
        for table in TABLES:
            if (folder := world.home.data / "lake" / table).exists():
                age(folder, 1)
    return world, began, used


def grown(used):
    """What the last days took at most, as a multiple of what the first days did after which it had settled."""
    return max(used[-4:]) / max(used[SETTLED : SETTLED + 4])


def test_over_weeks_the_data_stay_level_and_the_days_that_are_kept_are_whole(tmp_path):
    with small_disk(tmp_path / "home" / "data", "size=32m"):
        world, began, used = weeks(tmp_path)
        assert grown(used) < 1.02
        assert world.alarms == []
        days = world.stores.lake().read("watch_days").collect()
        held = {(row["day"], row["user"], row["item"]): row["minutes"] for row in days.iter_rows(named=True)}
        wanted = {}
        for day in {key[0] for key in held}:
            for n in range(LINES_A_DAY):
                wanted.setdefault((day, f"{n % USERS}", f"film+{n % 20}+1999"), []).append(n // USERS)
        assert held == wanted
        raw = world.rows("events")["time"].dt.date().unique().to_list()
        last = (began + timedelta(days=DAYS - 1)).date()
        assert {*raw, *(key[0] for key in held)} >= {last - timedelta(days=n) for n in range(RETENTION)}
        assert not {*raw} & {key[0] for key in held}


@pytest.mark.parametrize("changed", [{"keep_versions_days": 1_000}, {"retention_days": None}])
def test_without_what_bounds_them_they_grow(tmp_path, changed):
    _, _, used = weeks(tmp_path, **changed)
    assert grown(used) > 1.05
