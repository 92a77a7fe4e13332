"""History from the lake, and the window from the lake."""

import random
import threading

import numpy as np
import pytest
from ingest_world import World, watch

from matinee.core.errors import Locked, StoreUnavailable
from matinee.events.offsets import Source
from matinee.history.environment import UNSYNCED
from matinee.history.lmdb import LmdbHistory
from matinee.history.open import open_history
from matinee.ingest import rebuild
from matinee.ingest.duplicates import WINDOW_US, DuplicateWindow
from matinee.ingest.rebuild import catch_up, differences, missing, rebuild_history
from matinee.ingest.window import open_window

LINES = [watch(n % 20, f"film+{n % 30}+1999", n % 90, 5 * n) for n in range(600)]


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.append(*LINES)
    world.ingest()
    path = tmp_path / "more.txt"
    path.write_text("\n".join(watch(n % 25, f"film+{n % 30}+2001", n % 90, n) for n in range(200)))
    world.importer().lines(path)
    return world


def url(world):
    return world.home.resolve(world.settings.history.url)


def test_a_rebuilt_history_is_the_one_that_grew(world, tmp_path):
    with world.stores.history() as grown, LmdbHistory(tmp_path / "kept") as kept:
        catch_up(world.stores.lake(), kept)
        assert list(differences(grown, kept)) == []
    assert rebuild_history(world.home, world.stores.lake(), url(world)) == 800
    with world.stores.history() as rebuilt, LmdbHistory(tmp_path / "kept") as kept:
        assert list(differences(rebuilt, kept)) == []
        assert rebuilt.applied() == kept.applied()
    assert world.ingest().caught_up == 0


def test_readers_see_the_old_or_the_new_and_never_half(world):
    seen, done = [], threading.Event()

    with open_history(url(world), read_only=True) as history:
        whole = len(history.get("3").entries)

        def read():
            while not done.is_set():
                try:
                    found = history.get("3")
                except StoreUnavailable:
                    continue  # the moment of the change
                seen.append(None if found is None else len(found.entries))

        thread = threading.Thread(target=read)
        thread.start()
        rebuild_history_in_another_process(world)
        done.set()
        thread.join()
        assert len(history.get("3").entries) == whole
    assert set(seen) == {whole}


def rebuild_history_in_another_process(world):
    """LMDB opens an environment once a process, and a rebuild is a process of its own."""
    import os
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from ingest_world import World;"
        "from matinee.ingest.rebuild import rebuild_history;"
        "w = World(Path(sys.argv[1])); url = w.home.resolve(w.settings.history.url);"
        "assert rebuild_history(w.home, w.stores.lake(), url) == 800"
    )
    here = os.path.dirname(__file__)  # noqa: PTH120 - the code imports the world from beside this file
    subprocess.run([sys.executable, "-c", code, str(world.folder)], check=True, cwd=here)


def test_a_rebuild_that_fails_leaves_the_old_one(world, monkeypatch):
    before = world.items_of("3")

    def fail(*_arguments, **_keywords):
        raise StoreUnavailable("the lake went away")

    monkeypatch.setattr(rebuild, "_fold", fail)
    with pytest.raises(StoreUnavailable):
        rebuild_history(world.home, world.stores.lake(), url(world))
    assert world.items_of("3") == before
    assert [path.name for path in (world.home.data).glob("history*")] == ["history"]


@pytest.mark.parametrize("old", [random.Random(0).randbytes(100_000), None], ids=["noise", "nothing"])
def test_a_rebuild_does_not_open_what_it_replaces(world, old):
    before = world.items_of("3")
    folder = world.home.data / "history"
    (folder / "data.mdb").unlink()
    if old is not None:
        (folder / "data.mdb").write_bytes(old)
        (folder / UNSYNCED).write_text("since another start of the machine")
    assert rebuild_history(world.home, world.stores.lake(), url(world)) == 800
    left = {path.name for path in folder.iterdir()}
    assert left <= {"data.mdb", "lock.mdb", "writer.lock", "turn.lock"}  # who opens it for writing sets it aside
    assert world.items_of("3") == before


def test_no_rebuild_while_ingest_runs(world):
    with world.running(), pytest.raises(Locked):
        rebuild_history(world.home, world.stores.lake(), url(world))


def test_catching_up_in_pieces_comes_to_the_same(world, tmp_path, monkeypatch):
    monkeypatch.setattr(rebuild, "GENTLE_ROWS", 7)
    lake = world.stores.lake()
    with LmdbHistory(tmp_path / "pieces") as pieces, LmdbHistory(tmp_path / "whole") as whole:
        rounds = 0
        while missing(lake, pieces):
            catch_up(lake, pieces, at_most=50)
            rounds += 1
        assert rounds >= 800 // 50
        catch_up(lake, whole)
        assert list(differences(pieces, whole)) == []
        assert pieces.applied() == whole.applied()


@pytest.mark.parametrize("start", [1, 2, 240, 241, 601])
def test_the_window_comes_back_from_the_lake(world, start):
    with world.stores.log() as log:
        source = Source(log.generation, 0)
    events = world.rows("events")
    events = events.filter(events["generation"] == source.generation)
    below = events.filter(events["position"] < start)
    keys, times = below["dedup_key"].to_list(), below["time"].to_physical().to_numpy()
    expected = DuplicateWindow()
    expected.remember(keys, times)
    window = open_window(world.stores.lake(), source, start)
    assert len(window) == len(expected) == min(start - 1, WINDOW_US // 5_000_000 + 1)
    assert (
        window.observe(keys, times, np.ones(len(keys), dtype=np.bool_)).tolist()
        == (times >= max(times, default=0) - WINDOW_US).tolist()
    )
