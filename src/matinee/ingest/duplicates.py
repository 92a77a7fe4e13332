"""The window within which a record that comes again is a duplicate.

The rules, record by record in the order of positions, where `span` is the window's length:

- The watermark is the latest time among the records kept so far and the one at hand.
- A record is a duplicate if its key is kept and neither its own time nor the kept one is more than `span` behind
  the watermark.
- Anything else is kept. Records that come later than that are kept too: the window has forgotten what they
  would repeat, and `dataset` drops what is the same fact twice.
- Quarantined records take no part: they neither enter the window nor move the watermark.

Each source has two of them:

- `WINDOW_US`, by event time, for what comes without an API key. A record without a time is always kept and never
  enters the window: nothing says how far apart two of them are. A line that an untimed file holds twice is one
  fact, because of a user's ratings of an item only the latest counts.
- `POSTED_US`, by receive time, for the ids of events that were posted with an API key. A client that got no answer
  posts the same again, perhaps hours later and with the events' old times. All of a key's posts are in one
  partition (`serving.event_sink`), so that one partition's sequence holds all repetitions of an id.

Only kept records move the watermark, and the lake stores exactly the kept ones. So a window can be rebuilt from
the lake, and what it decides depends on the sequence of records alone, not on how it was cut into batches.

Ten minutes of a busy service are millions of keys, and a day of posts tens of millions. The latest are in a
dictionary; the others in sorted arrays, which take 24 bytes a key instead of about 130, and are merged two by two
as they grow.
"""

import secrets
from collections.abc import Sequence
from itertools import compress
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from matinee.core.clock import DAY, MINUTE

WINDOW_US = 10 * MINUTE
POSTED_US = DAY
_NEVER = np.iinfo(np.int64).min // 2
_MIX = np.uint64(secrets.randbits(64) | 1)
"""Keys are hashes of what clients choose, and not of a kind that withstands them: without this, keys made to agree
in the half that is sorted by would be looked through one by one."""
_YOUNG = 65_536
"""Keys in the dictionary at most, but for those of one batch."""
_LONGEST = 1 << 21
"""Keys up to which sorted arrays are merged: what is older than the window is let go of array by array."""


class _Sorted(NamedTuple):
    """Keys with their times, by `high`.

    Attributes:
        high: uint64, the first of each key's two numbers, ascending.
        low: uint64, the second.
        time_us: int64, the time of each.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    time_us: NDArray[np.int64]

    @classmethod
    def of(cls, halves: NDArray[np.uint64], time_us: NDArray[np.int64]) -> Self:
        """Sort keys, given as pairs of numbers of shape (n, 2)."""
        order = np.argsort(halves[:, 0], kind="stable")
        return cls(halves[order, 0], halves[order, 1], time_us[order])

    def since(self, horizon: int) -> Self:
        """Without those before the horizon."""
        good = self.time_us >= horizon
        return self if good.all() else type(self)(self.high[good], self.low[good], self.time_us[good])

    def merged(self, other: Self) -> Self:
        """Both together."""
        high = np.concatenate([self.high, other.high])
        order = np.argsort(high, kind="stable")  # two ascending runs: merged, not sorted anew
        low = np.concatenate([self.low, other.low])
        times = np.concatenate([self.time_us, other.time_us])
        return type(self)(high[order], low[order], times[order])

    def latest(self, halves: NDArray[np.uint64], into: NDArray[np.int64]) -> None:
        """Raise `into` to the latest time of each key that is among these. They ascend by their first number."""
        wanted, n = halves[:, 0], len(self.high)
        at = np.searchsorted(self.high, wanted)
        rows = np.flatnonzero(self.high[np.minimum(at, n - 1)] == wanted)
        while rows.size:  # once, but for keys that agree in the first number
            same = rows[self.low[at[rows]] == halves[rows, 1]]
            into[same] = np.maximum(into[same], self.time_us[at[same]])
            at[rows] += 1
            rows = rows[at[rows] < n]
            rows = rows[self.high[at[rows]] == wanted[rows]]


class DuplicateWindow:
    """The keys that one source kept within the last `span_us` of its watermark.

    Args:
        span_us: the window's length in µs.
    """

    def __init__(self, span_us: int = WINDOW_US) -> None:
        self._span_us = span_us
        self._young: dict[bytes, int] = {}
        self._sorted: list[_Sorted] = []
        self._watermark = _NEVER

    def __len__(self) -> int:
        return len(self._young) + sum(len(part.high) for part in self._sorted)

    @property
    def nbytes(self) -> int:
        """Bytes of the sorted arrays."""
        return sum(array.nbytes for part in self._sorted for array in part)

    def remember(self, keys: Sequence[bytes], time_us: NDArray[np.int64]) -> None:
        """Take in keys that were kept before, as after a restart; no matter in what order.

        Args:
            keys: 16 bytes each; those within the window behind the latest are enough.
            time_us: int64, shape (n,): their times in UTC µs.
        """
        if time_us.size:
            self._watermark = max(self._watermark, int(time_us.max()))
            self._add(_Sorted.of(_halves(keys), time_us))

    def observe(
        self, keys: list[bytes], time_us: NDArray[np.int64], considered: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Decide which records of the source's next batch are duplicates, and take in the others.

        Args:
            keys: the records' deduplication keys, 16 bytes each, in the order of the positions.
            time_us: int64, shape (n,): times in UTC µs; any value where not considered.
            considered: bool, shape (n,): whether a record takes part.

        Returns:
            bool, shape (n,): true where the record is a duplicate.
        """
        rows = np.flatnonzero(considered)
        duplicate = np.zeros(len(keys), dtype=np.bool_)
        if not rows.size:
            return duplicate
        if rows.size < len(keys):
            keys = [keys[row] for row in rows.tolist()]
            time_us = time_us[rows]
        before = self._before(keys)
        again = self._seen_again(keys)
        if again or (before > _NEVER).any():
            duplicate[rows[self._decide(keys, time_us, again, before)]] = True
        else:
            self._young.update(zip(keys, time_us.tolist(), strict=True))
            self._watermark = max(self._watermark, int(time_us.max()))
        if len(self._young) > _YOUNG:
            young, self._young = self._young, {}
            self._add(_Sorted.of(_halves(list(young)), np.fromiter(young.values(), np.int64, len(young))))
        return duplicate

    def _before(self, keys: list[bytes]) -> NDArray[np.int64]:
        """The latest time at which each key is in the arrays, shape (n,)."""
        before = np.full(len(keys), _NEVER, dtype=np.int64)
        if self._sorted:
            halves = _halves(keys)
            order = np.argsort(halves[:, 0])  # so that the search goes through each array once, and not to and fro
            halves, found = halves[order], before.copy()
            for part in self._sorted:
                part.latest(halves, found)
            before[order] = found
        return before

    def _seen_again(self, keys: list[bytes]) -> set[bytes]:
        """Keys that are in the dictionary or come more than once."""
        unique = set(keys)
        again = self._young.keys() & unique
        if len(unique) < len(keys):
            once: set[bytes] = set()
            for key in keys:
                if key in once:
                    again.add(key)
                else:
                    once.add(key)
        return again

    def _decide(
        self, keys: list[bytes], time_us: NDArray[np.int64], again: set[bytes], before: NDArray[np.int64]
    ) -> list[int]:
        """Row numbers of the duplicates. Goes one by one only through the rows whose key comes again."""
        asked = np.fromiter(map(again.__contains__, keys), dtype=np.bool_, count=len(keys)) | (before > _NEVER)
        others = np.maximum.accumulate(np.where(asked, _NEVER, time_us))
        times, earlier = time_us.tolist(), before.tolist()
        young, watermark = self._young, self._watermark
        young.update(compress(zip(keys, times, strict=True), (~asked).tolist()))
        duplicates = []
        for row in np.flatnonzero(asked).tolist():
            key, time = keys[row], times[row]
            watermark = max(watermark, int(others[row]))
            horizon = max(watermark, time) - self._span_us
            kept = max(earlier[row], young.get(key, _NEVER))
            if kept >= horizon and time >= horizon:
                duplicates.append(row)
            else:
                watermark = max(watermark, time)
                young[key] = max(kept, time)
        self._watermark = max(watermark, int(others[-1]))
        return duplicates

    def _add(self, part: _Sorted) -> None:
        """Keep a part, merged with those that are not much larger, without what no later record can repeat."""
        horizon = self._watermark - self._span_us
        parts = [before for before in self._sorted if before.time_us.max() >= horizon]
        part = part.since(horizon)
        while parts and len(parts[-1].high) <= 2 * len(part.high) and len(part.high) < _LONGEST:
            part = parts.pop().since(horizon).merged(part)
        self._sorted = [*parts, part] if len(part.high) else parts


def _halves(keys: Sequence[bytes]) -> NDArray[np.uint64]:
    """Keys of 16 bytes as pairs of numbers, shape (n, 2), one pair for each key."""
    halves = np.frombuffer(b"".join(keys), dtype=np.uint64).reshape(-1, 2).copy()
    halves[:, 0] += halves[:, 1] * _MIX
    return halves
