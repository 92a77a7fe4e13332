"""Time, passed in. Nothing in matinee calls `now()` on its own: it asks the `Clock` it was given."""

import time
from typing import Protocol

MICROSECOND = 1
SECOND = 1_000_000 * MICROSECOND
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Clock(Protocol):
    """Wall time for records, monotonic time for waiting and deadlines."""

    def now_us(self) -> int:
        """Wall time in UTC microseconds since 1970. May step backwards."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start. Never steps backwards."""

    def sleep(self, seconds: float) -> None:
        """Wait that many seconds."""


class SystemClock:
    """The machine's clock. Its methods are the machine's own where they can be: every answer asks it many times."""

    def now_us(self) -> int:
        """See `Clock.now_us`."""
        return time.time_ns() // 1_000

    monotonic = staticmethod(time.monotonic)
    """See `Clock.monotonic`."""
    sleep = staticmethod(time.sleep)
    """See `Clock.sleep`."""


class ManualClock:
    """A clock that moves only when told to. Sleeping moves it.

    Args:
        now_us: the wall time it starts at, in UTC microseconds.
    """

    def __init__(self, now_us: int = 1_700_000_000 * SECOND) -> None:
        self._now_us = now_us
        self._monotonic = 0.0

    def now_us(self) -> int:
        """See `Clock.now_us`."""
        return self._now_us

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Advance both times by that many seconds."""
        self.step(seconds)
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Move wall time alone, backwards too, as a corrected clock does."""
        self._now_us += round(seconds * SECOND)
