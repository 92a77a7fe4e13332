"""How far behind the event loop is, and what answers do without until it has caught up.

Requests that wait for the event loop are invisible to it: it meets each only when its turn has come. But a beat
that was due at a fixed time waits behind the same requests, so its lateness is how long a request waits. Of a
thousand requests that wait already none lets a beat through; so each answer looks how long one has been due.
"""

import asyncio
from collections import deque
from enum import IntEnum
from math import inf

from matinee.core.clock import Clock
from matinee.core.logging import get_logger

BEAT_SECONDS = 0.02
RAISE_BEATS = 3
"""Beats in a row that must be late, or times as long that one must be due: a short pause is not an overload."""
LOWER_BEATS = 50
"""Beats in a row that must be in time before answers are whole again: a second, so that it does not flutter."""

_log = get_logger(__name__)


class Shed(IntEnum):
    """What answers do without."""

    NOTHING = 0
    SCORING = 1
    """Nobody is folded in anew, nothing is re-ranked, and nothing explored."""
    HISTORY = 2
    """The history is not read either: a look-up, or what is popular."""


class Load:
    """Decides from the lateness of beats what answers do without. Belongs to the event loop's thread.

    Args:
        late_seconds: lateness at which scoring is shed; at twice that, the history.
    """

    def __init__(self, late_seconds: float) -> None:
        self._late = late_seconds
        self._lately: deque[float] = deque(maxlen=LOWER_BEATS)
        self._due = inf
        self.shed = Shed.NOTHING
        """What answers do without now."""
        self.late_seconds = 0.0
        """How late the last beat was."""
        self.raised = 0
        """How often more was shed."""

    def beat(self, late: float) -> None:
        """Take note of one beat.

        More is shed when the last `RAISE_BEATS` all ask for it; less, one level at a time, when the last
        `LOWER_BEATS` were all below half of what the level takes.
        """
        self.late_seconds = late
        self._lately.append(late)
        wanted = self._level(min(list(self._lately)[-RAISE_BEATS:])) if len(self._lately) >= RAISE_BEATS else 0
        if wanted > self.shed:
            self._raise(wanted)
        elif self.shed and len(self._lately) == LOWER_BEATS and 2 * max(self._lately) < self._late * self.shed:
            self._change(Shed(self.shed - 1))

    def shed_at(self, now: float) -> Shed:
        """What an answer does without that is begun now.

        Args:
            now: on the clock's monotonic scale, in seconds.
        """
        late = now - self._due
        if late >= RAISE_BEATS * self._late and (wanted := self._level(late / RAISE_BEATS)) > self.shed:
            self.late_seconds = late
            self._raise(wanted)
        return self.shed

    def _level(self, late: float) -> int:
        return min(int(late / self._late), max(Shed))

    def _raise(self, level: int) -> None:
        self.raised += 1
        self._change(Shed(level))

    def _change(self, shed: Shed) -> None:
        self.shed = shed
        self._lately.clear()
        _log.warning("load_changed", sheds=shed.name.lower(), late_ms=round(self.late_seconds * 1e3, 1))

    async def watch(self, clock: Clock) -> None:
        """Beat for good; to be cancelled."""
        while True:
            self._due = clock.monotonic() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self.beat(max(0.0, clock.monotonic() - self._due))
