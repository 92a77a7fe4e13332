"""`matinee history …`: what users did lately."""

from typing import Annotated, Any

import typer
from rich.table import Table

from matinee.cli.context import HomeOption, JsonOption, open_context
from matinee.cli.output import bars, emit, people

app = typer.Typer(no_args_is_help=True, help="What users did lately: show one, or rebuild all from the lake.")


@app.command()
def rebuild(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Make the history anew from the lake.

    Servers read the old one until the new one is whole. Stop `matinee ingest` first.
    """
    from matinee.ingest.rebuild import rebuild_history  # noqa: PLC0415 - a verb imports what it uses

    context = open_context("history", home)
    url = context.home.resolve(context.settings.history.url)
    started = context.clock.monotonic()
    with bars(quiet=as_json) as progress:
        folded = rebuild_history(context.home, context.lake, url, progress=progress)
    seconds = context.clock.monotonic() - started
    if as_json:
        emit({"actions": folded, "seconds": seconds})
    else:
        people.print(f"Folded {folded:,} actions into a new history in {seconds:.1f} s.")


@app.command()
def show(
    user: Annotated[str, typer.Argument(help="A user's id.")], home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show what a user did lately, newest first."""
    from datetime import UTC, datetime  # noqa: PLC0415

    from matinee.core.clock import SECOND  # noqa: PLC0415
    from matinee.core.ids import user_id  # noqa: PLC0415

    context = open_context("history", home)
    with context.history(read_only=True) as history:
        found = history.get(user_id(user))
    entries: list[dict[str, Any]] = [
        {
            "item": entry.item,
            "last": datetime.fromtimestamp(entry.last_us // SECOND, UTC).isoformat() if entry.last_us else None,
            "minutes": entry.minutes_seen,
            "rating": entry.rating,
        }
        for entry in (found.entries if found else ())
    ]
    if as_json:
        emit({"user": user, "known": found is not None, "entries": entries})
        return
    if found is None:
        people.print(f"{user} is a stranger: nothing was seen of them.")
        return
    table = Table("item", "last", "minutes", "rating", title=user)
    for entry in entries:
        table.add_row(entry["item"], entry["last"] or "", str(entry["minutes"] or ""), str(entry["rating"] or ""))
    people.print(table)
