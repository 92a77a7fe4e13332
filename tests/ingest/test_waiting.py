"""Waiting for a store that does not answer."""

import threading

import pytest

from matinee.core.clock import ManualClock
from matinee.core.errors import ConfigurationError, StoreUnavailable
from matinee.ingest.waiting import ALARM_AFTER_SECONDS, Patience


class Store:
    """Away until so many seconds have gone by; notes when it was asked."""

    def __init__(self, clock, away):
        self.clock, self.until = clock, clock.monotonic() + away
        self.began = clock.monotonic()
        self.asked = []

    def __call__(self):
        self.asked.append(round(self.clock.monotonic() - self.began, 6))
        if self.clock.monotonic() < self.until:
            raise StoreUnavailable("it is away")
        return "back"


def test_a_store_that_is_away_for_a_minute_is_asked_ever_more_rarely_and_told_of_once():
    clock, alarms = ManualClock(), []
    store = Store(clock, 60)
    patience = Patience(clock, threading.Event(), lambda what, error: alarms.append((what, str(error))))
    assert patience.call("lake", store) == "back"
    gaps = [round(b - a, 6) for a, b in zip(store.asked, store.asked[1:], strict=False)]
    doubling = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert gaps == doubling + [5.0] * 11  # 6.35 s, and eleven times five are the first to pass a minute
    assert alarms == [("lake", "it is away")]
    assert (patience.waits, patience.waiting) == (1, False)
    assert patience.call("lake", store) == "back"
    assert patience.waits == 1


def test_a_wait_within_a_wait_is_told_and_then_the_outer_one_again():
    """A reader that waits for its log may have to ask the lake where to begin."""
    clock, seen = ManualClock(), []
    patience = Patience(clock, threading.Event(), lambda *_: None)
    log, lake, log_again = Store(clock, 1), Store(clock, 5), Store(clock, 20)

    def lake_answers():
        lake()
        seen.append(patience.waiting_for)

    def log_answers():
        log()
        seen.append(patience.waiting_for)
        patience.call("lake", lake_answers)
        seen.append(patience.waiting_for)
        log_again()

    patience.call("event log", log_answers)
    assert seen[:3] == ["event log", "lake", "event log"]
    assert set(seen[3:]) == {"event log"}  # the lake is back for good
    assert (patience.waits, patience.waiting, patience.waiting_for) == (2, False, None)


def test_a_short_absence_is_nobody_elses_business():
    clock, alarms = ManualClock(), []
    patience = Patience(clock, threading.Event(), lambda *told: alarms.append(told))
    assert patience.call("lake", Store(clock, ALARM_AFTER_SECONDS / 2)) == "back"
    assert alarms == []


def test_who_is_to_stop_waits_no_longer_and_what_cannot_help_is_not_tried_again():
    clock, stopping = ManualClock(), threading.Event()
    patience = Patience(clock, stopping, lambda *_: None)
    stopping.set()
    store = Store(clock, 60)
    with pytest.raises(StoreUnavailable):
        patience.call("lake", store)
    assert len(store.asked) == 1

    asked = []

    def wrong():
        asked.append(1)
        raise ConfigurationError("it is wrong")

    with pytest.raises(ConfigurationError):
        patience.call("lake", wrong)
    assert asked == [1]
