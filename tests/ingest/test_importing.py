"""Files and tables as sources: the same content twice, killed on the way, beside a running ingest."""

import gzip
import json
import os
import signal
import subprocess
import sys

import polars as pl
import pytest
from ingest_world import World, until, watch

from matinee.core.errors import InvalidInput, Locked, StoreUnavailable
from matinee.history.lmdb import LmdbHistory
from matinee.ingest import importing
from matinee.ingest.importing import CHUNK_ROWS
from matinee.ingest.rebuild import catch_up, differences

LINES = [watch(n % 40, f"film+{n % 7}+1999", n % 90, n) for n in range(300)]
DIRTY = [*LINES[:100], "nonsense", LINES[99], *LINES[100:], "2022-01-01T00:05,1,GET /rate/up+2009=5"]
EXPECTED = {"read": 303, "accepted": 300, "repaired": 1, "duplicate": 1, "quarantined": 1}


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def lines_file(tmp_path):
    path = tmp_path / "movielog.csv"
    path.write_text("\n".join(DIRTY) + "\n")
    return path


def counts(report):
    return {name: getattr(report.counts, name) for name in EXPECTED}


def test_lines_of_a_file(world, lines_file):
    report = world.importer().lines(lines_file)
    assert counts(report) == EXPECTED
    assert (report.already_imported, report.timed, report.history) == (False, True, "applied")
    assert world.rows("events").height == 301
    assert world.rows("quarantine")["position"].to_list() == [100]
    assert world.items_of("1")[0] == "up+2009"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("at_most", [1, 7, CHUNK_ROWS])
def test_chunks_and_line_ends_change_nothing(world, tmp_path, monkeypatch, end, at_most):
    monkeypatch.setattr(importing, "CHUNK_ROWS", at_most)
    path = tmp_path / "some.txt"
    path.write_bytes((("\r\n" if end == "\r\n" else "\n").join(DIRTY[95:110]) + end).encode())
    report = world.importer().lines(path)
    assert counts(report) == {"read": 15, "accepted": 13, "repaired": 0, "duplicate": 1, "quarantined": 1}


def test_the_same_content_again_changes_nothing(world, lines_file, tmp_path):
    world.importer().lines(lines_file)
    before = (world.stores.lake().versions(), world.rows("events"))
    packed = tmp_path / "under another name.gz"
    packed.write_bytes(gzip.compress(lines_file.read_bytes()))
    again = world.importer().lines(packed)
    assert counts(again) == {"read": 303, "accepted": 0, "repaired": 0, "duplicate": 303, "quarantined": 0}
    assert again.as_dict()["already_imported"] is True
    after = (world.stores.lake().versions(), world.rows("events"))
    assert after[0] == before[0]
    assert after[1].equals(before[1])


def test_an_import_that_was_broken_off_goes_on(world, lines_file, monkeypatch):
    monkeypatch.setattr(importing, "CHUNK_ROWS", 50)
    world.with_lake()
    lake = world.stores.lake()
    commit = lake.commit

    def at_third(*arguments, **keywords):
        if lake.asked == 2:
            raise StoreUnavailable("broken off")
        return commit(*arguments, **keywords)

    lake.commit = at_third
    with pytest.raises(StoreUnavailable):
        world.importer().lines(lines_file)
    lake.commit = commit
    report = world.importer().lines(lines_file)
    assert (report.resumed_at, report.already_imported) == (100, False)
    assert report.counts.read == 303
    assert report.counts.duplicate == 100 + 1  # row 101 repeats row 99: the window came back from the lake
    assert world.rows("events")["position"].to_list() == [n for n in range(303) if n not in {100, 101}]
    assert world.rows("batches")["read"].sum() == 303


DRIVER = """
import sys
from pathlib import Path
from ingest_world import World
from matinee.ingest import importing
importing.CHUNK_ROWS = 20
world = World(Path(sys.argv[1]))
importer = world.importer()
importer._progress = lambda what, done, total: print(done, flush=True)
importer.lines(Path(sys.argv[2]))
"""


def test_killed_during_an_import_and_repeated(world, lines_file, tmp_path):
    for wanted in (1, 3, 2, 4):
        run = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(tmp_path), str(lines_file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=os.path.dirname(__file__),  # noqa: PTH120 - the driver imports the world from beside this file
        )
        with run:
            for _ in range(wanted + 1):  # the first is told of the file that was read
                assert run.stdout.readline()
            run.send_signal(signal.SIGKILL)
    report = world.importer().lines(lines_file)
    assert 20 * 4 <= report.resumed_at < 303
    assert world.rows("events")["position"].to_list() == [n for n in range(303) if n not in {100, 101}]
    batches = world.rows("batches")
    assert {name: batches[name].sum() for name in EXPECTED} == EXPECTED
    with world.stores.history() as live, LmdbHistory(tmp_path / "again") as again:
        assert catch_up(world.stores.lake(), again) == 301
        assert list(differences(live, again)) == []


def test_beside_a_running_ingest_which_then_fills_history(world, lines_file):
    world.append(watch("17", "up+2009", 1))
    with world.running():
        until(lambda: world.items_of("17") == ["up+2009"])
        report = world.importer().lines(lines_file)
        assert report.history == "left_to_ingest"
        until(lambda: "film+3+1999" in (world.items_of("17") or []))
        world.append(watch("17", "jaws+1975", 1))
        until(lambda: "jaws+1975" in (world.items_of("17") or []))
    assert world.rows("events").height == 301 + 2


def test_two_imports_take_turns(world, lines_file):
    with world.home.lock("import"), pytest.raises(Locked, match=str(os.getpid())):
        world.importer().lines(lines_file)


def test_a_line_without_an_end_is_quarantined_and_not_held_in_memory(world, tmp_path):
    path = tmp_path / "long"
    path.write_bytes(b"x" * 9_000_000 + b"\n" + LINES[0].encode() + b"\n" + b"y" * 5_000_000)
    report = world.importer().lines(path)
    assert (report.counts.accepted, report.counts.reasons) == (1, {"too_long": 2})
    assert world.rows("quarantine")["raw"].bin.size().max() <= 65_537


@pytest.mark.parametrize("content", [b"\x1f\x8b", gzip.compress(b"a\n" * 50_000)[:-20]])
def test_half_a_gzip_file_is_refused(world, tmp_path, content):
    path = tmp_path / "half.gz"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"half\.gz"):
        world.importer().lines(path)
    assert world.rows("events").is_empty()


def test_no_such_file(world, tmp_path):
    for take in (world.importer().lines, world.importer().table):
        with pytest.raises(InvalidInput, match="nowhere"):
            take(tmp_path / "nowhere")


RATINGS = pl.DataFrame(
    {
        "userId": ["1", "2", "x y", "4", "5", "6"],
        "movieId": ["10", "20", "30", "40", "50", ""],
        "rating": ["4.5", "3", "3", "good", "9", "1"],
        "timestamp": ["1500000000", "1500000000000", "1500000000", "1500000000", "1500000000", "1500000000"],
    }
)


@pytest.mark.parametrize("form", ["csv", "tsv", "csv.gz", "parquet"])
def test_tables(world, tmp_path, form):
    path = tmp_path / f"ratings.{form}"
    if form == "parquet":
        RATINGS.write_parquet(path)
    else:
        text = RATINGS.write_csv(separator="\t" if form == "tsv" else ",").encode()
        path.write_bytes(gzip.compress(text) if form == "csv.gz" else text)
    report = world.importer().table(path)
    assert report.counts.reasons == {"bad_rating": 2, "bad_user_id": 1, "missing_field": 1}
    rows = world.rows("events")
    assert rows.select("position", "user", "item", "rating").rows() == [(0, "1", "10", 4.5), (1, "2", "20", 3.0)]
    assert {time.isoformat() for time in rows["time"]} == {"2017-07-14T02:40:00+00:00"}
    kept = [json.loads(raw) for raw in world.rows("quarantine")["raw"]]
    assert kept[1] == {"userId": "4", "movieId": "40", "rating": "good", "timestamp": "1500000000"}
    assert world.importer().table(path).already_imported


def test_a_table_in_memory_with_items_and_users(world):
    ratings = pl.DataFrame({"user": ["a", "b"], "item": ["x", "x"], "rating": [4.0, 2.0]})
    items = pl.DataFrame(
        {"item": ["x"], "title": ["X"], "genres": [["Drama"]], "year": [1999], "minutes": [90.0]},
        schema_overrides={"year": pl.Int32, "minutes": pl.Float32},
    ).with_columns(release_date=pl.lit(None, pl.Date), extra=pl.lit(None, pl.String))
    for already in (False, True):
        report = world.importer().frame(ratings, name="tiny", content_hash="abc", items=items)
        assert (report.already_imported, report.timed, report.generation) == (already, False, "file-abc")
    assert world.stores.lake().read("items").collect()["title"].to_list() == ["X"]
    assert world.rows("events")["producer"].to_list() == ["tiny", "tiny"]
    assert world.items_of("a") == ["x"]


@pytest.mark.real_data
def test_the_real_lines(world, real_data):
    report = world.importer().lines(real_data / "movielog" / "movielog.csv.gz")
    assert report.counts.read == 50_000
    assert report.counts.accepted + report.counts.repaired >= 49_950
    assert world.rows("events").height + world.rows("received").height >= 49_950
