"""The window within which a record that comes again is a duplicate.

A record is a duplicate if its key was kept in the same source, and both it and the kept one lie within ten
minutes of event time behind the source's watermark. The rules, record by record in the order of positions:

- The watermark is the highest event time among the records kept so far and the one at hand.
- A record is a duplicate if its key is kept and neither its own time nor the kept one is more than ten minutes
  behind the watermark.
- Anything else is kept. Records that come later than that are kept too: the window has forgotten what they
  would repeat, and `dataset` drops what is the same fact twice.
- A record without a time is always kept and never enters the window: nothing says how far apart two of them
  are. A line that an untimed file holds twice is one fact, because of a user's ratings of an item only the latest
  counts.
- Quarantined records take no part: they neither enter the window nor move the watermark.

What came with an API key is not decided about here but by its id and receive time, in `posted_ids`.

Only kept records move the watermark, and the lake stores exactly the kept ones. So the window can be rebuilt from
the lake, and what it decides depends on the sequence of records alone, not on how it was cut into batches.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from matinee.core.clock import MINUTE

WINDOW_US = 10 * MINUTE
_NEVER = np.iinfo(np.int64).min // 2
_SLACK = 65_536
"""Keys that may linger beyond the window before it is swept, so that small batches do not pay for sweeps."""


class DuplicateWindow:
    """The keys that one source kept within the last ten minutes of its event time.

    Args:
        kept: keys and event times (UTC µs) of records already kept, in any order; those within ten minutes of
            the latest are enough.
    """

    def __init__(self, kept: Iterable[tuple[bytes, int]] = ()) -> None:
        self._times: dict[bytes, int] = {}
        self._watermark = _NEVER
        for key, time_us in kept:
            self._times[key] = max(time_us, self._times.get(key, _NEVER))
            self._watermark = max(self._watermark, time_us)
        self._sweep_at = 0
        self._sweep()

    def __len__(self) -> int:
        return len(self._times)

    def observe(
        self, keys: list[bytes], time_us: NDArray[np.int64], considered: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Decide which records of the source's next batch are duplicates, and take in the others.

        Args:
            keys: the records' deduplication keys, in the order of the positions.
            time_us: int64, shape (n,): event times in UTC µs; any value where not considered.
            considered: bool, shape (n,): false where quarantined or untimed.

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
        again = self._seen_again(keys)
        if again:
            duplicate[rows[self._decide(keys, time_us, again)]] = True
        else:
            self._times.update(zip(keys, time_us.tolist(), strict=True))
            self._watermark = max(self._watermark, int(time_us.max()))
        if len(self._times) > self._sweep_at:
            self._sweep()
        return duplicate

    def _seen_again(self, keys: list[bytes]) -> set[bytes]:
        """Keys that are in the window or come more than once; all others are kept without a question."""
        unique = set(keys)
        again = self._times.keys() & unique
        if len(unique) < len(keys):
            once: set[bytes] = set()
            for key in keys:
                if key in once:
                    again.add(key)
                else:
                    once.add(key)
        return again

    def _decide(self, keys: list[bytes], time_us: NDArray[np.int64], again: set[bytes]) -> list[int]:
        """Row numbers of the duplicates. Goes one by one only through the rows whose key comes again."""
        asked = np.fromiter((key in again for key in keys), dtype=np.bool_, count=len(keys))
        others = np.maximum.accumulate(np.where(asked, _NEVER, time_us))
        times = time_us.tolist()
        window, watermark = self._times, self._watermark
        duplicates = []
        for row in np.flatnonzero(asked).tolist():
            key, time = keys[row], times[row]
            watermark = max(watermark, int(others[row]))
            horizon = max(watermark, time) - WINDOW_US
            kept = window.get(key, _NEVER)
            if kept >= horizon and time >= horizon:
                duplicates.append(row)
            else:
                watermark = max(watermark, time)
                window[key] = max(kept, time)
        self._watermark = max(watermark, int(others[-1]))
        window.update((key, time) for key, time in zip(keys, times, strict=True) if key not in again)
        return duplicates

    def _sweep(self) -> None:
        """Forget what no later record can repeat. Each key is swept over a bounded number of times."""
        horizon = self._watermark - WINDOW_US
        self._times = {key: time for key, time in self._times.items() if time >= horizon}
        self._sweep_at = 2 * len(self._times) + _SLACK
