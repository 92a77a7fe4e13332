"""The events that matinee speaks of. Small, typed, and read by everyone.

All times are UTC microseconds since 1970. Ids have the form of `matinee.core.ids`.
"""

from typing import Annotated

import msgspec

from matinee.core.clock import DAY
from matinee.core.ids import ID_PATTERN

Id = Annotated[str, msgspec.Meta(pattern=rf"^{ID_PATTERN}\Z")]
LAST_US = 253_402_300_799_999_999
"""The last microsecond of the year 9999: no later time can be shown to people."""
MAX_AHEAD_US = DAY
"""An event this far after its receive time is still believed; beyond it is `future_time`."""
MIN_RATING, MAX_RATING = 0.5, 5.0
"""MovieLens rates in half stars from 0.5; a line of the stream in whole stars from 1."""
Stars = Annotated[float, msgspec.Meta(ge=MIN_RATING, le=MAX_RATING)]
MAX_STATUS = 999
Status = Annotated[int, msgspec.Meta(ge=0, le=MAX_STATUS)]
"""An HTTP status, or 0 where no answer came."""
Milliseconds = Annotated[float, msgspec.Meta(ge=0)]
Score = Annotated[float, msgspec.Meta(ge=-3e38, le=3e38)]
"""What a 32-bit float can hold."""
MAX_MINUTE = 1_439
"""The last minute of a day: no movie is longer."""
Minute = Annotated[int, msgspec.Meta(ge=0, le=MAX_MINUTE)]


class Watch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody requested one minute of an item."""

    time_us: int
    user: Id
    item: Id
    minute: Minute


class Rating(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody rated an item. Without a time where the source has none."""

    time_us: int | None = None
    user: Id
    item: Id
    rating: Stars


class Received(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The caller's line about an answer it got, or failed to get (status 0 and an error)."""

    time_us: int
    user: Id
    host: str
    status: Status
    items: tuple[Id, ...] = ()
    latency_ms: Milliseconds | None = None
    error: str | None = None


class Served(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Our record of an answer we gave.

    `step` is the step of the fallback chain that answered (`personal`, `folded_in`, `popular_in_segment`,
    `popular`). `scores` is aligned with `items`, or empty where the step has none, and where they
    stand in the bundle that `model_version` names (`personal`); `propensities` is the probability with which each
    item was shown, empty where nothing was left to chance.
    """

    time_us: int
    request_id: str
    user: Id
    items: tuple[Id, ...]
    model_version: str
    arm: str
    step: str
    latency_ms: Milliseconds
    scores: tuple[Score, ...] = ()
    propensities: tuple[Score, ...] = ()


Event = Watch | Rating | Received | Served
KINDS: dict[str, type[Event]] = {"watch": Watch, "rating": Rating, "received": Received, "served": Served}
