"""What is kept of one user: the latest items, packed; how actions are folded in, and how it is read again.

A packed record is MessagePack: `[format version, [source, position, …], [entry, …]]`, an entry being
`[item, last time in whole seconds, µs beyond, minutes, rated]` and `rated` nothing or `[twice the rating, µs before
the last time, source, position]`. Sources are numbers of the store's registry. With 10 movies watched to the end it
takes some 370 bytes.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec

from matinee.core.clock import SECOND
from matinee.core.errors import Corrupt, MatineeError
from matinee.core.files import check_format
from matinee.events.offsets import Source
from matinee.history.minutes import Minutes, add_minute, count_minutes

RECORD_FORMAT = 1
MAX_ITEMS = 200
"""A user's latest items that are kept; the bundle carries the complete seen set."""

Action = tuple[str, int, str, int, int | None, float | None]
"""User, position, item, time (UTC µs; 0 where the source has none), minute watched or none, rating or none."""


class UnknownSource(Corrupt):
    """A record names a source that is not in the registry."""


class Entry(NamedTuple):
    """One item of a user's history."""

    item: str
    last_us: int
    """Time of the last action on the item, in UTC microseconds; 0 where it is not known."""
    minutes_seen: int
    """Distinct minutes watched."""
    rating: float | None
    """The latest rating by time, then by offset."""


@dataclass(frozen=True, slots=True)
class UserHistory:
    """What a user did lately.

    Attributes:
        entries: at most `MAX_ITEMS` items, newest first; equal times in the order of the item ids.
        offsets: of each source, the highest position of this user that was folded in.
    """

    entries: tuple[Entry, ...]
    offsets: Mapping[Source, int]


class Glance(msgspec.Struct, frozen=True, gc=False):
    """What is seen of a record without opening its entries: enough for most answers, at a fifth of the cost."""

    items: list[str]
    """Ids, in no order."""
    offsets: Mapping[Source, int]
    """As in `UserHistory`."""
    packed: bytes
    """The record itself."""
    sources: Sequence[Source]
    """The store's registry, by number."""

    def stamp(self) -> bytes:
        """8 bytes that change with everything the user does."""
        return hashlib.blake2b(self.packed, digest_size=8).digest()

    def open(self) -> UserHistory:
        """The whole record; raises as `unpack`."""
        return unpack(self.packed, self.sources)


class _Rated(msgspec.Struct, array_like=True, frozen=True, gc=False):
    doubled: int | float  # twice the rating: half stars, the usual case, are then one byte
    before_us: int  # the entry's last time minus the rating's: mostly 0, which is one byte
    source: int
    position: int


class _Entry(msgspec.Struct, array_like=True, gc=False):
    item: str
    seconds: int  # of the last time; apart from the µs, since streams mostly have whole seconds
    micros: int
    minutes: Minutes
    rated: _Rated | None = None

    @property
    def last_us(self) -> int:
        return self.seconds * SECOND + self.micros


class _Record(msgspec.Struct, array_like=True, gc=False):
    format_version: int
    offsets: list[int]
    entries: list[_Entry]


class _Sealed(msgspec.Struct, array_like=True, gc=False):
    """A record whose entries are left packed: folding opens only those that it changes."""

    format_version: int
    offsets: list[int]
    entries: list[msgspec.Raw]


class _Named(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The first field of an entry; what follows is passed over."""

    item: str


class _Glimpsed(msgspec.Struct, array_like=True, gc=False):
    """A record of whose entries only the items are read."""

    format_version: int
    offsets: list[int]
    entries: list[_Named]


class _Head(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The beginning of an entry."""

    item: str
    seconds: int
    micros: int

    @property
    def last_us(self) -> int:
        return self.seconds * SECOND + self.micros


class _Version(msgspec.Struct, array_like=True):
    format_version: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode
_decode_glimpsed = msgspec.msgpack.Decoder(_Glimpsed).decode
_decode_sealed = msgspec.msgpack.Decoder(_Sealed).decode
_decode_entry = msgspec.msgpack.Decoder(_Entry).decode
_decode_head = msgspec.msgpack.Decoder(_Head).decode
_decode_version = msgspec.msgpack.Decoder(_Version).decode
_Packed = TypeVar("_Packed", _Record, _Sealed, _Glimpsed)
_Part = TypeVar("_Part", _Entry, _Head)


def fold(packed: bytes | None, source: int, actions: Iterable[Action], sources: Sequence[Source]) -> bytes:
    """The packed record after a user's further actions; pure.

    The order in which actions are folded in does not matter to what is kept of them, as long as no item had to
    make room. Where more than `MAX_ITEMS` were met, the kept items and their last times are still independent of
    the order; minutes and ratings of an item that was dropped and came back are those since it came back.

    Args:
        packed: the record so far; nothing for a stranger.
        source: number of the source that the actions are from.
        actions: the actions, each once.
        sources: the sources by number. Ratings of one time from two sources are told apart by the sources' order.

    Raises:
        Corrupt: `packed` is not what `fold` returned.
        FormatTooNew: a newer matinee packed it.
    """
    record = _Sealed(RECORD_FORMAT, [], []) if packed is None else _read(packed, _decode_sealed)
    changed: dict[str, _Entry] = {}
    newest = -1
    for _, position, item, time_us, minute, rating in actions:
        if position > newest:  # noqa: PLR1730 - for every line of the stream: a call takes longer
            newest = position
        entry = changed.get(item)
        if entry is None:
            entry = _take_out(record.entries, packed, item) if packed else None
            changed[item] = entry = entry or _Entry(item, time_us // SECOND, time_us % SECOND, [])
        if time_us > entry.seconds * SECOND + entry.micros:  # its `last_us`: this is what ingest is busy with
            _move(entry, time_us)
        if minute is not None:
            entry.minutes = add_minute(entry.minutes, minute)
        if rating is not None:
            _keep_latest(entry, _rated(entry, rating, time_us, source, position), sources)
    _advance(record.offsets, source, newest)
    entries: list[msgspec.Raw | _Entry] = [*record.entries, *changed.values()]
    if len(entries) > MAX_ITEMS:
        entries = _latest(entries)
    return _encode((RECORD_FORMAT, record.offsets, entries))


def unpack(packed: bytes, sources: Sequence[Source]) -> UserHistory:
    """Read a packed record.

    Raises:
        Corrupt: the bytes are not what `fold` returned.
        FormatTooNew: a newer matinee packed them.
    """
    record = _read(packed, _decode)
    entries = [
        Entry(e.item, e.last_us, count_minutes(e.minutes), None if e.rated is None else e.rated.doubled / 2)
        for e in record.entries
    ]
    entries.sort(key=_newest_first)
    return UserHistory(tuple(entries), _by_source(record.offsets, sources))


def glance(packed: bytes, sources: Sequence[Source]) -> Glance:
    """What a packed record says of its items and offsets; raises as `unpack`, but for what entries alone show."""
    record = _read(packed, _decode_glimpsed)
    items = [entry.item for entry in record.entries]
    return Glance(items, _by_source(record.offsets, sources), packed, sources)


def _by_source(offsets: list[int], sources: Sequence[Source]) -> dict[Source, int]:
    found: dict[Source, int] = {}
    try:
        for at in range(0, len(offsets), 2):  # with every answer; a comprehension over pairs costs twice as much
            found[sources[offsets[at]]] = offsets[at + 1]
    except IndexError as error:
        raise UnknownSource("a user's record names a source that the store does not know") from error
    return found


def _newest_first(entry: Entry | _Entry | _Head) -> tuple[int, str]:
    return -entry.last_us, entry.item


def _read(packed: bytes, decode: Callable[[bytes], _Packed]) -> _Packed:
    try:
        record = decode(packed)
    except msgspec.MsgspecError as error:
        raise _refused(packed, error) from error
    if record.format_version != RECORD_FORMAT:
        check_format("a user's record", record.format_version, RECORD_FORMAT)
    return record


def _refused(packed: bytes, error: msgspec.MsgspecError) -> MatineeError:
    """Say whether bytes that do not fit come from a newer matinee or are broken."""
    with contextlib.suppress(msgspec.MsgspecError):
        check_format("a user's record", _decode_version(packed).format_version, RECORD_FORMAT)
    return Corrupt(f"a user's record is not what was written: {error}", remedy="Run `matinee history rebuild`.")


def _take_out(entries: list[msgspec.Raw], packed: bytes, item: str) -> _Entry | None:
    """Open the item's entry and take it off the packed ones; nothing where there is none."""
    packed_item = _encode(item)
    if packed_item not in packed:  # one pass over some hundred bytes; may find what is no item, never misses one
        return None
    for at in range(len(entries) - 1, -1, -1):  # what changed last stands last, and is what mostly changes next
        if bytes(entries[at]).startswith(packed_item, 1):  # after one byte: the entry's own length
            return _open(entries.pop(at), _decode_entry)
    return None


def _open(packed: msgspec.Raw, decode: Callable[[msgspec.Raw], _Part]) -> _Part:
    try:
        return decode(packed)
    except msgspec.MsgspecError as error:
        raise _refused(bytes(packed), error) from error


def _latest(entries: list[msgspec.Raw | _Entry]) -> list[msgspec.Raw | _Entry]:
    """The latest `MAX_ITEMS`; of equal times the first by item: the same choice whatever came first."""

    def key(entry: msgspec.Raw | _Entry) -> tuple[int, str]:
        return _newest_first(entry if isinstance(entry, _Entry) else _open(entry, _decode_head))

    kept = sorted(entries, key=key)[:MAX_ITEMS]
    kept.reverse()
    return kept


def _move(entry: _Entry, time_us: int) -> None:
    """Give the entry a later last time, and keep its rating's time where it was."""
    if (rated := entry.rated) is not None:
        entry.rated = _Rated(rated.doubled, rated.before_us + time_us - entry.last_us, rated.source, rated.position)
    entry.seconds, entry.micros = divmod(time_us, SECOND)


def _rated(entry: _Entry, rating: float, time_us: int, source: int, position: int) -> _Rated:
    doubled = rating * 2
    whole = int(doubled)
    return _Rated(whole if whole == doubled else doubled, entry.last_us - time_us, source, position)


def _keep_latest(entry: _Entry, rated: _Rated, sources: Sequence[Source]) -> None:
    """Take a rating where it is later than the one that is there, by time, then by offset."""
    old = entry.rated
    if old is None or _order(rated, sources) > _order(old, sources):
        entry.rated = rated


def _order(rated: _Rated, sources: Sequence[Source]) -> tuple[int, Source, int]:
    return -rated.before_us, sources[rated.source], rated.position


def _advance(offsets: list[int], source: int, position: int) -> None:
    for at in range(0, len(offsets), 2):
        if offsets[at] == source:
            offsets[at + 1] = max(offsets[at + 1], position)
            return
    if position >= 0:
        offsets += (source, position)
