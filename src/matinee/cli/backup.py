"""`matinee backup` and `matinee restore`."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from matinee.cli.context import HomeOption, JsonOption, open_context
from matinee.cli.output import emit, people


def run(
    destination: Annotated[Path, typer.Argument(help="A folder that is new or empty; best on another disk.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a home's data while it runs: lake, log, history, bundles, keys, rules and databases.

    The copy fits together, whatever goes on meanwhile, and the folder appears when it is whole. Downloaded data
    sets and log files are left out. A log on Kafka, and stores outside of the home, are not part of it.
    """
    from matinee.ingest.backup import back_up  # noqa: PLC0415 - a verb imports what it uses

    context = open_context("backup", home)
    done = back_up(context.home, context.settings, context.lake, context.clock, destination)
    if as_json:
        emit({"backup": str(destination.absolute()), **asdict(done)})
        return
    people.print(f"{done.files:,} files, {done.bytes / 1e6:,.1f} MB, are in {destination}.")
    people.print(f"Bring them back with: matinee restore {destination} --home NEW")


def bring_back(
    source: Annotated[Path, typer.Argument(help="The folder that `matinee backup` made.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the data of an empty home from a backup; a home that has data is refused.

    Every file is checked against its checksum before any is in its place. Then `matinee ingest` goes on where the
    backed-up lake ends. Users who were erased after the backup was taken are in it: erase them again before that.
    """
    from matinee.ingest.backup import restore  # noqa: PLC0415

    context = open_context("restore", home)
    done = restore(context.home, source)
    if as_json:
        emit({"home": str(context.home.path), **asdict(done)})
        return
    people.print(f"{done.files:,} files, {done.bytes / 1e6:,.1f} MB, are in {context.home.data}.")
    people.print(
        f"The backup is of {datetime.fromtimestamp(done.taken_at_us / 1e6, UTC):%Y-%m-%d %H:%M} UTC. "
        "Erase again who was erased since then, before anything else: matinee erase USER --now"
    )
