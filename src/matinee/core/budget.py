"""How much room each root of a home takes, may take, and has left; and who must stop when there is none.

A root is full where its files are at its budget, or where its disk has less free than the reserve. Then the writers
of what grows stop (the lake's commits), with an alarm, and go on by themselves when there is room. The reserve is
what the others live on meanwhile: the event log, which holds what the lake does not take, history, the control
database, and answers, which write nothing.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from matinee.core.clock import DAY, HOUR, Clock
from matinee.core.errors import Corrupt, FormatTooNew, OutOfRoom
from matinee.core.files import read_json, write_json
from matinee.core.home import Home
from matinee.core.settings import BudgetSettings

MEGABYTE = 1_000_000
SIZES_FORMAT = 1
NEARLY = 0.9
"""The share of its room from which a root is nearly full."""
_KEPT_SAMPLES = 24 * 14
_SAMPLE_EVERY_US = HOUR
_LOOK_SECONDS = 1.0

State = Literal["ok", "nearly_full", "full"]


@dataclass(frozen=True, slots=True)
class Room:
    """One root's use of its room; bytes.

    Attributes:
        root: `data`, `logs` or `run`.
        used: what the blocks of its files take on the disk.
        budget: what they may take; None where only the disk bounds them.
        free: what the disk has free.
        reserve: what is to stay free on the disk.
    """

    root: str
    used: int
    budget: int | None
    free: int
    reserve: int

    @property
    def left(self) -> int:
        """What may still be written; 0 or less where the root is full."""
        by_disk = self.free - self.reserve
        return by_disk if self.budget is None else min(by_disk, self.budget - self.used)

    @property
    def state(self) -> State:
        """Full where nothing is left, nearly full where less than a tenth of its room is."""
        if self.left <= 0:
            return "full"
        return "nearly_full" if self.left < (1 - NEARLY) * (self.used + self.left) else "ok"


def used_bytes(folder: Path) -> int:
    """What the files below a folder take on the disk; files that go meanwhile count as nothing."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512  # noqa: PTH118 - many files, often
            except FileNotFoundError:
                continue
    return total


def measure(home: Home, budget: BudgetSettings) -> tuple[Room, ...]:
    """The room of each root of a home."""
    megabytes = {"data": budget.data_megabytes, "logs": budget.logs_megabytes, "run": None}
    return tuple(
        room_of(root, getattr(home, root), most, budget.reserve_megabytes) for root, most in megabytes.items()
    )


def data_room(home: Home, budget: BudgetSettings) -> Room:
    """The room of a home's `data`."""
    return room_of("data", home.data, budget.data_megabytes, budget.reserve_megabytes)


def room_of(root: str, folder: Path, megabytes: float | None, reserve_megabytes: float) -> Room:
    """The room of one root."""
    disk = os.statvfs(folder)
    budget = None if megabytes is None else round(megabytes * MEGABYTE)
    reserve = round(reserve_megabytes * MEGABYTE)
    return Room(root, used_bytes(folder), budget, disk.f_bavail * disk.f_frsize, reserve)


REMEDY = (
    "Writing goes on by itself when there is room. Make some (docs/runbooks/disk-full.md), or raise its budget."
)
AGAIN = "Make room (docs/runbooks/disk-full.md), or raise its budget; then give the same command again."


class Gate:
    """Lets the writers of a root through while there is room. Says each change once: full, nearly full, room again.

    Args:
        measure: gives the root's room.
        clock: looks are a second apart while there is plenty.
        tell: called with the new state and the room, whenever the state changes.
        remedy: what the error says is to be done.
    """

    def __init__(
        self,
        measure: Callable[[], Room],
        clock: Clock,
        tell: Callable[[State, Room], None],
        remedy: str = REMEDY,
    ) -> None:
        self._measure = measure
        self._clock = clock
        self._tell = tell
        self._remedy = remedy
        self._state: State = "ok"
        self._looked = float("-inf")

    def require(self) -> None:
        """Return where there is room.

        Raises:
            OutOfRoom: the root is full.
        """
        now = self._clock.monotonic()
        if self._state == "ok" and now - self._looked < _LOOK_SECONDS:
            return
        room, self._looked = self._measure(), now
        if room.state != self._state:
            self._state = room.state
            self._tell(self._state, room)
        if self._state == "full":
            raise OutOfRoom(_why(room), remedy=self._remedy)


def data_gate(
    home: Home,
    budget: BudgetSettings,
    clock: Clock,
    tell: Callable[[State, Room], None] = lambda _state, _room: None,
    remedy: str = AGAIN,
) -> Gate:
    """Stands before what writes to a home's `data`; for a command that ends, unless told otherwise."""
    return Gate(partial(data_room, home, budget), clock, tell, remedy)


def _why(room: Room) -> str:
    if room.budget is not None and room.used >= room.budget:
        return f"root {room.root} takes {room.used:,} bytes of its budget of {room.budget:,}"
    return f"the disk of root {room.root} has {room.free:,} bytes free; {room.reserve:,} are kept in reserve"


class Sizes:
    """The roots' sizes over time, in `data/sizes.json`: one sample an hour at most, for two weeks.

    Args:
        home: whose sizes.
        clock: dates the samples.
    """

    def __init__(self, home: Home, clock: Clock) -> None:
        self._path = home.data / "sizes.json"
        self._clock = clock

    def note(self, rooms: tuple[Room, ...]) -> None:
        """Add a sample, unless the last one is younger than an hour."""
        now_us, samples = self._clock.now_us(), self._read()
        if samples and 0 <= now_us - int(samples[-1]["at_us"]) < _SAMPLE_EVERY_US:
            return
        earlier = [sample for sample in samples if int(sample["at_us"]) < now_us]
        samples = [*earlier, {"at_us": now_us, **{room.root: room.used for room in rooms}}][-_KEPT_SAMPLES:]
        write_json(self._path, {"format_version": SIZES_FORMAT, "samples": samples})

    def growth_per_day(self, rooms: tuple[Room, ...]) -> dict[str, float | None]:
        """Bytes a day by which each root grew since the oldest sample; None within the first hour."""
        now_us, samples = self._clock.now_us(), self._read()
        if not samples or now_us - int(samples[0]["at_us"]) < HOUR:
            return dict.fromkeys((room.root for room in rooms), None)
        first, days = samples[0], (now_us - int(samples[0]["at_us"])) / DAY
        return {room.root: (room.used - int(first.get(room.root, room.used))) / days for room in rooms}

    def _read(self) -> list[dict[str, int]]:
        try:
            return list(read_json(self._path, format_version=SIZES_FORMAT)["samples"])
        except (FileNotFoundError, Corrupt, FormatTooNew, KeyError):
            return []  # figures for people: what cannot be read begins anew


def days_left(room: Room, growth: float | None) -> float | None:
    """Days until the root is full at this growth; None where it does not grow, or that is not known."""
    if growth is None or growth <= 0:
        return None
    return max(0.0, room.left / growth)
