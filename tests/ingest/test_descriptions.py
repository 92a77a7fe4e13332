"""What items and users are, from a file."""

import gzip
import json
from datetime import date

import polars as pl
import pytest
from ingest_world import World, watch

from matinee.core.clock import SystemClock
from matinee.core.erasures import add_erasure
from matinee.core.errors import InvalidInput, OutOfRoom
from matinee.dataset.snapshot import take_snapshot
from matinee.ingest.descriptions import import_descriptions

ITEMS = """id,title,genres,year,runtime,age_limit,available_until,colour
up+2009,Up,Animation|Comedy,2009,96,,2030-01-01,blue
new+2031, A new one ,Drama,2031,,16,,
bare+2000,,,,,,,
"""


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def describe(world, tmp_path):
    def described(kind, content, columns=None, **options):
        path = tmp_path / "described"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return import_descriptions(
            kind, path, columns, home=world.home, lake=world.stores.lake(), clock=SystemClock(), **options
        )

    return described


def rows_of(world, table):
    key = table.removesuffix("s")
    rows = world.stores.lake().read(table).drop("updated_at").collect().rows(named=True)
    return {row[key]: {name: value for name, value in row.items() if value is not None} for row in rows}


EXPECTED = {
    "up+2009": {"title": "Up", "genres": ["Animation", "Comedy"], "year": 2009, "minutes": 96.0,
                "extra": {"available_until": "2030-01-01"}},
    "new+2031": {"title": "A new one", "genres": ["Drama"], "year": 2031, "extra": {"age_limit": 16.0}},
    "bare+2000": {},
}  # fmt: skip


def parsed(rows):
    return {
        key: {n: json.loads(v) if n == "extra" else v for n, v in row.items() if n not in {"item", "user"}}
        for key, row in rows.items()
    }


def as_lines(text):
    head, *rows = [line.split(",") for line in text.strip().split("\n")]
    documents = [{name: value for name, value in zip(head, row, strict=True) if value} for row in rows]
    return "\n\n".join(json.dumps(document) for document in documents)


def as_parquet(text, path):
    frame = pl.read_csv(text.encode()).with_columns(pl.col("genres").str.split("|"))
    frame.write_parquet(path)
    return path.read_bytes()


@pytest.mark.parametrize("form", ["csv", "tsv", "gzip", "lines", "parquet"])
def test_items_come_in_from_any_form_of_the_file_and_twice_is_once(world, describe, tmp_path, form):
    content = {
        "csv": lambda: ITEMS,
        "tsv": lambda: ITEMS.replace(",", "\t"),
        "gzip": lambda: gzip.compress(ITEMS.encode()),
        "lines": lambda: as_lines(ITEMS),
        "parquet": lambda: as_parquet(ITEMS, tmp_path / "p"),
    }[form]()
    report = describe("item", content)
    assert (report.read, report.changed, report.erased) == (3, 3, 0)
    assert parsed(rows_of(world, "items")) == EXPECTED
    assert describe("item", content).changed == 0


def test_what_is_not_known_replaces_nothing(world, describe):
    describe("item", ITEMS)
    describe("item", "id,title,year,vote_count\nup+2009,,2010,7\n")
    up = parsed(rows_of(world, "items"))["up+2009"]
    assert (up["title"], up["year"]) == ("Up", 2010)
    assert up["extra"] == {"available_until": "2030-01-01", "vote_count": 7}


def test_users_come_in_and_those_erased_stay_away(world, describe):
    add_erasure(world.home, "gone", SystemClock().now_us())
    report = describe("user", "User ID,age,Gender,occupation\nu1,31,F,chef\ngone,40,M,\nu2,999,,\nu1,32,,\n")
    assert (report.read, report.changed, report.erased) == (4, 2, 1)
    assert parsed(rows_of(world, "users")) == {"u1": {"age": 32, "gender": "F", "occupation": "chef"}, "u2": {}}


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("movie_id", {}),
        ("Item", {}),
        ("item_id:token", {}),
        ("id", {}),
        ("what", {"item": "what"}),
        ("it", {"id": "it"}),
    ],
)
def test_a_column_is_known_by_its_name_or_said_to_be(world, describe, head, said):
    describe("item", f"{head},length\nup+2009,96\n", {"runtime": "length", **said})
    assert parsed(rows_of(world, "items")) == {"up+2009": {"minutes": 96.0}}


def test_lines_of_json_have_their_fields_by_the_same_names(world, describe):
    lines = '{"movie_id": "up+2009", "length": "96"}\n{"id": "new", "Title": "New"}'
    describe("item", lines, {"runtime": "length"})
    assert parsed(rows_of(world, "items")) == {"up+2009": {"minutes": 96.0}, "new": {"title": "New"}}


def test_dates_of_parquet_are_dates(world, describe, tmp_path):
    frame = pl.DataFrame({"id": ["a"], "release_date": [date(1999, 3, 31)], "year": [None], "adult": [True]})
    frame.write_parquet(tmp_path / "p")
    describe("item", (tmp_path / "p").read_bytes())
    assert parsed(rows_of(world, "items")) == {
        "a": {"release_date": date(1999, 3, 31), "year": 1999, "extra": {"adult": True}}
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,title\nup+2009,Up\nDark City,Dark\n", "row 2: 'Dark City' cannot be a item id"),
        ("id,title\nup+2009,Up\n,Nameless\n", "row 2 has no id"),
        ('{"id": "a"}\n{"id": "b"', "line 2 is no JSON"),
        ('{"id": "a"}\n[1]\n', "line 2 is no JSON object"),
        ('{"title": "Nameless"}', "row 1 has no id"),
        ("title,year\nUp,2009\n", "no column is the item"),
        (b"\x00\x01\x02", "no column is the item|cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place_and_nothing_is_imported(world, describe, content, said):
    with pytest.raises(InvalidInput, match=said) as caught:
        describe("item", content)
    assert caught.value.remedy
    assert not rows_of(world, "items")


def test_a_file_that_says_nothing_of_users_is_none_of_users(world, describe):
    with pytest.raises(InvalidInput, match="says nothing of users"):
        describe("user", ITEMS)
    assert not rows_of(world, "users")


def test_a_column_or_a_field_that_is_not_there_is_told(describe):
    with pytest.raises(InvalidInput, match="no column 'length'"):
        describe("item", ITEMS, {"runtime": "length"})
    with pytest.raises(InvalidInput, match="items have no field 'runtme'") as caught:
        describe("item", ITEMS, {"runtme": "runtime"})
    assert "runtime" in caught.value.remedy


def test_without_room_nothing_is_imported(world, describe):
    def full():
        raise OutOfRoom("full")

    with pytest.raises(OutOfRoom):
        describe("item", ITEMS, require_room=full)
    assert not rows_of(world, "items")


def test_an_item_that_was_announced_is_in_the_next_snapshot(world, describe, tmp_path):
    (tmp_path / "log.csv").write_text(watch(1, "up+2009", 5, 0) + "\n")
    world.importer().lines(tmp_path / "log.csv")
    describe("item", ITEMS)
    snapshot = take_snapshot(world.stores.lake())
    assert (snapshot.items.ids, snapshot.extra_items) == (("up+2009",), ("bare+2000", "new+2031"))
