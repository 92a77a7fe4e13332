"""The command `matinee`."""

import os
import sys

import typer

from matinee import __version__
from matinee.cli import (
    backup,
    compare,
    demo,
    erase,
    history,
    importing,
    ingest,
    keys,
    lake,
    lines,
    metadata,
    quarantine,
    recommend,
    release,
    rules,
    schedule,
    serve,
    settings,
    simulate,
    status,
    trace,
    train,
    tune,
    up,
)
from matinee.cli.output import complain
from matinee.core.errors import MatineeError, OutOfRoom, RetryableError, is_no_room

app = typer.Typer(
    name="matinee",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="From a stream of what people watch and rate to recommendations.\n\n"
    "Try `matinee demo` first. Everything a run keeps is under one home (`.matinee/`, or `MATINEE_HOME`).",
)
app.command("demo")(demo.run)
app.command("import")(importing.run)
app.command("ingest")(ingest.run)
app.command("train")(train.run)
app.command("tune")(tune.run)
app.command("compare")(compare.run)
app.command("schedule")(schedule.run)
app.command("serve")(serve.run)
app.command("erase")(erase.run)
app.command("backup")(backup.run)
app.command("restore")(backup.bring_back)
app.command("recommend")(recommend.run)
app.command("trace")(trace.run)
app.command("read")(lines.run)
app.command("settings")(settings.run)
app.command("simulate")(simulate.run)
app.command("status")(status.run)
app.add_typer(history.app, name="history")
app.add_typer(keys.app, name="keys")
app.add_typer(lake.app, name="lake")
app.add_typer(metadata.app, name="metadata")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(release.app, name="release")
app.add_typer(rules.app, name="rules")
app.add_typer(up.app, name="up")


@app.command("version")
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line; an expected error ends with its message, its remedy and a status above 0.

    Status 75 (`EX_TEMPFAIL`) where trying again may help, 1 where something must be changed first, 2 for a
    command that was typed wrong.
    """
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # who read us has left
        sys.exit(1)
    except MatineeError as error:
        complain(error, as_json="--json" in sys.argv)
        sys.exit(75 if isinstance(error, RetryableError) else 1)
    except OSError as error:
        if not is_no_room(error):
            raise
        where = f"{error.filename}: " if error.filename else ""
        remedy = "Make room on that disk (docs/runbooks/disk-full.md); then give the same command again."
        refused = OutOfRoom(f"{where}{error.strerror}", remedy=remedy)
        try:
            complain(refused, as_json="--json" in sys.argv)
            sys.stdout.flush()
        except OSError:  # it is standard output that has no room
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            complain(refused, as_json=False)
        sys.exit(75)
