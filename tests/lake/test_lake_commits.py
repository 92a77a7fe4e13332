"""Rows and the offset they reach commit together, once."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lake_frames import NOON, SOURCE, assert_exactly_once, batch, rows

from matinee.core.clock import DAY, ManualClock, SystemClock
from matinee.core.errors import Fenced, InvalidInput, StoreUnavailable
from matinee.events.offsets import Source
from matinee.events.schema import TIME
from matinee.lake.lake import Lake
from matinee.lake.schemas import BY_MONTH_AFTER_DAYS, EVENTS, INGEST_TABLES, RECEIVED, TABLES
from matinee.lake.writer import MAX_TRIES


def test_a_batch_commits_its_rows_and_every_tables_offset(lake: Lake):
    written = lake.commit(SOURCE, batch(0, 10), start=0, end=10)
    assert written == {"events": 3, "received": 3, "served": 2, "quarantine": 2, "batches": 1}
    assert_exactly_once(lake, 10)


def test_what_the_lake_fills_follows_from_the_batch(tmp_path: Path):
    lake = Lake(str(tmp_path), ManualClock(1_700_000_000_000_000))
    lake.commit(Source("g", 3), batch(0, 8), start=0, end=8)
    event = lake.read("events").sort("position").collect().row(0, named=True)
    assert (event["generation"], event["partition"], str(event["date"])) == ("g", 3, "2024-03-01")
    committed_at = lake.read("batches").collect()["committed_at"].dt.epoch("us")
    assert committed_at.to_list() == [1_700_000_000_000_000]


def test_an_untimed_row_has_no_date(lake: Lake):
    untimed = rows(EVENTS, [0]).with_columns(pl.lit(None, dtype=EVENTS.columns["time"]).alias("time"))
    lake.commit(SOURCE, {"events": untimed}, start=0, end=1)
    assert lake.read("events").collect()["date"].to_list() == [None]


def test_every_stored_column_reads_back_as_declared(lake: Lake):
    lake.commit(SOURCE, batch(0, 8), start=0, end=8)
    for name, schema in TABLES.items():
        assert lake.read(name).collect().schema == schema.columns


def test_a_batch_committed_again_changes_nothing(lake: Lake):
    lake.commit(SOURCE, batch(0, 10), start=0, end=10)
    before = lake.versions()
    again = lake.commit(SOURCE, batch(0, 10), start=0, end=10)
    assert set(again.values()) == {0}
    assert lake.versions() == before


def test_sources_have_offsets_of_their_own(lake: Lake):
    other = Source("a1b2c3", 1)
    lake.commit(SOURCE, batch(0, 10), start=0, end=10)
    assert lake.resume_position(other) == 0
    lake.commit(other, {}, start=0, end=4)
    assert lake.committed_ends("served") == {SOURCE: 10, other: 4}
    assert lake.sources() == [SOURCE, other]


def test_offsets_of_an_earlier_version(lake: Lake):
    lake.commit(SOURCE, batch(0, 10), start=0, end=10)
    version = lake.versions()["events"]
    lake.commit(SOURCE, batch(10, 20), start=10, end=20)
    assert lake.committed_ends("events", version) == {SOURCE: 10}
    assert sorted(lake.read("events", version, columns=["position"]).collect()["position"]) == [0, 4, 8]


def test_positions_may_have_gaps_and_begin_late(lake: Lake):
    lake.commit(SOURCE, {"events": rows(EVENTS, [5_000, 5_007])}, start=0, end=5_008)
    lake.commit(SOURCE, {"events": rows(EVENTS, [6_000])}, start=5_008, end=6_001)
    assert lake.committed_ends("events") == {SOURCE: 6_001}


def test_a_batch_that_would_leave_a_hole_is_fenced(lake: Lake):
    lake.commit(SOURCE, batch(0, 10), start=0, end=10)
    with pytest.raises(Fenced, match=r"ends at position 10 .* begins at 12"):
        lake.commit(SOURCE, batch(12, 20), start=12, end=20)
    assert_exactly_once(lake, 10)


def test_counts_that_another_owner_counted_in_part_are_fenced(lake: Lake):
    lake.commit(SOURCE, batch(0, 10), start=0, end=10)
    with pytest.raises(Fenced, match="table batches already ends at position 10"):
        lake.commit(SOURCE, batch(4, 16), start=4, end=16)
    lake.commit(SOURCE, batch(10, 20), start=10, end=20)
    assert_exactly_once(lake, 20)


@given(cuts=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), min_size=1, max_size=8))
@hypothesis_settings(max_examples=12)
def test_overlapping_batches_are_stored_once(tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, int]]):
    lake = Lake(str(tmp_path_factory.mktemp("lake")), SystemClock())
    end = 0
    for back, length in cuts:
        start = max(0, end - back)
        lake.commit(SOURCE, batch(start, start + length, counted=False), start=start, end=start + length)
        end = max(end, start + length)
    assert_exactly_once(lake, end, counted=False)


@pytest.mark.parametrize("seed", range(4))
def test_threads_with_overlapping_batches_write_their_union(tmp_path: Path, seed: int):
    end = 60

    def write(writer: int) -> None:
        chance = random.Random(f"{seed}/{writer}")
        lake = Lake(str(tmp_path), SystemClock())
        position = 0
        while position < end:
            to = min(end, position + chance.randint(1, 20))
            lake.commit(SOURCE, batch(position, to, counted=False), start=position, end=to)
            position = max(position, to - chance.randint(0, 5)) if to < end else end

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(write, range(3)))
    assert_exactly_once(Lake(str(tmp_path), SystemClock()), end, counted=False)


def test_many_open_a_new_lake_at_once(tmp_path: Path):
    gate = threading.Barrier(6)

    def first_use(partition: int) -> dict[str, int]:
        lake = Lake(str(tmp_path / "lake"), SystemClock())
        gate.wait()
        return lake.commit(Source("g", partition), batch(0, 4), start=0, end=4)

    with ThreadPoolExecutor(6) as threads:
        assert all(sum(written.values()) == 5 for written in threads.map(first_use, range(6)))
    lake = Lake(str(tmp_path / "lake"), SystemClock())
    assert lake.committed_ends("events") == {Source("g", partition): 4 for partition in range(6)}


def test_a_conflict_loads_and_filters_again(tmp_path: Path):
    rival = Lake(str(tmp_path), SystemClock())
    rival.commit(SOURCE, {}, start=0, end=0 + 1)
    pending: list[Callable[[], object]] = [
        lambda: rival.commit(SOURCE, batch(1, 10, counted=False), start=1, end=10)
    ]
    lake = Lake(
        str(tmp_path), SystemClock(), on_loaded=lambda table: table == "events" and pending and pending.pop()()
    )
    written = lake.commit(SOURCE, batch(1, 20, counted=False), start=1, end=20)
    assert written["events"] == 2  # 12 and 16; the rival was quicker with 4 and 8
    assert sorted(lake.read("events").collect()["position"]) == [4, 8, 12, 16]


def test_a_writer_that_always_loses_gives_up(tmp_path: Path):
    rival = Lake(str(tmp_path), SystemClock())
    steps = iter(range(10_000))

    def overtake(table: str) -> None:
        if table == "events":
            step = next(steps)
            rival.commit(Source("rival", 0), {}, start=step, end=step + 1)

    lake = Lake(str(tmp_path), ManualClock(), on_loaded=overtake)
    with pytest.raises(StoreUnavailable, match=f"{MAX_TRIES} times in a row"):
        lake.commit(SOURCE, batch(0, 4), start=0, end=4)
    assert lake.resume_position(SOURCE) == 0


def test_a_log_entry_torn_by_a_power_cut_takes_rows_and_offset_with_it(tmp_path: Path):
    lake = Lake(str(tmp_path), SystemClock())
    lake.commit(SOURCE, batch(0, 10), start=0, end=10)
    lake.commit(SOURCE, batch(10, 20), start=10, end=20)
    for table in ("events", "batches"):
        newest = max((tmp_path / table / "_delta_log").glob("*.json"))
        newest.write_bytes(b"")
    survivor = Lake(str(tmp_path), SystemClock())
    assert survivor.resume_position(SOURCE) == 10
    survivor.commit(SOURCE, batch(10, 25), start=10, end=25)
    assert_exactly_once(survivor, 25)


@pytest.mark.parametrize("position", [-1, 10, None])
def test_a_position_outside_the_batch_is_refused(lake: Lake, position: int | None):
    frame = rows(EVENTS, [4]).with_columns(pl.lit(position, dtype=pl.Int64).alias("position"))
    with pytest.raises(InvalidInput, match="table events, column position"):
        lake.commit(SOURCE, {"events": frame}, start=0, end=10)


def test_a_position_that_comes_twice_is_refused(lake: Lake):
    with pytest.raises(InvalidInput, match="table events, column position: expected each once"):
        lake.commit(SOURCE, {"events": rows(EVENTS, [4, 0, 4])}, start=0, end=10)


def test_a_bad_frame_stops_the_batch_before_any_table_is_written(lake: Lake):
    bad = rows(RECEIVED, [1]).with_columns(pl.lit("200").alias("status"))
    with pytest.raises(InvalidInput, match="table received, column status: expected Int32, found String"):
        lake.commit(SOURCE, {"events": rows(EVENTS, [0]), "received": bad}, start=0, end=2)
    assert all(lake.committed_ends(name) == {} for name in INGEST_TABLES)


def test_tables_that_ingest_does_not_write_are_refused(lake: Lake):
    with pytest.raises(InvalidInput, match="does not write table 'items'"):
        lake.commit(SOURCE, {"items": pl.DataFrame()}, start=0, end=1)


def test_what_is_long_past_when_it_comes_is_kept_by_months_never_before_its_day(lake: Lake):
    happened = pl.Series("time", [NOON, NOON + 1, NOON + 40 * DAY]).cast(TIME)
    for generation, late_us in (("prompt", 0), ("late", 1)):
        received = pl.Series("received_at", [NOON + 1 + BY_MONTH_AFTER_DAYS * DAY + late_us] * 3).cast(TIME)
        frame = rows(EVENTS, [0, 1, 2]).with_columns(happened, received)
        lake.commit(Source(generation, 0), {"events": frame}, start=0, end=3)
    found = {
        generation: part.sort("position")
        for (generation,), part in lake.read("events").collect().group_by("generation")
    }
    # Received 62 days after the second of the first two, which happened a microsecond apart.
    assert [str(date) for date in found["prompt"]["date"]] == ["2024-03-31", "2024-03-01", "2024-04-10"]
    assert [str(date) for date in found["late"]["date"]] == ["2024-03-31", "2024-03-31", "2024-04-10"]
