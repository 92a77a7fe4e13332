"""Counting what became of records. The classes always add up to what was read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from matinee.core.errors import Corrupt
from matinee.events.schema import Outcome


@dataclass(frozen=True, slots=True)
class Counts:
    """Records by class.

    Attributes:
        read: all of them.
        accepted: taken as they were.
        repaired: taken after a certain repair.
        duplicate: seen before.
        quarantined: set aside, with a reason.
        reasons: quarantined records by reason.
        erased: of users who are erased: dropped, and kept nowhere.

    Raises:
        Corrupt: the classes do not add up to `read`, or the reasons to `quarantined`.
    """

    read: int = 0
    accepted: int = 0
    repaired: int = 0
    duplicate: int = 0
    quarantined: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    erased: int = 0

    def __post_init__(self) -> None:
        if self.accepted + self.repaired + self.duplicate + self.quarantined + self.erased != self.read:
            raise Corrupt(f"the classes do not add up to the records read: {self}")
        if sum(self.reasons.values()) != self.quarantined:
            raise Corrupt(f"the reasons do not add up to the records quarantined: {self}")

    def __add__(self, other: "Counts") -> "Counts":
        reasons = {
            name: self.reasons.get(name, 0) + other.reasons.get(name, 0)
            for name in sorted({*self.reasons, *other.reasons})
        }
        return Counts(
            self.read + other.read,
            self.accepted + other.accepted,
            self.repaired + other.repaired,
            self.duplicate + other.duplicate,
            self.quarantined + other.quarantined,
            reasons,
            self.erased + other.erased,
        )

    def as_dict(self) -> dict[str, Any]:
        """The counts, for people and programs."""
        return {
            "read": self.read,
            "accepted": self.accepted,
            "repaired": self.repaired,
            "duplicate": self.duplicate,
            "quarantined": self.quarantined,
            "reasons": dict(self.reasons),
            "erased": self.erased,
        }


def count(frame: pl.DataFrame, *, read: int, erased: int = 0) -> Counts:
    """Count the rows of a frame of `READ_SCHEMA` by class.

    Args:
        frame: one row per record that was not dropped.
        read: how many records there were.
        erased: how many of them were dropped, because their users are erased.

    Raises:
        Corrupt: they do not add up.
    """
    found = dict(frame["outcome"].value_counts().iter_rows())
    reasons: dict[str, int] = {}
    if found.get(Outcome.QUARANTINED):
        named = frame.filter(pl.col("reason").is_not_null())["reason"]
        reasons = dict(sorted(named.value_counts().iter_rows()))
    return Counts(
        read,
        found.get(Outcome.ACCEPTED, 0),
        found.get(Outcome.REPAIRED, 0),
        found.get(Outcome.DUPLICATE, 0),
        found.get(Outcome.QUARANTINED, 0),
        reasons,
        erased,
    )
