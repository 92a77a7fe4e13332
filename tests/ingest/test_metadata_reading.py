"""Any bytes come to a description, to `unknown`, or to a reason; and what is described fits the lake's tables."""

import json
from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.core.clock import ManualClock
from matinee.ingest.metadata_lake import write_rows
from matinee.ingest.metadata_reading import Described, Reason, Unknown, Unreadable, read_answer
from matinee.lake.lake import Lake
from matinee.simulation.api_answers import ODD_MOVIES, ODD_USERS, Knowledge
from matinee.simulation.catalogue import make_catalogue
from matinee.simulation.options import WorldOptions
from matinee.simulation.viewers import make_viewers

WORLD = WorldOptions(start_us=0, viewers=5, movies=5)
CATALOGUE = make_catalogue(WORLD)
KNOWLEDGE = Knowledge(CATALOGUE, make_viewers(WORLD), seed=0, unknown=0, odd=0)
MOVIE, USER = KNOWLEDGE.movie(CATALOGUE.ids[0]), KNOWLEDGE.user("1")
MOVIE_FIELDS, USER_FIELDS = sorted(MOVIE), sorted(USER)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["True", "NaN", "1e400"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("name"), inner, max_size=3)
    ),
    max_leaves=8,
)
kinds = st.sampled_from(["item", "user"])


def movie(**changes):
    return read_answer("item", MOVIE["id"], json.dumps(MOVIE | changes).encode())


def user(**changes):
    return read_answer("user", "1", json.dumps(USER | changes).encode())


@given(kinds, st.binary())
def test_any_bytes_come_to_something(kind, body):
    assert isinstance(read_answer(kind, "x", body), Described | Unknown | Unreadable)


@given(kinds, values)
def test_any_json_comes_to_something(kind, document):
    assert isinstance(read_answer(kind, "x", json.dumps(document).encode()), Described | Unknown | Unreadable)


@given(
    st.dictionaries(st.sampled_from(MOVIE_FIELDS), values), st.dictionaries(st.sampled_from(USER_FIELDS), values)
)
@settings(max_examples=15)
def test_what_is_described_fits_the_lake_whatever_the_values_are(tmp_path_factory, movies, users):
    lake = Lake(str(tmp_path_factory.mktemp("lake", numbered=True)), ManualClock())
    for kind, key, document in (("item", MOVIE["id"], MOVIE | movies), ("user", "1", USER | users)):
        reading = read_answer(kind, key, json.dumps(document).encode())
        if isinstance(reading, Described):
            row = json.loads(json.dumps(reading.row, default=str))  # as it is kept until it is written
            assert write_rows(lake, kind, [row]) == 1
            stored = lake.read(f"{kind}s").drop("updated_at").collect().row(0, named=True)
            assert {name: value for name, value in stored.items() if name != "minutes"} == {
                name: value for name, value in reading.row.items() if name != "minutes"
            }


@given(st.integers(0, len(json.dumps(MOVIE)) - 1))
def test_a_part_of_an_answer_is_never_taken_for_one(length):
    body = json.dumps(MOVIE).encode()[:length]
    assert read_answer("item", MOVIE["id"], body) == Unreadable(Reason.NOT_JSON)


def test_a_movie_as_it_comes():
    row = movie().row
    assert row["item"] == MOVIE["id"]
    assert row["title"] == MOVIE["title"]
    assert row["genres"] == [genre["name"] for genre in MOVIE["genres"]]
    assert row["minutes"] == MOVIE["runtime"]
    assert row["release_date"] == date.fromisoformat(MOVIE["release_date"])
    assert row["year"] == row["release_date"].year
    extra = json.loads(row["extra"])
    assert extra["adult"] is False
    assert extra["budget"] == int(MOVIE["budget"])
    assert extra["vote_count"] == int(MOVIE["vote_count"])
    assert extra["popularity"] == float(MOVIE["popularity"])
    assert "homepage" not in extra


def test_a_user_as_it_comes():
    assert user().row == {
        "user": "1",
        "age": USER["age"],
        "occupation": USER["occupation"],
        "gender": USER["gender"],
        "extra": None,
    }


@pytest.mark.parametrize(
    ("field", "sent", "read_as"),
    [
        ("runtime", "106", 106.0),
        ("runtime", 0, None),
        ("runtime", "0", None),
        ("runtime", -5, None),
        ("runtime", True, None),
        ("runtime", "two hours", None),
        ("runtime", 1e300, None),
        ("release_date", "", None),
        ("release_date", "null", None),
        ("release_date", "1994-13-01", None),
        ("release_date", 1994, None),
        ("release_date", "1994-09-23T00:00:00Z", date(1994, 9, 23)),
        ("genres", "Drama, Crime", ["Drama", "Crime"]),
        ("genres", '[{"id": 1, "name": "Drama"}]', ["Drama"]),
        ("genres", ["Drama", "Drama", "", None, 7], ["Drama"]),
        ("genres", [], None),
        ("genres", {"name": "Drama"}, None),
        ("title", "  The   Godfather \n", "The Godfather"),
        ("title", "null", None),
        ("title", "half a \ud83d pair", "half a pair"),
        ("title", 1984, None),
        ("title", "x" * 900, "x" * 500),
    ],
)
def test_values_of_a_movie(field, sent, read_as):
    column = {"runtime": "minutes"}.get(field, field)
    assert movie(**{field: sent}).row[column] == read_as


@pytest.mark.parametrize(
    ("field", "sent", "read_as"),
    [
        ("age", "32", 32),
        ("age", 32.0, 32),
        ("age", 32.5, None),
        ("age", -1, None),
        ("age", 10**30, None),
        ("age", True, None),
        ("gender", "", None),
        ("gender", " f ", "f"),
        ("occupation", None, None),
    ],
)
def test_values_of_a_user(field, sent, read_as):
    assert user(**{field: sent}).row[field] == read_as


@pytest.mark.parametrize(
    ("sent", "read_as"),
    [
        ("True", True),
        ("False", False),
        (True, True),
        ("1", True),
        (0, False),
        ("maybe", None),
        (2, None),
        ([], None),
    ],
)
def test_adult(sent, read_as):
    assert json.loads(movie(adult=sent).row["extra"]).get("adult") is read_as


@pytest.mark.parametrize(
    ("body", "reading"),
    [
        ('{"message": "movie \'x\' not found"}', Unknown()),
        ('{"message": "User Not Found", "id": null}', Unknown()),
        ('{"message": "rate limit exceeded"}', Unreadable(Reason.MESSAGE)),
        ('{"message": null}', Unreadable(Reason.MESSAGE)),
        ("<html><body>502 Bad Gateway</body></html>", Unreadable(Reason.HTML)),
        ("\n\n  <!DOCTYPE html>", Unreadable(Reason.HTML)),
        ("", Unreadable(Reason.NOT_JSON)),
        ("Service Unavailable", Unreadable(Reason.NOT_JSON)),
        ('{"id": "x", "title": "X"', Unreadable(Reason.NOT_JSON)),
        ("[" * 100_000, Unreadable(Reason.NOT_JSON)),
        ("9" * 10_000, Unreadable(Reason.NOT_JSON)),
        ("[]", Unreadable(Reason.NOT_AN_OBJECT)),
        ('"not found"', Unreadable(Reason.NOT_AN_OBJECT)),
        ("null", Unreadable(Reason.NOT_AN_OBJECT)),
        ('{"id": "y", "title": "Y"}', Unreadable(Reason.ANOTHER_ID)),
        ('{"id": "x"}', Unreadable(Reason.NOTHING)),
        ("{}", Unreadable(Reason.NOTHING)),
        ('{"id": "x", "title": "", "runtime": "NaN"}', Unreadable(Reason.NOTHING)),
    ],
)
def test_what_is_no_description(body, reading):
    assert read_answer("item", "x", body.encode()) == reading


def test_other_encodings_of_json():
    text = json.dumps({"id": "x", "title": "Amélie"}, ensure_ascii=False)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert read_answer("item", "x", text.encode(encoding)).row["title"] == "Amélie"
    assert read_answer("item", "x", text.encode("latin-1")) == Unreadable(Reason.NOT_JSON)


def test_every_oddity_of_the_simulated_apis_is_survived():
    for kind, document, oddities in (("item", MOVIE, ODD_MOVIES), ("user", USER, ODD_USERS)):
        for change in oddities:
            odd = json.loads(json.dumps(document))
            change(odd)
            key = document["id"] if kind == "item" else "1"
            assert isinstance(read_answer(kind, key, json.dumps(odd).encode()), Described)


def test_attributes_that_an_answer_lacks_stay_in_the_lake(tmp_path):
    lake = Lake(str(tmp_path), ManualClock())
    brought = {"item": ["x"], "extra": ['{"age_limit": 16, "budget": 1}']}
    columns = lake.read("items").drop("updated_at").collect_schema()
    lake.upsert("items", pl.DataFrame({name: brought.get(name, [None]) for name in columns}, schema=columns))
    row = {**dict.fromkeys(columns), "item": "x", "extra": '{"budget": 2}'}
    assert write_rows(lake, "item", [row]) == 1
    assert json.loads(lake.read("items").collect()["extra"][0]) == {"age_limit": 16, "budget": 2}
    assert write_rows(lake, "item", [row]) == 0
    assert write_rows(lake, "item", [row | {"extra": None}]) == 0
