"""What items and users are, from a file."""

import gzip
import json
from datetime import UTC, date, datetime

import polars as pl
import pytest
from ingest_world import World, watch

from matinee.core.clock import SystemClock
from matinee.core.erasures import add_erasure
from matinee.core.errors import InvalidInput, OutOfRoom
from matinee.dataset.snapshot import take_snapshot
from matinee.ingest.described_files import LINE_BYTES
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


def test_of_several_rows_of_one_id_the_last_known_value_counts_also_of_what_is_further_known(world, describe):
    describe("item", "id,title,age_limit,vote_count\na,Old,16,1\nb,,,\na,New,,7\n")
    assert parsed(rows_of(world, "items"))["a"] == {"title": "New", "extra": {"age_limit": 16.0, "vote_count": 7}}


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
        ("movie,item_id,title\nUp,1,Up\n", "could be the item"),
        ("id,age,gender\nu1,31,F\n", "says nothing of items"),
        ("user,item,rating\nu1,i1,5\n", "says nothing of items"),
        ('{"id": "u1", "age": 31}', "says nothing of items"),
        ('[{"id": "a"}]', "line 1 is no JSON object"),
        ('{"id": "a",\n "title": "A"}', "line 1 is no JSON"),
        ('{"id": true, "title": "A"}', "row 1 has True for an id"),
        ('{"id": 7.5, "title": "A"}', "row 1 has 7.5 for an id"),
        ('{"id": [1], "title": "A"}', r"row 1 has \[1\] for an id"),
        ("id,title\na,Am\xe9lie\n".encode("latin-1"), "row 1 is not UTF-8"),
        (b'{"id": "a", "title": "' + b"x" * LINE_BYTES + b'"}', "line 1 has more than"),
        (b"\x00\x01\x02", "no column is the item|cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place_and_nothing_is_imported(world, describe, content, said):
    with pytest.raises(InvalidInput, match=said) as caught:
        describe("item", content)
    assert caught.value.remedy
    assert not rows_of(world, "items")


@pytest.mark.parametrize("content", [ITEMS, as_lines(ITEMS), "id\nu1\n"])
def test_a_file_that_says_nothing_of_users_is_none_of_users(world, describe, content):
    with pytest.raises(InvalidInput, match="says nothing of users"):
        describe("user", content)
    assert not rows_of(world, "users")


def test_a_list_of_ids_is_enough_of_items(world, describe):
    describe("item", "id\nup+2009\n")
    describe("item", '{"id": 7}\n{"id": 8.0}')
    assert set(rows_of(world, "items")) == {"up+2009", "7", "8"}


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("form", ["table", "lines"])
def test_marks_blank_lines_and_ends_of_lines_change_nothing(world, describe, bom, end, form):
    lines = {"table": [b"id,title", b"a,A", b"", b",", b"b,B", b"", b""],
             "lines": [b'{"id": "a", "title": "A"}', b"", b'{"id": "b", "title": "B"}', b""]}[form]  # fmt: skip
    assert describe("item", bom + end.join(lines)).read == 2
    assert parsed(rows_of(world, "items")) == {"a": {"title": "A"}, "b": {"title": "B"}}


def test_the_id_is_the_api_s_own_name_where_there_is_one(world, describe):
    describe("item", "id,movie,title\n1,Up,Up\n")
    describe("item", '{"movie_id": 7, "id": 2, "title": "Two"}')
    assert set(rows_of(world, "items")) == {"1", "2"}


def test_parquet_columns_of_any_type_are_understood_or_left_out(world, describe, tmp_path):
    frame = pl.DataFrame(
        {
            "id": pl.Series([b"a", b"b"], dtype=pl.Binary),
            "title": pl.Series([b"Am\xc3\xa9lie", None], dtype=pl.Binary),
            "genres": pl.Series(["Drama", "(no genres listed)"], dtype=pl.Categorical),
            "runtime": pl.Series(["96.5", None]).cast(pl.Decimal(5, 1)),
            "release_date": pl.Series([8_000_000, 10_681], dtype=pl.Int32).cast(pl.Date),
            "available_until": pl.Series([0, None], dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
        }
    )
    frame.write_parquet(tmp_path / "p")
    describe("item", (tmp_path / "p").read_bytes())
    found = parsed(rows_of(world, "items"))
    until = found["a"].pop("extra")["available_until"]
    assert datetime.fromisoformat(until) == datetime(1970, 1, 1, tzinfo=UTC)
    assert found == {
        "a": {"title": "Amélie", "genres": ["Drama"], "minutes": 96.5},
        "b": {"release_date": date(1999, 3, 31), "year": 1999},
    }


def test_numbers_may_be_titles_and_occupations(world, describe):
    describe("item", '{"id": "a", "title": 1917}')
    describe("user", '{"user_id": "u", "occupation": 4}')
    assert parsed(rows_of(world, "items") | rows_of(world, "users")) == {
        "a": {"title": "1917"}, "u": {"occupation": "4"},
    }  # fmt: skip


def test_a_column_or_a_field_that_is_not_there_is_told(describe):
    with pytest.raises(InvalidInput, match="no column 'length'"):
        describe("item", ITEMS, {"runtime": "length"})
    with pytest.raises(InvalidInput, match="items have no field 'runtme'") as caught:
        describe("item", ITEMS, {"runtme": "runtime"})
    assert "runtime" in caught.value.remedy
    with pytest.raises(InvalidInput, match="no line has 'lenght'"):
        describe("item", '{"id": "a", "length": 5, "title": "A"}', {"runtime": "lenght"})


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
