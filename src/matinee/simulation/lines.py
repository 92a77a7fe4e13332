"""The service's log: what happened within one minute, as the scenario's exact lines.

    <time>,<userid>,GET /data/m/<movieid>/<minute>.mpg
    <time>,<userid>,GET /rate/<movieid>=<1..5>
    <time>,<userid>,recommendation request <host>:<port>, status <code>, result: <id>, …, <ms> ms

Times are printed as Java's `LocalDateTime` does: seconds are left out where they are zero and no fraction follows.
"""

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from matinee.core.clock import MINUTE, SECOND
from matinee.simulation.recommenders import Answers

LATE_SECONDS = 2.0
"""Lines are up to so many seconds out of order."""
FAILED = "java.util.concurrent.TimeoutException: Request timeout to {host} after 800 ms"


class MinuteLog:
    """Collects the lines of one minute and gives them in the order in which they are written.

    Args:
        start_us: when the minute begins, UTC microseconds.
        ids: the movies' ids.
    """

    def __init__(self, start_us: int, ids: tuple[bytes, ...]) -> None:
        begins = datetime.fromtimestamp(start_us // SECOND, UTC)
        self._minute = begins.strftime("%Y-%m-%dT%H:%M").encode()
        self._times = [self._minute, *(b"%b:%02d" % (self._minute, second) for second in range(1, 60))]
        self._ids = ids
        self._lines: list[bytes] = []
        self._seconds: list[float] = []

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, line: bytes, second: float) -> None:
        """A line as it stands, written at a second of the minute."""
        self._lines.append(line)
        self._seconds.append(second)

    def time(self, second: int) -> bytes:
        """A second of the minute, as it is printed."""
        return self._times[second]

    def watch(
        self,
        who: NDArray[np.int32],
        items: NDArray[np.int32],
        minutes: NDArray[np.int16],
        seconds: NDArray[np.int8],
    ) -> None:
        """Viewers ask for a minute of a movie; (s,) each."""
        times, ids = self._times, self._ids
        self._lines += [
            b"%b,%d,GET /data/m/%b/%d.mpg" % (times[second], viewer + 1, ids[item], minute)
            for viewer, item, minute, second in zip(
                who.tolist(), items.tolist(), minutes.tolist(), seconds.tolist(), strict=True
            )
        ]
        self._seconds += seconds.tolist()

    def rate(
        self, who: NDArray[np.int32], items: NDArray[np.int32], stars: NDArray[np.int16], seconds: NDArray[np.int8]
    ) -> None:
        """Viewers rate a movie; (s,) each."""
        self._lines += [
            b"%b,%d,GET /rate/%b=%d" % (self._times[second], viewer + 1, self._ids[item], star)
            for viewer, item, star, second in zip(
                who.tolist(), items.tolist(), stars.tolist(), seconds.tolist(), strict=True
            )
        ]
        self._seconds += seconds.tolist()

    def receive(self, who: NDArray[np.int32], answers: Answers, seconds: NDArray[np.int8]) -> None:
        """The service notes what it was answered; (s,) each. Its times have milliseconds."""
        host = answers.host.encode()
        for viewer, answer, second in zip(who.tolist(), answers.each, seconds.tolist(), strict=True):
            result = answer.error or ", ".join(answer.items)
            ms = min(answer.milliseconds, 999_999_999)
            time = b"%b:%02d.%03d" % (self._minute, second, ms % 1_000 or 1)
            self._lines.append(
                b"%b,%d,recommendation request %b, status %d, result: %b, %d ms"
                % (time, viewer + 1, host, answer.status, result.encode(), ms)
            )
        self._seconds += seconds.tolist()

    def written(self, random: np.random.Generator) -> list[bytes]:
        """All lines, by time and slightly out of order."""
        late = np.asarray(self._seconds) + LATE_SECONDS * random.random(len(self._seconds))
        return [self._lines[row] for row in np.argsort(late, kind="stable").tolist()]


def minute_us(start_us: int, minute: int) -> int:
    """When a minute of a world that began at `start_us` begins, UTC microseconds."""
    return start_us + minute * MINUTE
