"""The JSON payloads of our own events, decoded into their types or refused with the most telling reason."""

import re

import msgspec

from matinee.events.reading import Unreadable
from matinee.events.schema import Reason
from matinee.events.types import KINDS, LAST_US, Event

_DECODERS = {kind: msgspec.json.Decoder(event_type) for kind, event_type in KINDS.items()}
_PATH = re.compile(r"at `\$\.(\w+)")
_REASON_OF_FIELD = {
    "user": Reason.BAD_USER_ID,
    "item": Reason.BAD_ITEM_ID,
    "items": Reason.BAD_ITEM_ID,
    "minute": Reason.BAD_MINUTE,
    "rating": Reason.BAD_RATING,
    "time_us": Reason.IMPOSSIBLE_TIME,
}


def parse_payload(kind: str, payload: bytes) -> Event:
    """Decode the payload of an envelope of that kind.

    Raises:
        Unreadable: it is not JSON, lacks a field, or a field is out of its range; the detail is msgspec's.
    """
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise Unreadable(Reason.BAD_ENVELOPE, f"unknown kind {kind[:30]!r}")
    try:
        event: Event = decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Unreadable(_reason(str(error)), str(error)) from error
    if event.time_us is not None and not 0 <= event.time_us <= LAST_US:
        raise Unreadable(Reason.IMPOSSIBLE_TIME, f"time_us {event.time_us} is not between 1970 and 9999")
    return event


def _reason(message: str) -> Reason:
    if message.startswith("Object missing required field"):
        return Reason.MISSING_FIELD
    path = _PATH.search(message)
    return _REASON_OF_FIELD.get(path[1], Reason.BAD_PAYLOAD) if path else Reason.BAD_PAYLOAD
