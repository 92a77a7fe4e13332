"""The interface of an event log.

Acknowledged means durable; in order within a partition; positions never reused within a generation. A log has
a random generation id: one that was lost or made again gets a new one, because positions then mean something
else. An offset is (generation, partition, position).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

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


class Reader(Protocol):
    """Reads on from where it stands. Belongs to one thread."""

    def poll(self, *, max_records: int, timeout: float) -> list[Records]:
        """Up to `max_records` further records, at most one batch a partition.

        Waits up to `timeout` seconds for the first; an empty list means that none came.

        Raises:
            GenerationChanged: the log was lost or made again since the reader was opened.
            StoreUnavailable: the log did not answer.
        """

    def close(self) -> None:
        """Let go of what the reader holds."""


class EventLog(Protocol):
    """A log that many processes append to and read from at once."""

    @property
    def generation(self) -> str:
        """The log's random id, for as long as its positions mean the same."""

    def append(self, values: Sequence[bytes], *, partition: int = 0) -> int:
        """Append records in order and return the last one's position. On return they are durable.

        Raises:
            StoreUnavailable: nothing was appended; the same call may go through later.
            OutOfRoom: the same, because the disk is full.
        """

    def ends(self) -> dict[int, int]:
        """Of each partition, the position after its last record. What is still to come is at or after it."""

    def reader(self, start: Callable[[int], int]) -> Reader:
        """A reader whose first record of partition `p` is the first at or after position `start(p)`."""

    def trim(self, before: Mapping[int, int]) -> int:
        """Delete records of partition `p` at positions below `before[p]`; returns how many went."""

    def close(self) -> None:
        """Let go of what the log holds."""

    def __enter__(self) -> Self:
        """The log itself; leaving the block closes it."""

    def __exit__(self, *exception: object) -> None:
        """Close the log."""
