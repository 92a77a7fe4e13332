"""The history gone, slow, damaged, or cut short under its readers: answers do without what happened lately."""

import mmap
import random
import shutil
import signal
import time

import httpx
import pytest
from fault_samples import (
    CLOCK,
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

from matinee.core.settings import ServingSettings
from matinee.serving.key_file import Scope, create_key
from operation.operation_samples import until, up
from serving.serving_samples import server, wait_for

LOOKED_UP, FOLDED_IN = (200, "b+3,b+4,b+5", "personal"), (200, "b+4,b+6,b+8", "folded_in")
DEADLINE_SECONDS = ServingSettings().deadline_ms / 1e3
BREAKER = 'matinee_breaker_state{store="history"}'
PAGE_HEADER = 16
"""Bytes at the beginning of a page of LMDB, its number among them: it refuses one that has another."""


@pytest.fixture
def history(home, released):
    """The folder of a history in which everybody did something since the bundle."""
    fill_history(home)
    return home.data / "history"


def test_without_a_history_answers_are_looked_up_and_it_is_taken_up_when_it_comes(home, released):
    with server(home) as (url, _):
        wait_for(url)
        assert answer(url) == LOOKED_UP
        assert metrics(url)["matinee_history_open"] == 0
        fill_history(home)
        seconds = seconds_until(lambda: folded_in(url), "it is read")
        until(lambda: answer(url) == FOLDED_IN, "and what it says counts")
    measured(fault="no history", seconds_until_read=seconds)


def test_a_history_that_is_deleted_is_given_up_and_a_new_one_is_taken_up(home, history):
    with server(home) as (url, _):
        wait_for(url)
        until(lambda: folded_in(url), "the history is read")
        with all_answered(url) as counted:
            shutil.rmtree(history)
            noticed = seconds_until(lambda: answer(url) == LOOKED_UP, "it is missed")
            until(lambda: metrics(url)[BREAKER] > 0, "it is left alone")
            shown = metrics(url)
            fill_history(home)
            back = seconds_until(lambda: folded_in(url), "the new one is read")
    assert shown["matinee_history_open"] == 0
    assert shown['matinee_answers_without_total{part="history",reason="breaker"}'] > 0
    assert "history" in named(home, "breaker_opened")[0]["error"]
    assert named(home, "history_given_up")
    measured(fault="history deleted", noticed=noticed, back=back, requests=counted["good"],
             slowest=counted["slowest"])  # fmt: skip


@pytest.mark.parametrize("seconds", [0.06, 0.3])
def test_a_slow_history_is_left_alone_for_longer_and_longer(home, released, history, seconds):
    with faulty_server(home) as (url, _):
        until(lambda: folded_in(url), "the history is read")
        with all_answered(url, connections=8, pause=0.02) as counted:
            (home.run / "history-seconds").write_text(str(seconds))
            began = time.monotonic()
            noticed = seconds_until(lambda: metrics(url)["matinee_history_open"] == 0, "it is left alone")
            until(lambda: metrics(url)['matinee_breaker_opened_total{store="history"}'] >= 5, "again and again")
            lasted = time.monotonic() - began
            asked = metrics(url)
            (home.run / "history-seconds").write_text("0")
            until(lambda: folded_in(url), "it is read again")
    slow = [line["seconds"] for line in named(home, "breaker_opened")][:5]
    assert slow[4] > 0.8  # 0.1 s at first, doubled each time, and drawn from the upper half of that
    assert lasted > sum(slow[:4])
    assert asked['matinee_answers_without_total{part="history",reason="breaker"}'] > 0
    if seconds > DEADLINE_SECONDS:  # what a reading cost is not made worse by scoring: what is at hand answers
        assert asked['matinee_answers_without_total{part="fold_in",reason="deadline"}'] > 0
        assert total(asked, 'matinee_answers_total{model_version="' + released[1] + '",step="personal"}') > 0
    measured(fault=f"history slow by {seconds} s", noticed=noticed, requests=counted["good"],
             slowest=counted["slowest"])  # fmt: skip


def overwrite(data, content, kept=0):
    """Write over a store's pages in place, so that they change under who has them mapped; `kept`: of each page.

    The first two pages say where the others are, and stay.
    """
    with data.open("r+b") as file:
        for at in range(2 * mmap.PAGESIZE, data.stat().st_size, mmap.PAGESIZE):
            file.seek(at + kept)
            file.write(content(mmap.PAGESIZE - kept))


@pytest.mark.parametrize("content", [bytes, random.Random(0).randbytes], ids=["zeros", "noise"])
def test_a_history_overwritten_under_its_readers_costs_only_freshness(home, history, content):
    with server(home) as (url, process):
        wait_for(url)
        until(lambda: folded_in(url), "the history is read")
        with all_answered(url) as counted:
            overwrite(history / "data.mdb", content)
            noticed = seconds_until(lambda: answer(url) == LOOKED_UP, "it is missed")
            until(lambda: metrics(url)['matinee_breaker_opened_total{store="history"}'] > 0, "it is left alone")
        shown = metrics(url)
        assert process.poll() is None
    assert total(shown, 'matinee_answers_without_total{part="history"') > 0
    assert shown["matinee_history_failed_total"] > 0
    assert named(home, "breaker_opened")
    measured(fault="history overwritten", noticed=noticed, requests=counted["good"],
             slowest=counted["slowest"])  # fmt: skip


def test_a_history_cut_short_under_its_readers_costs_only_freshness(home, history):
    with server(home) as (url, process):
        wait_for(url)
        until(lambda: folded_in(url), "the history is read")
        with all_answered(url) as counted:
            cut_short(history / "data.mdb")
            noticed = seconds_until(lambda: answer(url) == LOOKED_UP, "it is missed")
            until(lambda: metrics(url)[BREAKER] > 0, "it is left alone")
        shown = metrics(url)
        assert process.poll() is None
    assert shown["matinee_history_open"] == 0
    assert total(shown, 'matinee_answers_without_total{part="history"') > 0
    assert "cut short" in named(home, "breaker_opened")[0]["error"]
    measured(fault="history cut short", noticed=noticed, requests=counted["good"], slowest=counted["slowest"])


def test_a_history_cut_short_while_it_is_read_ends_the_server_and_the_next_goes_without(home, history):
    copy = home.data / "copy"
    shutil.copytree(history, copy)
    ours = {"MATINEE_HISTORY__URL": f"lmdb:///{copy}"}
    with server(home) as (other, _):
        wait_for(other)
        (home.run / "blind").touch()
        with faulty_server(home, **ours) as (url, process):
            until(lambda: folded_in(url) and folded_in(other), "both read the history")
            cut_short(copy / "data.mdb")
            assert reached(url) is None
            assert process.wait(20) == -signal.SIGBUS
        with server(home, **ours) as (url, _):
            wait_for(url)
            until(lambda: metrics(url)[BREAKER] > 0, "it is left alone")
            assert answer(url) == LOOKED_UP
            until(lambda: metrics(url)['matinee_breaker_opened_total{store="history"}'] > 2, "it was tried again")
            assert answer(url) == LOOKED_UP
            until(lambda: answer(other) == FOLDED_IN, "a whole store is read as ever")
            assert [metrics(one)["matinee_history_open"] for one in (url, other)] == [0, 1]
            shutil.rmtree(copy)
            shutil.copytree(history, copy)  # made again, as `matinee history rebuild` does
            until(lambda: answer(url) == FOLDED_IN, "another store is admitted")
    (crash,) = named(home, "process_crashed")
    assert crash["stores"] == ["history"]
    assert any("ended a process that read it" in opened["error"] for opened in named(home, "breaker_opened"))


def test_a_history_whose_pages_point_beyond_its_end_ends_the_server_and_the_next_goes_without(home, history):
    data = history / "data.mdb"
    with server(home) as (url, process):
        wait_for(url)
        until(lambda: folded_in(url), "the history is read")
        overwrite(data, random.Random(0).randbytes, kept=PAGE_HEADER)
        assert reached(url) is None
        assert process.wait(20) == -signal.SIGBUS
    with server(home) as (url, process):
        wait_for(url)
        until(lambda: metrics(url)[BREAKER] > 0, "it is left alone")
        with all_answered(url):
            assert answer(url) == LOOKED_UP
        assert metrics(url)["matinee_history_open"] == 0
        assert process.poll() is None
    (crash,) = named(home, "process_crashed")
    assert crash["stores"] == ["history"]
    assert any("ended a process that read it" in opened["error"] for opened in named(home, "breaker_opened"))


def test_behind_the_balancer_a_history_cut_short_costs_no_answer_and_is_made_again_by_itself(home, history):
    _, token = create_key(home, "test", Scope.WRITE, clock=CLOCK)
    with up(home) as running:
        until(lambda: folded_in(running.url), "the history is read")
        before = {name: running.processes()[name].pid for name in ("server1", "server2")}
        with all_answered(running.url) as counted:
            began = time.monotonic()
            cut_short(history / "data.mdb")
            without = seconds_until(lambda: answer(running.url) == LOOKED_UP, "somebody answers without it")
            httpx.post(
                f"{running.url}/v1/events",
                json={"kind": "rating", "user": "u003", "item": "b+30", "rating": 5},
                headers={"Authorization": f"Bearer {token}", "Idempotency-Key": "once"},
            ).raise_for_status()
            until(lambda: all(folded_in(running.url) for _ in range(20)), "both read the new history")
            made_again = time.monotonic() - began
        assert {name: running.processes()[name].pid for name in before} == before
    assert named(home, "history set aside; it starts empty and is filled from the lake", "ingest")
    measured(fault="history cut short, balancer", seconds_until_missed=without, seconds_until_made_again=made_again,
             requests=counted["good"], slowest=counted["slowest"])  # fmt: skip
