"""A home's locks where the disk of `run/` is full."""

import os

import pytest

from matinee.core.errors import Locked, OutOfRoom
from matinee.core.home import Home
from small_disks import filled, small_disk


@pytest.mark.parametrize("name", ["held before", "new"])
def test_a_lock_is_held_on_a_disk_without_one_byte(tmp_path, name):
    """What it costs is the holder's name, unless the file had room for one before."""
    home = Home(tmp_path)
    with small_disk(home.run, "size=64k"):
        with home.lock("held before"):
            pass
        holder = f'{{"pid": {os.getpid()}}}' if name == "held before" else "unknown"
        (home.run / "held before.lock").write_bytes(b" " * (home.run / "held before.lock").stat().st_size)
        with filled(home.run), home.lock(name), pytest.raises(Locked, match=f"is held by {holder}$"):
            home.lock(name).__enter__()


def test_a_lock_that_the_disk_has_no_file_for_is_refused_with_what_to_do(tmp_path):
    home = Home(tmp_path)
    with small_disk(home.run, "nr_inodes=2"):  # the folder itself, and one more
        with home.lock("first"):
            pass
        with pytest.raises(OutOfRoom, match=r"second\.lock cannot be made: No space left") as refused:
            home.lock("second").__enter__()
    assert "Make room" in refused.value.remedy
