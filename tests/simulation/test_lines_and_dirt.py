"""The lines are the scenario's, read by the reader that reads the real ones; and the dirt is what was asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.events.lines import read_line
from matinee.events.schema import Outcome, Reason
from matinee.events.types import Rating, Received, Watch
from matinee.simulation.dirt import BAD_RATING, KINDS, MISSING_FIELD, REPEATED, STRAY, UNKNOWN_MOVIE, soil
from matinee.simulation.lines import LATE_SECONDS, MinuteLog
from matinee.simulation.recommenders import Answer, Answers

START_US = 1_700_000_040_000_000  # 2023-11-14T22:14:00Z
LATE = b"java.util.concurrent.TimeoutException: late"
IDS = (b"the+amber+alibi+1999", b"t*h*e+quiet+sea+2003", b"shy+night+")


def ints(values, dtype):
    return np.array(values, dtype=dtype)


def minute_log():
    log = MinuteLog(START_US, IDS)
    log.watch(ints([0, 6], "i4"), ints([0, 2], "i4"), ints([0, 95], "i2"), ints([0, 7], "i1"))
    log.rate(ints([3], "i4"), ints([1], "i4"), ints([4], "i2"), ints([59], "i1"))
    answers = [Answer(("a+1999", "b+"), 102), Answer((), 800, 0, LATE.decode())]
    log.receive(ints([4, 5], "i4"), Answers("host:8082", answers), ints([0, 30], "i1"))
    return log


def test_the_lines_are_these():
    assert sorted(minute_log().written(np.random.default_rng(0))) == sorted(
        [
            b"2023-11-14T22:14,1,GET /data/m/the+amber+alibi+1999/0.mpg",
            b"2023-11-14T22:14:07,7,GET /data/m/shy+night+/95.mpg",
            b"2023-11-14T22:14:59,4,GET /rate/t*h*e+quiet+sea+2003=4",
            b"2023-11-14T22:14:00.102,5,recommendation request host:8082, status 200, result: a+1999, b+, 102 ms",
            b"2023-11-14T22:14:30.800,6,recommendation request host:8082, status 0, result: %b, 800 ms" % LATE,
        ]
    )


def test_the_reader_reads_each_as_what_it_is():
    events = [
        read_line(line, appended_us=START_US).event for line in minute_log().written(np.random.default_rng(0))
    ]
    kinds = [type(event) for event in sorted(events, key=lambda event: int(event.user))]
    assert kinds == [Watch, Rating, Received, Received, Watch]
    assert [event.status for event in events if isinstance(event, Received)].count(0) == 1


def test_lines_are_out_of_order_by_no_more_than_stated():
    log = MinuteLog(START_US, IDS)
    seconds = np.random.default_rng(3).integers(0, 60, 500).astype("i1")
    log.watch(np.arange(500, dtype="i4"), np.zeros(500, "i4"), np.zeros(500, "i2"), seconds)
    times = [read_line(line, appended_us=START_US).event.time_us for line in log.written(np.random.default_rng(4))]
    latest = np.maximum.accumulate(times)
    assert 0 < (latest - np.array(times)).max() <= LATE_SECONDS * 1_000_000


WATCHES = [b"2023-11-14T22:14:07,%d,GET /data/m/shy+night+1999/95.mpg" % user for user in range(1, 1_001)]
RATES = [b"2023-11-14T22:14:07,%d,GET /rate/shy+night+1999=4" % user for user in range(1, 1_001)]


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_dirt_counts_what_it_does(seed, rate):
    lines = WATCHES[:40] + RATES[:40]
    dirty, counts = soil(lines, rate, np.random.default_rng(seed))
    assert len(dirty) == len(lines) + counts[REPEATED]
    assert len(set(lines) - set(dirty)) == sum(counts.values()) - counts[REPEATED]
    assert set(counts) == set(KINDS)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.3])
def test_dirt_comes_at_the_stated_rate(rate):
    _, counts = soil(WATCHES, rate, np.random.default_rng(5))
    expected = rate * len(WATCHES)
    assert abs(sum(counts.values()) - expected) <= 5 * np.sqrt(expected * (1 - rate))


def test_each_kind_of_dirt_ends_as_it_should():
    dirty, counts = soil(WATCHES + RATES, 1.0, np.random.default_rng(6))
    readings = [read_line(line, appended_us=START_US) for line in dirty]
    reasons = [reading.reason for reading in readings]
    assert min(counts.values()) > 0
    assert reasons.count(Reason.MISSING_FIELD) >= counts[MISSING_FIELD]
    assert reasons.count(Reason.BAD_RATING) >= counts[BAD_RATING]
    assert reasons.count(Reason.BAD_ITEM_ID) >= counts[UNKNOWN_MOVIE]
    assert sum(dirty.count(line) == 2 for line in WATCHES + RATES if line in set(dirty)) == counts[REPEATED]
    repaired = sum(reading.outcome is Outcome.REPAIRED for reading in readings)
    assert 0 < repaired <= counts[STRAY]
