"""`matinee lake …`: what is stored, and keeping it small."""

from dataclasses import asdict
from typing import Any

import typer
from rich.table import Table

from matinee.cli.context import HomeOption, JsonOption, open_context
from matinee.cli.output import emit, people

app = typer.Typer(no_args_is_help=True, help="The stored tables: what they hold, and keeping them small.")


@app.command()
def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show every table's version, rows and size, and how far each source was read."""
    import polars as pl  # noqa: PLC0415 - a verb imports what it uses

    lake = open_context("lake", home).lake
    tables: dict[str, dict[str, Any]] = {}
    for name, version in lake.versions().items():
        files = pl.DataFrame(lake.table(name).get_add_actions(flatten=True))
        tables[name] = {
            "version": version,
            "rows": lake.read(name).select(pl.len()).collect().item(),
            "files": len(files),
            "bytes": int(files["size_bytes"].sum()) if len(files) else 0,
        }
    ends = {str(source): lake.resume_position(source) for source in lake.sources()}
    if as_json:
        emit({"tables": tables, "read_up_to": ends})
        return
    shown = Table("table", "version", "rows", "files", "MB", title="Tables")
    for name, table in tables.items():
        shown.add_row(
            name, f"{table['version']}", f"{table['rows']:,}", f"{table['files']}", f"{table['bytes'] / 1e6:.1f}"
        )
    people.print(shown)
    for source, end in ends.items():
        people.print(f"read of {source}: up to position {end:,}")


@app.command()
def maintain(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Gather closed days, delete what is past its retention, join small files, remove what no kept version needs.

    `matinee ingest` does this by itself; here it is for a lake that nobody ingests into. It is refused while
    another process looks after the lake: what two rewrite at once could bring erased users back.
    """
    from matinee.ingest.upkeep import keep_house  # noqa: PLC0415

    context = open_context("lake", home)
    with context.home.lock("upkeep"):
        gathered, done = keep_house(context.lake, context.settings, context.home, context.kept_versions())
    if as_json:
        emit({"gathered": asdict(gathered), "tables": [asdict(table) for table in done]})
        return
    people.print(f"Watch events gathered into days: {gathered.events:,}; days changed: {gathered.days:,}")
    shown = Table("table", "rows deleted", "files joined", "files written", "files removed", title="Maintained")
    for table in done:
        counts = (table.rows_deleted, table.files_joined, table.files_written, table.files_removed)
        shown.add_row(table.table, *(f"{count:,}" for count in counts))
    people.print(shown)
