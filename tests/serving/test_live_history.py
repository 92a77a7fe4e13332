import pytest
from serving_samples import act

from matinee.core.breaker import FAILURES, LONGEST_PAUSE, SLOW_SECONDS, CircuitOpen, State
from matinee.core.clock import ManualClock
from matinee.core.errors import Corrupt, StoreUnavailable
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.serving.live_history import LiveHistory


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


def test_a_missing_store_is_tried_again_less_and_less_often(home: Home):
    clock, opening = ManualClock(), Opening(home)
    live = LiveHistory(opening, clock)
    for _ in range(600):
        live.tend()
        assert live.get("u") is None
        clock.sleep(0.1)
    # A minute: five tries at once, some in growing pauses, and then one each 2.5 to 5 seconds.
    assert FAILURES + 12 <= opening.times <= FAILURES + 35
    assert live.failed == opening.times
    LmdbHistory(home.data / "history", map_bytes=1 << 24).close()
    clock.sleep(LONGEST_PAUSE)
    live.tend()
    assert (live.is_open, live.breaker.state) == (True, State.CLOSED)
    live.close()


class Failing(LmdbHistory):
    """Can be opened, and no more."""

    def glance(self, user):
        raise StoreUnavailable("away")


def test_a_store_that_keeps_failing_is_given_up_and_opened_again(home: Home, history: LmdbHistory):
    act(history, "u", ["a+1"], position=0)
    history.close()
    clock = ManualClock()
    opened = []

    def open_store():
        kind = LmdbHistory if opened else Failing
        opened.append(kind(home.data / "history", read_only=True))
        return opened[-1]

    live = LiveHistory(open_store, clock)
    live.tend()
    for _ in range(FAILURES):
        assert live.is_open
        with pytest.raises(StoreUnavailable, match="away"):
            live.glance("u")
    with pytest.raises(CircuitOpen):  # costs nothing while there is no store
        live.glance("u")
    live.tend()
    assert not live.is_open  # not before the pause is over
    clock.sleep(LONGEST_PAUSE)
    live.tend()
    assert live.glance("u") is not None
    assert (live.opened, live.failed, live.breaker.opened) == (2, FAILURES, 1)
    live.close()


def test_a_store_that_became_slow_is_left_alone_for_a_while(home: Home, history: LmdbHistory):
    act(history, "u", ["a+1"], position=0)
    history.close()
    clock = ManualClock()

    class Slow(LmdbHistory):
        def glance(self, user):
            clock.sleep(1.5 * SLOW_SECONDS)
            return super().glance(user)

    live = LiveHistory(lambda: Slow(home.data / "history", read_only=True), clock)
    live.tend()
    for _ in range(FAILURES):
        assert live.glance("u") is not None  # what comes late is used all the same
    assert not live.is_open
    with pytest.raises(CircuitOpen):
        live.glance("u")
    live.close()


def test_a_store_that_opens_at_once_and_answers_late_is_back_only_when_it_is_quick_again(
    home: Home, history: LmdbHistory
):
    act(history, "u", ["a+1"], position=0)
    history.close()
    clock = ManualClock()
    seconds = 1.5 * SLOW_SECONDS

    class Slow(LmdbHistory):
        def glance(self, user):
            clock.sleep(seconds)
            return super().glance(user)

    live = LiveHistory(lambda: Slow(home.data / "history", read_only=True), clock)
    live.tend()
    for _ in range(FAILURES):
        live.glance("u")
    for _ in range(100):
        clock.sleep(0.1)
        live.tend()
        assert not live.is_open
    assert live.breaker.opened < 12  # the pauses grew
    seconds = 0.0
    clock.sleep(LONGEST_PAUSE)
    live.tend()
    assert live.is_open
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
