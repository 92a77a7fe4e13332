"""What reading one record gives, and how a reader says that it cannot be read."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from matinee.events.schema import Outcome, Reason
from matinee.events.types import KINDS, Event


class Repair(StrEnum):
    """What was done to a line to read it; `repair` says why each is certain."""

    SECONDS = "seconds"
    STRAY = "stray"


class Unreadable(Exception):
    """A record cannot be read. It never leaves this package: readers turn it into a quarantined reading.

    Args:
        reason: the class it is counted under.
        detail: for people, the text at fault.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Reading:
    """One record, read: accepted or repaired with its event, or quarantined with the reason."""

    outcome: Outcome
    received_us: int
    """When the producer says it received the record, else when the log took it."""
    dedup_key: bytes
    event: Event | None = None
    repairs: tuple[Repair, ...] = ()
    reason: Reason | None = None
    detail: str = ""
    """Where and what was wrong, for people; empty unless quarantined."""
    event_id: str | None = None
    producer: str | None = None
    raw: bytes | None = None
    """The record, where `event` does not say all that it said."""

    def as_dict(self) -> dict[str, Any]:
        """The reading, flat and ready for JSON: bytes as text, the key in hexadecimal, the event's fields."""
        kind = next((kind for kind, event_type in KINDS.items() if type(self.event) is event_type), None)
        event: dict[str, Any] = msgspec.to_builtins(self.event) if self.event else {}
        return {
            "outcome": self.outcome.value,
            "reason": self.reason.value if self.reason else None,
            "detail": self.detail or None,
            "repairs": [repair.value for repair in self.repairs],
            "kind": kind,
            **event,
            "received_us": self.received_us,
            "event_id": self.event_id,
            "producer": self.producer,
            "dedup_key": self.dedup_key.hex(),
            "raw": None if self.raw is None else self.raw.decode(errors="replace"),
        }


def shown(text: str, limit: int = 60) -> str:
    """`text` in quotes, cut to what fits a message."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
