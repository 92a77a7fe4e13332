"""How fast a world lives, by a clock that moves only when it is waited for."""

import threading

import pytest

from matinee.core.clock import MINUTE, SECOND, ManualClock
from matinee.simulation.options import MINUTES_A_DAY, WorldOptions
from matinee.simulation.pace import Pace, live
from matinee.simulation.recommenders import Nothing
from matinee.simulation.world import World

START_US = 1_700_006_400_000_000


class Stopping(threading.Event):
    """Waiting for it moves the clock."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def wait(self, timeout=None):
        if not self.is_set():
            self.clock.sleep(timeout)
        return self.is_set()


def lived(pace, *, until, now_us=START_US * 2, stop_at=None):
    """The world, the clock, and the seconds at which its minutes had passed."""
    clock = ManualClock(now_us)
    stopping = Stopping(clock)
    world = World(WorldOptions(start_us=START_US, viewers=20, movies=10), Nothing(), lambda _: None)
    passed, days = [], []

    def minute_passed(minute):
        passed.append(clock.monotonic())
        if minute == stop_at:
            stopping.set()

    live(
        world, until=until, pace=pace, clock=clock, stopping=stopping, day_ended=days.append,
        minute_passed=minute_passed,
    )  # fmt: skip
    return world, passed, days


def test_without_a_pace_nothing_is_waited_for():
    world, passed, days = lived(Pace(), until=2 * MINUTES_A_DAY)
    assert (world.minute, set(passed), [day.day for day in days]) == (2 * MINUTES_A_DAY, {0.0}, [0, 1])


def test_a_pace_is_kept_from_the_first_minute_on():
    _, passed, _ = lived(Pace(4.0), until=40)
    assert passed == pytest.approx([minute / 4 for minute in range(40)])


def test_it_catches_up_with_the_clock_and_never_overtakes_it():
    behind = 30 * MINUTE
    world, passed, _ = lived(Pace(60.0, not_ahead=True), until=None, now_us=START_US + behind, stop_at=40)
    assert world.minute == 40
    for number, seconds in enumerate(passed, start=1):
        assert START_US + number * MINUTE <= START_US + behind + seconds * SECOND + 1_000  # rounded
    assert passed[29] == pytest.approx(29 / 60)  # thirty minutes are caught up in half a second
    assert passed[39] == pytest.approx(600, abs=1)  # and the next ten are ten


def test_who_says_stop_is_heard_between_minutes():
    world, _, days = lived(Pace(), until=None, stop_at=7)
    assert (world.minute, days) == (7, [])
