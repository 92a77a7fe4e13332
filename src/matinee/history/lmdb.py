"""The embedded history store: LMDB, one writer, readable by every process of the machine at once."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from matinee.core.errors import InvalidInput
from matinee.core.ids import is_id
from matinee.events.offsets import Source
from matinee.history.base import Actions
from matinee.history.environment import MAP_BYTES, Environment
from matinee.history.record import Action, Glance, UnknownSource, UserHistory, fold, glance, unpack

_SOURCES, _APPLIED = b"sources", b"applied"
_CHUNK = 500
_USER = itemgetter(0)
_Read = TypeVar("_Read", UserHistory, Glance)

_encode = msgspec.msgpack.encode
_decode_sources = msgspec.msgpack.Decoder(list[tuple[str, int]]).decode
_decode_ends = msgspec.msgpack.Decoder(list[int]).decode


class LmdbHistory:
    """A `History` in an LMDB environment. Users, sources and applied ends change in one transaction.

    A write is seen by every process with its next `get`. Any thread may read; writes take turns.

    Args:
        path: the folder of the store.
        read_only: for servers: many processes may, each opening the store after it has started.
        shared: for a writer: whether other processes may write too, those that share it likewise.
        follow: whether a reader goes over by itself to a store that took this one's place; see `is_replaced`.
        map_bytes: address space to begin with; affects nothing but how often the map grows.

    Raises:
        StoreUnavailable: read-only, and there is no store yet, or none that can be trusted.
        Locked: another process writes to it, and one of the two does not share it.
        FormatTooNew: a newer matinee wrote it.
    """

    def __init__(
        self,
        path: Path,
        read_only: bool = False,
        *,
        shared: bool = False,
        follow: bool = True,
        map_bytes: int = MAP_BYTES,
    ) -> None:
        self._store = Environment(path, read_only=read_only, shared=shared, follow=follow, map_bytes=map_bytes)
        self._registry: tuple[object, list[Source]] = (None, [])  # of which file; within one it only grows

    def apply(self, source: Source, actions: Actions, *, end: int) -> int:
        """See `History.apply`."""
        if (last := max(actions.positions, default=-1)) >= end:
            raise InvalidInput(f"position {last} of {source} is not below the end {end}")

        def body(transaction: Any) -> int:
            sources, ends = self._load(transaction)
            number = _number(sources, ends, source)
            start = ends[number]
            self._fold_in(transaction, number, _by_user(actions, start), sources)
            ends[number] = max(start, end)
            self._store_ends(transaction, sources, ends)
            return sum(1 for position in actions.positions if position >= start)

        return self._store.write(body)

    def get(self, user: str) -> UserHistory | None:
        """See `History.get`."""
        return self._read(user, unpack)

    def glance(self, user: str) -> Glance | None:
        """See `History.glance`."""
        return self._read(user, glance)

    def is_replaced(self) -> bool:
        """See `History.is_replaced`."""
        return self._store.is_replaced()

    def applied(self) -> Mapping[Source, int]:
        """See `History.applied`."""
        sources, ends = self._store.read(self._load)
        return dict(zip(sources, ends, strict=True))

    def items(self) -> Iterator[tuple[str, UserHistory]]:
        """See `History.items`. Read in short transactions: what is written meanwhile may or may not be seen."""
        after = b""
        while True:
            rows, sources = self._store.read(partial(self._chunk, after))
            for key, packed in rows:
                yield key.decode(), unpack(packed, sources)
            if len(rows) < _CHUNK:
                return
            after = rows[-1][0] + b"\0"  # the least key above the last one

    def clear(self) -> None:
        """See `History.clear`. One transaction: readers see all or nothing of the old content."""

        def body(transaction: Any) -> None:
            transaction.drop(self._store.users, delete=False)
            self._store_ends(transaction, [], [])

        self._store.write(body)

    def erase(self, erased: Container[str]) -> int:
        """See `History.erase`. Writes the store anew: 1.3 s for a million users."""
        return self._store.rewrite(lambda key: key.decode() not in erased)

    def copy(self, target: Path) -> None:
        """Write the store into a fresh folder; see `Environment.copy`."""
        self._store.copy(target)

    def sync(self) -> None:
        """See `History.sync`."""
        self._store.sync()

    def close(self) -> None:
        """See `History.close`."""
        self._store.close()

    def __enter__(self) -> Self:
        """See `History.__enter__`."""
        return self

    def __exit__(self, *exception: object) -> None:
        """See `History.__exit__`."""
        self.close()

    def _read(self, user: str, read: Callable[[bytes, Sequence[Source]], _Read]) -> _Read | None:
        if not is_id(user):
            return None
        store, key = self._store, user.encode()

        def body(transaction: Any) -> tuple[bytes | None, list[Source]]:
            file, known = self._registry
            sources = known if file == store.file else self._sources(transaction)
            return transaction.get(key, db=store.users), sources

        packed, sources = store.read(body)
        if packed is None:
            return None
        try:
            return read(packed, sources)
        except UnknownSource:  # it came since the registry was read
            return read(packed, store.read(self._sources))

    def _fold_in(
        self, transaction: Any, number: int, rows: Iterator[tuple[bytes, list[Action]]], sources: list[Source]
    ) -> None:
        # Some hundred users at a time, in the order of the pages: few objects live at once, and warm caches.
        with transaction.cursor(db=self._store.users) as cursor:
            while groups := dict(islice(rows, _CHUNK)):
                packed = dict(cursor.getmulti(groups)).get
                cursor.putmulti(
                    [(key, fold(packed(key), number, actions, sources)) for key, actions in groups.items()]
                )

    def _chunk(self, after: bytes, transaction: Any) -> tuple[list[tuple[bytes, bytes]], list[Source]]:
        rows: list[tuple[bytes, bytes]] = []
        with transaction.cursor(db=self._store.users) as cursor:
            if cursor.set_range(after):
                for row in cursor:
                    rows.append(row)
                    if len(rows) == _CHUNK:
                        break
        return rows, self._sources(transaction)

    def _sources(self, transaction: Any) -> list[Source]:
        stored = transaction.get(_SOURCES, db=self._store.meta) or b"\x90"
        sources = [Source(generation, partition) for generation, partition in _decode_sources(stored)]
        self._registry = self._store.file, sources
        return sources

    def _load(self, transaction: Any) -> tuple[list[Source], list[int]]:
        ends = _decode_ends(transaction.get(_APPLIED, db=self._store.meta) or b"\x90")
        return list(self._sources(transaction)), ends

    def _store_ends(self, transaction: Any, sources: list[Source], ends: list[int]) -> None:
        registry = _encode([(source.generation, source.partition) for source in sources])
        transaction.put(_SOURCES, registry, db=self._store.meta)
        transaction.put(_APPLIED, _encode(ends), db=self._store.meta)


def _number(sources: list[Source], ends: list[int], source: Source) -> int:
    """The source's number, given to it here when it is new."""
    if source not in sources:
        sources.append(source)
        ends.append(0)
    return sources.index(source)


def _by_user(actions: Actions, start: int) -> Iterator[tuple[bytes, list[Action]]]:
    """The actions whose positions are not below `start`, user by user, in the order of the users' keys."""
    rows: Iterable[Action] = zip(
        actions.users, actions.positions, actions.items, actions.times_us, actions.minutes, actions.ratings,
        strict=True,
    )  # fmt: skip
    if min(actions.positions, default=start) < start:
        rows = (row for row in rows if row[1] >= start)
    if actions.users != sorted(actions.users):  # otherwise few rows live at once, which the caches hold
        rows = sorted(rows, key=_USER)
    for user, same in groupby(rows, key=_USER):
        yield user.encode(), list(same)
