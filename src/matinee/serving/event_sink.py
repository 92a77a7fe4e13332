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
from queue import Empty, SimpleQueue
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
OPENING_SECONDS = 15.0
"""How long it waits before that for the first opening of the log: a Kafka topic may have to be made."""
REOPEN_SECONDS = 5.0
"""Between two tries to open a log that nobody posts to."""
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
        self._tried: Future[None] = Future()
        """Done when the log was opened for the first time, or could not be."""
        self._closing = threading.Event()
        # Of its own making: one of a pool is waited for at the end of the process, however long the log hangs.
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Begin to take posts. Once only.

        The log is opened at once, and tried again while it is away, so that posts need not wait for that.
        """
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
        self._make_ready(told=True)
        self._tried.set_result(None)
        while (post := self._next_post()) is not None:
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

    def _next_post(self) -> _Post | None:
        """The next post, or nothing at the end; meanwhile a log that is not open is tried again."""
        while self._log is None:
            try:
                return self._posts.get(timeout=REOPEN_SECONDS)
            except Empty:
                self._make_ready(told=False)
        return self._posts.get()

    def _make_ready(self, *, told: bool) -> None:
        """Open the log before somebody posts."""
        try:
            self._open()
        except Exception as error:  # noqa: BLE001 - whoever posts meets it, and is told
            if told:
                _log.warning("event_log_not_opened", error=str(error), exc_info=_unexpected(error))
            self._let_go()

    async def _take_turn(self, producer: str, values: list[bytes]) -> None:
        if self._closing.is_set():
            raise StoreUnavailable(_STOPPING, remedy=_REMEDY)
        if not self._tried.done():
            await asyncio.wait({asyncio.wrap_future(self._tried)}, timeout=OPENING_SECONDS)
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
            log = self._open() if self._log is None else self._log
            partition = self._partitions[crc32(producer.encode()) % len(self._partitions)]
            if values:
                log.append(values, partition=partition)
        except OutOfRoom as error:
            self._give_up(error)
            raise OutOfRoom("the event log has no room", remedy=_REMEDY) from error
        except Exception as error:
            self._give_up(error)
            raise StoreUnavailable("the event log does not answer", remedy=_REMEDY) from error

    def _open(self) -> EventLog:
        self._log = self._open_log()
        self._partitions = sorted(self._log.ends())
        return self._log

    def _give_up(self, error: Exception) -> None:
        _log.warning("events_not_appended", error=str(error), exc_info=_unexpected(error))
        self._let_go()  # opened again: the log may be another one now

    def _let_go(self) -> None:
        if self._log is not None:
            with suppress(Exception):  # it is given up in any case
                self._log.close()
        self._log = None


def _unexpected(error: Exception) -> Exception | None:
    """An error whose traceback is worth the room in the log."""
    return None if isinstance(error, (RetryableError, GenerationChanged)) else error
