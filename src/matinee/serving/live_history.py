"""The history as a server reads it: opened after the process has started, and opened again when it failed."""

import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf

from matinee.core.breaker import SLOW_SECONDS, Breaker, CircuitOpen
from matinee.core.clock import Clock
from matinee.core.errors import Corrupt, StoreUnavailable
from matinee.core.logging import get_logger
from matinee.history.base import History
from matinee.history.record import Glance, UserHistory

_log = get_logger(__name__)


class LiveHistory:
    """Reads the history while there is one, and costs answers nothing while there is none.

    Opening and reading go through one breaker. When it opens, the store is given up, and what the breaker lets
    through then is `tend` opening it again.

    Args:
        open_store: opens the store read-only; called by `tend` alone.
        clock: counts the pauses.
    """

    def __init__(self, open_store: Callable[[], History], clock: Clock) -> None:
        self._open_store = open_store
        self._clock = clock
        self.breaker = Breaker("history", clock, on_open=self._give_up)
        self._lock = threading.Lock()  # held for the exchange only, never while reading
        self._store: History | None = None
        self._left: list[History] = []
        self._asked_last: str | None = None
        self.opened = 0
        """How often the store was opened."""

    @property
    def failed(self) -> int:
        """How often opening it or reading a user failed."""
        return self.breaker.failed

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
        store = self._store or self._open()
        if store is None:
            return None
        self._asked_last = user
        return self.breaker.call(store.get, user)

    def glance(self, user: str) -> Glance | None:
        """Which items the user met lately, and how far; otherwise as `get`."""
        store = self._store or self._open()
        if store is None:
            return None
        self._asked_last = user
        return self.breaker.call(store.glance, user)

    def tend(self) -> None:
        """Open the store where there is none and the breaker allows, and where another took its place.

        To be called again and again, off the event loop.
        """
        if self._store is not None and self._store.is_replaced():
            self._give_up()
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
        """Open the store; where one was read before, this one also has to answer, and in time.

        Else a store that opens at once and answers late would be back after each first, shortest pause.
        """
        store = self._open_store()
        user = self._asked_last
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

    def _give_up(self) -> None:
        with self._lock:
            store, self._store = self._store, None
            if store is None:
                return
            self._left.append(store)  # closed later, by `tend`: closing may take time
        _log.warning("history_given_up")
