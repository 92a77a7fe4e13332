"""What ingest does for the lake and for history besides taking in its log: between commits, never beside one."""

from collections.abc import Callable, Iterable, Mapping

from matinee.core.errors import RetryableError
from matinee.core.logging import get_logger
from matinee.core.settings import LakeSettings
from matinee.ingest.rebuild import catch_up
from matinee.ingest.stores import Opened
from matinee.lake.maintenance import maintain

_log = get_logger(__name__)
Protected = Callable[[], Iterable[Mapping[str, int]]]
"""Says which versions of the lake's tables must stay readable: by table, those behind kept bundles."""

OTHERS_EVERY_SECONDS = 2.0
"""How often ingest looks whether an import has given the lake something that history lacks."""
OTHERS_POSITIONS = 100_000
"""How much of it is folded in at a time, so that commits do not wait long."""


class Upkeep:
    """Maintenance of the lake, and history of sources that others put into the lake.

    An import writes to the lake while ingest runs, but only one process writes to history at a time: that is
    ingest, which then gives history what the import brought.

    Args:
        stores: the open stores.
        settings: how often to compact, and how long to keep what.
        protected: versions that maintenance must leave readable.
        stopping: whether an end was asked for.
    """

    def __init__(
        self, stores: Opened, settings: LakeSettings, protected: Protected, stopping: Callable[[], bool]
    ) -> None:
        self._stores = stores
        self._settings = settings
        self._protected = protected
        self._stopping = stopping
        self._looked_at = float("-inf")
        self.caught_up = 0
        """Actions of other sources that history got from the lake."""

    def after_commit(self, commits: int) -> None:
        """Compact, and delete what is too old, after every so many commits."""
        if commits % self._settings.compact_after_commits:
            return
        try:
            maintain(
                self._stores.lake,
                retention_days=self._settings.retention_days,
                keep_versions_days=self._settings.keep_versions_days,
                protect=self._protected(),
            )
        except RetryableError as error:  # the next time is soon enough
            _log.warning("not_maintained", error=str(error))

    def due(self, monotonic: float) -> bool:
        """Whether it is time to look what others put into the lake."""
        if monotonic - self._looked_at < OTHERS_EVERY_SECONDS:
            return False
        self._looked_at = monotonic
        return True

    def catch_up_others(self) -> None:
        """Give history some of what others put into the lake."""
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
