"""Posted events on their way into the log: durable or refused, and never on the event loop.

One thread appends, so that posts take turns in order and a log that hangs holds up nothing else. A post that has
waited for its turn for too long is taken back, whole; one that is being written is waited for, since only then is
it known whether it is in the log.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from zlib import crc32

from matinee.core.errors import GenerationChanged, OutOfRoom, RetryableError, StoreUnavailable
from matinee.core.logging import get_logger
from matinee.log.base import EventLog

MAX_WAITING = 64
"""Posts that may wait for their turn; more are refused at once."""
TURN_SECONDS = 2.0
"""How long a post waits for its turn."""

_REMEDY = "Send the same again, with the same ids, after the time that Retry-After says."
_STOPPING = "the service is stopping"
_log = get_logger(__name__)


class EventSink:
    """Appends posts to the event log, each as a whole.

    Args:
        open_log: opens the log; called in the sink's thread, again after each failure.
    """

    def __init__(self, open_log: Callable[[], EventLog]) -> None:
        self.accepted = 0
        """Events that are in the log."""
        self.refused = 0
        """Events that are not, because the log did not take them."""
        self._open_log = open_log
        self._log: EventLog | None = None
        self._partitions: list[int] = []
        self._waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="events")

    async def append(self, producer: str, values: list[bytes]) -> None:
        """Append records of one producer. On return they are durable.

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
            await self._take_turn(producer, values)
        except RetryableError:
            self.refused += len(values)
            raise
        finally:
            self._waiting -= 1
        self.accepted += len(values)

    def close(self) -> None:
        """Finish what is being written and let go of the log. Takes as long as the log does."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._log is not None:
            self._log.close()
            self._log = None

    async def _take_turn(self, producer: str, values: list[bytes]) -> None:
        try:
            future = self._thread.submit(self._append, producer, values)
        except RuntimeError as error:
            raise StoreUnavailable(_STOPPING, remedy=_REMEDY) from error
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
        if self._log is not None:
            with suppress(Exception):  # it is given up in any case
                self._log.close()
        self._log = None  # opened again: the log may be another one now
