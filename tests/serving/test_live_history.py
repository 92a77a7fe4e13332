from itertools import pairwise

import pytest
from serving_samples import act

from matinee.core.clock import ManualClock
from matinee.core.errors import Corrupt, StoreUnavailable
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.serving.live_history import FIRST_PAUSE, LiveHistory


class Opening:
    """Opens the store, and counts how often it was asked to."""

    def __init__(self, home: Home):
        self.home = home
        self.times = 0

    def __call__(self) -> LmdbHistory:
        self.times += 1
        return LmdbHistory(self.home.data / "history", read_only=True)


def test_before_it_is_tended_everybody_is_a_stranger(home: Home, history: LmdbHistory):
    act(history, "u", ["a+1"], position=0)
    history.close()
    live = LiveHistory(Opening(home), ManualClock())
    assert live.get("u") is None
    live.tend()
    found = live.get("u")
    assert found is not None
    assert [entry.item for entry in found.entries] == ["a+1"]
    live.close()
    assert not live.is_open


def test_a_missing_store_is_tried_again_with_growing_pauses(home: Home):
    clock, opening = ManualClock(), Opening(home)
    live = LiveHistory(opening, clock)
    tried_at = []
    for _ in range(400):
        before = opening.times
        live.tend()
        if opening.times > before:
            tried_at.append(clock.monotonic())
        clock.sleep(FIRST_PAUSE / 2)
    pauses = [b - a for a, b in pairwise(tried_at)]
    assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.051)
    assert max(pauses) == pytest.approx(5.0, abs=0.051)
    assert live.failed == opening.times
    LmdbHistory(home.data / "history", map_bytes=1 << 24).close()
    clock.sleep(5)
    live.tend()
    assert live.is_open
    live.close()


def test_a_store_that_fails_is_given_up_and_opened_again(home: Home, history: LmdbHistory):
    act(history, "u", ["a+1"], position=0)
    history.close()
    clock = ManualClock()

    class Failing(LmdbHistory):
        def get(self, user):
            raise StoreUnavailable("away")

    opened = []

    def open_store():
        kind = LmdbHistory if opened else Failing
        opened.append(kind(home.data / "history", read_only=True))
        return opened[-1]

    live = LiveHistory(open_store, clock)
    live.tend()
    with pytest.raises(StoreUnavailable):
        live.get("u")
    assert live.get("u") is None  # costs nothing while there is no store
    live.tend()
    assert not live.is_open  # not before the pause is over
    clock.sleep(FIRST_PAUSE)
    live.tend()
    assert live.get("u") is not None
    assert (live.opened, live.failed) == (2, 1)
    live.close()


def test_one_corrupt_record_does_not_take_the_store_from_the_others(home: Home, history: LmdbHistory):
    from test_serving_answer import spoil

    act(history, "bad", ["a+1"], position=0)
    act(history, "good", ["a+1"], position=1)
    history.close()
    spoil(home.data / "history", b"bad")
    live = LiveHistory(Opening(home), ManualClock())
    live.tend()
    with pytest.raises(Corrupt):
        live.get("bad")
    assert live.get("good") is not None
    live.close()
