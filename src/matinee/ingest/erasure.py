"""Erasing users from the stores: lake, history, event log, and what is known of them beside the lake.

    tombstone ─► a minute: whoever takes in has seen it ─► rows, history, metadata
              ─► ten minutes: whoever reads older versions is done ─► old files, log entries, bytes of the event log

In rounds between ingest's own commits. Nothing is noted but the end: a round that was broken off begins anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from matinee.core.alarms import RaiseAlarm
from matinee.core.clock import HOUR, SECOND, Clock
from matinee.core.erasures import ERASED, Erasure, Erasures, mark_done, read_erasures
from matinee.core.errors import RetryableError
from matinee.core.home import Home
from matinee.core.logging import get_logger
from matinee.ingest.erased import Tombstones, is_named
from matinee.ingest.metadata_state import forget_users
from matinee.ingest.quarantine import deleting, places
from matinee.ingest.stores import Opened
from matinee.lake.erasure import BY_USER, Files, delete_files, delete_users, old_files
from matinee.lake.lake import Lake
from matinee.lake.schemas import QUARANTINE, USERS
from matinee.lake.storage import store_errors

SEEN_US = 60 * SECOND
"""How old a tombstone is when every process that takes in has seen it."""
READ_SECONDS = 600.0
"""For so long whoever reads an older version of a table may go on."""
LATE_US = 12 * HOUR
"""How old an erasure is when it is an alarm that it is not done; it is promised within a day."""
_AGAIN_SECONDS = 60.0
_STEP = 5_000
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A round whose rows are gone."""

    erasures: tuple[Erasure, ...]
    at: float
    files: Files
    log_ends: Mapping[int, int]


class StoreErasure:
    """Erases from the stores of a home. Belongs to one thread, which commits nothing meanwhile.

    Args:
        home: whose tombstones are followed.
        stores: the open stores; ingest trims the log.
        raise_alarm: told where an erasure is late.
    """

    def __init__(self, home: Home, stores: Opened, raise_alarm: RaiseAlarm) -> None:
        self._home = home
        self._stores = stores
        self._raise_alarm = raise_alarm
        self._clock: Clock = stores.lake.clock
        self._tombstones = Tombstones(home.data / ERASED)
        self._begun: _Begun | None = None
        self._again_at = float("-inf")
        self._told_late = False

    def work(self) -> None:
        """Do what is due now. Costs nothing where nobody is to be erased; no error of a store is raised."""
        erased = self._tombstones.current()
        now_us = self._clock.now_us()
        waiting = tuple(one for one in erased.pending("stores") if now_us - one.asked_us >= SEEN_US)
        if not waiting or self._clock.monotonic() < self._again_at:
            return
        try:
            self._go_on(erased, waiting)
        except RetryableError as error:
            self._again_at = self._clock.monotonic() + _AGAIN_SECONDS
            _log.warning("not_erased_yet", error=str(error))
        if now_us - waiting[0].asked_us >= LATE_US and not self._told_late:
            self._told_late = True
            remedy = "See the warnings `not_erased_yet` and `erasure_waits_for_the_log` in the log of ingest."
            self._raise_alarm("erasure_late", "critical", {"asked_us": waiting[0].asked_us}, remedy)

    def _go_on(self, erased: Erasures, waiting: tuple[Erasure, ...]) -> None:
        begun = self._begun
        if begun is None:
            self._begun = begin(self._home, self._stores, erased, waiting)
        elif self._clock.monotonic() - begun.at >= READ_SECONDS:
            if not is_trimmed(self._stores, begun.log_ends):
                self._again_at = self._clock.monotonic() + _AGAIN_SECONDS
                _log.warning("erasure_waits_for_the_log", ends=dict(begun.log_ends))
                return
            self._begun = None
            if finish(self._home, self._stores, erased, begun):
                self._told_late = False


def erase_now(home: Home, stores: Opened) -> bool:
    """Erase from the stores at once, where nobody else works in the home; whether all is done.

    It is not where the event log holds records that the lake does not have yet, which may be the users'.

    Raises:
        RetryableError: a store did not answer; the same call goes through later.
    """
    erased = read_erasures(home.data / ERASED)
    waiting = erased.pending("stores")
    if not waiting:
        return True
    begun = begin(home, stores, erased, waiting)
    return is_trimmed(stores, begun.log_ends) and finish(home, stores, erased, begun)


def begin(home: Home, stores: Opened, erased: Erasures, waiting: tuple[Erasure, ...]) -> _Begun:
    """Delete what there is of erased users, but for bytes that nothing leads to any more."""
    rows = _delete(home, stores.lake, erased)
    users = stores.history.erase(erased)
    _log.info("erasing", users=len(waiting), rows=rows, users_in_history=users)
    return _Begun(waiting, stores.lake.clock.monotonic(), old_files(stores.lake), stores.log.ends())


def finish(home: Home, stores: Opened, erased: Erasures, begun: _Begun) -> bool:
    """Delete those bytes, and note that it is done; or not, where somebody has added rows since `begin`."""
    if _delete(home, stores.lake, erased) or stores.history.erase(erased):
        return False
    files = delete_files(stores.lake, begun.files)
    stores.log.scrub()
    mark_done(home, "stores", begun.erasures, stores.lake.clock.now_us())
    _log.info("erased", users=len(begun.erasures), files_deleted=files)
    return True


def is_trimmed(stores: Opened, ends: Mapping[int, int]) -> bool:
    """Whether the log holds nothing below these positions, or keeps what it holds for as long as it likes."""
    if not stores.log.trims:
        return True
    begins = stores.log.begins()
    return all(begins.get(partition, end) >= end for partition, end in ends.items())


def _delete(home: Home, lake: Lake, erased: Erasures) -> int:
    """Delete rows, in the order that `forget_users` asks for; how many."""
    first = sum(delete_users(lake, table.name, erased) for table in BY_USER if table is not USERS)
    unread = _delete_unread(lake, erased)
    return first + unread + forget_users(home, erased) + delete_users(lake, USERS.name, erased)


def _delete_unread(lake: Lake, erased: Erasures) -> int:
    """Delete from the quarantine what names an erased user."""
    at = ["generation", "partition", "position"]
    named = []
    with store_errors("looking for erased users in the quarantine"):
        for batch in lake.read(QUARANTINE.name, columns=[*at, "raw"]).collect_batches(chunk_size=_STEP):
            is_theirs = pl.Series([is_named(raw, erased) for raw in batch["raw"]], dtype=pl.Boolean)
            named.append(batch.filter(is_theirs).select(at))
    wanted = pl.concat(named) if named else pl.DataFrame()
    for where in places(wanted) if wanted.height else ():
        lake.transact(QUARANTINE.name, deleting(where))
    return wanted.height
