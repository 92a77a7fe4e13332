"""The interface of a history store."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from matinee.events.offsets import Source
from matinee.history.record import Glance, UserHistory


@dataclass(frozen=True, slots=True)
class Actions:
    """What users did, in any order: columns of equal length, for speed.

    A store is faster where a user's rows stand together, users in the order of their ids.
    """

    positions: list[int]
    users: list[str]
    items: list[str]
    times_us: list[int]
    """0 where the source has no times."""
    minutes: list[int | None]
    """The minute of the item that was watched; nothing for a rating."""
    ratings: list[float | None]
    """The rating that was given; nothing for watching."""

    def __len__(self) -> int:
        return len(self.positions)


class History(Protocol):
    """Per user, the latest items. Every write is idempotent by offset."""

    def apply(self, source: Source, actions: Actions, *, end: int) -> int:
        """Fold actions in and remember that `source` is applied below `end`.

        Actions at positions already applied are passed over. All in one transaction. Returns how many were new.

        Raises:
            StoreUnavailable: nothing was applied; the same call may go through later.
            OutOfRoom: the same, because the disk or the map is full.
        """

    def get(self, user: str) -> UserHistory | None:
        """What the user did lately, or nothing for a stranger.

        Raises:
            StoreUnavailable: the store did not answer.
        """

    def glance(self, user: str) -> Glance | None:
        """Which items the user met lately, and how far; raises as `get`."""

    def is_replaced(self) -> bool:
        """Whether another store took this one's place since it was opened, so that what it says is old."""

    def applied(self) -> Mapping[Source, int]:
        """Of each source, the position below which everything is applied."""

    def items(self) -> Iterator[tuple[str, UserHistory]]:
        """Every user with what they did, in the order of the ids."""

    def clear(self) -> None:
        """Forget everything, as before a rebuild."""

    def erase(self, erased: Container[str]) -> int:
        """Forget users so that no byte of them is left, and return how many there were.

        Raises:
            StoreUnavailable: the same call may go through later; nobody, or everybody, was forgotten.
            OutOfRoom: the same, because there is no room for a second copy.
        """

    def sync(self) -> None:
        """Make what was applied survive a power cut (a crashed process never loses it)."""

    def close(self) -> None:
        """Let go of what the store holds."""

    def __enter__(self) -> Self:
        """The store itself; leaving the block closes it."""

    def __exit__(self, *exception: object) -> None:
        """Close the store."""
