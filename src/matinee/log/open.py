"""Opening an event log by URL."""

from pathlib import Path

from matinee.core.clock import Clock
from matinee.core.errors import ConfigurationError
from matinee.log.base import EventLog
from matinee.log.sqlite import SqliteLog

_SQLITE = "sqlite:///"


def open_log(url: str, clock: Clock, *, generation: str | None = None) -> EventLog:
    """The event log at `url`: `sqlite:///PATH`; made when missing, unless a generation is expected.

    Args:
        url: where it is. PATH begins after the third slash: `sqlite:////srv/log.sqlite` is absolute,
            `sqlite:///log.sqlite` is in the working folder.
        clock: gives records the time at which they were taken.
        generation: the generation that the caller's positions belong to, where it has some.

    Raises:
        ConfigurationError: no back end has the URL's form.
        GenerationChanged: the log is gone, or its generation is not the one expected.
    """
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return SqliteLog(Path(url.removeprefix(_SQLITE)), clock, generation=generation)
    raise ConfigurationError(f"{url!r} is not the URL of an event log", remedy="Known forms: sqlite:///PATH.")
