"""Where a world's lines go."""

import numpy as np

from matinee.log.base import EventLog
from matinee.simulation.options import draws


class LogWriter:
    """Appends lines to an event log; over its partitions at random, as a producer without keys does.

    Args:
        log: the log.
        seed: of what goes where.
    """

    def __init__(self, log: EventLog, seed: int) -> None:
        self._log = log
        self._partitions = sorted(log.ends())
        self._random = draws(seed, "partitions")

    def __call__(self, lines: list[bytes]) -> None:
        """Append a minute's lines; on return they are durable."""
        if len(self._partitions) < 2:
            self._log.append(lines, partition=self._partitions[0] if self._partitions else 0)
            return
        where = self._random.integers(len(self._partitions), size=len(lines))
        for number, partition in enumerate(self._partitions):
            its = [lines[row] for row in np.flatnonzero(where == number).tolist()]
            if its:
                self._log.append(its, partition=partition)
