r"""The envelope: what one record of the event log is, byte for byte.

    m1 TAB kind TAB event id TAB producer TAB receive time (UTC µs) TAB payload

Kind `line` carries a line of the scenario; `watch`, `rating`, `received` and `served` carry JSON with the
fields of the class of that name. Event id and producer may be empty; neither may contain a tab. A record
that does not begin with `m`, digits and a tab is a bare scenario line from somebody else's topic, read as
an envelope with no id. A producer `key:<id>` is a client with that API key; its event ids are its own, so that two
clients may use the same. The header is text of fixed order, so that a batch is split by column operations and
a person can read a log with `sqlite3` or `kcat`.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from matinee.core.errors import FormatTooNew, InvalidInput
from matinee.events.types import KINDS, Event

ENVELOPE_FORMAT = 1
MAX_RECORD_BYTES = 65_536
"""A record longer than this is quarantined unread: no event needs so much."""
KEY_PRODUCER = "key:"
"""How the producer of what came with an API key begins; the key's id follows."""

_HEADER = re.compile(rb"m(\d{1,4})\t")
_KIND_OF: dict[type[Event], str] = {event_type: kind for kind, event_type in KINDS.items()}
_ENCODE = msgspec.json.Encoder().encode


class Envelope(NamedTuple):
    """One record, taken apart; `payload` is still unread."""

    kind: str
    event_id: str | None
    producer: str | None
    received_us: int | None
    payload: bytes


def wrap_event(event: Event, *, received_us: int, event_id: str = "", producer: str = "") -> bytes:
    """The record that carries one of our own events."""
    return wrapper(type(event), producer)(event, received_us, event_id)


def wrapper(event_type: type[Event], producer: str) -> Callable[[Event, int, str], bytes]:
    """What makes records of many events of one type and producer, given each one's receive time and id."""
    head, tail = f"m{ENVELOPE_FORMAT}\t{_KIND_OF[event_type]}\t", f"\t{_without_tab(producer)}\t"

    def wrap(event: Event, received_us: int, event_id: str) -> bytes:
        return f"{head}{_without_tab(event_id)}{tail}{received_us}\t".encode() + _ENCODE(event)

    return wrap


def wrap_line(line: str, *, received_us: int, event_id: str = "", producer: str = "") -> bytes:
    """The record that carries a line of the scenario."""
    head = f"m{ENVELOPE_FORMAT}\tline\t{_without_tab(event_id)}\t{_without_tab(producer)}\t{received_us}\t"
    return (head + line).encode()


def _without_tab(name: str) -> str:
    if "\t" in name:
        raise InvalidInput("an event id or producer contains a tab", remedy="Use an id such as a UUID.")
    return name


def unwrap(record: bytes) -> Envelope:
    """Take a record apart.

    Raises:
        FormatTooNew: its format version is newer than this program knows.
        InvalidInput: it has a header, and the header is broken.
    """
    header = _HEADER.match(record)
    if header is None:
        return Envelope("line", None, None, None, record)
    if int(header[1]) > ENVELOPE_FORMAT:
        raise FormatTooNew(
            f"a record has envelope format {int(header[1])}; this matinee knows versions up to {ENVELOPE_FORMAT}",
            remedy="Upgrade matinee, then replay the quarantine.",
        )
    fields = record.split(b"\t", 5)
    if len(fields) != 6 or not fields[4].isdigit() or len(fields[4]) > 18:
        raise InvalidInput("a record's envelope header is broken")
    try:
        kind, event_id, producer = (field.decode() for field in fields[1:4])
    except UnicodeDecodeError as error:
        raise InvalidInput("a record's envelope header is not UTF-8") from error
    return Envelope(kind, event_id or None, producer or None, int(fields[4]), fields[5])
