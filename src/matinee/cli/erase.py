"""`matinee erase`."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from matinee.cli.context import Context, HomeOption, JsonOption, open_context
from matinee.cli.output import emit, people
from matinee.cli.release import erase_from_bundles
from matinee.core.errors import InvalidInput, Locked

if TYPE_CHECKING:
    from matinee.core.erasures import Erasure

_OUTSIDE = (
    "Not in its reach: what Kafka keeps until its retention ends, backups made before (after restoring one, erase "
    "again), and what was sent elsewhere."
)


def run(
    user: Annotated[str | None, typer.Argument(help="The user's id.", show_default=False)] = None,
    now: Annotated[
        bool,
        typer.Option("--now", help="Delete at once, while neither `matinee ingest` nor `matinee train` runs."),
    ] = False,
    lift: Annotated[
        bool, typer.Option("--lift", help="Let a user whose erasure is done be known again from now on.")
    ] = False,
    listing: Annotated[bool, typer.Option("--list", help="Say how far each erasure is.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a user: unknown to every server at once, deleted everywhere within a day.

    At once servers treat the user as a stranger, and what comes of the user is dropped. Then `matinee ingest`
    deletes what lake, history and log hold, within a quarter of an hour, and `matinee schedule` writes the bundles
    again, within two hours (`matinee up` runs both). Versions of the lake before that cannot be read again.
    """
    context = open_context("erase", home)
    if listing:
        _list(context, as_json)
    elif user is None and now:
        _tell(_erase_now(context), as_json)
    elif user is None:
        raise InvalidInput("whom to erase is not said", remedy="`matinee erase USER`, or `matinee erase --list`.")
    elif lift:
        _lift(context, user, as_json)
    else:
        _tell(_erase(context, user, now=now), as_json)


def _erase(context: Context, user: str, *, now: bool) -> dict[str, Any]:
    from matinee.core.erasures import add_erasure  # noqa: PLC0415 - a verb imports what it uses

    added = add_erasure(context.home, user, context.clock.now_us())
    if added:
        context.record("erase")  # of whom is what is not to be kept
    return {"added": added, **(_erase_now(context) if now else {"stores": "pending", "bundles": "pending"})}


def _erase_now(context: Context) -> dict[str, Any]:
    """Delete what is pending. Each part says `done`, or why it is not."""
    return {"stores": _stores(context), "bundles": _bundles(context)}


def _stores(context: Context) -> str:
    from matinee.ingest.erasure import erase_now  # noqa: PLC0415 - a verb imports what it uses
    from matinee.ingest.stores import Opened  # noqa: PLC0415

    try:
        with context.home.lock("ingest"), context.home.lock("upkeep"), context.home.lock("import"):
            with context.log() as log, context.history() as history:
                if erase_now(context.home, Opened(log, context.lake, history)):
                    return "done"
            return (
                "the event log holds records that are not taken in yet: `matinee ingest --until-idle`, then again"
            )
    except Locked:
        return "matinee ingest is running, and does it by itself within a quarter of an hour"


def _bundles(context: Context) -> str:
    try:
        erase_from_bundles(context)
    except Locked:
        return "matinee train is running: try again after it; matinee schedule does it by itself within two hours"
    return "done"


def _lift(context: Context, user: str, as_json: bool) -> None:
    from matinee.core.erasures import lift_erasure  # noqa: PLC0415 - a verb imports what it uses

    if not lift_erasure(context.home, user):
        raise InvalidInput(f"{user} is not erased", remedy="`matinee erase --list` says how many are.")
    context.record("lift_erasure")
    if as_json:
        emit({"lifted": True})
    else:
        people.print("From now on what this user does is kept, and counts.", markup=False)


def _tell(done: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(done)
        return
    if "added" in done:
        people.print("A stranger to every server, from now on." if done["added"] else "Was asked for before.")
    for part in ("stores", "bundles"):
        people.print(f"{part}: {done[part]}", markup=False)
    people.print(_OUTSIDE, markup=False)


def _list(context: Context, as_json: bool) -> None:
    from matinee.core.erasures import ERASED, PARTS, read_erasures  # noqa: PLC0415 - a verb imports what it uses

    erased = sorted(
        read_erasures(context.home.data / ERASED).by_digest.values(), key=lambda erasure: erasure.asked_us
    )
    if as_json:
        emit({"erased": [{"asked_us": one.asked_us, "done_us": one.done_us} for one in erased]})
        return
    shown = Table("asked", *PARTS, title=f"{len(erased):,} users erased; their ids are not kept")
    for one in erased:
        shown.add_row(_time(one.asked_us), *(_done(one, part) for part in PARTS))
    people.print(shown)


def _done(erasure: "Erasure", part: str) -> str:
    done_us = erasure.done_us.get(part)
    return "pending" if done_us is None else _time(done_us)


def _time(us: int) -> str:
    return f"{datetime.fromtimestamp(us / 1e6, UTC):%Y-%m-%d %H:%M} UTC"
