"""`matinee import`."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from matinee.cli.context import Context, HomeOption, JsonOption, open_context
from matinee.cli.output import Bars, bars, emit, people
from matinee.core.budget import data_gate
from matinee.core.errors import InvalidInput

if TYPE_CHECKING:
    from matinee.ingest.importing import Importer, ImportReport
    from matinee.ingest.metadata_reading import Kind

SNIFFED_LINES = 50
Format = Literal["auto", "lines", "table", "items", "users"]


def run(
    source: Annotated[str, typer.Argument(help="A file, or the name of a public data set such as movielens-1m.")],
    path: Annotated[
        Path | None, typer.Option(help="Where the data set lies: its folder or its zip. Else it is downloaded.")
    ] = None,
    file_format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="What the file holds: lines of the stream, a table of ratings or minutes, or what items or users "
            "are.",
        ),
    ] = "auto",
    column: Annotated[
        list[str] | None,
        typer.Option("--column", "-c", help="Which column is which, as `user=customer`; for tables."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import a file or a public data set, on the path that the stream takes.

    Lines of the stream (plain or gzip), CSV and Parquet tables, and `movielens-100k`, `-1m`, `-10m`, `-20m`,
    `-25m`, `-32m`, `-latest-small`. Importing the same content twice changes nothing.

    With `--format items` or `users` it says what these are: a CSV, TSV or Parquet table, or JSON lines, with an id
    and any of title, genres, year, runtime, release_date, age_limit, available_from, available_until and others, or
    of age, occupation, gender. New items are known from then on, before anybody has met them.
    """
    from matinee.ingest.importing import Importer  # noqa: PLC0415 - a verb imports what it uses

    context = open_context("import", home)
    room = data_gate(context.home, context.settings.budget, context.clock)
    room.require()  # a data set is downloaded there too
    if file_format in {"items", "users"}:
        kind: Kind = "item" if file_format == "items" else "user"
        if not Path(source).is_file():
            raise InvalidInput(
                f"{source} is no file",
                remedy=f"--format {file_format} takes one; a data set brings its own {kind}s.",
            )
        _describe(context, kind, Path(source), column or [], room.require, as_json=as_json)
        return
    with bars(quiet=as_json) as progress:
        importer = Importer(
            home=context.home,
            lake=context.lake,
            history=context.history,
            clock=context.clock,
            timezone=context.settings.stream.timezone,
            progress=progress,
            require_room=room.require,
        )
        report = _import(context, importer, source, path, file_format, column, progress)
    if as_json:
        emit(report.as_dict())
    else:
        _show(report)


def _import(
    context: Context,
    importer: "Importer",
    source: str,
    path: Path | None,
    file_format: Format,
    column: list[str] | None,
    progress: Bars,
) -> "ImportReport":
    from matinee.dataset.public import NAMES, load  # noqa: PLC0415

    if source in NAMES:
        dataset = load(
            source,
            path=path,
            cache=context.home.data / "downloads",
            progress=lambda done, total: progress(f"getting {source}", done, total or 0),
        )
        return importer.frame(
            dataset.ratings,
            name=dataset.name,
            content_hash=dataset.content_hash,
            items=dataset.items,
            users=dataset.users,
        )
    file = _file(source)
    if file_format == "lines" or (file_format == "auto" and not column and holds_lines(file)):
        return importer.lines(file)
    return importer.table(file, _columns(column or []))


def _describe(
    context: Context, kind: "Kind", file: Path, column: list[str], room: Callable[[], None], *, as_json: bool
) -> None:
    from matinee.ingest.descriptions import import_descriptions  # noqa: PLC0415 - a verb imports what it uses

    with bars(quiet=as_json) as progress:
        progress(f"reading {kind}s", 0, 0)
        report = import_descriptions(
            kind, file, _columns(column), home=context.home, lake=context.lake, clock=context.clock,
            require_room=room,
        )  # fmt: skip
    if as_json:
        emit(report.as_dict())
        return
    people.print(f"{report.read:,} {kind}s read, {report.changed:,} of them new or changed.")
    if report.erased:
        people.print(f"{report.erased:,} left out: they were erased.")
    if kind == "item" and report.changed:
        people.print("Answers know of them after the next `matinee train`.")


def holds_lines(file: Path) -> bool:
    """Whether a file holds lines of the stream, whatever it is called: most of its first lines read as such."""
    from matinee.core.clock import SystemClock  # noqa: PLC0415
    from matinee.events.lines import read_line  # noqa: PLC0415
    from matinee.events.schema import Outcome  # noqa: PLC0415
    from matinee.ingest.files import read_lines  # noqa: PLC0415

    now_us = SystemClock().now_us()
    first = next(iter(read_lines(file, skip=0, at_most=SNIFFED_LINES)), [])
    readings = [read_line(line, appended_us=now_us) for line in islice(first, SNIFFED_LINES)]
    usable = sum(reading.outcome is not Outcome.QUARANTINED for reading in readings)
    return 2 * usable > len(readings)


def _file(source: str) -> Path:
    from matinee.dataset.public import NAMES  # noqa: PLC0415

    file = Path(source)
    if not file.is_file():
        raise InvalidInput(
            f"{source} is neither a file nor a data set that matinee knows",
            remedy=f"Name a file, or one of {', '.join(NAMES)}.",
        )
    return file


def _columns(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for ours, equals, theirs in pairs:
        if not (ours and equals and theirs):
            raise InvalidInput(f"--column {ours!r} names no column", remedy="Write `--column user=customer`.")
    return {ours: theirs for ours, _, theirs in pairs}


def _show(report: "ImportReport") -> None:
    document = report.as_dict()
    if report.already_imported:
        people.print("This content is here already; nothing was changed.")
    table = Table("read", "accepted", "repaired", "duplicate", "quarantined", "seconds")
    names = ("read", "accepted", "repaired", "duplicate", "quarantined")
    table.add_row(*(f"{document[name]:,}" for name in names), f"{report.seconds:.1f}")
    people.print(table)
    if not report.timed:
        people.print("[yellow]The data has no times:[/] what needs them will refuse it.")
    if report.history == "left_to_ingest":
        people.print("The running ingest brings it into history within seconds.")
