"""Waiting for a store that does not answer: with growing intervals, said once, resumed by itself."""

import threading
from collections.abc import Callable
from typing import TypeVar

from matinee.core.clock import Clock
from matinee.core.errors import RetryableError
from matinee.core.logging import get_logger

FIRST_WAIT_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 5.0
ALARM_AFTER_SECONDS = 2.0
"""A store that answers again before this has waited for nobody but us."""

_STEP_SECONDS = 0.1

_log = get_logger(__name__)
_Result = TypeVar("_Result")


class Patience:
    """Calls a store until it answers, or until somebody asks to stop. Belongs to one thread.

    Args:
        clock: to wait by.
        stopping: set by whoever wants the work to end.
        on_long_wait: called once with (what, error) for each wait that becomes long.
    """

    def __init__(
        self, clock: Clock, stopping: threading.Event, on_long_wait: Callable[[str, RetryableError], None]
    ) -> None:
        self._clock = clock
        self._stopping = stopping
        self._on_long_wait = on_long_wait
        self.waits = 0
        """How often a store kept us waiting."""
        self.waiting_for: str | None = None
        """The store that does at this moment."""

    @property
    def waiting(self) -> bool:
        """Whether a store keeps us waiting at this moment."""
        return self.waiting_for is not None

    def call(self, what: str, body: Callable[[], _Result]) -> _Result:
        """Run `body` until it goes through.

        Raises:
            RetryableError: it does not go through, and somebody asked to stop.
            FatalError: trying again cannot help.
        """
        try:
            return body()
        except RetryableError as error:
            return self._insist(what, body, error)

    def _insist(self, what: str, body: Callable[[], _Result], error: RetryableError) -> _Result:
        wait, began, told = FIRST_WAIT_SECONDS, self._clock.monotonic(), False
        self.waits += 1
        outer, self.waiting_for = self.waiting_for, what  # a call may be made within another
        _log.warning("waiting", what=what, error=str(error), remedy=error.remedy)
        try:
            while not self._stopping.is_set():
                self._sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)
                try:
                    result = body()
                except RetryableError as again:
                    error = again
                else:
                    _log.warning("resumed", what=what, seconds=round(self._clock.monotonic() - began, 3))
                    return result
                if not told and self._clock.monotonic() - began >= ALARM_AFTER_SECONDS:
                    self._on_long_wait(what, error)
                    told = True
        finally:
            self.waiting_for = outer
        raise error

    def _sleep(self, seconds: float) -> None:
        """Wait in short steps, so that a wish to stop is heard."""
        until = self._clock.monotonic() + seconds
        while not self._stopping.is_set() and (left := until - self._clock.monotonic()) > 0:
            self._clock.sleep(min(left, _STEP_SECONDS))
