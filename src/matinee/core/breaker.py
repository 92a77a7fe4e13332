"""A circuit breaker for each store or service: one that fails, or is slow, is left alone for a while.

So a broken store costs answers nothing, and gets room to recover (Nygard 2007, "Release It!").
"""

import logging
import random
import threading
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import TypeVar

from matinee.core.clock import Clock
from matinee.core.errors import StoreUnavailable
from matinee.core.logging import get_logger

FAILURES = 5
"""Calls in a row that fail or are slow before the breaker opens."""
SLOW_SECONDS = 0.025
"""A call that takes longer is as bad as one that fails: a quarter of an answer's deadline.

It counts once for each time that it took so long: while a server waits for one answer, all others wait too.
"""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds that it stays open: doubled each time it opens again, and drawn from the upper half of that."""

_log = get_logger(__name__)
_Result = TypeVar("_Result")


class State(IntEnum):
    """Of a breaker; the number is what `/metrics` shows."""

    CLOSED = 0
    """Calls go through."""
    HALF_OPEN = 1
    """One call is let through; what comes of it decides."""
    OPEN = 2
    """Calls are refused."""


class CircuitOpen(StoreUnavailable):
    """The store was not asked: it failed too often of late."""


class Breaker:
    """Guards the calls to one store. Any thread may call.

    Args:
        name: of the store, for people.
        clock: times calls and pauses.
        rng: draws the pauses, so that the processes of a host do not come back all at once.
        pauses: the first and the longest one, in seconds.
        on_open: called each time it opens, in the thread of the call that opened it.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        rng: random.Random | None = None,
        *,
        pauses: tuple[float, float] = (FIRST_PAUSE, LONGEST_PAUSE),
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - no secret
        self._lock = threading.Lock()  # for changes of state; while all is well none is made
        self._in_a_row = 0
        self._first_pause, self._longest_pause = pauses
        self._pause = self._first_pause
        self._open_until: float | None = None
        self._trying = False  # whether a trial is under way; who began it ends it
        self._on_open = on_open
        self.opened = 0
        """How often it opened."""
        self.failed = 0
        """How many calls failed; those that were only slow are not among them."""

    @property
    def is_closed(self) -> bool:
        """Whether all is well."""
        return self._open_until is None

    @property
    def state(self) -> State:
        """Whether calls go through."""
        if self._open_until is None:
            return State.CLOSED
        return State.OPEN if self._clock.monotonic() < self._open_until else State.HALF_OPEN

    def call(self, body: Callable[..., _Result], *given: object, slow_seconds: float = SLOW_SECONDS) -> _Result:
        """What `body` returns or raises.

        Args:
            body: asks the store.
            given: what it is called with.
            slow_seconds: how long that may take.

        Raises:
            CircuitOpen: it was not called.
        """
        is_trial = self._open_until is not None and self._enter_half_open()
        start = self._clock.monotonic()
        try:
            found = body(*given)
        except Exception as error:
            self.failed += 1
            self._failed(str(error), is_trial)
            raise
        else:
            self._answered(self._clock.monotonic() - start, slow_seconds, is_trial)
            return found
        finally:
            if is_trial:
                self._trying = False

    async def call_async(
        self, body: Callable[..., Awaitable[_Result]], *given: object, slow_seconds: float = SLOW_SECONDS
    ) -> _Result:
        """As `call`, for what is awaited. Of a call that is cancelled nothing is concluded."""
        is_trial = self._open_until is not None and self._enter_half_open()
        start = self._clock.monotonic()
        try:
            found = await body(*given)
        except Exception as error:
            self.failed += 1
            self._failed(str(error), is_trial)
            raise
        else:
            self._answered(self._clock.monotonic() - start, slow_seconds, is_trial)
            return found
        finally:
            if is_trial:
                self._trying = False

    def _answered(self, took: float, slow_seconds: float, is_trial: bool) -> None:
        if took > slow_seconds:
            self._failed(f"it took {took * 1e3:.0f} ms", is_trial, counts=int(took / slow_seconds))
        elif self._in_a_row or self._open_until is not None:
            self._succeeded()  # a call that began before it opened does too: its answer says that the store is back

    def _enter_half_open(self) -> bool:
        """Whether this call is the one that decides, if it is made at all."""
        with self._lock:
            if self._open_until is None:
                return False
            if self._trying or self._clock.monotonic() < self._open_until:
                raise CircuitOpen(f"{self.name} is left alone for a while: it failed too often")
            self._trying = True
            return True

    def _succeeded(self) -> None:
        with self._lock:
            was_open = self._open_until is not None
            self._in_a_row, self._pause, self._open_until = 0, self._first_pause, None
        if was_open:
            _log.info("breaker_closed", store=self.name)

    def _failed(self, why: str, is_trial: bool, *, counts: int = 1) -> None:
        with self._lock:
            self._in_a_row += counts
            is_open = self._open_until is not None
            if is_open and not is_trial:
                return  # a call that began before it opened
            if not is_open and self._in_a_row < FAILURES:
                return
            pause = self._pause * self._rng.uniform(0.5, 1.0)
            self._pause = min(2 * self._pause, self._longest_pause)
            self._open_until = self._clock.monotonic() + pause
            self.opened += 1
        level = logging.INFO if is_open else logging.WARNING  # once: a store may be away for days
        _log.log(level, "breaker_opened", store=self.name, error=why, seconds=round(pause, 3))
        self._on_open()
