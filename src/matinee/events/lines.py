"""The plain reader: one record to one reading. For people and tests, and for what the fast paths leave over.

`frames` reads batches, and agrees with this in every column.
"""

from collections.abc import Callable
from typing import NamedTuple

import xxhash

from matinee.core.errors import FormatTooNew, InvalidInput
from matinee.events.envelope import KEY_PRODUCER, MAX_RECORD_BYTES, Envelope, unwrap
from matinee.events.payloads import parse_payload
from matinee.events.reading import Reading, Repair, Unreadable
from matinee.events.repair import read_or_repair
from matinee.events.schema import Outcome, Reason
from matinee.events.types import LAST_US, MAX_AHEAD_US, Event

dedup_key: Callable[[bytes], bytes] = xxhash.xxh3_128_digest
"""The 16 bytes by which a repetition is known: of `id:` and the event id, else of the payload.

An id that came with an API key is known by the key, a tab and the id: another key's is another event."""
LINE_ENDS = "\r\n"
_LINE_ENDS = LINE_ENDS.encode()


class _Content(NamedTuple):
    event: Event
    repairs: tuple[Repair, ...] = ()
    cut: bool = False


def read_line(record: bytes, *, appended_us: int, timezone: str = "UTC") -> Reading:
    """Read one record of the log, bare line or envelope. Never raises for what a record may contain.

    Args:
        record: its bytes, with or without a line end.
        appended_us: when the log took it, UTC microseconds; its receive time unless its envelope has one.
        timezone: IANA name of the zone of a line's local time.

    Returns:
        Its reading, with exactly one outcome. A record beyond `MAX_RECORD_BYTES` is cut to that in `raw`.

    Raises:
        ConfigurationError: there is no such time zone.
    """
    stripped = record.rstrip(_LINE_ENDS)
    envelope: Envelope | None = None
    received_us = appended_us
    try:
        envelope = _unwrapped(stripped, len(record))
        received_us = appended_us if envelope.received_us is None else envelope.received_us
        content = _content(envelope, timezone)
        _check_not_ahead(content.event, received_us)
    except Unreadable as problem:
        return _quarantined(record, problem, received_us, envelope)
    return Reading(
        outcome=Outcome.REPAIRED if content.repairs else Outcome.ACCEPTED,
        received_us=received_us,
        dedup_key=_dedup_key(envelope, stripped),
        event=content.event,
        repairs=content.repairs,
        event_id=envelope.event_id,
        producer=envelope.producer,
        raw=record if content.repairs or content.cut else None,
    )


def _quarantined(record: bytes, problem: Unreadable, received_us: int, envelope: Envelope | None) -> Reading:
    return Reading(
        outcome=Outcome.QUARANTINED,
        received_us=received_us,
        dedup_key=_dedup_key(envelope, record.rstrip(_LINE_ENDS)),
        reason=problem.reason,
        detail=problem.detail,
        event_id=envelope.event_id if envelope else None,
        producer=envelope.producer if envelope else None,
        raw=record[:MAX_RECORD_BYTES],
    )


def _unwrapped(stripped: bytes, length: int) -> Envelope:
    if length > MAX_RECORD_BYTES:
        raise Unreadable(Reason.TOO_LONG, f"{length} bytes, at most {MAX_RECORD_BYTES} are read")
    try:
        stripped.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(Reason.NOT_TEXT, str(error)) from error
    if b"\0" in stripped:
        raise Unreadable(Reason.NOT_TEXT, "it contains a zero byte")
    try:
        envelope = unwrap(stripped)
    except FormatTooNew as error:
        raise Unreadable(Reason.FORMAT_TOO_NEW, str(error)) from error
    except InvalidInput as error:
        raise Unreadable(Reason.BAD_ENVELOPE, str(error)) from error
    if envelope.received_us is not None and envelope.received_us > LAST_US:
        raise Unreadable(Reason.BAD_ENVELOPE, "its receive time is beyond the year 9999")
    return envelope


def _content(envelope: Envelope, timezone: str) -> _Content:
    if envelope.kind != "line":
        return _Content(parse_payload(envelope.kind, envelope.payload))
    line, repairs = read_or_repair(envelope.payload.decode(), timezone)
    return _Content(line.event, repairs, line.cut)


def _check_not_ahead(event: Event, received_us: int) -> None:
    if event.time_us is not None and event.time_us > received_us + MAX_AHEAD_US:
        hours = (event.time_us - received_us) / 3_600_000_000
        raise Unreadable(Reason.FUTURE_TIME, f"its time is {hours:.1f} hours after it was received")


def _dedup_key(envelope: Envelope | None, stripped: bytes) -> bytes:
    if envelope is None:
        return dedup_key(stripped)
    if not envelope.event_id:
        return dedup_key(envelope.payload)
    of_a_key = envelope.producer is not None and envelope.producer.startswith(KEY_PRODUCER)
    name = f"{envelope.producer}\t{envelope.event_id}" if of_a_key else f"id:{envelope.event_id}"
    return dedup_key(name.encode())
