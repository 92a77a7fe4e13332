"""How fast a world lives, what memory it takes, and how fast it can be kept.

    python benchmarks/world.py                              # the rows of docs/world.md, but the last
    python benchmarks/world.py --url http://127.0.0.1:8080  # the last one as well: asking a server that is there

Lines a second are those of processor time, so that other programs on the core do not count; asks a second are those
of the clock. The large world asks a recommender that costs nothing. It begins hours before it is measured, since
nobody is watching in a world's first minute.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from matinee.core.clock import HOUR
from matinee.simulation.keeping import keep
from matinee.simulation.options import MINUTES_A_DAY, WorldOptions
from matinee.simulation.recommenders import Nothing, Popularity
from matinee.simulation.service import HttpRecommender
from matinee.simulation.world import World

MIDNIGHT_US = 1_700_006_400_000_000
"""Of a Wednesday."""
EVENING, NIGHT = 20, 3
"""The hours of the day that are measured."""


class Counted:
    """Takes lines, and counts them."""

    def __init__(self) -> None:
        self.lines = 0

    def __call__(self, lines: list[bytes]) -> None:
        """Take the lines of a minute."""
        self.lines += len(lines)


def seconds(call: Callable[[], object]) -> float:
    """Processor time that the call takes."""
    start = time.process_time()
    call()
    return time.process_time() - start


def at_hour(hour: int, viewers: int, movies: int, warm_up: int, minutes: int) -> tuple[World, dict[str, float]]:
    """A world that has lived through some minutes of an hour, and how fast: lines a second of processor time."""
    counted = Counted()
    begins = MIDNIGHT_US + hour * HOUR - warm_up * (HOUR // 60)
    options = WorldOptions(start_us=begins, viewers=viewers, movies=movies)
    made: list[World] = []
    making = seconds(lambda: made.append(World(options, Nothing(), counted)))
    (world,) = made
    for _ in range(warm_up):
        world.step()
    before = counted.lines
    lived = seconds(lambda: [world.step() for _ in range(minutes)])
    lines = counted.lines - before
    return world, {
        "make_seconds": round(making, 3),
        "lines_a_minute": round(lines / minutes),
        "lines_a_second": round(lines / lived),
    }


def kept(world: World) -> dict[str, float]:
    """What a world takes on the disk, and the seconds that keeping it takes, by the clock."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "world.npz"
        began = time.monotonic()
        keep(world, path)
        return {"seconds": round(time.monotonic() - began, 3), "megabytes": round(path.stat().st_size / 1e6, 1)}


def small_world(viewers: int, movies: int) -> dict[str, float]:
    """A day against popularity."""
    counted = Counted()
    world = World(WorldOptions(start_us=MIDNIGHT_US, viewers=viewers, movies=movies), Popularity(), counted)
    world.run_day()  # the first begins with nobody watching
    before = counted.lines
    lived = seconds(world.run_day)
    return {"day_seconds": round(lived, 3), "lines_a_second": round((counted.lines - before) / lived)}


def asking(url: str, viewers: int, movies: int, minutes: int) -> dict[str, float]:
    """So many minutes of a world from the evening on that asks a server, by the clock."""
    options = WorldOptions(start_us=MIDNIGHT_US + EVENING * HOUR, viewers=viewers, movies=movies)
    with HttpRecommender(url) as recommender:
        world = World(options, recommender, Counted())
        began = time.monotonic()
        for _ in range(minutes):
            world.step()
        took = time.monotonic() - began
    asks = int(world.sessions.sum())
    return {"asks": asks, "seconds": round(took, 3), "asks_a_second": round(asks / took, 1)}


def peak_megabytes() -> float:
    """The most that this process has held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def main() -> None:
    """Measure, and write one JSON object."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--viewers", type=int, default=1_000_000, help="of the large world")
    given.add_argument("--movies", type=int, default=27_000, help="of the large world")
    given.add_argument("--warm-up", type=int, default=180, help="minutes that the large world lives first")
    given.add_argument("--minutes", type=int, default=20, help="minutes that are measured")
    given.add_argument("--url", help="a recommender that is to be asked")
    given.add_argument("--asking-viewers", type=int, default=20_000, help="of the world that asks it")
    given.add_argument(
        "--asking-minutes", type=int, default=MINUTES_A_DAY, help="that it lives, from the evening on"
    )
    words = given.parse_args()
    found: dict[str, object] = {"viewers": words.viewers, "movies": words.movies}
    large = (words.viewers, words.movies, words.warm_up, words.minutes)
    world, found["evening"] = at_hour(EVENING, *large)
    found["peak_megabytes"] = peak_megabytes()
    found["kept"] = kept(world)
    del world
    _, found["night"] = at_hour(NIGHT, *large)
    found["small"] = small_world(1_000, 300)
    if words.url is not None:
        found["asking"] = asking(words.url, words.asking_viewers, 1_000, words.asking_minutes)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
