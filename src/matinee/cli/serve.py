"""`matinee serve`."""

from typing import Annotated

import typer

from matinee.cli.context import HomeOption, open_context
from matinee.cli.output import people


def run(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", show_default="8082")] = None,
    name: Annotated[str, typer.Option(help="What this server is called: names its log.")] = "serve",
    home: HomeOption = None,
) -> None:
    """Answer `GET /recommend/<user>` from the released bundle, until Ctrl-C or SIGTERM.

    A new release is picked up without a restart. `/readyz` says whether it can answer, `/metrics` how it does.
    """
    from matinee.serving.server import serve  # noqa: PLC0415 - a verb imports what it uses

    context = open_context(name, home)
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = context.settings.model_copy(update={"serving": context.settings.serving.model_copy(update=given)})
    where = settings.serving
    people.print(f"Serving http://{where.host}:{where.port}/recommend/<user>; Ctrl-C ends it.", markup=False)
    serve(settings, context.home)
