"""Compaction, retention and vacuum keep rows, offsets and the versions that are needed."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from lake_frames import NOON, SOURCE, age, assert_exactly_once, batch, rows

from matinee.core.clock import ManualClock, SystemClock
from matinee.core.errors import InvalidInput
from matinee.lake.lake import Lake
from matinee.lake.maintenance import FULL_BYTES, Maintained, compact, joined_below, maintain
from matinee.lake.schemas import EVENTS, INGEST_TABLES, TABLES
from matinee.lake.writer import CHECKPOINT_EVERY


def fill(lake: Lake, batches: int, size: int = 8, start: int = 0) -> int:
    for each in range(batches):
        first = start + each * size
        lake.commit(SOURCE, batch(first, first + size), start=first, end=first + size)
    return start + batches * size


def report_of(reports: list[Maintained], table: str) -> Maintained:
    return next(report for report in reports if report.table == table)


def test_compaction_joins_files_and_keeps_rows_and_offsets(lake: Lake):
    end = fill(lake, 6)
    reports = maintain(lake, retention_days=None, keep_versions_days=7)
    events = report_of(reports, "events")
    assert (events.files_joined, events.files_written) == (6, 1)
    assert len(lake.table("events").file_uris()) == 1
    assert_exactly_once(lake, end)


@pytest.mark.parametrize(
    ("files", "below"),
    [
        ([], None),
        ([(10, 1)], None),
        ([(10, 1), (10, 1)], FULL_BYTES),
        ([(40, 5), (10, 2), (10, 2)], 40),  # the two are together less than the one, and join without it
        ([(40, 4), (10, 2), (10, 2)], FULL_BYTES),
        ([(40, 9), (20, 4), (10, 3)], None),  # each is larger than all smaller ones together
        ([(FULL_BYTES, 1), (10, 1)], None),
        ([(FULL_BYTES, 1), (10, 1), (10, 1)], FULL_BYTES),
        ([(12, 9), (10, 1), (10, 1)], FULL_BYTES),  # the two do not fit below the one
        ([(10, 0), (9, 0)], None),
    ],
)
def test_files_are_joined_where_the_smaller_ones_are_together_as_many_rows(files, below):
    assert joined_below(files) == below


def test_each_row_is_written_again_as_often_as_the_lake_doubles(lake: Lake):
    def files() -> dict[str, int]:
        actions = pl.DataFrame(lake.table("events").get_add_actions(flatten=True))
        return dict(actions.select("path", "num_records").iter_rows())

    batches, each, again = 32, 1_000, 0
    for number in range(batches):
        start = number * each
        of = rows(EVENTS, list(range(start, start + each))).with_columns(
            time=pl.lit(NOON).cast(EVENTS.columns["time"])
        )
        lake.commit(SOURCE, {"events": of}, start=start, end=start + each)
        before = files()
        compact(lake, "events")
        after = files()
        again += sum(n for path, n in after.items() if path not in before)
        assert len(after) <= math.log2(number + 1) + 2
    assert sum(files().values()) == lake.read("events").collect()["position"].n_unique() == batches * each
    # To join all of them each time would write every row 16 times.
    assert again <= math.log2(batches) * batches * each


def test_every_partition_is_joined_those_of_untimed_rows_too(tmp_path: Path):
    lake = Lake(str(tmp_path), SystemClock())
    for start in range(0, 16, 4):
        events = rows(EVENTS, list(range(start, start + 4)))
        untimed = pl.when(pl.col("position") % 4 == 3).then(None).otherwise("time").alias("time")
        lake.commit(SOURCE, {"events": events.with_columns(untimed)}, start=start, end=start + 4)
    before = lake.read("events").sort("position").collect()
    assert compact(lake, "events") == (8, 2)
    assert lake.read("events").sort("position").collect().equals(before)
    assert compact(lake, "events") == (0, 0)


def test_maintenance_with_nothing_to_do_changes_no_version(lake: Lake):
    fill(lake, 3)
    maintain(lake, retention_days=None, keep_versions_days=7)
    before = lake.versions()
    reports = maintain(lake, retention_days=None, keep_versions_days=7)
    assert lake.versions() == before
    assert all(report == Maintained(report.table, 0, 0, 0, 0, 0) for report in reports)
    assert [report.table for report in reports] == list(TABLES)


def test_offsets_survive_a_checkpoint_and_the_end_of_the_log_before_it(lake: Lake):
    end = fill(lake, 6)
    maintain(lake, retention_days=None, keep_versions_days=1)
    for name in TABLES:
        age(lake.folder / name, 5)
    reports = maintain(lake, retention_days=None, keep_versions_days=1)
    assert all(report_of(reports, name).log_entries_removed > 0 for name in INGEST_TABLES)
    assert not (lake.folder / "events" / "_delta_log" / f"{0:020}.json").exists()
    survivor = Lake(str(lake.folder), SystemClock())
    assert_exactly_once(survivor, end)
    again = survivor.commit(SOURCE, batch(0, end), start=0, end=end)
    assert set(again.values()) == {0}
    assert_exactly_once(survivor, fill(survivor, 2, start=end))


def test_checkpoints_come_by_themselves(lake: Lake):
    for position in range(CHECKPOINT_EVERY + 5):
        lake.commit(SOURCE, {}, start=position, end=position + 1)
    log = lake.folder / "events" / "_delta_log"
    assert [int(file.name[:20]) for file in log.glob("*.checkpoint.parquet")] == [CHECKPOINT_EVERY]
    newcomer = Lake(str(lake.folder), SystemClock())
    assert newcomer.committed_ends("events") == {SOURCE: CHECKPOINT_EVERY + 5}


def test_retention_deletes_whole_days_and_keeps_the_untimed(tmp_path: Path):
    clock = ManualClock(int(datetime(2024, 3, 11, 6, tzinfo=UTC).timestamp() * 1_000_000))
    lake = Lake(str(tmp_path), clock)
    daily = rows(EVENTS, list(range(0, 1_440 * 10, 720)))  # noon and midnight, from noon of March 1
    untimed = rows(EVENTS, [20_000]).with_columns(pl.lit(None, dtype=EVENTS.columns["time"]).alias("time"))
    lake.commit(SOURCE, {"events": pl.concat([daily, untimed])}, start=0, end=20_001)
    reports = maintain(lake, retention_days=3, keep_versions_days=7)
    assert report_of(reports, "events").rows_deleted == 1 + 2 * 6  # March 1 from noon; March 2 to 7
    left = lake.read("events").collect()["date"].to_list()
    assert set(left) == {None, *(date(2024, 3, day) for day in (8, 9, 10, 11))}
    assert lake.resume_position(SOURCE) == 20_001
    assert report_of(maintain(lake, retention_days=3, keep_versions_days=7), "events").rows_deleted == 0


def test_a_protected_version_is_read_again_after_vacuum_and_others_are_gone(lake: Lake):
    end = fill(lake, 3)
    protected, wanted = lake.versions(), lake.read("events").sort("position").collect()
    end = fill(lake, 3, start=end)
    unprotected = lake.versions()["events"]
    for name in TABLES:
        compact(lake, name)
        age(lake.folder / name, 40)
    end = fill(lake, 1, start=end)
    reports = maintain(lake, retention_days=None, keep_versions_days=7, protect=[protected])
    assert report_of(reports, "events").files_removed == 3  # of six small files, three are protected
    assert lake.read("events", protected["events"]).sort("position").collect().equals(wanted)
    assert lake.committed_ends("events", protected["events"]) == {SOURCE: 24}
    with pytest.raises((InvalidInput, FileNotFoundError)):
        lake.read("events", unprotected).collect()
    assert_exactly_once(lake, end)

    reports = maintain(lake, retention_days=None, keep_versions_days=7)  # its bundle is gone
    assert report_of(reports, "events").files_removed > 0
    reports = maintain(lake, retention_days=None, keep_versions_days=7, protect=[protected])
    assert_exactly_once(lake, end)


def test_a_protected_version_outlives_many_rounds(lake: Lake):
    end = fill(lake, 2)
    protected, wanted = lake.versions(), lake.read("events").sort("position").collect()
    for _ in range(3):
        end = fill(lake, 2, start=end)
        maintain(lake, retention_days=None, keep_versions_days=1, protect=[protected])
        for name in TABLES:
            age(lake.folder / name, 20)
    assert lake.read("events", protected["events"]).sort("position").collect().equals(wanted)
    assert_exactly_once(lake, end)


def test_versions_stay_for_as_many_days_as_asked(lake: Lake):
    end = fill(lake, 3)
    version = lake.versions()["events"]
    age(lake.folder / "events", 60)
    compact(lake, "events")
    age(lake.folder / "events", 20)  # files written 80 days ago, replaced 20 days ago
    for _ in range(2):  # in the second round only the checkpoint of the first can tell when they were replaced
        end = fill(lake, 2, start=end)
        reports = maintain(lake, retention_days=None, keep_versions_days=30)
        assert report_of(reports, "events").files_removed == 0
    compacted = version + 1
    assert lake.read("events", compacted).collect().height == 6
    age(lake.folder / "events", 20)
    reports = maintain(lake, retention_days=None, keep_versions_days=15)
    assert report_of(reports, "events").files_removed == 3 + 2 * 3  # each round replaced three more, 20 days ago
    assert_exactly_once(lake, end)


def test_a_version_that_is_lost_is_told(lake: Lake):
    fill(lake, 1)
    reports = maintain(lake, retention_days=None, keep_versions_days=7, protect=[{"events": 77}])
    assert report_of(reports, "events").unreadable == (77,)


def test_what_lost_a_conflict_is_swept_up(lake: Lake):
    end = fill(lake, 2)
    orphan = lake.folder / "events" / "date=2024-03-01" / "part-0-lost.parquet"
    orphan.write_bytes(b"PAR1")
    fresh = orphan.with_name("part-0-being-written.parquet")
    age(lake.folder / "events", 9)
    fresh.write_bytes(b"PAR1")
    maintain(lake, retention_days=None, keep_versions_days=7)
    assert not orphan.exists()
    assert fresh.exists()
    assert_exactly_once(lake, end)


def test_maintenance_beside_a_writer(tmp_path: Path):
    writer = Lake(str(tmp_path), SystemClock())
    fill(writer, 1)
    done = threading.Event()

    def keep_house() -> None:
        house = Lake(str(tmp_path), SystemClock())
        while not done.is_set():
            maintain(house, retention_days=100_000, keep_versions_days=7)

    with ThreadPoolExecutor(1) as threads:
        keeper = threads.submit(keep_house)
        try:
            end = fill(writer, 25, start=8)
        finally:
            done.set()
        keeper.result()
    assert_exactly_once(writer, end)


@pytest.mark.parametrize(("retention", "keep"), [(0, 7), (None, 0)])
def test_limits_below_a_day_are_refused(lake: Lake, retention: int | None, keep: int):
    with pytest.raises(InvalidInput, match="expected at least 1"):
        maintain(lake, retention_days=retention, keep_versions_days=keep)
