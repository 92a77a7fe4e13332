"""What ingest does for the lake and for history besides taking in its log: between commits, never beside one."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from functools import partial

from matinee.core.alarms import RaiseAlarm
from matinee.core.budget import MEGABYTE, REMEDY, Gate, Room, Sizes, State, data_gate, data_room, measure, room_of
from matinee.core.errors import Locked, OutOfRoom, RetryableError
from matinee.core.home import Home
from matinee.core.logging import get_logger, prune_rotated
from matinee.core.settings import Settings
from matinee.ingest.erasure import StoreErasure
from matinee.ingest.rebuild import catch_up
from matinee.ingest.stores import Opened
from matinee.lake.lake import Lake
from matinee.lake.maintenance import Maintained, maintain
from matinee.lake.rollup import RolledUp, roll_up

_log = get_logger(__name__)
Protected = Callable[[], Iterable[Mapping[str, int]]]
"""Says which versions of the lake's tables must stay readable: by table, those behind kept bundles."""

OTHERS_EVERY_SECONDS = 2.0
"""How often ingest looks whether an import has given the lake something that history lacks."""
OTHERS_POSITIONS = 100_000
"""How much of it is folded in at a time, so that commits do not wait long."""
MAKE_ROOM_SECONDS = 60.0
"""How often maintenance is tried while the lake is full."""
PRUNE_SECONDS = 10.0
"""How often the logs are held to their budget."""


def keep_house(
    lake: Lake, settings: Settings, home: Home, protected: Iterable[Mapping[str, int]]
) -> tuple[RolledUp, list[Maintained]]:
    """Vacuum, delete what is past its retention, compact and gather closed days, as the settings say.

    In this order: what frees room comes before what takes some. While the home's data root is full, nothing is
    compacted: the files that it replaces stay for as long as versions are kept. Days are gathered even then: a
    little is written for much that goes, and without it there might never be room again.

    Raises:
        StoreUnavailable: the store failed, or other writers were always quicker.
        OutOfRoom: the disk is full.
    """
    maintained = maintain(
        lake,
        retention_days=settings.lake.retention_days,
        keep_versions_days=settings.lake.keep_versions_days,
        protect=protected,
        compacts=data_room(home, settings.budget).state != "full",
    )
    keep = settings.lake.keep_watches_days
    rolled_up = RolledUp() if keep is None else roll_up(lake, keep)
    return rolled_up, maintained


class Upkeep:
    """Maintenance of the lake within its budget, erasure, and history of sources that others put into the lake.

    An import writes to the lake while ingest runs, but only one process writes to history at a time: that is
    ingest, which then gives history what the import brought. Of several processes that take in one log, one looks
    after the lake: the first to come to it, until it ends.

    Args:
        stores: the open stores.
        settings: how often to maintain, how long to keep what, and how much room there may be.
        home: whose roots are measured.
        raise_alarm: told when the data or the log root is nearly full or full.
        protected: versions that maintenance must leave readable.
        stopping: whether an end was asked for.
    """

    def __init__(
        self,
        stores: Opened,
        settings: Settings,
        home: Home,
        raise_alarm: RaiseAlarm,
        protected: Protected,
        stopping: Callable[[], bool],
    ) -> None:
        self._stores = stores
        self._settings = settings
        self._home = home
        self._raise_alarm = raise_alarm
        self._protected = protected
        self._stopping = stopping
        self._clock = stores.lake.clock
        self._looked_at = self._made_room_at = self._pruned_at = float("-inf")
        self._maintained_at = self._clock.monotonic()
        budget = settings.budget
        logs = partial(room_of, "logs", home.logs, None, budget.reserve_megabytes)  # rotation holds its budget
        self._gate = data_gate(home, budget, self._clock, self._tell, REMEDY)
        self._logs_gate = Gate(logs, self._clock, self._tell)
        self._erasure = StoreErasure(home, stores, raise_alarm)
        self._leading = ExitStack()
        self._leads_already = False
        self.caught_up = 0
        """Actions of other sources that history got from the lake."""

    def after_commit(self, commits: int) -> None:
        """Maintain the lake after every so many commits, or so many minutes."""
        if commits % self._settings.lake.compact_after_commits == 0 or self._is_late():
            self._maintain()
        self._tend_logs()

    def require_room(self) -> None:
        """Return where the lake may take more; where it is full, first see whether maintenance makes room.

        Raises:
            OutOfRoom: the data root is full.
        """
        try:
            self._gate.require()
        except OutOfRoom:
            if self._clock.monotonic() - self._made_room_at < MAKE_ROOM_SECONDS:
                raise
            self._made_room_at = self._clock.monotonic()
            self._maintain()
            self._gate.require()

    def due(self, monotonic: float) -> bool:
        """Whether it is time for `between_commits`."""
        if monotonic - self._looked_at < OTHERS_EVERY_SECONDS:
            return False
        self._looked_at = monotonic
        return True

    def between_commits(self) -> None:
        """Erase who asked for it, give history some of what others put into the lake, maintain an idle lake."""
        if not self._leads():
            return
        self._erasure.work()
        mine = self._stores.log.generation
        try:
            self.caught_up += catch_up(
                self._stores.lake,
                self._stores.history,
                only=lambda source: source.generation != mine,
                at_most=OTHERS_POSITIONS,
                stopping=self._stopping,
            )
        except RetryableError as error:
            _log.warning("history_not_caught_up", error=str(error))
        if self._is_late():
            self._maintain()
        self._tend_roots()

    def close(self) -> None:
        """Leave it to another process, if there is one."""
        self._leading.close()

    def _tend_roots(self) -> None:
        self._tend_logs()
        with suppress(OutOfRoom):  # who commits nothing is told before the first that does not go through
            self._gate.require()

    def _tend_logs(self) -> None:
        """Tell of a lack of room for logs, and hold their budget: what supervisors rotate there prunes nothing."""
        with suppress(OutOfRoom):  # log files stop by themselves; the alarm is what was wanted
            self._logs_gate.require()
        if self._clock.monotonic() - self._pruned_at < PRUNE_SECONDS:
            return
        self._pruned_at = self._clock.monotonic()
        try:
            prune_rotated(self._home.logs, round(self._settings.budget.logs_megabytes * MEGABYTE))
        except OSError as error:
            _log.warning("logs_not_pruned", error=str(error))

    def _leads(self) -> bool:
        if not self._leads_already:
            try:
                self._leading.enter_context(self._home.lock("upkeep"))
            except Locked:
                return False
            except OutOfRoom:  # nobody leads then, who would tell of it
                self._tend_roots()
                return False
            self._leads_already = True
        return True

    def _is_late(self) -> bool:
        return self._clock.monotonic() - self._maintained_at >= 60 * self._settings.lake.maintain_minutes

    def _maintain(self) -> None:
        if not self._leads():
            return
        self._maintained_at = self._clock.monotonic()
        try:
            rolled_up, _ = keep_house(self._stores.lake, self._settings, self._home, self._protected())
            _log.info("maintained", events_gathered=rolled_up.events, days_changed=rolled_up.days)
        except RetryableError as error:  # the next time is soon enough
            _log.warning("not_maintained", error=str(error))
        try:
            Sizes(self._home, self._clock).note(measure(self._home, self._settings.budget))
        except OSError as error:
            _log.warning("sizes_not_noted", error=str(error))

    def _tell(self, state: State, room: Room) -> None:
        """A root is nearly full, full, or has room again."""
        evidence = {"root": room.root, "used": room.used, "budget": room.budget, "free_on_disk": room.free}
        if state == "full":
            self._raise_alarm("root_full", "critical", evidence, REMEDY)
        elif state == "nearly_full":
            self._raise_alarm("root_nearly_full", "warning", evidence, REMEDY)
        else:
            _log.warning("root_has_room_again", **evidence)
