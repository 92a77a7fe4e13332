"""Several processes that write to one LMDB history in turn."""

import fcntl
import subprocess
import sys
import threading
import time

import pytest

from matinee.core.errors import Locked
from matinee.events.offsets import Source
from matinee.history.base import Actions
from matinee.history.lmdb import LmdbHistory

SMALL_MAP = 1 << 20
WRITER = """
import sys
from pathlib import Path
from matinee.events.offsets import Source
from matinee.history.base import Actions
from matinee.history.lmdb import LmdbHistory
path, partition, turns = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with LmdbHistory(path, shared=True, map_bytes=1 << 20) as history:
    for n in range(turns):
        users = [f"{partition}-{n}-{k}" for k in range(100)]
        actions = Actions([n] * 100, users, ["up+2009"] * 100, [n] * 100, [n % 60] * 100, [None] * 100)
        history.apply(Source("g", partition), actions, end=n + 1)
        if n % 10 == 0:
            history.sync()
"""


def write(path, partition, turns):
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(partition), str(turns)])


def test_what_several_write_at_once_is_all_there(tmp_path):
    """The map begins small, so that each has to take over what another has grown."""
    writers = [write(tmp_path / "history", partition, 100) for partition in range(2)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert not (tmp_path / "history" / "unsynced").exists()
    with LmdbHistory(tmp_path / "history", read_only=True) as history:
        assert history.applied() == {Source("g", 0): 100, Source("g", 1): 100}
        assert sum(1 for _ in history.items()) == 2 * 100 * 100
    assert (tmp_path / "history" / "data.mdb").stat().st_size > SMALL_MAP


def test_who_does_not_share_keeps_the_others_out(tmp_path):
    with LmdbHistory(tmp_path / "history"), pytest.raises(Locked):
        LmdbHistory(tmp_path / "history", shared=True)


def test_several_that_start_at_once_wait_for_the_one_that_opens_the_store(tmp_path):
    path = tmp_path / "history"
    path.mkdir()
    with (path / "writer.lock").open("w") as opening:
        fcntl.flock(opening, fcntl.LOCK_EX)
        threading.Timer(0.3, fcntl.flock, (opening, fcntl.LOCK_UN)).start()
        with LmdbHistory(path, shared=True, map_bytes=SMALL_MAP) as history:
            assert history.applied() == {}


def test_the_marker_stays_as_long_as_something_is_not_on_the_disk(tmp_path):
    path = tmp_path / "history"
    with LmdbHistory(path, shared=True) as history:
        assert write(path, 1, 1).wait(timeout=60) == 0  # its end syncs, and takes the marker away
        assert not (path / "unsynced").exists()
        history.apply(Source("g", 0), Actions([0], ["17"], ["up+2009"], [0], [1], [None]), end=1)
        assert (path / "unsynced").exists()
        assert history.get("17") is not None
        with pytest.raises(Locked):
            _alone(path)


def _alone(path):
    code = (
        f"from pathlib import Path; from matinee.history.lmdb import LmdbHistory; LmdbHistory(Path({str(path)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if "Locked" in done.stderr:
        raise Locked(done.stderr)


OPENER = """
import sys
from pathlib import Path
from matinee.events.offsets import Source
from matinee.history.base import Actions
from matinee.history.lmdb import LmdbHistory
print("opening", flush=True)
with LmdbHistory(Path(sys.argv[1]), shared=True, map_bytes=1 << 20) as history:
    history.apply(Source("g", 1), Actions([0], ["18"], ["up+2009"], [0], [1], [None]), end=1)
"""


def test_a_writer_that_starts_while_a_store_is_moved_in_writes_to_that_one(tmp_path):
    path = tmp_path / "history"
    with LmdbHistory(path, shared=True, map_bytes=SMALL_MAP) as history:
        history.apply(Source("g", 0), Actions([0], ["17"], ["up+2009"], [0], [1], [None]), end=1)
    with (path / "turn.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        (path / "data.mdb").rename(path / "moved")
        opener = subprocess.Popen([sys.executable, "-c", OPENER, str(path)], stdout=subprocess.PIPE, text=True)
        assert opener.stdout.readline() == "opening\n"
        time.sleep(0.5)  # within which one that does not wait makes a store of its own
        (path / "moved").rename(path / "data.mdb")
    opener.communicate(timeout=60)
    assert opener.returncode == 0
    with LmdbHistory(path, read_only=True) as history:
        assert [user for user, _ in history.items()] == ["17", "18"]


SWAPPED_OPENER = """
import subprocess, sys
from pathlib import Path
import lmdb
from matinee.history.lmdb import LmdbHistory
really_open, eraser = lmdb.open, [sys.argv[2]]
def open_late(*args, **options):
    if eraser:
        subprocess.run([sys.executable, "-c", eraser.pop(), sys.argv[1]], input="17", text=True, check=True)
    print("opened", flush=True)
    return really_open(*args, **options)
lmdb.open = open_late
with LmdbHistory(Path(sys.argv[1]), read_only=True) as history:
    print(*[user for user, _ in history.items()])
"""


def test_a_reader_that_opens_while_a_store_is_moved_in_opens_again(tmp_path):
    """LMDB opens the table of readers first: the old store's beside the new data would protect nobody's reading."""
    path = tmp_path / "history"
    with LmdbHistory(path, shared=True, map_bytes=SMALL_MAP) as history:
        for position, user in enumerate(("17", "18")):
            actions = Actions([position], [user], ["up+2009"], [0], [1], [None])
            history.apply(Source("g", 0), actions, end=position + 1)
    arguments = [sys.executable, "-c", SWAPPED_OPENER, str(path), ERASER]
    reader = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert reader.stdout.split() == ["open", "1", "opened", "opened", "18"]  # the eraser's, then the reader's


ERASER = """
import sys
from pathlib import Path
from matinee.history.lmdb import LmdbHistory
with LmdbHistory(Path(sys.argv[1]), shared=True, map_bytes=1 << 20) as history:
    print("open", flush=True)
    for user in sys.stdin:
        print(history.erase({user.strip()}), flush=True)
"""


def test_what_others_write_while_a_user_is_erased_is_all_there(tmp_path):
    """Erasing puts a fresh store in the old one's place: writers and readers go over to it, and lose nothing."""
    path = tmp_path / "history"
    with LmdbHistory(path, shared=True, map_bytes=SMALL_MAP) as history:
        history.apply(Source("g", 9), Actions([0], ["who"], ["up+2009"], [0], [0], [None]), end=1)
    eraser = subprocess.Popen(
        [sys.executable, "-c", ERASER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert eraser.stdout.readline() == "open\n"
    writers = [write(path, partition, 60) for partition in range(2)]
    erased = {"who": 0, "0-0-5": 0, "1-30-7": 0}
    with LmdbHistory(path, read_only=True) as reader:
        while not all(erased.values()):
            for user in erased:
                eraser.stdin.write(f"{user}\n")
                eraser.stdin.flush()
                erased[user] += int(eraser.stdout.readline())
            assert reader.get("who") is None
        eraser.communicate()
    assert erased == dict.fromkeys(erased, 1)
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    with LmdbHistory(path, read_only=True) as history:
        assert history.applied() == {Source("g", 0): 60, Source("g", 1): 60, Source("g", 9): 1}
        users = [user for user, _ in history.items()]
    assert len(users) == 2 * 60 * 100 - 2
    assert not erased.keys() & set(users)
