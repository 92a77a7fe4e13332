"""`matinee metadata …`: describing items and users by asking the service's own APIs."""

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from matinee.cli.context import HomeOption, JsonOption, open_context
from matinee.cli.output import emit, people
from matinee.core.errors import ConfigurationError
from matinee.core.signals import ended_by_signals

app = typer.Typer(
    no_args_is_help=True,
    help="What items and users are: asked of two HTTP APIs (`metadata.item_url`, `metadata.user_url`).",
)


class KindOption(StrEnum):
    """What to ask for."""

    ITEM = "item"
    USER = "user"


@app.command()
def run(
    until_idle: Annotated[
        bool,
        typer.Option(
            "--until-idle", help="End when nothing is due; an API that fails for a minute is not waited for."
        ),
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask for what is new, or has become old, until Ctrl-C or SIGTERM; then say what was done.

    New are the items and users of the lake's events. At most `metadata.requests_per_second` are asked for, retried
    where the API fails, and left alone while it is away. Nothing waits for it: what is not described is recommended
    all the same.
    """
    from matinee.core.metrics import exposed  # noqa: PLC0415 - a verb imports what it uses
    from matinee.ingest.metadata import Describer  # noqa: PLC0415
    from matinee.ingest.metadata_metrics import MetadataMetrics  # noqa: PLC0415

    context = open_context("metadata", home)
    with context.alarms() as alarms, ended_by_signals() as told:
        describer = Describer(
            settings=context.settings,
            home=context.home,
            clock=context.clock,
            raise_alarm=alarms.raise_alarm,
            lake=context.lake,
            stopping=told,
        )
        port = context.settings.metadata.metrics_port
        with exposed(MetadataMetrics(describer.report), port, setting="metadata.metrics_port"):
            report = describer.run(until_idle=until_idle).as_dict()
    if as_json:
        emit(report)
        return
    people.print(f"Asked {report['asked']:,} times; {report['rows']:,} rows of the lake are new or changed.")
    for kinds in ("items", "users"):
        came = ", ".join(f"{result} {count:,}" for result, count in sorted(report[kinds].items()))
        people.print(f"{kinds}: {came or 'none asked for'}")


@app.command()
def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show how many items and users are described, unknown, new or failing, and how many are due."""
    from matinee.ingest.metadata_reading import Kind  # noqa: PLC0415
    from matinee.ingest.metadata_state import State  # noqa: PLC0415

    context = open_context("metadata-status", home)
    kinds: tuple[Kind, Kind] = ("item", "user")
    document: dict[str, Any] = {}
    with State(context.home) as state:
        for kind in kinds:
            outcomes = state.outcomes(kind)
            document[f"{kind}s"] = {"due": state.count_due(kind, context.clock.now_us()), "last": outcomes}
        document["not_yet_in_the_lake"] = state.waiting()
    if as_json:
        emit(document)
        return
    table = Table("", "ids", "due", "what came of asking last", title="Metadata")
    for kind in kinds:
        last = document[f"{kind}s"]["last"]
        told = ", ".join(f"{outcome} {count:,}" for outcome, count in last.items())
        table.add_row(f"{kind}s", f"{sum(last.values()):,}", f"{document[f'{kind}s']['due']:,}", told)
    people.print(table)
    people.print(f"Answers that the lake does not hold yet: {document['not_yet_in_the_lake']:,}")


@app.command()
def ask(
    kind: Annotated[KindOption, typer.Argument(help="What to ask for.")],
    key: Annotated[str, typer.Argument(metavar="ID", help="Its id.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask an API for one id, and show how its answer is read. Nothing is stored.

    Ends with status 75 where the API does not answer.
    """
    from matinee.ingest.metadata_client import ask_once  # noqa: PLC0415
    from matinee.ingest.metadata_reading import Described, Unknown  # noqa: PLC0415

    context = open_context("metadata-ask", home)
    url = context.settings.metadata.item_url if kind is KindOption.ITEM else context.settings.metadata.user_url
    if not url:
        raise ConfigurationError(
            f"metadata.{kind}_url is empty: there is nobody to ask",
            remedy="Set it, such as MATINEE_METADATA__ITEM_URL='http://host/movie/{id}'.",
        )
    reading = ask_once(context.settings.metadata, context.clock, kind.value, key)
    if isinstance(reading, Described):
        document: dict[str, Any] = {"result": "described", "row": reading.row}
    else:
        document = {"result": "unknown" if isinstance(reading, Unknown) else str(reading.reason)}
    if as_json:
        emit(document)
        return
    people.print(document["result"])
    for name, value in document.get("row", {}).items():
        people.print(f"  {name}: {'not known' if value is None else value}", markup=False)
