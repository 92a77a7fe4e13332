"""One line of the scenario, read strictly. What is wrong is said by the most telling reason.

The form is looked at first (else `unknown_form`), then the fields from left to right: one that is empty or
absent is a `missing_field`, one that cannot be what it stands for has a reason of its own.
"""

import re
from typing import NamedTuple

from matinee.core.ids import MAX_ID_LENGTH
from matinee.events import grammar
from matinee.events.reading import Unreadable, shown
from matinee.events.schema import Reason
from matinee.events.times import local_to_us
from matinee.events.types import MAX_MINUTE, Event, Rating, Received, Watch

_TIME = re.compile(grammar.TIME)
_USER = re.compile(grammar.USER)
_MOVIE = re.compile(grammar.MOVIE)
_MINUTE = re.compile(grammar.MINUTE)
_RATING = re.compile(grammar.RATING)
_HOST = re.compile(grammar.HOST)
_STATUS = re.compile(grammar.STATUS)
_ANSWER = re.compile(rf"(?:(.*), |, )?({grammar.MILLISECONDS}) ms", re.DOTALL)
_FAILURE = re.compile(rf"(.*), ({grammar.MILLISECONDS}) ms", re.DOTALL)


class Line(NamedTuple):
    """A line's event, and what its typed fields leave unsaid."""

    event: Event
    without_seconds: bool
    cut: bool
    """Digits past the microsecond were cut."""


def parse_line(line: str, timezone: str) -> Line:
    """Read a line without its line end, as it stands.

    Raises:
        Unreadable: with the reason.
    """
    time, user, request = _split(line)
    time_us, match = _time_us(time, timezone)
    if not user:
        raise Unreadable(Reason.MISSING_FIELD, "the user is missing")
    if not _USER.fullmatch(user):
        raise Unreadable(Reason.BAD_USER_ID, f"user {shown(user)} is not 1 to 18 digits")
    event: Event
    if request.startswith(grammar.WATCH_FORM):
        event = _watch(time_us, user, request.removeprefix(grammar.WATCH_FORM))
    elif request.startswith(grammar.RATING_FORM):
        event = _rating(time_us, user, request.removeprefix(grammar.RATING_FORM))
    else:
        event = _received(time_us, user, request.removeprefix(grammar.RECEIVED_FORM))
    return Line(event, match[2] is None, len(match[3] or "") > 6)


def _split(line: str) -> tuple[str, str, str]:
    fields = line.split(",", 2)
    if len(fields) == 3 and fields[2].startswith(grammar.FORMS):
        return fields[0], fields[1], fields[2]
    if any(field.startswith(grammar.FORMS) for field in fields):
        raise Unreadable(Reason.MISSING_FIELD, "the time or the user is missing")
    if _TIME.fullmatch(fields[0]) and (len(fields) < 3 or not fields[2]):
        raise Unreadable(Reason.MISSING_FIELD, "the line ends before its request")
    raise Unreadable(Reason.UNKNOWN_FORM, f"{shown(line)} has none of the known forms")


def _time_us(text: str, timezone: str) -> tuple[int, re.Match[str]]:
    if not text:
        raise Unreadable(Reason.MISSING_FIELD, "the time is missing")
    match = _TIME.fullmatch(text)
    time_us = local_to_us(match[1], match[2], match[3], timezone) if match else None
    if match is None or time_us is None:
        raise Unreadable(Reason.IMPOSSIBLE_TIME, f"there is no time {shown(text)} in {timezone}")
    return time_us, match


def _movie(text: str) -> str:
    if not text:
        raise Unreadable(Reason.MISSING_FIELD, "the movie is missing")
    if len(text) > MAX_ID_LENGTH or not _MOVIE.fullmatch(text):
        raise Unreadable(Reason.BAD_ITEM_ID, f"{shown(text)} cannot be a movie")
    return text


def _watch(time_us: int, user: str, body: str) -> Watch:
    movie, _, file = body.partition("/")
    item = _movie(movie)
    minute = file.removesuffix(".mpg")
    if not minute:
        raise Unreadable(Reason.MISSING_FIELD, "the minute is missing")
    if minute == file:
        raise Unreadable(Reason.UNKNOWN_FORM, f"{shown(file)} does not end in .mpg")
    if not _MINUTE.fullmatch(minute) or int(minute) > MAX_MINUTE:
        raise Unreadable(Reason.BAD_MINUTE, f"minute {shown(minute)} is not 0 to {MAX_MINUTE}")
    return Watch(time_us=time_us, user=user, item=item, minute=int(minute))


def _rating(time_us: int, user: str, body: str) -> Rating:
    movie, _, rating = body.partition("=")
    item = _movie(movie)
    if not rating:
        raise Unreadable(Reason.MISSING_FIELD, "the rating is missing")
    if not _RATING.fullmatch(rating):
        raise Unreadable(Reason.BAD_RATING, f"rating {shown(rating)} is not 1 to 5")
    return Rating(time_us=time_us, user=user, item=item, rating=float(rating))


def _received(time_us: int, user: str, body: str) -> Received:
    host, with_status, rest = body.partition(", status ")
    status, with_result, result = rest.partition(", result: ")
    if not (host and with_status and status and with_result and result):
        raise Unreadable(Reason.MISSING_FIELD, "the host, the status or the result is missing")
    if not _HOST.fullmatch(host) or not _STATUS.fullmatch(status):
        raise Unreadable(Reason.UNKNOWN_FORM, f"host {shown(host)}, status {shown(status)} cannot be right")
    if 200 <= int(status) < 300:
        return _answer(time_us, user, host, int(status), result)
    failure = _FAILURE.fullmatch(result)
    error, latency = (failure[1], float(failure[2])) if failure else (result, None)
    return Received(
        time_us=time_us, user=user, host=host, status=int(status), latency_ms=latency, error=error or None
    )


def _answer(time_us: int, user: str, host: str, status: int, result: str) -> Received:
    match = _ANSWER.fullmatch(result)
    if match is None:
        raise Unreadable(Reason.MISSING_FIELD, "the result does not end in its milliseconds")
    items = tuple(map(_listed, match[1].split(", "))) if match[1] else ()
    return Received(time_us=time_us, user=user, host=host, status=status, items=items, latency_ms=float(match[2]))


def _listed(text: str) -> str:
    """A movie of a list. One that cannot be quarantines the line: a list of what was shown is whole or useless."""
    if not text:
        raise Unreadable(Reason.BAD_ITEM_ID, "a movie of the list is empty")
    return _movie(text)
