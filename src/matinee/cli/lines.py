"""`matinee read`: how one line of the stream is read."""

import os
from typing import Annotated

import typer

from matinee.cli.context import JsonOption
from matinee.cli.output import emit, people


def run(
    line: Annotated[str, typer.Argument(help="A line of the stream, or a record with its envelope.")],
    timezone: Annotated[str, typer.Option(help="The zone of the line's local time.")] = "UTC",
    as_json: JsonOption = False,
) -> None:
    """Read one line: what it says, how it was repaired, or why it cannot be used.

    For example: `matinee read '2022-11-14T12:23,5747,GZET /data/m/inception+2010/9.mpg'`
    """
    from matinee.core.clock import SystemClock  # noqa: PLC0415 - a verb imports what it uses
    from matinee.events.lines import read_line  # noqa: PLC0415

    reading = read_line(os.fsencode(line), appended_us=SystemClock().now_us(), timezone=timezone)
    document = reading.as_dict()
    if as_json:
        emit(document)
        return
    for key, value in document.items():
        if value is not None:
            people.print(f"[dim]{key:>12}[/]  {value}")
