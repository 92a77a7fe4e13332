"""`matinee ingest`."""

from typing import TYPE_CHECKING, Annotated

import typer

from matinee.cli.context import Context, HomeOption, JsonOption, open_context
from matinee.cli.output import Bars, bars, emit, people

if TYPE_CHECKING:
    from matinee.ingest.report import IngestReport


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
    context = open_context("ingest", home)
    with bars(quiet=as_json) as progress:
        report = take_in(context, progress, until_idle=until_idle, accept_new_generation=accept_new_generation)
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


def take_in(
    context: Context, progress: Bars, *, until_idle: bool = False, accept_new_generation: bool = False
) -> "IngestReport":
    """Ingest into the context's home, with its alarms; see `matinee.ingest.service.ingest`."""
    from matinee.ingest.service import ingest  # noqa: PLC0415 - a verb imports what it uses

    with context.alarms() as alarms:
        return ingest(
            settings=context.settings,
            home=context.home,
            clock=context.clock,
            raise_alarm=alarms.raise_alarm,
            protected=context.kept_versions,
            until_idle=until_idle,
            accept_new_generation=accept_new_generation,
            progress=progress,
        )
