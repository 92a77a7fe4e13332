"""Writers that are killed, writers side by side, and many readers at once."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import bundle_samples
import pytest

from matinee.bundle.keep import prune
from matinee.bundle.manifest import list_bundles, list_versions
from matinee.bundle.open import open_bundle
from matinee.bundle.write import write_bundle
from matinee.core.clock import ManualClock
from matinee.core.errors import OutOfRoom

HEAD = f"""
import sys
sys.path.insert(0, {str(Path(bundle_samples.__file__).parent)!r})
from pathlib import Path
import bundle_samples
from matinee.bundle import open, write
from matinee.core.clock import ManualClock
bundles = Path(sys.argv[1])
def wait(*_):
    print("ready", flush=True)
    sys.stdin.readline()
"""
WRITE = "print(write.write_bundle(bundles, contents=bundle_samples.contents(users), clock=ManualClock()))\n"
AMID_USERS = """
def users():
    yield bundle_samples.user_block(["w1", "w2"])
    wait()
    yield bundle_samples.user_block(["w3", "w4"])
users = users()
"""
BEFORE_THE_RENAME = """
users = [bundle_samples.user_block(["w1"])]
publish = write._publish
write._publish = lambda *names: (wait(), publish(*names))
"""


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + script, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("moment", [AMID_USERS, BEFORE_THE_RENAME], ids=["amid users", "before the rename"])
def test_a_killed_writer_leaves_the_old_bundle_and_no_half(write, bundles, run, moment):
    old = write()
    with start(moment + WRITE, bundles) as writer:
        assert writer.stdout.readline() == "ready\n"
        writer.send_signal(signal.SIGKILL)
    leftovers = [path for path in bundles.iterdir() if path != old]
    assert len(leftovers) == 1
    assert list_versions(bundles) == [old.name]
    assert [manifest.version for manifest in list_bundles(bundles)] == [old.name]
    open_bundle(old, run).close()
    new = write()
    assert sorted(bundles.iterdir()) == [old, new]


def test_a_writer_at_work_is_not_swept(write, bundles, run):
    with start(AMID_USERS + WRITE, bundles) as writer:
        assert writer.stdout.readline() == "ready\n"
        other = write()
        output, _ = writer.communicate("\n")
    assert writer.returncode == 0
    assert sorted(list_versions(bundles)) == sorted([other.name, output.strip()])
    with open_bundle(bundles / output.strip(), run) as bundle:
        assert bundle.users.ids() == ["w1", "w2", "w3", "w4"]


def test_no_room_is_said_and_leaves_nothing(write, bundles):
    old = write()
    script = """
import resource
from matinee.core.errors import OutOfRoom
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
users = [bundle_samples.user_block([f"u{row:06d}" for row in range(5_000)])]
try:
    write.write_bundle(bundles, contents=bundle_samples.contents(users), clock=ManualClock())
except OutOfRoom as error:
    print("out of room", error.remedy != "")
"""
    for limit in (4, 100, 20_000):  # within the items, the arrays, the users
        with start(script, bundles, limit) as writer:
            assert writer.stdout.read() == "out of room True\n", limit
        assert list(bundles.iterdir()) == [old]


def test_a_full_disk_leaves_the_old_bundle_and_nothing_else(small_disk, run):
    clock = ManualClock()
    old = write_bundle(small_disk / "bundles", contents=bundle_samples.contents(), clock=clock)
    before = shutil.disk_usage(small_disk).free

    def more_than_there_is_room_for():
        for start in range(0, 1_000_000, 1_000):
            yield bundle_samples.user_block([f"u{row:06d}" for row in range(start, start + 1_000)])

    clock.step(1)
    contents = bundle_samples.contents(more_than_there_is_room_for())
    with pytest.raises(OutOfRoom, match="no room"):
        write_bundle(small_disk / "bundles", contents=contents, clock=clock)
    assert [path.name for path in (small_disk / "bundles").iterdir()] == [old]
    assert shutil.disk_usage(small_disk).free == before
    with open_bundle(small_disk / "bundles" / old, run) as bundle:
        assert bundle.user("u000") is not None


def mapped():
    """The names of all files that this process has in memory."""
    return {
        Path(line.split(maxsplit=5)[5]) for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line
    }


def test_a_process_that_goes_from_bundle_to_bundle_holds_two_at_most(write, run):
    current = None
    for _ in range(4):
        path = write()
        following = open_bundle(path, run)
        following.touch()
        held = {file.parent for file in mapped() if path.parent in file.parents}
        assert held == {path} if current is None else {path, path.parent / current.version}
        if current is not None:
            current.close()
            assert path.parent / current.version / "users.lmdb" not in mapped()
        current = following
    current.close()
    del current, following
    assert not [file for file in mapped() if path.parent in file.parents]


def test_many_processes_open_at_once(write, run):
    path = write()
    script = """
with open.open_bundle(bundles, Path(sys.argv[2])) as bundle:
    wait()
    bundle.touch()
    print(sum(bundle.user(user).top.sum() for user in bundle.users.ids()), bundle.popular().tolist())
"""
    readers = [start(script, path, run) for _ in range(6)]
    for reader in readers:
        assert reader.stdout.readline() == "ready\n"
    answers = {reader.communicate("\n")[0] for reader in readers}
    top = bundle_samples.user_block([f"u{row:03d}" for row in range(40)]).top
    assert answers == {f"{top[top >= 0].sum()} [5, 4, 3, 2, 1, 0]\n"}
    assert [reader.returncode for reader in readers] == [0] * 6


def test_a_forked_process_reads_on(write, run):
    with open_bundle(write(), run) as bundle:
        child = os.fork()
        if child == 0:
            os._exit(0 if bundle.user("u001") is not None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert bundle.user("u001") is not None


def test_opening_stays_light():
    script = """
import matinee.bundle.open, matinee.release.plan
heavy = {"polars", "numba", "scipy", "deltalake", "sqlalchemy", "mlflow", "pandas"}
print(sorted(heavy & set(sys.modules)))
"""
    code = f"import sys\n{script}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class TestPrune:
    def test_the_oldest_beyond_the_budget_go(self, write, bundles):
        names = [write().name for _ in range(5)]
        assert prune(bundles, 2, set()) == names[:3]
        assert list_versions(bundles) == names[3:]

    def test_what_is_in_use_stays_and_is_not_counted(self, write, bundles):
        names = [write().name for _ in range(5)]
        assert prune(bundles, 2, {names[0], names[4]}) == [names[1]]
        assert list_versions(bundles) == [names[0], *names[2:]]

    def test_within_the_budget_nothing_goes(self, write, bundles):
        names = [write().name for _ in range(2)]
        assert prune(bundles, 2, set()) == []
        assert list_versions(bundles) == names

    def test_nothing_to_keep(self, write, bundles):
        names = [write().name for _ in range(2)]
        (bundles / "notes").mkdir()
        assert prune(bundles, 0, set()) == names
        assert [path.name for path in bundles.iterdir()] == ["notes"]

    def test_what_a_killed_call_left_goes_too(self, write, bundles):
        kept = write()
        write().rename(bundles / ".removing-x")
        prune(bundles, 5, set())
        assert list(bundles.iterdir()) == [kept]

    def test_who_has_it_open_reads_on(self, write, bundles, run):
        with open_bundle(write(), run) as bundle:
            prune(bundles, 0, set())
            assert bundle.user("u000") is not None
            assert bundle.popular().tolist() == [5, 4, 3, 2, 1, 0]

    def test_a_folder_that_is_not_there(self, bundles):
        assert prune(bundles, 1, set()) == []
