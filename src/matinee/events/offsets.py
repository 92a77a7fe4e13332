"""Where a record stands: an offset is (generation, partition, position)."""

from typing import NamedTuple


class Source(NamedTuple):
    """One partition of one generation of a log, or of a file: what a position is counted within."""

    generation: str
    partition: int

    def __str__(self) -> str:
        return f"{self.generation}/{self.partition}"
