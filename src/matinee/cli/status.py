"""`matinee status`: how much room each root takes, may take, and for how long it will do."""

from typing import Any

from rich.table import Table

from matinee.cli.context import HomeOption, JsonOption, open_context
from matinee.cli.output import emit, people
from matinee.core.budget import Room, Sizes, days_left, measure


def run(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show each root's size, budget, growth a day and days left.

    Growth is told from the sizes that `matinee ingest` and this command note, once an hour at most, for two weeks;
    within the first hour it is not known. A root is full at its budget (`budget.data_megabytes`,
    `budget.logs_megabytes`), or when its disk has no more free than `budget.reserve_megabytes`.
    """
    context = open_context("status", home)
    rooms = measure(context.home, context.settings.budget)
    sizes = Sizes(context.home, context.clock)
    growth = sizes.growth_per_day(rooms)
    sizes.note(rooms)
    if as_json:
        roots = {room.root: _document(room, growth[room.root]) for room in rooms}
        emit({"home": str(context.home.path), "roots": roots})
        return
    shown = Table("root", "MB", "budget", "left", "growth a day", "days left", "", title=str(context.home.path))
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
