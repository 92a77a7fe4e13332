"""How fast a world lives: as fast as it is answered, so many of its minutes a second, never ahead of the clock."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from matinee.core.clock import MINUTE, SECOND, Clock
from matinee.simulation.report import DayReport
from matinee.simulation.world import World


@dataclass(frozen=True, slots=True)
class Pace:
    """When a world's minutes may pass.

    Attributes:
        minutes_a_second: at most so many; nothing: as many as can be.
        not_ahead: whether a minute waits until the clock has passed it as well. Then a world that began in the
            past catches up, and lives on minute by minute.
    """

    minutes_a_second: float | None = None
    not_ahead: bool = False


def live(
    world: World,
    *,
    until: int | None,
    pace: Pace,
    clock: Clock,
    stopping: threading.Event,
    day_ended: Callable[[DayReport], None],
    minute_passed: Callable[[int], None] = lambda _minute: None,
) -> None:
    """Let a world live until a minute of it, or until somebody says stop.

    Args:
        world: it goes on from where it is.
        until: the minute; nothing: without end.
        pace: how fast.
        clock: what the pace is taken by.
        stopping: looked at between minutes, and while waiting.
        day_ended: given each day's report.
        minute_passed: told of each minute that has passed.
    """
    first, began = world.minute, clock.monotonic()
    while not stopping.is_set() and (until is None or world.minute < until):
        wait = 0.0
        if pace.minutes_a_second is not None:
            wait = began + (world.minute - first) / pace.minutes_a_second - clock.monotonic()
        if pace.not_ahead:
            ends = world.options.start_us + (world.minute + 1) * MINUTE
            wait = max(wait, (ends - clock.now_us()) / SECOND)
        if wait > 0 and stopping.wait(wait):
            return
        report = world.step()
        minute_passed(world.minute)
        if report is not None:
            day_ended(report)
