"""The fold-ins that all servers share: cut short, overwritten, deleted, or their writer stopped."""

import shutil
import signal
from contextlib import contextmanager

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
)

from matinee.serving.fold_cache import FOLDER
from operation.operation_samples import until
from serving.serving_samples import server, wait_for

FOLDED_IN = (200, "b+4,b+6,b+8", "folded_in")


@pytest.fixture
def folder_of_cache(home, released):
    fill_history(home)
    return home.run / FOLDER


@contextmanager
def cached_server(home, server=server):
    """A server that has read u003's fold-in from the cache."""
    with server(home) as (url, process):
        wait_for(url)
        until(lambda: folded_in(url) and metrics(url)["matinee_fold_cache_hits_total"] > 0, "it is read")
        yield url, process


def overwrite(folder):
    size = (folder / "data.mdb").stat().st_size
    with (folder / "data.mdb").open("r+b") as file:
        file.seek(8_192)
        file.write(bytes(size - 8_192))


def cut(folder):
    cut_short(folder / "data.mdb")


@pytest.mark.parametrize("damage", [overwrite, shutil.rmtree, cut], ids=["overwritten", "deleted", "cut_short"])
def test_a_damaged_cache_is_made_again_and_the_answer_is_the_same(home, folder_of_cache, damage):
    with cached_server(home) as (url, process):
        before = metrics(url)
        with all_answered(url) as counted:
            damage(folder_of_cache)
            until(lambda: answer(url) == FOLDED_IN and (folder_of_cache / "data.mdb").exists(), "it was made again")
            hits = metrics(url)["matinee_fold_cache_hits_total"]
            until(lambda: answer(url) == FOLDED_IN and metrics(url)["matinee_fold_cache_hits_total"] > hits, "read")
            after = metrics(url)
        assert process.poll() is None
    if damage is not shutil.rmtree:
        assert after["matinee_fold_cache_remade_total"] == before["matinee_fold_cache_remade_total"] + 1
        assert named(home, "fold_cache_thrown_away")
        assert after['matinee_answers_without_total{part="fold_cache",reason="error"}'] >= 1
    measured(fault=f"fold cache {damage.__name__}", requests=counted["good"],
             slowest=counted["slowest"])  # fmt: skip


def test_a_cache_cut_short_while_it_is_read_ends_one_server_and_all_go_on_with_a_new_one(home, folder_of_cache):
    with cached_server(home) as (other, _):
        (home.run / "blind").touch()
        with cached_server(home, faulty_server) as (url, process):
            cut(folder_of_cache)
            assert reached(url) is None
            assert process.wait(20) == -signal.SIGBUS
        with cached_server(home) as (url, _):
            (crash,) = named(home, "process_crashed")
            assert crash["stores"] == ["fold_cache"]
            hits = metrics(other)["matinee_fold_cache_hits_total"]
            until(
                lambda: answer(other) == FOLDED_IN and metrics(other)["matinee_fold_cache_hits_total"] > hits,
                "the other has taken up the new one, and lives",
            )
            assert answer(url) == FOLDED_IN
