"""The quarantine: shown by reason, and read again exactly once when the reader has learned a form."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from ingest_world import World

from matinee.core.errors import Locked
from matinee.events.envelope import wrap_event
from matinee.events.lines import MAX_RECORD_BYTES
from matinee.events.offsets import Source
from matinee.events.types import Rating
from matinee.ingest import quarantine
from matinee.ingest.quarantine import by_reason, replay
from matinee.lake.schemas import QUARANTINE

SOURCE = Source("a-log", 0)
RECEIVED = 1_709_294_400_000_000  # 2024-03-01T12:00:00Z
KILLED = """
import os, signal, sys
from pathlib import Path
from ingest_world import World
from matinee.ingest.quarantine import replay
world = World(Path(sys.argv[1]))
replay(world.home, world.stores.lake(), world.importer(), on_imported=lambda: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def put(world, *raws, source=SOURCE, reason="unknown_form"):
    """Records that an earlier version of the reader could not read."""
    lake = world.stores.lake()
    start = lake.resume_position(source)
    rows = [
        {"position": start + n, "reason": reason, "raw": raw, "received_at": RECEIVED + n, "dedup_key": b"?" * 16}
        for n, raw in enumerate(raws)
    ]
    columns = {name: kind for name, kind in QUARANTINE.columns.items() if name not in QUARANTINE.filled}
    frame = pl.DataFrame(rows, schema={**columns, "received_at": pl.Int64}).cast(columns)
    lake.commit(source, {"quarantine": frame}, start=start, end=start + len(rows))


def rated(second, user, stars=4):
    return f"2024-03-01T11:00:{second:02},{user},GET /rate/alien+1979={stars}".encode()


def again(world, **hooks):
    done = replay(world.home, world.stores.lake(), world.importer(), **hooks)
    return done.counts.as_dict(), done.stayed


def users(world):
    return sorted(world.rows("events")["user"])


def test_what_now_reads_comes_in_once_and_the_rest_stays(world):
    posted = wrap_event(
        Rating(user="ann", item="alien+1979", rating=3.0, time_us=RECEIVED - 9), received_us=RECEIVED
    )
    put(world, rated(1, 7), b"\xff\xfe", rated(1, 7), rated(2, 8).replace(b"GET", b"GZET"), posted)
    put(world, rated(1, 9), b"nonsense", source=Source("other's log", 3))
    counts, stayed = again(world)
    assert stayed == 2
    assert {name: counts[name] for name in ("read", "accepted", "repaired", "duplicate", "quarantined")} == {
        "read": 5, "accepted": 3, "repaired": 1, "duplicate": 1, "quarantined": 0,
    }  # fmt: skip
    assert users(world) == ["7", "8", "9", "ann"]
    assert sorted(world.rows("quarantine")["raw"]) == [b"nonsense", b"\xff\xfe"]
    assert world.items_of("9") == ["alien+1979"]  # history follows

    lake = world.stores.lake()
    versions = lake.versions()
    assert again(world)[0]["read"] == 0
    assert lake.versions() == versions
    put(world, rated(5, 10))  # the reader learns on
    assert again(world)[0]["accepted"] == 1
    assert users(world) == ["10", "7", "8", "9", "ann"]


def test_what_was_too_long_stays_though_its_beginning_reads(world):
    """Of a record beyond `MAX_RECORD_BYTES` no more is kept: what is cut off may be what made it another one."""
    begin = b"2024-03-01T11:00:00,7,recommendation request h.example:8082, status 0, result: "
    whole = begin + b"it broke " * 9_000
    world.append(whole.decode())
    assert world.ingest().counts.reasons == {"too_long": 1}
    (kept,) = world.rows("quarantine")["raw"]
    assert kept == whole[:MAX_RECORD_BYTES]
    put(world, kept, source=Source("the same", 0))  # refused for another reason, it would be taken in
    counts, stayed = again(world)
    assert (counts["accepted"], stayed) == (1, 1)
    assert world.rows("quarantine")["reason"].to_list() == ["too_long"]


def test_many_steps_and_a_batch_row_for_each(world, monkeypatch):
    monkeypatch.setattr(quarantine, "STEP", 3)
    put(world, *(rated(n, 100 + n) for n in range(8)))
    assert again(world)[0]["accepted"] == 8
    assert world.rows("batches").filter(pl.col("generation").str.starts_with("file-replay-"))["read"].to_list() == [
        3, 3, 2,
    ]  # fmt: skip
    assert world.rows("quarantine").is_empty()


def test_killed_between_taking_in_and_deleting_the_next_replay_finishes_it(world):
    put(world, rated(1, 7), b"nonsense", rated(2, 8))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(world.folder)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert users(world) == ["7", "8"]
    assert world.rows("quarantine").height == 3  # in both
    put(world, rated(3, 9))  # something more came meanwhile
    counts, stayed = again(world)
    assert (counts["accepted"], stayed) == (1, 1)
    assert users(world) == ["7", "8", "9"]
    assert world.rows("quarantine")["raw"].to_list() == [b"nonsense"]
    assert not (world.home.data / "replay.json").exists()


def test_two_replays_take_turns(world):
    with world.home.lock("replay"), pytest.raises(Locked):
        again(world)


def test_reasons_with_examples_the_most_frequent_first(world):
    assert by_reason(world.stores.lake()) == []
    put(world, *(b"nonsense %d" % n for n in range(5)))
    put(world, b"\xff" + b"x" * 500, reason="not_text")
    first, second = by_reason(world.stores.lake(), examples=2)
    assert (first["reason"], first["records"], first["examples"]) == (
        "unknown_form", 5, ["nonsense 4", "nonsense 3"],
    )  # fmt: skip
    assert (second["reason"], second["records"]) == ("not_text", 1)
    assert second["examples"][0].startswith("\\xffx")
    assert len(second["examples"][0]) < 210
