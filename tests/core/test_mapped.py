"""A mapped file has its room before it is mapped, and is noticed to be cut short before it is read."""

import os
import sys
import threading
from pathlib import Path

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.core.errors import OutOfRoom
from matinee.core.mapped import MappedFile, readers_bytes, reserve
from small_disks import small_disk


def test_it_is_whole_until_it_is_cut_short_and_again_when_it_is_as_long_as_it_was(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    with MappedFile(path) as file:
        assert file.is_whole()
        os.truncate(path, 99)
        assert not file.is_whole()
        os.truncate(path, 100)
        assert file.is_whole()
    assert file.is_closed
    assert not file.is_whole()
    file.close()


def test_what_comes_to_stand_under_its_name_is_another_file(tmp_path: Path):
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(bytes(100))
    other.write_bytes(b"short")
    with MappedFile(path) as file:
        other.replace(path)
        assert file.is_whole()
        path.unlink()
        assert file.is_whole()


def test_room_is_had_or_refused_before_anything_is_mapped_and_what_is_there_stays(tmp_path: Path):
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        file = disk / "file"
        file.write_bytes(b"kept")
        reserve(file, 32_768)
        assert file.read_bytes() == b"kept" + bytes(32_764)
        assert file.stat().st_blocks * 512 >= 32_768
        with pytest.raises(OutOfRoom, match="other cannot be mapped: No space left") as refused:
            reserve(disk / "other", 65_536)
    assert "Make room" in refused.value.remedy


def test_room_is_had_on_a_file_system_that_cannot_reserve_it(tmp_path: Path):
    with small_disk(tmp_path / "disk", kind="ramfs") as disk:
        file = disk / "file"
        file.write_bytes(b"kept")
        reserve(file, 32_768)
        assert file.read_bytes() == b"kept" + bytes(32_764)


def test_a_file_that_may_not_be_written_is_left_to_whoever_maps_it(tmp_path: Path):
    with small_disk(tmp_path / "disk", "ro,size=64k") as disk:
        reserve(disk / "file", 4_096)
        assert list(disk.iterdir()) == []
    with pytest.raises(NotADirectoryError):
        reserve(Path("/dev/null/file"), 4_096)


@pytest.mark.parametrize("readers", [1, 126, 1_024])
def test_the_table_of_readers_that_lmdb_makes_has_its_room_to_the_last_byte(tmp_path: Path, readers: int):
    table = tmp_path / "lock.mdb"
    reserve(table, readers_bytes(readers))
    with lmdb.open(str(tmp_path), max_readers=readers):
        assert table.stat().st_size == readers_bytes(readers)
        assert table.stat().st_blocks * 512 >= readers_bytes(readers)


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=20))
def test_it_is_whole_exactly_while_it_is_as_long_as_it_ever_was_seen_to_be(tmp_path_factory, lengths: list[int]):
    path = tmp_path_factory.mktemp("mapped") / "file"
    path.write_bytes(bytes(lengths[0]))
    seen = lengths[0]
    with MappedFile(path) as file:
        for length in lengths:
            os.truncate(path, length)
            assert file.is_whole() == (length >= seen)
            seen = max(seen, length)


def test_threads_that_look_while_it_grows_do_not_take_it_for_cut_short(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    done, wrong = threading.Event(), []
    with MappedFile(path) as file, path.open("r+b", buffering=0) as growing:

        def look() -> None:
            while not done.is_set():
                if not file.is_whole():
                    wrong.append(True)

        threads = [threading.Thread(target=look) for _ in range(4)]
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            for length in range(2_000):
                growing.truncate(length)
        finally:
            done.set()
            sys.setswitchinterval(before)
            for thread in threads:
                thread.join()
    assert not wrong
