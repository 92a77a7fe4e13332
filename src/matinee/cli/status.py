"""`matinee status`: how much room each root takes, may take, and for how long it will do; and the latest alarms."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from matinee.cli.context import Context, HomeOption, JsonOption, open_context
from matinee.cli.output import aside, emit, people
from matinee.core.budget import Room, Sizes, days_left, measure
from matinee.core.clock import SECOND
from matinee.core.errors import MatineeError
from matinee.core.settings import Settings

if TYPE_CHECKING:
    from matinee.core.alarms import Alarm

UNBOUNDED = (
    "Nothing is deleted from the lake, and only its disk bounds data/: set lake.retention_days or "
    "budget.data_megabytes (docs/lake.md, Room)."
)


def run(
    alarms: Annotated[int, typer.Option(min=0, max=1_000, help="How many of the latest alarms to show.")] = 5,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show each root's size, budget, growth a day and days left, and the latest alarms with what to do.

    Growth is told from the sizes that `matinee ingest` and this command note, once an hour at most, for two weeks;
    within the first hour it is not known. A root is full at its budget (`budget.data_megabytes`,
    `budget.logs_megabytes`), or when its disk has no more free than `budget.reserve_megabytes`. Alarms are
    those that were raised, over or not; docs/runbooks says of each how its end is seen.
    """
    context = open_context("status", home)
    rooms = measure(context.home, context.settings.budget)
    sizes = Sizes(context.home, context.clock)
    growth = sizes.growth_per_day(rooms)
    sizes.note(rooms)
    latest = _latest_alarms(context, alarms)
    hints = _hints(context.settings)
    if as_json:
        roots = {room.root: _document(room, growth[room.root]) for room in rooms}
        told = None if latest is None else [_alarm(alarm) for alarm in latest]
        emit({"home": str(context.home.path), "roots": roots, "alarms": told, "hints": hints})
        return
    _show_rooms(rooms, growth, str(context.home.path))
    for hint in hints:
        people.print(hint, markup=False, soft_wrap=True)
    if latest is not None:
        _show_alarms(latest)


def _latest_alarms(context: Context, n: int) -> "list[Alarm] | None":
    """Newest first; nothing where the control database cannot be asked, which is told aside."""
    try:
        with context.alarms() as alarms:
            return alarms.latest(n)
    except MatineeError as error:
        aside.print(f"Alarms cannot be shown: {error}", markup=False, soft_wrap=True)
        return None


def _hints(settings: Settings) -> list[str]:
    bounded = settings.lake.retention_days is not None or settings.budget.data_megabytes is not None
    return [] if bounded else [UNBOUNDED]


def _alarm(alarm: "Alarm") -> dict[str, Any]:
    return {
        "raised_at": datetime.fromtimestamp(alarm.raised_at_us / SECOND, UTC).isoformat(timespec="seconds"),
        "name": alarm.name,
        "severity": alarm.severity,
        "evidence": alarm.evidence,
        "remedy": alarm.remedy,
    }


def _show_alarms(alarms: "list[Alarm]") -> None:
    people.print("Latest alarms:" if alarms else "No alarms.")
    for alarm in alarms:
        raised = datetime.fromtimestamp(alarm.raised_at_us / SECOND, UTC)
        evidence = ", ".join(f"{name} {value}" for name, value in alarm.evidence.items())
        shown = f"{raised:%Y-%m-%d %H:%M:%S} UTC, {alarm.severity}: {alarm.name} ({evidence})"
        people.print(shown, markup=False, soft_wrap=True)
        people.print(f"    {alarm.remedy}", markup=False, soft_wrap=True)


def _show_rooms(rooms: tuple[Room, ...], growth: dict[str, float | None], title: str) -> None:
    shown = Table("root", "MB", "budget", "left", "growth a day", "days left", "", title=title)
    for room in rooms:
        grows, days = growth[room.root], days_left(room, growth[room.root])
        shown.add_row(
            room.root,
            _megabytes(room.used),
            "the disk" if room.budget is None else _megabytes(room.budget),
            _megabytes(room.left),
            "not known yet" if grows is None else f"{grows / 1e6:+,.1f}",
            "" if days is None else f"{days:,.0f}",
            {"ok": "", "nearly_full": "[yellow]nearly full[/]", "full": "[bold red]full[/]"}[room.state],
        )
    people.print(shown)


def _document(room: Room, growth: float | None) -> dict[str, Any]:
    return {
        "bytes": room.used,
        "budget_bytes": room.budget,
        "free_on_disk_bytes": room.free,
        "reserve_bytes": room.reserve,
        "left_bytes": room.left,
        "growth_bytes_per_day": growth,
        "days_left": days_left(room, growth),
        "state": room.state,
    }


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f}"
