"""A thread that does one thing again and again until it is told to stop."""

import threading
from collections.abc import Callable

from matinee.core.logging import get_logger

_log = get_logger(__name__)


class Background:
    """Calls `action` at once and then `seconds` after each call has ended, in a thread of its own.

    What the action raises is logged, and it is called again.

    Args:
        name: of the thread.
        action: returns how many seconds to wait, or nothing for the usual number.
        seconds: the usual number.
    """

    def __init__(self, name: str, action: Callable[[], float | None], seconds: float) -> None:
        self._action = action
        self._seconds = seconds
        self._stop = threading.Event()
        self._has_run = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread. Once only."""
        self._thread.start()

    @property
    def name(self) -> str:
        """Of the thread."""
        return self._thread.name

    @property
    def has_run(self) -> bool:
        """Whether the action was called and has come to its end, well or not."""
        return self._has_run.is_set()

    @property
    def is_alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> None:
        """Ask the thread to end, and wait up to `timeout` seconds until it has."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.is_set():
            pause: float | None = None
            try:
                pause = self._action()
            except Exception:  # noqa: BLE001 - a thread that ended would be missed by nobody
                _log.exception("background_failed", thread=self._thread.name)
            self._has_run.set()
            self._stop.wait(self._seconds if pause is None else pause)
