"""Bundles that are not what was written: one byte, one file, or cut short while they answer."""

import signal

import pytest
from fault_samples import PATIENT, all_answered, answer, measured, metrics, named, reached, seconds_until

from matinee.core.clock import SystemClock
from matinee.release.plan import publish
from operation.operation_samples import until, up
from serving.serving_samples import make_bundle, server, wait_for

FROM_A, FROM_B = (200, "a+3,a+4,a+5", "personal"), (200, "b+3,b+4,b+5", "personal")


def flip(path, where):
    """One bit of the byte at a share of the file's length."""
    value = bytearray(path.read_bytes())
    value[int(where * (len(value) - 1))] ^= 1
    path.write_bytes(value)


def flip_one_bit(folder):
    flip(folder / "users.lmdb", 0.6)


def lose_a_file(folder):
    (folder / "popular.npy").unlink()


def lose_the_manifest(folder):
    (folder / "manifest.json").unlink()


def cut_a_file_short(folder):
    with (folder / "items.txt").open("r+b") as file:
        file.truncate(10)


DAMAGES = {
    flip_one_bit: "users.lmdb does not have the checksum",
    lose_a_file: "popular.npy is missing",
    cut_a_file_short: "items.txt has 10 bytes",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_release_is_refused_and_the_one_before_answers(home, damage):
    old, new = make_bundle(home, "a"), make_bundle(home, "b")
    publish(home.data, old, clock=SystemClock())
    damage(home.bundles / new)
    with server(home, **PATIENT) as (url, _):
        wait_for(url)
        with all_answered(url) as counted:
            publish(home.data, new, clock=SystemClock())
            noticed = seconds_until(lambda: metrics(url)["matinee_release_refused_total"] == 1, "it was refused")
            assert {answer(url) for _ in range(50)} == {FROM_A}
        assert DAMAGES[damage] in wait_for(url).text  # ready, but …
        assert metrics(url)["matinee_release_swaps_total"] == 1
    (refused,) = named(home, "release_refused")
    assert DAMAGES[damage] in refused["error"]
    assert (refused["level"], refused["stays"], bool(refused["remedy"])) == ("error", old, True)
    measured(fault=damage.__name__, noticed=noticed, requests=counted["good"])


@pytest.mark.parametrize("damage", [flip_one_bit, lose_the_manifest], ids=lambda damage: damage.__name__)
def test_a_server_that_starts_on_a_damaged_release_answers_from_the_one_before(home, released, damage):
    damage(home.bundles / released[1])
    with server(home, **PATIENT) as (url, _):
        assert "ready: " + released[0] in wait_for(url).text
        assert answer(url) == FROM_A
    assert named(home, "release_refused")


def test_bundles_are_cut_short_under_their_readers_and_the_one_before_answers(home, released):
    with up(home, **PATIENT) as running:
        assert answer(running.url) == FROM_B
        before = {name: running.processes()[name].pid for name in ("server1", "server2")}
        with (home.bundles / released[1] / "users.lmdb").open("r+b") as file:
            file.truncate(8_192)

        def answers_from_a():
            return reached(running.url) == FROM_A

        seconds = seconds_until(answers_from_a, "the bundle before answers")
        until(lambda: all(entry.is_up for entry in running.entries().values()), "both are back")
        with all_answered(running.url):
            until(lambda: all(answers_from_a() for _ in range(20)), "both answer from it")
        after = {name: running.processes()[name].pid for name in before}
    died = [name for name in before if before[name] != after[name]]
    assert died
    said = (home.logs / "supervisord.log").read_text()
    for name in died:
        assert f"exited: {name} (terminated by {signal.SIGBUS.name}" in said
        assert "has 8192 bytes" in named(home, "release_refused", name)[0]["error"]
    # Whoever starts first says what ended the others too.
    crashes = [line for name in before for line in named(home, "process_crashed", name)]
    assert len(crashes) >= len(died)
    assert all("users.py" in crash["trace"] for crash in crashes)
    measured(fault="bundle cut short under its readers", seconds_until_answered=seconds, died=len(died))
