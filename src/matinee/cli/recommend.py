"""`matinee recommend`."""

from typing import Annotated, Any

import typer
from rich.table import Table

from matinee.cli.context import HomeOption, JsonOption, open_context
from matinee.cli.output import emit, people


def run(
    user: Annotated[str, typer.Argument(help="A user's id; a stranger gets what is popular.")],
    n: Annotated[int, typer.Option("--n", "-n", min=1, max=100, help="How many.")] = 10,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a user would get now, with titles: the service's own answer, without the service."""
    from matinee.cli.demo_summary import titles_of  # noqa: PLC0415 - a verb imports what it uses
    from matinee.core.ids import user_id  # noqa: PLC0415
    from matinee.serving.local import answer_locally  # noqa: PLC0415

    context = open_context("recommend", home)
    answer = answer_locally(context.settings, context.home, user_id(user), n)
    titles = titles_of(context)
    document: dict[str, Any] = {
        "user": user,
        "model_version": answer.model_version,
        "step": answer.step,
        "items": [{"item": item, "title": titles.get(item)} for item in answer.items],
    }
    if as_json:
        emit(document)
        return
    table = Table("", "item", "title", title=f"{user}: {answer.step}, by {answer.model_version}")
    for place, item in enumerate(answer.items, start=1):
        table.add_row(str(place), item, titles.get(item, ""))
    people.print(table)
