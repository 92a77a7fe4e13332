"""The three stores that ingest works with, and how each is opened."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from matinee.core.clock import Clock
from matinee.core.home import Home
from matinee.core.settings import Settings
from matinee.history.base import History
from matinee.history.open import open_history
from matinee.lake.lake import Lake
from matinee.lake.schemas import SOURCES
from matinee.log.base import EventLog
from matinee.log.open import is_shared, open_log


@dataclass(frozen=True, slots=True)
class Stores:
    """How to open the stores. Each call may raise a `RetryableError`, and is then made again.

    Attributes:
        log_url: what the log is known by from run to run.
        log: opens the event log.
        lake: opens the lake.
        history: opens the history for writing.
        shared: whether several processes take in this log together.
    """

    log_url: str
    log: Callable[[], EventLog]
    lake: Callable[[], Lake]
    history: Callable[[], History]
    shared: bool = False


def stores_of(settings: Settings, home: Home, clock: Clock) -> Stores:
    """The stores that the settings name."""
    shared = is_shared(settings.log.url)
    return Stores(
        # With its placeholders: a home that is moved keeps knowing its log.
        log_url=settings.log.url,
        log=lambda: open_log(home.resolve(settings.log.url), clock),
        lake=lambda: Lake(home.resolve(settings.lake.url), clock),
        history=lambda: open_history(home.resolve(settings.history.url), shared=shared),
        shared=shared,
    )


@dataclass(frozen=True, slots=True)
class Opened:
    """The three stores, open."""

    log: EventLog
    lake: Lake
    history: History


def group_of(lake: Lake) -> str:
    """The name of the group of those who take in a log for this lake.

    Two lakes never share one, not even a lake and its copy: each would get half of the log.
    """
    identity = f"{lake.table(SOURCES.name).metadata().id} {lake.folder.resolve()}"
    return f"matinee-{hashlib.sha256(identity.encode()).hexdigest()[:20]}"
