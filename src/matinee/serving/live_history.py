"""The history as a server reads it: opened after the process has started, and opened again when it failed."""

import logging
import threading
from collections.abc import Callable

from matinee.core.clock import Clock
from matinee.core.errors import RetryableError
from matinee.core.logging import get_logger
from matinee.history.base import History
from matinee.history.record import UserHistory

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between tries to open the store; doubled after each that failed."""

_log = get_logger(__name__)


class LiveHistory:
    """Reads the history while there is one, and costs answers nothing while there is none.

    Args:
        open_store: opens the store read-only; called by `tend` alone.
        clock: counts the pauses.
    """

    def __init__(self, open_store: Callable[[], History], clock: Clock) -> None:
        self._open_store = open_store
        self._clock = clock
        self._lock = threading.Lock()  # held for the exchange only, never while reading
        self._store: History | None = None
        self._left: list[History] = []
        self._pause = FIRST_PAUSE
        self._next_try = float("-inf")
        self.opened = 0
        """How often the store was opened."""
        self.failed = 0
        """How often opening it or reading a user failed."""

    @property
    def is_open(self) -> bool:
        """Whether users can be read."""
        return self._store is not None

    def get(self, user: str) -> UserHistory | None:
        """What the user did lately; nothing for a stranger, and nothing while there is no store.

        Raises:
            RetryableError: the store failed; it is given up until `tend` has opened it again.
            Corrupt: this user's record, or the store, cannot be read; the store stays open for other users.
        """
        store = self._store
        if store is None:
            return None
        try:
            return store.get(user)
        except RetryableError as error:
            self.failed += 1
            self._give_up(store, error)
            raise
        except Exception:
            self.failed += 1
            raise

    def tend(self) -> None:
        """Open the store where there is none and the pause is over. Called again and again off the event loop."""
        with self._lock:
            left, self._left = self._left, []
        for store in left:
            store.close()
        if self._store is not None or self._clock.monotonic() < self._next_try:
            return
        try:
            self._store = self._open_store()
        except Exception as error:  # noqa: BLE001 - without a history answers go on
            self._postpone(error)
            return
        self.opened += 1
        self._pause = FIRST_PAUSE
        _log.info("history_opened")

    def close(self) -> None:
        """Let go of the store."""
        with self._lock:
            stores = [*self._left, *([] if self._store is None else [self._store])]
            self._store, self._left = None, []
        for store in stores:
            store.close()

    def _give_up(self, store: History, error: Exception) -> None:
        with self._lock:
            if self._store is not store:
                return
            self._store = None
            self._left.append(store)  # closed later, by `tend`: closing may take time
        self._next_try = self._clock.monotonic() + self._pause
        _log.warning("history_given_up", error=str(error), retry_seconds=self._pause)

    def _postpone(self, error: Exception) -> None:
        self.failed += 1
        _log.log(
            # A warning once, when it has lasted: before the first ingest there is no history yet.
            logging.WARNING if LONGEST_PAUSE / 2 <= self._pause < LONGEST_PAUSE else logging.INFO,
            "history_unavailable", error=str(error), retry_seconds=self._pause,
        )  # fmt: skip
        self._next_try = self._clock.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
