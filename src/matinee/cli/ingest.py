"""`matinee ingest`."""

from typing import Annotated

import typer

from matinee.cli.context import HomeOption, JsonOption, open_context
from matinee.cli.output import bars, emit, people


def run(
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when the log's end is in the lake.")
    ] = False,
    accept_new_generation: Annotated[
        bool,
        typer.Option("--accept-new-generation", help="Go on with a log that was lost or made again."),
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the event log into history and lake, until Ctrl-C or SIGTERM; then say what was done.

    Resumes where the lake ends. History follows within 100 ms, the lake every few seconds. Stores that do not
    answer are waited for; a log that was made again stops it with an alarm.
    """
    from matinee.ingest.service import ingest  # noqa: PLC0415 - a verb imports what it uses

    context = open_context("ingest", home)
    with context.alarms() as alarms, bars(quiet=as_json) as progress:
        report = ingest(
            settings=context.settings,
            home=context.home,
            clock=context.clock,
            raise_alarm=alarms.raise_alarm,
            protected=context.kept_versions,
            until_idle=until_idle,
            accept_new_generation=accept_new_generation,
            progress=progress,
        )
    document = report.as_dict()
    if as_json:
        emit(document)
        return
    people.print(
        f"Took in {document['read']:,} records in {document['seconds']:.1f} s "
        f"({document['records_per_second']:,.0f} a second): {document['accepted']:,} accepted, "
        f"{document['repaired']:,} repaired, {document['duplicate']:,} repeated, "
        f"{document['quarantined']:,} quarantined; {document['commits']:,} commits."
    )
