"""What ingest did, told to people and programs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from matinee.ingest.counts import Counts

Progress = Callable[[str, int, int], None]
"""Called with what is going on, steps done, and steps in all (0 where that is not known)."""


def no_progress(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one run of ingest committed to the lake.

    Attributes:
        counts: records by class.
        rows: rows written, by table of the lake.
        commits: how often the lake was committed.
        seconds: how long the run took.
        waits: how often a store did not answer and ingest waited for it.
        left_in_log: records taken into history whose commit to the lake is left to the next run, because the lake
            did not answer when ingest was told to stop. They are safe in the log.
        caught_up: actions that history had missed, and got from the lake.
    """

    counts: Counts = field(default_factory=Counts)
    rows: Mapping[str, int] = field(default_factory=dict)
    commits: int = 0
    seconds: float = 0.0
    waits: int = 0
    left_in_log: int = 0
    caught_up: int = 0

    @property
    def records_per_second(self) -> float:
        """Records committed per second of the run, waiting included."""
        return self.counts.read / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The report, flat and ready for JSON."""
        return {
            **self.counts.as_dict(),
            "rows": dict(self.rows),
            "commits": self.commits,
            "seconds": round(self.seconds, 3),
            "records_per_second": round(self.records_per_second, 1),
            "waits": self.waits,
            "left_in_log": self.left_in_log,
            "caught_up": self.caught_up,
        }
