"""`matinee quarantine …`: what could not be read, and reading it again."""

from typing import Annotated

import typer
from rich.table import Table

from matinee.cli.context import HomeOption, JsonOption, open_context
from matinee.cli.output import emit, people
from matinee.core.budget import data_gate

app = typer.Typer(no_args_is_help=True, help="What could not be read: by reason, and reading it again.")


@app.command("list")
def show(
    examples: Annotated[int, typer.Option(min=0, max=100, help="Examples of each reason, latest first.")] = 3,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the reasons for which records are in quarantine, how many there are, and examples."""
    from rich.markup import escape  # noqa: PLC0415

    from matinee.ingest.quarantine import by_reason  # noqa: PLC0415 - a verb imports what it uses

    reasons = by_reason(open_context("quarantine", home).lake, examples)
    if as_json:
        emit({"records": sum(reason["records"] for reason in reasons), "reasons": reasons})
        return
    if not reasons:
        people.print("The quarantine is empty.")
        return
    table = Table("reason", "records", "last received", "examples", title="Quarantine")
    for reason in reasons:
        last = "" if reason["last"] is None else f"{reason['last']:%Y-%m-%d %H:%M}"
        table.add_row(reason["reason"], f"{reason['records']:,}", last, escape("\n".join(reason["examples"])))
    people.print(table)


@app.command()
def replay(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Read everything in quarantine again: what now reads comes in, once; the rest stays.

    For when matinee was upgraded to a version that knows more forms, or `stream.timezone` was mended. It may run
    beside ingest. One that was broken off is finished by the next.
    """
    from matinee.ingest.importing import Importer  # noqa: PLC0415
    from matinee.ingest.quarantine import replay as replay_all  # noqa: PLC0415

    context = open_context("quarantine", home)
    timezone = context.settings.stream.timezone
    room = data_gate(context.home, context.settings.budget, context.clock)
    room.require()  # before it is written down what is to be read again
    importer = Importer(
        home=context.home,
        lake=context.lake,
        history=context.history,
        clock=context.clock,
        timezone=timezone,
        require_room=room.require,
    )
    done = replay_all(context.home, context.lake, importer, timezone=timezone)
    if as_json:
        emit({**done.counts.as_dict(), "stayed": done.stayed})
        return
    taken = done.counts.as_dict()
    people.print(
        f"{taken['read']:,} records left the quarantine ({taken['accepted']:,} accepted, {taken['repaired']:,} "
        f"repaired, {taken['duplicate']:,} duplicates); {done.stayed:,} still cannot be read."
    )
