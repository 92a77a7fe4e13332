"""The three stores that ingest works with, and how each is opened."""

from collections.abc import Callable
from dataclasses import dataclass

from matinee.core.clock import Clock
from matinee.core.home import Home
from matinee.core.settings import Settings
from matinee.history.base import History
from matinee.history.open import open_history
from matinee.lake.lake import Lake
from matinee.log.base import EventLog
from matinee.log.open import open_log


@dataclass(frozen=True, slots=True)
class Stores:
    """How to open the stores. Each call may raise a `RetryableError`, and is then made again.

    Attributes:
        log_url: what the log is known by from run to run.
        log: opens the event log.
        lake: opens the lake.
        history: opens the history for writing.
    """

    log_url: str
    log: Callable[[], EventLog]
    lake: Callable[[], Lake]
    history: Callable[[], History]


def stores_of(settings: Settings, home: Home, clock: Clock) -> Stores:
    """The stores that the settings name."""
    return Stores(
        # With its placeholders: a home that is moved keeps knowing its log.
        log_url=settings.log.url,
        log=lambda: open_log(home.resolve(settings.log.url), clock),
        lake=lambda: Lake(home.resolve(settings.lake.url), clock),
        history=lambda: open_history(home.resolve(settings.history.url)),
    )


@dataclass(frozen=True, slots=True)
class Opened:
    """The three stores, open."""

    log: EventLog
    lake: Lake
    history: History
