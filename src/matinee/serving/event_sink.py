"""Posted events on their way into the log: durable or refused, and never on the event loop.

One thread appends, so that posts take turns in order and a log that hangs holds up nothing else. A post that has
waited for its turn for too long is taken back, whole; one that is being written is waited for, since only then is
it known whether it is in the log. A log that fails again and again is left alone for a while.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from zlib import crc32

from matinee.core.breaker import Breaker, CircuitOpen
from matinee.core.clock import Clock
from matinee.core.errors import GenerationChanged, OutOfRoom, RetryableError, StoreUnavailable
from matinee.core.logging import get_logger
from matinee.log.base import EventLog

MAX_WAITING = 64
"""Posts that may wait for their turn; more are refused at once."""
TURN_SECONDS = 2.0
"""How long a post waits for its turn."""
SLOW_SECONDS = 2 * TURN_SECONDS
"""What takes longer, waiting and writing, is as bad as what fails."""

_REMEDY = "Send the same again, with the same ids, after the time that Retry-After says."
_STOPPING = "the service is stopping"
_log = get_logger(__name__)
_Post = tuple["Future[None]", str, list[bytes]]


class EventSink:
    """Appends posts to the event log, each as a whole.

    Args:
        open_log: opens the log to append to; called in the sink's thread, again after each failure.
        clock: counts the pauses in which a log that failed is left alone.
    """

    def __init__(self, open_log: Callable[[], EventLog], clock: Clock) -> None:
        self.accepted = 0
        """Events that are in the log."""
        self.refused = 0
        """Events that are not, because the log did not take them."""
        self.breaker = Breaker("event_log", clock)
        self._open_log = open_log
        self._log: EventLog | None = None
        self._partitions: list[int] = []
        self._waiting = 0
        self._posts: SimpleQueue[_Post | None] = SimpleQueue()
        self._closing = threading.Event()
        # Of its own making: one of a pool is waited for at the end of the process, however long the log hangs.
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Open the log in the sink's own thread, so that the first post need not wait for it. Once only."""
        self._posts.put((Future(), "", []))
        self._thread.start()

    async def append(self, producer: str, values: list[bytes]) -> None:
        """Append records of one producer, or none; either way it takes a turn. On return they are durable.

        All posts of one producer go to one partition: a repeated id meets the first one there, and what is a
        duplicate is decided by one partition's order alone.

        Raises:
            StoreUnavailable: none of them is in the log; the same call may go through later.
            OutOfRoom: the same, because the disk is full.
        """
        if self._waiting >= MAX_WAITING:
            self.refused += len(values)
            raise StoreUnavailable(f"{self._waiting} posts wait for the event log already", remedy=_REMEDY)
        self._waiting += 1
        try:
            await self.breaker.call_async(self._take_turn, producer, values, slow_seconds=SLOW_SECONDS)
        except CircuitOpen as error:
            self.refused += len(values)
            raise StoreUnavailable("the event log fails, and is left alone for a while", remedy=_REMEDY) from error
        except RetryableError:
            self.refused += len(values)
            raise
        finally:
            self._waiting -= 1
        self.accepted += len(values)

    def close(self, seconds: float) -> None:
        """Take no more posts, refuse those that wait, finish what is being written, and let go of the log.

        A log that takes longer than `seconds` is left to its thread, which ends with the process.
        """
        self._closing.set()
        self._posts.put(None)
        if self._thread.ident is not None:  # it was started
            self._thread.join(seconds)
        if self._thread.is_alive():
            _log.warning("events_left", seconds=seconds)

    def _run(self) -> None:
        while (post := self._posts.get()) is not None:
            future, producer, values = post
            if self._closing.is_set():
                future.cancel()
            if future.set_running_or_notify_cancel():
                try:
                    self._append(producer, values)
                except BaseException as error:  # noqa: BLE001 - for whoever waits
                    future.set_exception(error)
                else:
                    future.set_result(None)
        self._let_go()

    async def _take_turn(self, producer: str, values: list[bytes]) -> None:
        if self._closing.is_set():
            raise StoreUnavailable(_STOPPING, remedy=_REMEDY)
        future: Future[None] = Future()
        self._posts.put((future, producer, values))
        waiting = asyncio.wrap_future(future)
        await asyncio.wait({waiting}, timeout=TURN_SECONDS)
        if not waiting.done() and future.cancel():
            raise StoreUnavailable("the event log is busy", remedy=_REMEDY)
        await asyncio.wait({waiting})
        if waiting.cancelled():  # by `close`, before its turn
            raise StoreUnavailable(_STOPPING, remedy=_REMEDY)
        await waiting

    def _append(self, producer: str, values: list[bytes]) -> None:
        try:
            if self._log is None:
                self._log = self._open_log()
                self._partitions = sorted(self._log.ends())
            partition = self._partitions[crc32(producer.encode()) % len(self._partitions)]
            if values:
                self._log.append(values, partition=partition)
        except OutOfRoom as error:
            self._give_up(error)
            raise OutOfRoom("the event log has no room", remedy=_REMEDY) from error
        except Exception as error:
            self._give_up(error)
            raise StoreUnavailable("the event log does not answer", remedy=_REMEDY) from error

    def _give_up(self, error: Exception) -> None:
        expected = isinstance(error, (RetryableError, GenerationChanged))
        _log.warning("events_not_appended", error=str(error), exc_info=None if expected else error)
        self._let_go()  # opened again: the log may be another one now

    def _let_go(self) -> None:
        if self._log is not None:
            with suppress(Exception):  # it is given up in any case
                self._log.close()
        self._log = None
