import socket
import zipfile

import pytest

from matinee.core.errors import DataUnavailable, InvalidInput
from matinee.dataset.public import NAMES, load

HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
RATINGS = "1\t10\t4\t880000000\n2\t10\t3\t880000060\n"
ITEM = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n10\tEnfer, L'\t1994\tDrama War\n"
USER = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n1\t24\tM\twriter\t1\n"


@pytest.fixture
def nowhere():
    """A base URL where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder in the place of the package index; pip is the real one."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def build_wheel(folder, files):
    info = "recbole-1.2.1.dist-info"
    with zipfile.ZipFile(folder / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(f"recbole/dataset_example/ml-100k/{name}", text)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def zip_of(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_the_published_zip_and_its_folder_give_the_same(tmp_path):
    files = {"ml-100k/u.data": RATINGS, "ml-100k/u.user": "1|24|M|writer|1\n", "ml-100k/README": "no"}
    archive = zip_of(tmp_path / "ml-100k.zip", files)
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "out")
    loaded = [
        load("movielens-100k", path, cache=tmp_path / "cache")
        for path in (archive, tmp_path / "out", tmp_path / "out" / "ml-100k")
    ]
    assert len({dataset.content_hash for dataset in loaded}) == 1
    assert all(dataset.users.height == 1 and dataset.ratings.height == 2 for dataset in loaded)
    assert loaded[0].origin == str(archive)


def test_the_set_with_ten_million_lies_in_a_folder_of_another_name(tmp_path):
    files = {
        "ml-10M100K/ratings.dat": "1::122::4.5::838985046\n",
        "ml-10M100K/movies.dat": "122::Boomerang (1992)::Comedy\n",
    }
    archive = zip_of(tmp_path / "ml-10m.zip", files)
    dataset = load("movielens-10m", archive, cache=tmp_path)
    assert dataset.ratings["rating"].to_list() == [4.5]
    assert dataset.items["title"].to_list() == ["Boomerang"]


@pytest.mark.parametrize("name", ["movielens-20m", "movielens-25m", "movielens-32m", "movielens-latest-small"])
def test_the_sets_in_csv(tmp_path, name):
    inside = name.replace("movielens", "ml")
    files = {
        f"{inside}/ratings.csv": "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n",
        f"{inside}/movies.csv": 'movieId,title,genres\n2,"American President, The (1995)",Comedy\n',
    }
    dataset = load(name, zip_of(tmp_path / "any.zip", files), cache=tmp_path)
    assert dataset.timed
    assert dataset.items["title"].to_list() == ["The American President"]


def test_a_path_is_the_only_place_that_is_looked_at(tmp_path, index, nowhere):
    build_wheel(index, {"ml-100k.inter": HEADER + RATINGS, "ml-100k.item": ITEM, "ml-100k.user": USER})
    for path, said in ((tmp_path / "missing", "is not there"), (index, "holds no ratings")):
        with pytest.raises(InvalidInput, match=said):
            load("movielens-100k", path, cache=tmp_path / "cache", base_url=nowhere)
    no_zip = tmp_path / "text.zip"
    no_zip.write_text("text")
    with pytest.raises(InvalidInput, match="not a zip"):
        load("movielens-100k", no_zip, cache=tmp_path / "cache", base_url=nowhere)


def test_the_copy_in_the_wheel_is_the_last_resort_and_is_kept(tmp_path, index, nowhere, monkeypatch):
    build_wheel(index, {"ml-100k.inter": HEADER + RATINGS, "ml-100k.item": ITEM, "ml-100k.user": USER})
    cache = tmp_path / "cache"
    first = load("movielens-100k", cache=cache, base_url=nowhere)
    assert "recbole==1.2.1" in first.origin
    assert first.items.select("title", "year", "genres").rows() == [("L'Enfer", 1994, ["Drama", "War"])]
    assert first.users["occupation"].to_list() == ["writer"]
    assert [path.name for path in cache.iterdir()] == ["ml-100k-packaged"]
    (index / "recbole-1.2.1-py3-none-any.whl").unlink()
    second = load("movielens-100k", cache=cache, base_url=nowhere)
    assert second.origin.startswith("cache")
    assert second.content_hash == first.content_hash


def test_where_nothing_can_be_reached_all_that_was_tried_is_told(tmp_path, index, nowhere):
    with pytest.raises(DataUnavailable) as raised:
        load("movielens-100k", cache=tmp_path / "cache", base_url=nowhere)
    told = str(raised.value)
    assert f"{nowhere}/ml-100k.zip: " in told
    assert "pip download recbole==1.2.1: No matching distribution" in told
    assert "--path" in raised.value.remedy
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wheel_without_the_data_is_told_and_not_kept(tmp_path, index, nowhere):
    build_wheel(index, {"ml-100k.inter": HEADER + RATINGS})
    with pytest.raises(DataUnavailable, match=r"ml-100k\.item"):
        load("movielens-100k", cache=tmp_path / "cache", base_url=nowhere)
    assert list((tmp_path / "cache").iterdir()) == []


def test_other_sets_are_not_looked_for_in_the_wheel(tmp_path, index, nowhere):
    with pytest.raises(DataUnavailable) as raised:
        load("movielens-20m", cache=tmp_path / "cache", base_url=nowhere)
    assert "pip" not in str(raised.value)


def test_an_unknown_name_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(InvalidInput) as raised:
        load("netflix", cache=tmp_path)
    assert all(name in raised.value.remedy for name in NAMES)
