import gzip
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.core.errors import InvalidInput
from matinee.dataset.movielens.metadata import ITEMS_SCHEMA, USERS_SCHEMA, read_items, read_users
from matinee.dataset.movielens.ratings import LAYOUTS, read_ratings
from matinee.dataset.public import load
from matinee.lake.schemas import ITEMS, USERS

ROWS = [(196, 242, 3.0, 881250949), (22, 377, 0.5, 878887116), (196, 242, 5.0, -1)]
LAYOUT = {layout.file: layout for layout in LAYOUTS}


def write(folder, name, *, zipped=False, end="\n", rows=ROWS):
    layout = LAYOUT[name]
    lines = [layout.header] if layout.header else []
    for user, item, rating, seconds in rows:
        values = [str(user), str(item), f"{rating:g}", *([str(seconds)] if layout.timed else [])]
        lines.append(layout.separator.join(values))
    data = "".join(line + end for line in lines).encode()
    path = folder / (name + (".gz" if zipped else ""))
    path.write_bytes(gzip.compress(data) if zipped else data)
    return path


@pytest.mark.parametrize("name", LAYOUT)
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_layout_gives_the_same_rows_in_their_order(tmp_path, name, zipped, end):
    ratings = read_ratings(write(tmp_path, name, zipped=zipped, end=end), LAYOUT[name])
    times = [datetime.fromtimestamp(row[3], UTC) if LAYOUT[name].timed else None for row in ROWS]
    expected = [(str(row[0]), str(row[1]), row[2], time) for row, time in zip(ROWS, times, strict=True)]
    assert ratings.frame.rows() == expected
    assert ratings.timed == LAYOUT[name].timed


def test_the_hash_is_that_of_the_values_and_not_of_the_file(tmp_path):
    hashes = {
        name: read_ratings(write(tmp_path, name, zipped=zipped), LAYOUT[name]).content_hash
        for zipped, name in enumerate(("u.data", "ratings.dat"))
    }
    assert len(set(hashes.values())) == 1
    untimed = read_ratings(write(tmp_path, "ratings_notime.dat"), LAYOUT["ratings_notime.dat"])
    swapped = read_ratings(write(tmp_path, "u.data", rows=ROWS[::-1]), LAYOUT["u.data"])
    assert len({hashes["u.data"], untimed.content_hash, swapped.content_hash}) == 3


@pytest.mark.parametrize("name", LAYOUT)
@pytest.mark.parametrize(
    "damage", ["x", "", "1{s}2", "1{s}2{s}3{s}4{s}5", "a{s}2{s}3{t}", "1{s}2{s}three{t}", "1{s}{s}3{t}"]
)
def test_a_malformed_line_is_named_with_its_file_and_number(tmp_path, name, damage):
    layout = LAYOUT[name]
    path = write(tmp_path, name)
    lines = path.read_text().splitlines()
    at = len(lines) - 1
    time = f"{layout.separator}7" if layout.timed else ""
    lines.insert(at, damage.format(s=layout.separator, t=time))
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InvalidInput, match=f"{name}, line {at + 1} "):
        read_ratings(path, layout)


def test_something_between_two_colons_is_malformed(tmp_path):
    path = tmp_path / "ratings.dat"
    path.write_text("1::2::3::4\n1:x:2::3::4\n")
    with pytest.raises(InvalidInput, match=r"line 2 is .*expected user::item::rating::seconds"):
        read_ratings(path, LAYOUT["ratings.dat"])


def test_a_wrong_header_an_empty_file_and_a_cut_gzip_are_refused(tmp_path):
    header = tmp_path / "ratings.csv"
    header.write_text("user,item\n1,2\n")
    with pytest.raises(InvalidInput, match="line 1 is 'user,item'"):
        read_ratings(header, LAYOUT["ratings.csv"])
    empty = tmp_path / "u.data"
    empty.touch()
    with pytest.raises(InvalidInput, match=r"u\.data cannot be read"):
        read_ratings(empty, LAYOUT["u.data"])
    cut = write(tmp_path, "u.data", zipped=True, rows=ROWS * 50)
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(InvalidInput, match=r"u\.data\.gz"):
        read_ratings(cut, LAYOUT["u.data"])


@given(st.binary(max_size=60) | st.text("12.-x \t\t\t\r\n", max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "u.data"
    path.write_bytes(data)
    try:
        ratings = read_ratings(path, LAYOUT["u.data"])
    except InvalidInput:
        return
    lines = [line.split("\t") for line in data.decode().splitlines()]
    assert [(int(user), int(item)) for user, item, *_ in lines] == [
        (int(user), int(item)) for user, item in ratings.frame.select("user", "item").rows()
    ]


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.sampled_from([0.5, 3.0]), st.integers(0, 10**9)))
)
def test_whatever_ratings_are_written_are_read(tmp_path_factory, rows):
    path = write(tmp_path_factory.getbasetemp(), "ratings.csv", rows=[(1, 2, 3.0, 4), *rows])
    assert read_ratings(path, LAYOUT["ratings.csv"]).frame["item"].to_list() == [
        "2",
        *(str(row[1]) for row in rows),
    ]


def test_items_and_users_of_100k(tmp_path):
    flags = "|".join("1" if number in {5, 8} else "0" for number in range(19))
    text = f"1|Misérables, Les (1995)|01-Feb-1995||http://x|{flags}\n2|unknown||||1{'|0' * 18}\n"
    (tmp_path / "u.item").write_bytes(text.encode("latin-1"))
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n")
    items = read_items(tmp_path)
    assert items.schema == ITEMS_SCHEMA
    assert items.rows() == [
        ("1", "Les Misérables", ["Comedy", "Drama"], 1995, None, date(1995, 2, 1), None),
        ("2", "unknown", [], None, None, None, None),
    ]
    users = read_users(tmp_path)
    assert users.schema == USERS_SCHEMA
    assert users.rows() == [("1", 24, "technician", "M", None)]


def test_items_and_users_of_1m(tmp_path):
    text = "1::Alien³ (1992)::Action|Sci-Fi\r\n2::Cérémonie, La (1995)::(no genres listed)\r\n"
    (tmp_path / "movies.dat.gz").write_bytes(gzip.compress(text.encode("latin-1")))
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    assert read_items(tmp_path).select("title", "genres").rows() == [
        ("Alien³", ["Action", "Sci-Fi"]),
        ("La Cérémonie", []),
    ]
    assert read_users(tmp_path).rows() == [
        ("1", 1, "K-12 student", "F", None),
        ("2", 56, "self-employed", "M", None),
    ]


def test_items_of_the_newer_sets_with_their_links(tmp_path):
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n7,"Matrix, The (1999)",Action|Sci-Fi\n9,"Say ""Hi"" (2001)",(no genres listed)\n'
    )
    (tmp_path / "links.csv").write_text("movieId,imdbId,tmdbId\n7,0133093,603\n9,,\n")
    assert read_items(tmp_path).rows() == [
        ("7", "The Matrix", ["Action", "Sci-Fi"], 1999, None, None, '{"imdb_id": "tt0133093", "tmdb_id": 603}'),
        ("9", 'Say "Hi"', [], 2001, None, None, None),
    ]
    assert read_users(tmp_path).is_empty()


def test_a_malformed_item_or_user_is_named_with_its_file_and_line(tmp_path):
    (tmp_path / "movies.dat").write_text("1::A (1999)::Drama\n2::B\n")
    with pytest.raises(InvalidInput, match=r"movies\.dat, line 2 has 2 fields; expected 3"):
        read_items(tmp_path)
    (tmp_path / "users.dat").write_text("1::F::1::99::48067\n")
    with pytest.raises(InvalidInput, match=r"users\.dat, line 1"):
        read_users(tmp_path)
    (tmp_path / "u.item").write_text(f"x|A (1999)|||{'|0' * 19}\n")
    with pytest.raises(InvalidInput, match=r"u\.item, line 1: 'x' is not a number"):
        read_items(tmp_path)


def test_the_columns_are_those_that_the_lake_takes():
    for schema, table in ((ITEMS_SCHEMA, ITEMS), (USERS_SCHEMA, USERS)):
        assert dict(schema) == {name: dtype for name, dtype in table.columns.items() if name not in table.filled}


@pytest.mark.real_data
def test_movielens_100k_and_1m_as_published(real_data, tmp_path):
    small = load("movielens-100k", real_data / "ml-100k", cache=tmp_path)
    assert (small.ratings.height, small.items.height, small.users.height) == (100_000, 1_682, 943)
    assert small.timed
    assert small.ratings.row(0) == ("196", "242", 3.0, datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC))
    assert small.ratings["rating"].value_counts().sort("rating")["count"].to_list() == [
        6_110, 11_370, 27_145, 34_174, 21_201,
    ]  # fmt: skip
    large = load("movielens-1m", real_data / "ml-1m", cache=tmp_path)
    assert (large.ratings.height, large.items.height, large.users.height) == (1_000_209, 3_883, 6_040)
    assert not large.timed
    assert large.ratings["time"].null_count() == 1_000_209
    assert large.ratings["user"].n_unique() == 6_040
    assert "Les Misérables" in large.items["title"]
    assert large.items["year"].null_count() == 0
