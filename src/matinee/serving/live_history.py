"""The history as a server reads it: opened after the process has started, and opened again when it failed."""

import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import TypeVar

from matinee.core.breaker import SLOW_SECONDS, Breaker, CircuitOpen
from matinee.core.clock import Clock
from matinee.core.errors import Corrupt, StoreUnavailable
from matinee.core.logging import get_logger
from matinee.history.base import History
from matinee.history.record import Glance, UserHistory

_log = get_logger(__name__)
_Result = TypeVar("_Result")


class LiveHistory:
    """Reads the history while there is one, and costs answers nothing while there is none.

    Opening and reading go through one breaker. When it opens, the store is given up, and what the breaker lets
    through then is `tend` opening it again.

    Args:
        open_store: opens the store read-only; called by `tend` alone.
        clock: counts the pauses.
        breaker: one of its own where none is given.
    """

    def __init__(self, open_store: Callable[[], History], clock: Clock, breaker: Breaker | None = None) -> None:
        self._open_store = open_store
        self._clock = clock
        self.breaker = breaker or Breaker("history", clock)
        self._lock = threading.Lock()  # held for the exchange only, never while reading
        self._store: History | None = None
        self._left: list[History] = []
        self._given_up_at: str | None = None
        self.opened = 0
        """How often the store was opened."""
        self.failed = 0
        """How often opening it or reading a user failed."""

    @property
    def is_open(self) -> bool:
        """Whether users can be read."""
        return self._store is not None

    def get(self, user: str) -> UserHistory | None:
        """What the user did lately; nothing for a stranger, and nothing where there never was a store.

        Raises:
            CircuitOpen: the store was given up, and is not open again.
            StoreUnavailable: the store failed.
            Corrupt: this user's record, or the store, cannot be read.
        """
        store = self._open()
        return None if store is None else self._asked(store, store.get, user)

    def glance(self, user: str) -> Glance | None:
        """Which items the user met lately, and how far; otherwise as `get`."""
        store = self._store or self._open()
        return None if store is None else self._asked(store, store.glance, user)

    def tend(self) -> None:
        """Open the store where there is none and the breaker allows, and where another took its place.

        To be called again and again, off the event loop.
        """
        if self._store is not None and self._store.is_replaced():
            self._give_up(self._store)
        with self._lock:
            left, self._left = self._left, []
        for store in left:
            store.close()
        if self._store is not None:
            return
        try:
            self._store = self.breaker.call(self._open_in_time, slow_seconds=inf)
        except CircuitOpen:
            return
        except Exception:  # noqa: BLE001 - without a history answers go on; the breaker logs why
            self.failed += 1
            return
        self.opened += 1
        _log.info("history_opened")

    def close(self) -> None:
        """Let go of the store."""
        with self._lock:
            stores = [*self._left, *([] if self._store is None else [self._store])]
            self._store, self._left = None, []
        for store in stores:
            store.close()

    def _open_in_time(self) -> History:
        """Open the store; one that was given up also has to answer, and in time.

        Else a store that opens at once and answers late would be back after each first, shortest pause.
        """
        store = self._open_store()
        user = self._given_up_at
        if user is None:
            return store
        try:
            self._require_in_time(store, user)
        except BaseException:
            store.close()
            raise
        return store

    def _require_in_time(self, store: History, user: str) -> None:
        begun = self._clock.monotonic()
        with suppress(Corrupt):  # the one record must not keep the store from everybody else
            store.glance(user)
        took = self._clock.monotonic() - begun
        if took > SLOW_SECONDS:
            raise StoreUnavailable(f"it takes {took * 1e3:.0f} ms, still")

    def _open(self) -> History | None:
        if self._store is None and self.opened:
            raise CircuitOpen("the history was given up for a while")
        return self._store

    def _asked(self, store: History, read: Callable[[str], _Result], user: str) -> _Result:
        try:
            return self.breaker.call(read, user)
        except CircuitOpen:
            raise
        except Exception:
            self.failed += 1
            raise
        finally:
            if not self.breaker.is_closed:
                self._given_up_at = user
                self._give_up(store)

    def _give_up(self, store: History) -> None:
        with self._lock:
            if self._store is store:
                self._store = None
                self._left.append(store)  # closed later, by `tend`: closing may take time
                _log.warning("history_given_up")
