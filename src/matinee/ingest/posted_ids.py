"""The ids of posted events: one that the same API key sends again within a day of receipt is a duplicate.

A client that got no answer posts the same again, perhaps hours later and with the events' old times; so these ids
are held by when they were received, and for longer than the ten minutes of `duplicates`. Record by record, in the
order of positions, and among records with an id of an API key alone:

- The watermark is the highest receive time among the records kept so far and the one at hand.
- A record is a duplicate if its id is kept and neither its own receive time nor the kept one is more than 24 hours
  behind the watermark. Anything else is kept.
- Quarantined records take no part.

As there, only kept records move the watermark and the lake stores exactly those, so that the ids can be read back
from the lake, and what is decided depends on the sequence of records alone. All of a key's posts are in one
partition (`serving.event_sink`), so that one partition's sequence holds all repetitions of an id.

A day may be tens of millions of ids. The latest are in a dictionary; the others in sorted arrays, which take 24
bytes an id instead of about 130, and are merged two by two as they grow.
"""

import secrets
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from matinee.core.clock import DAY

SPAN_US = DAY
_NEVER = np.iinfo(np.int64).min // 2
_MIX = np.uint64(secrets.randbits(64) | 1)
"""Keys are hashes of what clients choose, and not of a kind that withstands them: without this, ids made to agree
in the half that is sorted by would be looked through one by one."""
_YOUNG = 65_536
"""Ids in the dictionary at most, but for those of one batch."""
_LONGEST = 1 << 22
"""Ids up to which sorted arrays are merged: what is older than a day is let go of array by array."""


class _Sorted(NamedTuple):
    """Ids with their receive times, by `high`.

    Attributes:
        high: uint64, the first of each key's two numbers, ascending.
        low: uint64, the second.
        received_us: int64, when each was received.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    received_us: NDArray[np.int64]

    @classmethod
    def of(cls, halves: NDArray[np.uint64], received_us: NDArray[np.int64]) -> Self:
        """Sort keys, given as pairs of numbers of shape (n, 2)."""
        order = np.argsort(halves[:, 0], kind="stable")
        return cls(halves[order, 0], halves[order, 1], received_us[order])

    def later_than(self, horizon: int) -> Self:
        """Without those received before the horizon."""
        good = self.received_us >= horizon
        return self if good.all() else type(self)(self.high[good], self.low[good], self.received_us[good])

    def merged(self, other: Self) -> Self:
        """Both together."""
        high = np.concatenate([self.high, other.high])
        order = np.argsort(high, kind="stable")  # two ascending runs: merged, not sorted anew
        low = np.concatenate([self.low, other.low])
        times = np.concatenate([self.received_us, other.received_us])
        return type(self)(high[order], low[order], times[order])

    def latest(self, halves: NDArray[np.uint64], into: NDArray[np.int64]) -> None:
        """Raise `into` to when each key was last received, where it is among these."""
        begin = np.searchsorted(self.high, halves[:, 0])
        found = np.flatnonzero(self.high[np.minimum(begin, len(self.high) - 1)] == halves[:, 0])
        for row in found.tolist():
            high, low = halves[row]
            at = int(begin[row])
            while at < len(self.high) and self.high[at] == high:
                if self.low[at] == low:
                    into[row] = max(into[row], self.received_us[at])
                at += 1


class PostedIds:
    """The ids that one source kept within the last 24 hours of receipt.

    Args:
        keys: of ids already kept, 16 bytes each, in any order; those within 24 hours of the latest are enough.
        received_us: int64, shape (n,): when each was received, UTC µs.
    """

    def __init__(self, keys: Sequence[bytes] = (), received_us: NDArray[np.int64] | None = None) -> None:
        self._young: dict[bytes, int] = {}
        self._sorted: list[_Sorted] = []
        self._watermark = _NEVER
        if received_us is not None and received_us.size:
            self._watermark = int(received_us.max())
            self._add(_Sorted.of(_halves(keys), received_us))

    def __len__(self) -> int:
        return len(self._young) + sum(len(part.high) for part in self._sorted)

    @property
    def nbytes(self) -> int:
        """Bytes of the sorted arrays."""
        return sum(array.nbytes for part in self._sorted for array in part)

    def observe(
        self, keys: list[bytes], received_us: NDArray[np.int64], considered: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Decide which records of the source's next batch are duplicates, and take in the others.

        Args:
            keys: the records' deduplication keys, in the order of the positions.
            received_us: int64, shape (n,): receive times in UTC µs.
            considered: bool, shape (n,): true where the record has an id of an API key and is not quarantined.

        Returns:
            bool, shape (n,): true where the record is a duplicate.
        """
        duplicate = np.zeros(len(keys), dtype=np.bool_)
        rows = np.flatnonzero(considered)
        if not rows.size:
            return duplicate
        asked = [keys[row] for row in rows.tolist()]
        before = np.full(rows.size, _NEVER, dtype=np.int64)
        if self._sorted:
            halves = _halves(asked)
            for part in self._sorted:
                part.latest(halves, before)
        young, watermark = self._young, self._watermark
        times = received_us[rows]
        for row, key, time, old in zip(rows.tolist(), asked, times.tolist(), before.tolist(), strict=True):
            horizon = max(watermark, time) - SPAN_US
            kept = max(old, young.get(key, _NEVER))
            if kept >= horizon and time >= horizon:
                duplicate[row] = True
            else:
                watermark = max(watermark, time)
                young[key] = max(kept, time)
        self._watermark = watermark
        if len(young) > _YOUNG:
            self._young = {}
            self._add(_Sorted.of(_halves(list(young)), np.fromiter(young.values(), np.int64, len(young))))
        return duplicate

    def _add(self, part: _Sorted) -> None:
        """Keep a part, merged with those that are not much larger, without what no later record can repeat."""
        horizon = self._watermark - SPAN_US
        parts = [before for before in self._sorted if before.received_us.max() >= horizon]
        part = part.later_than(horizon)
        while parts and len(parts[-1].high) <= 2 * len(part.high) and len(part.high) < _LONGEST:
            part = parts.pop().later_than(horizon).merged(part)
        self._sorted = [*parts, part] if len(part.high) else parts


def _halves(keys: Sequence[bytes]) -> NDArray[np.uint64]:
    """Keys of 16 bytes as pairs of numbers, shape (n, 2), one pair for each key."""
    halves = np.frombuffer(b"".join(keys), dtype=np.uint64).reshape(-1, 2).copy()
    halves[:, 0] += halves[:, 1] * _MIX
    return halves
