"""A file that is followed: read when it has changed, and not otherwise."""

import os
from pathlib import Path

from matinee.core.followed import Followed


def test_it_has_changed_the_first_time_and_whenever_another_file_stands_there(tmp_path: Path):
    path, other = tmp_path / "file", tmp_path / "other"
    file = Followed(path)
    assert [file.has_changed() for _ in range(3)] == [True, False, False]
    path.write_text("a")
    assert [file.has_changed() for _ in range(3)] == [True, False, False]
    times = path.stat()
    other.write_text("b")
    other.replace(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as long, and as old
    assert [file.has_changed() for _ in range(3)] == [True, False, False]
    path.unlink()
    assert [file.has_changed() for _ in range(3)] == [True, False, False]


def test_one_that_could_not_be_read_is_read_the_next_time(tmp_path: Path):
    file = Followed(tmp_path / "file")
    assert file.has_changed()
    file.forget()
    assert [file.has_changed() for _ in range(2)] == [True, False]
