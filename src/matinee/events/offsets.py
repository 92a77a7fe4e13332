"""Where a record stands: an offset is (generation, partition, position)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """One partition of one generation of a log, or of a file: what a position is counted within."""

    generation: str
    partition: int

    def __str__(self) -> str:
        return f"{self.generation}/{self.partition}"
