"""Bundles that are not what was written: one byte, one file, or cut short while they answer."""

import signal

import pytest
from fault_samples import (
    all_answered,
    answer,
    cut_short,
    faulty_server,
    fill_history,
    folded_in,
    measured,
    metrics,
    named,
    reached,
    seconds_until,
    total,
)

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
    cut_short(folder / "items.txt", 10)


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
    with server(home) as (url, _):
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
    measured(fault=damage.__name__, noticed=noticed, requests=counted["good"],
             slowest=counted["slowest"])  # fmt: skip


@pytest.mark.parametrize("damage", [flip_one_bit, lose_the_manifest], ids=lambda damage: damage.__name__)
def test_a_server_that_starts_on_a_damaged_release_answers_from_the_one_before(home, released, damage):
    damage(home.bundles / released[1])
    with server(home) as (url, _):
        assert "ready: " + released[0] in wait_for(url).text
        assert answer(url) == FROM_A
    assert named(home, "release_refused")


def test_a_bundle_cut_short_under_its_readers_is_left_for_the_one_before_and_costs_no_answer(home, released):
    with up(home, MATINEE_SERVING__RELOAD_SECONDS="0.5") as running:  # as by default: somebody asks before the look
        assert answer(running.url) == FROM_B
        servers = [f"http://{entry.address}" for entry in running.entries().values()]
        before = {name: process.pid for name, process in running.processes().items()}
        with all_answered(running.url) as counted:
            cut_short(home.bundles / released[1] / "users.lmdb")
            seconds = seconds_until(lambda: {answer(url) for url in servers} == {FROM_A}, "both answer from it")
        shown = [metrics(url) for url in servers]
        assert {name: process.pid for name, process in running.processes().items()} == before
    without = 'matinee_answers_without_total{part="bundle_user",reason="'
    popular = sum(total(page, without) for page in shown)
    assert sum(total(page, without + "error") for page in shown) > 0
    assert popular == sum(page[name] for page in shown for name in page if name.endswith(',step="popular"}'))
    assert [page["matinee_release_refused_total"] for page in shown] == [1, 1]
    for name in ("server1", "server2"):
        assert "has 8192 bytes" in named(home, "release_refused", name)[0]["error"]
        assert not named(home, "process_crashed", name)
    measured(fault="bundle cut short under its readers", seconds_until_personal=seconds, popular=popular,
             requests=counted["good"], slowest=counted["slowest"])  # fmt: skip


def test_item_factors_cut_short_under_their_readers_cost_no_answer(home, released):
    fill_history(home)
    with server(home) as (url, process):
        wait_for(url)
        until(lambda: folded_in(url), "the history is read")
        with all_answered(url) as counted:
            cut_short(home.bundles / released[1] / "fold_in-item_factors.npy", 200)
            until(lambda: answer(url)[1].startswith("a+"), "the bundle before answers")
        assert process.poll() is None
    assert "has 200 bytes" in named(home, "release_refused")[0]["error"]
    measured(fault="item factors cut short", requests=counted["good"], slowest=counted["slowest"])


def test_a_bundle_cut_short_while_it_is_read_ends_the_server_and_the_next_refuses_it(home, released):
    (home.run / "blind").touch()
    with faulty_server(home) as (url, process):
        assert answer(url) == FROM_B
        cut_short(home.bundles / released[1] / "users.lmdb")
        assert reached(url) is None
        assert process.wait(20) == -signal.SIGBUS
    with server(home) as (url, _):
        assert "ready: " + released[0] in wait_for(url).text
        assert answer(url) == FROM_A
    assert "has 8192 bytes" in named(home, "release_refused")[0]["error"]
    (crash,) = named(home, "process_crashed")
    assert "users.py" in crash["trace"]
