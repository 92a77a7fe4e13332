"""The body of `POST /v1/events`: one event or a list of them, as the stream's own types, or every reason why not.

    {"kind": "watch", "user": "u1", "item": "dark+city+1998", "minute": 12, "time": "2024-05-01T20:15:00Z",
     "id": "8f2b"}
    {"kind": "rating", "user": "u1", "item": "dark+city+1998", "rating": 4.5}

`time` is ISO 8601 with an offset (or `Z`), or microseconds since 1970; now, where it is missing. `id` is the
client's own name for the event: what it posts again under the same id within a day is dropped.
"""

import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

import msgspec

from matinee.core.ids import MAX_ID_LENGTH
from matinee.events.types import LAST_US, MAX_AHEAD_US, Id, Minute, Rating, Stars, Watch

MAX_EVENTS = 1_000
"""Events of one post."""
MAX_KEY_LENGTH = 190
"""Of an `Idempotency-Key`: a colon and a number must fit behind it in an id."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PLACE = re.compile(r"(?s)(.*?)(?: - at `\$\.?(.*)`)?")
_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`", re.DOTALL)
_ISO_FROM_1970 = r"^(19[7-9]\d|[2-9]\d{3})-"
"""What the document says of a time's text besides its format: nothing was watched before 1970."""

_Time = Annotated[int, msgspec.Meta(ge=0, le=LAST_US)] | Annotated[datetime, msgspec.Meta(tz=True)] | None
_TIME_SAID = (
    "When it happened: ISO 8601 with an offset or Z, or microseconds since 1970 in UTC. Now, where it is missing. "
    "One that lies more than a day ahead of the server's clock is refused with status 409."
)
_ID_SAID = (
    "The client's own name for this event, such as a UUID; made here where it is missing. What the same API key "
    "posts again under the same id within 24 hours is dropped, so that a post can be repeated until it is answered."
)


class _Posted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    user: Id
    item: Id
    time: Annotated[_Time, msgspec.Meta(description=_TIME_SAID)] = None
    id: Annotated[Id | None, msgspec.Meta(description=_ID_SAID)] = None

    def time_us(self, now_us: int) -> int:
        """When it happened, UTC µs."""
        if isinstance(self.time, datetime):
            return (self.time - _EPOCH) // _MICROSECOND
        return now_us if self.time is None else self.time


class PostedWatch(_Posted, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="watch"):
    """Somebody watched one minute of an item."""

    minute: Minute

    def event(self, time_us: int) -> Watch:
        """The stream's event."""
        return Watch(time_us=time_us, user=self.user, item=self.item, minute=self.minute)


class PostedRating(_Posted, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="rating"):
    """Somebody rated an item."""

    rating: Stars

    def event(self, time_us: int) -> Rating:
        """The stream's event."""
        return Rating(time_us=time_us, user=self.user, item=self.item, rating=self.rating)


class Fault(NamedTuple):
    """One thing that is wrong.

    Attributes:
        where: its place: `body[3].minute`.
        message: what is wrong there.
        is_early: whether it is only that the event lies ahead of the server's clock.
    """

    where: str
    message: str
    is_early: bool = False


class Unacceptable(Exception):
    """A post of which nothing is taken.

    Args:
        detail: a sentence.
        faults: each single one, where the body is JSON.
        is_json: whether it is.
    """

    def __init__(self, detail: str, faults: list[Fault] | None = None, *, is_json: bool = True) -> None:
        super().__init__(detail)
        self.faults = faults or []
        self.is_json = is_json


class Post(NamedTuple):
    """What was posted.

    Attributes:
        ids: of the events, in their order: the client's own, or one made here.
        events: the events.
    """

    ids: list[str]
    events: list[Watch | Rating]


_READ_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_READ: msgspec.json.Decoder[PostedWatch | PostedRating] = msgspec.json.Decoder(PostedWatch | PostedRating)


def read_post(body: bytes, now_us: int, *, idempotency_key: str | None = None) -> Post:
    """Read a post: all of it, or nothing.

    Args:
        body: JSON, an object or a list of 1 to `MAX_EVENTS` objects.
        now_us: when it came, UTC µs: the time of events that name none, and the measure of those that lie ahead.
        idempotency_key: names the post; its events without an id of their own are named after it and their number.

    Raises:
        Unacceptable: it is no JSON, or something in it is wrong; every fault is listed, the first of each event.
    """
    raw, is_list = _split(body)
    ids, events, faults = [], [], []
    for number, one in enumerate(raw):
        place = f"body[{number}]" if is_list else "body"
        try:
            posted = _read_one(one)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            faults.append(_fault(place, str(error)))
            continue
        time_us = posted.time_us(now_us)
        if fault := _time_fault(place, time_us, now_us):
            faults.append(fault)
        events.append(posted.event(time_us))
        ids.append(posted.id or (f"{idempotency_key}:{number}" if idempotency_key else secrets.token_hex(16)))
    if faults:
        more = f"; and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise Unacceptable(f"{faults[0].where}: {faults[0].message}{more}", faults)
    return Post(ids, events)


def _split(body: bytes) -> tuple[list[msgspec.Raw] | list[bytes], bool]:
    """The events, still unread, and whether they came as a list."""
    is_list = body.lstrip(b" \t\r\n")[:1] == b"["
    try:
        raw = _READ_LIST.decode(body) if is_list else [msgspec.json.decode(body, type=msgspec.Raw)]
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Unacceptable(f"The body is no JSON: {error}", is_json=False) from error
    if not 1 <= len(raw) <= MAX_EVENTS:
        fault = Fault("body", f"a post has 1 to {MAX_EVENTS} events, not {len(raw)}")
        raise Unacceptable(f"body: {fault.message}", [fault])
    return raw, is_list


def _read_one(raw: msgspec.Raw | bytes) -> PostedWatch | PostedRating:
    """One event. JSON has one kind of number, so that 12.0 is the integer 12."""
    try:
        return _READ.decode(raw)
    except msgspec.ValidationError:
        fields = msgspec.json.decode(raw)
        whole = {name: int(fields[name]) for name in ("minute", "time") if _is_whole(fields, name)}
        if not whole:
            raise
        event: PostedWatch | PostedRating = msgspec.convert(fields | whole, PostedWatch | PostedRating)
        return event


def _is_whole(fields: Any, name: str) -> bool:
    value = fields.get(name) if isinstance(fields, dict) else None
    return isinstance(value, float) and value.is_integer()


def _time_fault(place: str, time_us: int, now_us: int) -> Fault | None:
    if not 0 <= time_us <= LAST_US:
        return Fault(f"{place}.time", "it is not between 1970 and 9999")
    if time_us > now_us + MAX_AHEAD_US:
        hours = (time_us - now_us) / 3_600_000_000
        return Fault(f"{place}.time", f"it is {hours:.1f} hours ahead of this server's clock", is_early=True)
    return None


def _fault(place: str, error: str) -> Fault:
    """What msgspec says, taken apart: `Expected `int`, got `str` - at `$.minute``."""
    found = _PLACE.fullmatch(error)
    message, field = (found[1], found[2]) if found else (error, None)
    if "matching regex" in message:  # the only texts with a form are ids
        message = f'an id is 1 to {MAX_ID_LENGTH} printable ASCII characters without blanks and , / \\ % ? "'
    if field is None and (named := _FIELD.fullmatch(message)):
        field = named[1]
        message = "there is no such field" if "unknown" in message else "it is missing"
    return Fault(f"{place}.{field[:60]}" if field else place, message[:300])


def schema() -> dict[str, Any]:
    """What the body looks like, as JSON Schema for the OpenAPI document: made from the types that read it."""
    _, parts = msgspec.json.schema_components([PostedWatch, PostedRating])
    kinds = [_published(part) for part in parts.values()]
    many = {"type": "array", "items": {"oneOf": kinds}, "minItems": 1, "maxItems": MAX_EVENTS}
    return {"oneOf": [*kinds, many]}


def _published(part: Any) -> Any:
    """Without what only Python's expressions know, and with what only `read_post` checks."""
    if isinstance(part, list):
        return [_published(one) for one in part]
    if not isinstance(part, dict):
        return part
    found = {name: _published(value) for name, value in part.items()}
    if isinstance(found.get("pattern"), str):
        found["pattern"] = found["pattern"].removesuffix(r"\Z") + "$"
    if found.get("format") == "date-time":
        found["pattern"] = _ISO_FROM_1970
    return found
