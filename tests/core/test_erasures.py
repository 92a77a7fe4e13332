"""Tombstones: who is erased can be asked, and is nowhere written."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.core.erasures import (
    ERASED,
    ERASURES_FORMAT,
    PARTS,
    Erasure,
    Erasures,
    add_erasure,
    mark_done,
    read_erasures,
)
from matinee.core.errors import Corrupt, FormatTooNew, InvalidId, InvalidInput, Locked
from matinee.core.home import Home

WHO = "who-is-it"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def read(home: Home) -> Erasures:
    return read_erasures(home.data / ERASED)


def test_without_a_file_nobody_is_erased(home: Home):
    assert not read(home)
    assert WHO not in read(home)
    assert read(home).pending("stores") == ()


def test_who_is_erased_is_known_by_asking_and_not_by_reading(home: Home):
    assert add_erasure(home, WHO, 7)
    assert add_erasure(home, "ann", 9)
    assert not add_erasure(home, WHO, 11)
    erased = read(home)
    assert [user in erased for user in (WHO, "ann", "bob", None, 5)] == [True, True, False, False, False]
    assert [erasure.asked_us for erasure in erased.pending("bundles")] == [7, 9]
    text = (home.data / ERASED).read_text()
    assert WHO not in text
    assert WHO.encode().hex() not in text
    assert stat.S_IMODE((home.data / ERASED).stat().st_mode) == 0o600


def test_two_homes_write_the_same_user_differently(tmp_path: Path):
    homes = [Home(tmp_path / name) for name in ("a", "b")]
    for home in homes:
        add_erasure(home, WHO, 7)
    one, other = ({erasure.digest for erasure in read(home).pending("stores")} for home in homes)
    assert not one & other


@given(erased=st.sets(st.text(min_size=1, max_size=8)), asked=st.text(max_size=8))
def test_exactly_those_that_were_added_are_in_it(erased: set[str], asked: str):
    key = b"k" * 32
    digests = [Erasures(key).digest(user) for user in erased]
    held = Erasures(key, [Erasure(digest.hex(), 1) for digest in digests])
    assert (asked in held) == (asked in erased)
    assert len(held) == len(erased)
    assert bool(held) == bool(erased)


def test_each_part_is_done_by_itself_and_the_first_time_counts(home: Home):
    add_erasure(home, WHO, 7)
    before = read(home).pending("stores")
    add_erasure(home, "ann", 9)
    mark_done(home, "stores", before, 20)
    mark_done(home, "stores", read(home).by_digest.values(), 30)
    mark_done(home, "bundles", before, 40)
    assert [erasure.done_us for erasure in read(home).by_digest.values()] == [
        {"stores": 20, "bundles": 40},
        {"stores": 30},
    ]
    assert [erasure.asked_us for erasure in read(home).pending("bundles")] == [9]
    assert read(home).pending("stores") == ()
    with pytest.raises(InvalidInput):
        mark_done(home, "everything", before, 50)
    assert PARTS == ("stores", "bundles")


def test_what_cannot_be_an_id_is_refused(home: Home):
    with pytest.raises(InvalidId):
        add_erasure(home, "two words", 7)


def test_of_those_who_write_at_once_nobody_is_lost(home: Home):
    def add(number: int) -> None:
        while True:
            try:
                assert add_erasure(home, f"u{number}", number)
            except Locked:
                continue
            return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(20)))
    assert [erasure.asked_us for erasure in read(home).pending("stores")] == list(range(20))


@pytest.mark.parametrize(
    "change",
    [{"key": "no hex"}, {"key": None}, {"erased": [{"digest": 5}]}, {"erased": [{"digest": "xy", "asked_us": 1}]}],
)
def test_what_was_not_written_so_is_refused_and_a_newer_format_too(home: Home, change: dict[str, object]):
    add_erasure(home, WHO, 7)
    file = home.data / ERASED
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, **change}))
    with pytest.raises(Corrupt, match=r"erased\.json"):
        read(home)
    file.write_text(json.dumps({**document, "format_version": ERASURES_FORMAT + 1}))
    with pytest.raises(FormatTooNew):
        read(home)
