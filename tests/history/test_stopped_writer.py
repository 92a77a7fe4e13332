"""A process that stands still in the midst of a write: the others say who it is, and go on when it is out of it."""

import signal
import threading

import pytest

from matinee.core.errors import Locked
from matinee.events.offsets import Source
from matinee.history.base import Actions
from matinee.history.lmdb import LmdbHistory
from stopped_writer import stopped_writer

SOURCE = Source("g", 0)


def apply(history, number):
    history.apply(SOURCE, Actions([number], ["17"], ["up+2009"], [number], [number], [None]), end=number + 1)


@pytest.mark.parametrize("number", [signal.SIGCONT, signal.SIGKILL])
def test_who_stands_still_in_a_write_is_named_and_the_others_go_on_after_it(tmp_path, number):
    path = tmp_path / "history"
    with LmdbHistory(path, shared=True) as history:
        apply(history, 0)
        with stopped_writer(path) as other:
            for write in (lambda: apply(history, 1), history.sync, lambda: history.erase({"17"})):
                with pytest.raises(Locked, match=f"process {other.pid} has been in the midst of a write") as locked:
                    write()
                assert f"`kill -CONT {other.pid}`" in locked.value.remedy
            assert history.applied() == {SOURCE: 1}  # reading waits for nobody
            other.send(number)
            if number == signal.SIGCONT:
                assert other.process.stdout.readline() == "written\n"
            else:
                other.process.wait()
            apply(history, 1)
        assert history.applied() == {SOURCE: 2}
        half = history._store.read(lambda transaction: transaction.get(b"half", db=history._store.meta))
        assert half == (b"written" if number == signal.SIGCONT else None)


def test_a_write_that_comes_within_the_time_waits_for_its_turn(tmp_path):
    path = tmp_path / "history"
    with LmdbHistory(path, shared=True) as history, stopped_writer(path) as other:
        threading.Timer(0.1, other.send, [signal.SIGCONT]).start()
        apply(history, 0)
        assert history.applied() == {SOURCE: 1}


def test_who_stands_still_keeps_nobody_from_ending(tmp_path):
    path = tmp_path / "history"
    history = LmdbHistory(path, shared=True)
    apply(history, 0)
    with stopped_writer(path) as other:
        history.close()
        with pytest.raises(Locked, match=str(other.pid)):
            LmdbHistory(path, shared=True)
    assert (path / "unsynced").exists()  # so that a power cut is noticed; who writes next syncs
    with LmdbHistory(path) as again:
        assert again.applied() == {SOURCE: 1}
    assert not (path / "unsynced").exists()
