"""Opening an event log by URL."""

import os
from pathlib import Path

from matinee.core.clock import Clock
from matinee.core.errors import ConfigurationError
from matinee.log.base import EventLog
from matinee.log.kafka_url import FORM as KAFKA_FORM
from matinee.log.kafka_url import SCHEME as _KAFKA
from matinee.log.kafka_url import parse_topic
from matinee.log.sqlite import SqliteLog

_SQLITE = "sqlite:///"


def open_log(url: str, clock: Clock, *, generation: str | None = None, appends: bool = False) -> EventLog:
    """The event log at `url`; made when missing, unless a generation is expected.

    Args:
        url: where it is. `sqlite:///PATH`: PATH begins after the third slash, so that `sqlite:////srv/log.sqlite`
            is absolute and `sqlite:///log.sqlite` in the working folder. `kafka://HOST:PORT/TOPIC`: see
            `kafka_url`.
        clock: gives records the time at which they were taken, and waits.
        generation: the generation that the caller's positions belong to, where it has some.
        appends: whether the caller is going to append, so that the log gets ready for it meanwhile: the first
            append to a log beyond this machine is then no slower than those after it.

    Raises:
        ConfigurationError: no back end has the URL's form, or an option is wrong.
        GenerationChanged: the log is gone, or its generation is not the one expected.
        StoreUnavailable: it did not answer.
    """
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return SqliteLog(Path(url.removeprefix(_SQLITE)), clock, generation=generation)
    if is_shared(url):
        from matinee.log.kafka import KafkaLog  # noqa: PLC0415 - 20 MB that the embedded log does without

        return KafkaLog(parse_topic(url, os.environ), clock, generation=generation, appends=appends)
    raise ConfigurationError(
        f"{url.partition('://')[0]!r} does not begin the URL of an event log",
        remedy=f"Known forms: sqlite:///PATH, {KAFKA_FORM}.",
    )


def is_shared(url: str) -> bool:
    """Whether several processes may share the reading of the log at `url`; see `log.base.Sharing`."""
    return url.startswith(_KAFKA)
