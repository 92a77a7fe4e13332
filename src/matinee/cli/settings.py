"""`matinee settings`: what can be set, what it is now, and what it means."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.table import Table

from matinee.cli.context import JsonOption
from matinee.cli.output import emit, people
from matinee.core.settings import CONFIG_FILE, Settings, load_settings


def run(
    markdown: Annotated[bool, typer.Option(help="Print the defaults as a Markdown page.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every setting with its value and meaning.

    Set them in `matinee.toml` in the working folder, or by variables: `MATINEE_SERVING__PORT=9000`.
    """
    if markdown:
        people.out(as_markdown(), end="")
        return
    rows = list(describe(load_settings()))
    if as_json:
        emit({name: value for name, value, _ in rows})
        return
    table = Table("setting", "value", "meaning")
    for name, value, meaning in rows:
        table.add_row(name, str(value), meaning)
    people.print(table)


def describe(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Each setting of a section and those within: dotted name, value, meaning."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from describe(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value, " ".join((field.description or "").split())


def as_markdown() -> str:
    """The page `docs/settings.md`."""
    defaults = Settings.model_construct()
    rows = "\n".join(f"| `{name}` | `{value}` | {meaning} |" for name, value, meaning in describe(defaults))
    return (
        "# Settings\n\n"
        f"Set them in `{CONFIG_FILE}` in the working folder (`serving.port` is `port` in the table `[serving]`),\n"
        "or by environment variables, which win: `MATINEE_HOME`, `MATINEE_SERVING__PORT`. `{data}`, `{logs}` and\n"
        "`{run}` in a URL stand for the home's three roots. `matinee settings` shows what holds now; this page is\n"
        "what `matinee settings --markdown` prints.\n\n"
        f"| setting | default | meaning |\n| --- | --- | --- |\n{rows}\n"
    )
