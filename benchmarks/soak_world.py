"""The world of `soak.py`: viewers who ask the balancer, and whose lines come to the log at a steady rate.

    python benchmarks/soak_world.py LOG_URL --viewers 20000 --items 2000 --rate 10000

Writes the past, says so on standard output, and waits for the balancer's URL on standard input; then lives as fast
as that many lines a second want, until standard input ends, and says what it wrote and asked. Its lines carry its
own times, hundreds of times faster than the clock's, so that days pass; with `--times clock` they carry the moment
at which they are written, so that as many lie within the time in which repeats are told as with real viewers.
"""

import argparse
import json
import re
import select
import sys
import time
from datetime import UTC, datetime

from matinee.core.clock import DAY, SystemClock
from matinee.log.open import open_log
from matinee.simulation.behaviour import Indices
from matinee.simulation.options import WorldOptions
from matinee.simulation.recommenders import OK, Answers, Nothing, Situation
from matinee.simulation.service import HttpRecommender
from matinee.simulation.world import World
from matinee.simulation.writing import LogWriter

BEGAN_DAYS_AGO = 60
"""The world lives faster than the clock, and must not come to its future."""
TICK_SECONDS = 0.1
TIMES = ("world", "clock")
_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?,")


class Ended(Exception):
    """Standard input has ended."""


class Steadily:
    """Takes a minute's lines and gives them on: at once, and after `begin` so many a second, which it counts.

    Args:
        write: where they go.
        stamps: whether those after `begin` are to carry the clock's time.
    """

    def __init__(self, write: LogWriter, *, stamps: bool) -> None:
        self._write = write
        self._stamps = stamps
        self._rate: int | None = None
        self._began = 0.0
        self.written = 0

    def begin(self, rate: int) -> None:
        """From now on `rate` lines a second at most, until standard input ends."""
        self._rate, self._began = rate, time.monotonic()

    def __call__(self, lines: list[bytes]) -> None:
        """Write them, each tenth of a second's share when it is due."""
        if self._rate is None:
            self._write(lines)
            return
        share = max(1, round(self._rate * TICK_SECONDS))
        for start in range(0, len(lines), share):
            part = lines[start : start + share]
            wait = self._began + self.written / self._rate - time.monotonic()
            if select.select([sys.stdin], [], [], max(0.0, wait))[0]:
                raise Ended
            self._write(stamped(part, time.time()) if self._stamps else part)
            self.written += len(part)

    def per_second(self) -> float:
        """Lines a second since `begin`."""
        return self.written / (time.monotonic() - self._began)


def stamped(lines: list[bytes], seconds: float) -> list[bytes]:
    """The lines with another time; those whose time is no time keep it."""
    moment = datetime.fromtimestamp(seconds, UTC)
    form = "%Y-%m-%dT%H:%M:%S," if moment.second else "%Y-%m-%dT%H:%M,"
    now = moment.strftime(form).encode()
    return [now + line[found.end() :] if (found := _TIME.match(line)) else line for line in lines]


class Counting:
    """A recommender that counts what it is asked, and what failed.

    Args:
        asked: the one that answers.
    """

    def __init__(self, asked: HttpRecommender) -> None:
        self._asked = asked
        self.name = asked.name
        self.requests = self.failed = 0

    def recommend(self, who: Indices, situation: Situation) -> Answers:
        """See `Recommender.recommend`."""
        answers = self._asked.recommend(who, situation)
        self.requests += len(answers.each)
        self.failed += sum(answer.status != OK for answer in answers.each)
        return answers


def main() -> None:
    """Live."""
    arguments = _arguments()
    now_us = SystemClock().now_us()
    options = WorldOptions(
        start_us=(now_us // DAY - BEGAN_DAYS_AGO) * DAY,
        viewers=arguments.viewers,
        movies=arguments.items,
        past_ratings=arguments.past,
        dirt=arguments.dirt,
    )
    with open_log(arguments.url, SystemClock()) as log:
        steadily = Steadily(LogWriter(log, options.seed), stamps=arguments.times == "clock")
        world = World(options, Nothing(), steadily)
        say(past=world.live_through_past())
        with HttpRecommender(sys.stdin.readline().strip()) as service:
            world.recommender = counting = Counting(service)
            steadily.begin(arguments.rate)
            try:
                while True:
                    world.step()
            except Ended:
                say(
                    minutes=world.minute, lines=steadily.written, lines_per_second=steadily.per_second(),
                    requests=counting.requests, failed=counting.failed,
                )  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--viewers", type=int, required=True)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--past", type=float, default=20.0, help="ratings of the average viewer from before")
    parser.add_argument("--times", choices=TIMES, default="world")
    parser.add_argument("--dirt", type=float, default=0.001, help="share of the lines that are dirty")
    return parser.parse_args()


def say(**told: float) -> None:
    """One JSON object on a line."""
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
