"""The demo's summary on the terminal: what came in, how the models did, what three people get."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.panel import Panel
from rich.table import Table

from matinee.cli.context import Context
from matinee.cli.output import people
from matinee.cli.train import candidates_table

if TYPE_CHECKING:
    from matinee.cli.demo import Story

SHOWN_USERS = 3
SHOWN_TITLES = 5


def show(context: Context, story: "Story") -> None:
    """Print the summary."""
    facts = story.facts
    people.print()
    people.print(_intake(facts))
    people.print(candidates_table(facts["training"]))
    titles = titles_of(context)
    for user in facts["users"][:SHOWN_USERS]:
        people.print(_person(context, user, facts["answers"][user]["items"], titles))
    people.print(_steps(story))
    request_id = facts["answers"][facts["users"][0]]["request_id"]
    home = "" if context.home.path == Path(".matinee").absolute() else f" --home {context.home.path}"
    matinee = "matinee" if shutil.which("matinee") else sys.argv[0]
    people.print(
        f"[bold]{facts['requests']} answers: p50 {facts['p50_ms']:.1f} ms, p99 {facts['p99_ms']:.1f} ms[/] "
        "(measured by the client, one at a time)\n\n"
        f"Try      [bold]curl {facts['url']}/recommend/{facts['users'][0]}[/]\n"
        f"         [bold]{matinee} recommend {facts['users'][0]}{home}[/]      the same with titles\n"
        f"         [bold]{matinee} trace {request_id}{home}[/]\n"
        "         from an answer back to the model and the data behind it (a few seconds after it was given)",
        soft_wrap=True,
    )


def titles_of(context: Context) -> dict[str, str]:
    """The title of each item that the catalogue describes, with its year."""
    items = context.lake.read("items", columns=["item", "title", "year"]).collect()
    shown = pl.when(pl.col("year").is_null()).then("title").otherwise(pl.format("{} ({})", "title", "year"))
    return dict(items.filter(pl.col("title").is_not_null()).select("item", shown.alias("shown")).iter_rows())


def _intake(facts: dict[str, Any]) -> str:
    counts = facts["ingested"]
    again = " (from an earlier start)" if facts.get("reused") else ""
    return (
        f"[bold]{facts['dataset']}[/], {facts['origin']}{again}: {counts['read']:,} lines taken in, "
        f"{counts['accepted']:,} accepted, {counts['repaired']:,} repaired, {counts['duplicate']:,} repeated, "
        f"{counts['quarantined']:,} quarantined."
    )


def _person(context: Context, user: str, items: list[str], titles: dict[str, str]) -> Panel:
    rated = (
        context.lake.read("events", columns=["user", "item", "rating", "time"], predicate=pl.col("user") == user)
        .filter(pl.col("rating") >= 5)
        .sort("time", descending=True)
        .head(SHOWN_TITLES)
        .collect()
    )
    table = Table.grid(padding=(0, 4))
    table.add_row("[dim]gave five stars to[/]", "[dim]gets[/]")
    liked = [titles.get(item, item) for item in rated["item"]]
    for row in range(SHOWN_TITLES):
        left = liked[row] if row < len(liked) else ""
        right = titles.get(items[row], items[row]) if row < len(items) else ""
        table.add_row(left, f"[bold]{right}[/]")
    return Panel(table, title=f"user {user}", title_align="left", expand=False)


def _steps(story: "Story") -> Table:
    table = Table(title="How long it took", show_header=False)
    for name, seconds in story.seconds.items():
        table.add_row(name, f"{seconds:6.1f} s")
    table.add_row("[bold]from the command to answers[/]", f"[bold]{sum(story.seconds.values()):6.1f} s[/]")
    return table
