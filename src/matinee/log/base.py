"""The interface of an event log.

Acknowledged means durable; in order within a partition; positions never reused within a generation. A log has
a random generation id: one that was lost or made again gets a new one, because positions then mean something
else. An offset is (generation, partition, position).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from matinee.core.errors import GenerationChanged

if TYPE_CHECKING:  # only readers need NumPy: a process that appends stays small without
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Records:
    """Consecutive records of one partition. `positions` increase, and may have gaps."""

    generation: str
    partition: int
    positions: NDArray[np.int64]
    appended_us: NDArray[np.int64]
    """When the log took each record, in UTC microseconds."""
    values: list[bytes]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Sharing:
    """How a reader shares the partitions of a log with the other readers of its group.

    Each partition is one reader's at a time. Both functions are called from within `Reader.poll`, in its thread.
    """

    group: str
    """Readers that name the same group share; where each begins is asked anew of `start`, not of the group."""
    release: Callable[[frozenset[int]], None]
    """Called before these partitions become another reader's: it is time to finish what was read of them."""
    lost: Callable[[frozenset[int]], None]
    """Called when these partitions have become another reader's already, because this one slept for too long."""


class Reader(Protocol):
    """Reads on from where it stands. Belongs to one thread."""

    @property
    def positions(self) -> Mapping[int, int] | None:
        """Of each partition that is this reader's, the position that it reads on from.

        Nothing as long as its group has not given it any.
        """

    def poll(self, *, max_records: int, timeout: float) -> list[Records]:
        """Up to `max_records` further records, at most one batch a partition.

        Waits up to `timeout` seconds for the first; an empty list means that none came.

        Raises:
            GenerationChanged: the log was lost or made again since the reader was opened, or it ends before the
                position that the reader was to start at.
            StoreUnavailable: the log did not answer. Nothing is skipped: the next poll gives what this one would.
        """

    def rewind(self) -> None:
        """Begin again, of each partition that is this reader's, at the position that `start` now gives."""

    def close(self) -> None:
        """Let go of what the reader holds."""


def ends_too_early(log: str, partition: int, end: int, start: int) -> GenerationChanged:
    """The error of a log that ends before the position that its reader has reached."""
    return GenerationChanged(
        f"partition {partition} of the event log {log} ends at {end}, but the lake holds it up to {start}: "
        "an older copy of the log was put back",
        remedy="Put the newer log back, or move this one away: it then begins anew, with a generation of its own.",
    )


class EventLog(Protocol):
    """A log that many processes append to and read from at once."""

    @property
    def generation(self) -> str:
        """The log's random id, for as long as its positions mean the same."""

    @property
    def trims(self) -> bool:
        """Whether `trim` deletes. Where not, the log has a retention of its own."""

    def append(self, values: Sequence[bytes], *, partition: int = 0) -> int:
        """Append records in order and return the last one's position. On return they are durable.

        Raises:
            StoreUnavailable: nothing was acknowledged; the same call may go through later. A log beyond this
                machine may hold some of the records all the same, and then holds them twice: ingest finds those.
            OutOfRoom: the same, because the disk is full.
        """

    def begins(self) -> dict[int, int]:
        """Of each partition, the position of the first record that can still be read, or its end."""

    def ends(self) -> dict[int, int]:
        """Of each partition, the position after its last record. What is still to come is at or after it."""

    def reader(self, start: Callable[[int], int], *, sharing: Sharing | None = None) -> Reader:
        """A reader whose first record of partition `p` is the first at or after position `start(p)`.

        Args:
            start: asked whenever a partition becomes this reader's.
            sharing: how it shares the partitions with others; it reads all of them unless given. A log of one
                machine has one reader, and takes no notice.

        Raises:
            GenerationChanged: the log is another one, or ends before a position that `start` gives.
        """

    def trim(self, before: Mapping[int, int]) -> int:
        """Delete records of partition `p` at positions below `before[p]`; returns how many went. See `trims`."""

    def scrub(self) -> None:
        """Let no byte of what was trimmed be left in the log's own files, where it has any.

        Raises:
            StoreUnavailable: others were using the log; the same call may go through later.
            OutOfRoom: the same, because there is no room for a second copy of what is left.
        """

    def close(self) -> None:
        """Let go of what the log holds."""

    def __enter__(self) -> Self:
        """The log itself; leaving the block closes it."""

    def __exit__(self, *exception: object) -> None:
        """Close the log."""
