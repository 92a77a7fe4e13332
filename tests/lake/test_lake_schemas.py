"""Frames and stored tables are what was declared, or refused."""

import errno
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from lake_frames import SOURCE, batch, rows

from matinee.core.clock import SystemClock
from matinee.core.errors import ConfigurationError, Corrupt, FormatTooNew, InvalidInput, OutOfRoom, StoreUnavailable
from matinee.events.schema import READ_SCHEMA
from matinee.lake.lake import Lake
from matinee.lake.schemas import EVENTS, INGEST_TABLES, LAKE_FORMAT, QUARANTINE, TABLES
from matinee.lake.storage import store_errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop("user"), "column user: expected String, found no such column"),
        (lambda f: f.with_columns(colour=pl.lit("red")), "column colour: expected no such column, found String"),
        (
            lambda f: f.with_columns(pl.col("rating").cast(pl.Float64)),
            "column rating: expected Float32, found Float64",
        ),
        (lambda f: f.drop("time"), "column time: expected Datetime.*found no such column"),
        (
            lambda f: f.with_columns(pl.col("time").dt.replace_time_zone(None)),
            "column time: expected Datetime.*UTC",
        ),
        (lambda f: f.drop("position"), "column position: expected Int64, found no such column"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused_by_table_and_column(lake: Lake, change, message: str):
    with pytest.raises(InvalidInput, match=f"table events, {message}"):
        lake.commit(SOURCE, {"events": change(rows(EVENTS, [0]))}, start=0, end=1)
    assert lake.committed_ends("events") == {}


def test_the_order_of_columns_does_not_matter(lake: Lake):
    frame = rows(EVENTS, [0, 4])
    lake.commit(SOURCE, {"events": frame.select(reversed(frame.columns))}, start=0, end=8)
    assert lake.read("events").collect().height == 2


def test_what_reading_gives_has_the_types_that_tables_store():
    for schema in INGEST_TABLES.values():
        for name, kind in schema.columns.items():
            if name in READ_SCHEMA:
                assert READ_SCHEMA[name] == kind, (schema.name, name)


def test_unknown_tables_columns_and_versions_are_named(lake: Lake):
    with pytest.raises(InvalidInput, match="no table 'film'"):
        lake.read("film")
    with pytest.raises(InvalidInput, match="table events has no column 'film'"):
        lake.read("events", columns=["film"])
    with pytest.raises(InvalidInput, match="table events cannot be read at version 99"):
        lake.read("events", 99)


def test_a_table_of_a_newer_format_is_refused(lake: Lake, tmp_path: Path):
    lake.commit(SOURCE, {}, start=0, end=1)
    table = DeltaTable(tmp_path / "lake" / "served")
    newer = {"matinee.formatVersion": str(LAKE_FORMAT + 1)}
    table.alter.set_table_properties(newer, raise_if_not_exists=False)
    for use in (lambda: lake.read("served"), lambda: Lake(str(lake.folder), SystemClock()).resume_position(SOURCE)):
        with pytest.raises(FormatTooNew, match=f"served has format version {LAKE_FORMAT + 1}"):
            use()


def test_a_table_that_somebody_else_made_is_refused(lake: Lake, tmp_path: Path):
    DeltaTable.create(tmp_path / "lake" / "events", schema=DeltaTable.schema(lake.table("items")))
    with pytest.raises(Corrupt, match=r"carries no matinee\.formatVersion"):
        lake.read("events")


def test_every_table_carries_the_format(lake: Lake):
    for name in TABLES:
        assert lake.table(name).metadata().configuration["matinee.formatVersion"] == str(LAKE_FORMAT)


def test_files_are_compressed_with_zstd(lake: Lake):
    lake.commit(SOURCE, batch(0, 8), start=0, end=8)
    assert all(".zstd.parquet" in file for name in INGEST_TABLES for file in lake.table(name).file_uris())


def test_a_url_that_is_no_folder_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="s3://bucket"):
        Lake("s3://bucket/lake", SystemClock())
    assert Lake(f"file://{tmp_path}/a%2Db", SystemClock()).folder == tmp_path / "a-b"


@pytest.mark.parametrize("name", ["a b", "a%20b", "jürgen", "a=b", "a#b", "a{b}"])
def test_a_path_that_delta_and_polars_write_differently_is_refused(tmp_path: Path, name: str):
    with pytest.raises(ConfigurationError, match="cannot take"):
        Lake(str(tmp_path / name), SystemClock())


def test_a_store_that_fails_is_unavailable(tmp_path: Path):
    (tmp_path / "events").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match="events"):
        Lake(str(tmp_path), SystemClock()).read("events")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_from_a_broken_one(code: int):
    with pytest.raises(OutOfRoom), store_errors("writing"):
        raise OSError(f"Unable to copy data to file: (os error {code})")
    with pytest.raises(StoreUnavailable), store_errors("writing"):
        raise OSError("Input/output error (os error 5)")


FILL = """
import os, sys
import polars as pl
from lake_frames import SOURCE, rows
from matinee.core.clock import SystemClock
from matinee.core.errors import OutOfRoom
from matinee.lake.lake import Lake
from matinee.lake.schemas import QUARANTINE

lake = Lake(sys.argv[1], SystemClock())
lake.commit(SOURCE, {}, start=0, end=1)
big = rows(QUARANTINE, list(range(1, 101))).with_columns(pl.Series("raw", [os.urandom(20_000) for _ in range(100)]))
for _ in range(2):
    try:
        lake.commit(SOURCE, {"quarantine": big}, start=1, end=101)
    except OutOfRoom:
        assert lake.committed_ends("quarantine")[SOURCE] == 1
    else:
        raise SystemExit("it went through")
os.truncate(sys.argv[1] + "/filler", 0)
assert lake.commit(SOURCE, {"quarantine": big}, start=1, end=101)["quarantine"] == 100
print("ok")
"""


def test_a_full_disk_stops_the_writer_until_there_is_room(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    fill = tmp_path / "fill.py"
    fill.write_text(FILL)
    script = (
        f"mount -t tmpfs -o size=6m none {disk} && head -c 5m /dev/zero > {disk}/filler "
        f"&& PYTHONPATH={Path(__file__).parent} {sys.executable} {fill} {disk}"
    )
    command = ["unshare", "-rm", "sh", "-c", script]
    if subprocess.run([*command[:-1], f"mount -t tmpfs none {disk}"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk in a namespace")
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.stdout.endswith("ok\n"), done.stderr


def test_quarantine_is_dated_by_when_it_came(lake: Lake):
    lake.commit(SOURCE, {"quarantine": rows(QUARANTINE, [3])}, start=0, end=4)
    assert str(lake.read("quarantine").collect()["date"][0]) == "2024-03-01"
