"""What an answer is, how it came to be, and what it did without."""

from collections.abc import Callable, Set
from enum import StrEnum

import msgspec

from matinee.core.clock import Clock


class Step(StrEnum):
    """The steps of the fallback chain."""

    PERSONAL = "personal"
    """The bundle's top 100 of this user, looked up."""
    FOLDED_IN = "folded_in"
    """Scored from what the user did lately: now, or since the user last did something."""
    POPULAR_IN_SEGMENT = "popular_in_segment"
    POPULAR = "popular"


class Part(StrEnum):
    """What an answer may have to do without."""

    BUNDLE_USER = "bundle_user"
    HISTORY = "history"
    FOLD_CACHE = "fold_cache"
    FOLD_IN = "fold_in"
    LOOK_UP = "look_up"
    SEGMENT = "segment"
    RERANK = "rerank"
    MIX = "mix"
    EXPLORATION = "exploration"
    EXPLANATION = "explanation"


class Reason(StrEnum):
    """Why an answer did without a part."""

    ERROR = "error"
    DEADLINE = "deadline"
    OVERLOAD = "overload"
    BREAKER = "breaker"
    """The store failed too often of late to be asked."""


class Unexplained(StrEnum):
    """Why an answer could not be explained, though that was asked for."""

    HISTORY = "history"
    """What the user did lately cannot be read."""
    BUSY = "busy"
    """There was no time left, or there is too much to do."""
    MODEL = "model"
    """The bundle's model cannot tell."""
    ERROR = "error"
    """It failed; the log says how."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What one user is shown."""

    items: tuple[str, ...]
    """Item ids, best first; none that the user has seen, unless that was asked for."""
    scores: tuple[float, ...]
    """Aligned with `items`; empty where the step has none, popularity had to fill up, or chance had a share."""
    step: Step
    arm: str
    model_version: str
    propensities: tuple[float, ...] = ()
    """Aligned with `items`: how likely each was to stand in its place. Empty where nothing was left to chance."""
    reasons: tuple[tuple[str, ...], ...] = ()
    """Aligned with `items`: ids of the liked items that speak for each, strongest first. Empty unless asked for."""
    unexplained: Unexplained | None = None
    """Why `reasons` cannot say what they were asked for; nothing where they do, even where none was found."""


class Budget(msgspec.Struct, frozen=True, gc=False):
    """The time that an answer may take, counted from the request's arrival."""

    clock: Clock
    ends: float
    """On the clock's monotonic scale, in seconds."""

    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self.clock.monotonic() >= self.ends


def unexplained(missed: Set[tuple[Part, Reason]], can_tell: bool) -> Unexplained | None:
    """Why an answer gives no reasons, from what it did without and whether its model can tell them."""
    if not can_tell:
        return Unexplained.MODEL
    of = {part: reason for part, reason in missed if part in {Part.HISTORY, Part.EXPLANATION}}
    if {Reason.OVERLOAD, Reason.DEADLINE}.intersection(of.values()):
        return Unexplained.BUSY
    if Part.HISTORY in of:
        return Unexplained.HISTORY
    return Unexplained.ERROR if of else None


DoneWithout = Callable[[Part, Reason, Exception | None], None]
"""Told of each part that an answer did without, and why; with the error where there was one."""
