"""`matinee keys …`: who may use the API."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from matinee.cli.context import HomeOption, JsonOption, open_context
from matinee.cli.output import aside, emit, people
from matinee.core.clock import DAY, HOUR
from matinee.core.errors import InvalidInput
from matinee.serving.key_file import KEYS, ApiKey, Scope, create_key, read_keys, revoke_key, rotate_key

app = typer.Typer(
    no_args_is_help=True,
    help="API keys: create, list, rotate, revoke. Running servers follow within a second.\n\n"
    "A key is shown once, when it is made; stored is only a hash of it (`data/api_keys.json`). Clients send it as "
    "`Authorization: Bearer KEY` or `X-Api-Key: KEY`.",
)
_Named = Annotated[str, typer.Argument(metavar="NAME|ID", help="The key, as `matinee keys list` shows it.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, such as `shop`: letters, digits, blanks, ._@-")],
    scope: Annotated[
        Scope,
        typer.Option(help="read: ask; write: post events, too; admin: change how the service works, too."),
    ] = Scope.READ,
    days: Annotated[
        float | None, typer.Option(min=0, help="Days until it ends.", show_default="it does not end")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key, and show it: this once."""
    context = open_context("keys", home)
    lifetime_us = None if days is None else _microseconds(days, DAY, "--days")
    key, token = create_key(context.home, name, scope, clock=context.clock, lifetime_us=lifetime_us)
    _show_token(key, token, as_json=as_json, now_us=context.clock.now_us())
    context.record("key_created", key=key.id, name=key.name, scope=key.scope)


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List all keys, without what could be used in their place."""
    context = open_context("keys", home)
    now_us = context.clock.now_us()
    described = [_described(key, now_us) for key in read_keys(context.home.data / KEYS)]
    if as_json:
        emit({"keys": described})
        return
    if not described:
        people.print("There are no keys. `matinee keys create NAME --scope read` makes one.")
        return
    table = Table(*(Column(name, no_wrap=True) for name in ("id", "name", "scope", "state", "created", "ends")))
    for key in described:
        times = (key["created"], key["revoked"] or key["expires"])
        table.add_row(key["id"], key["name"], key["scope"], key["state"], *((time or "")[:16] for time in times))
    people.print(table)


@app.command()
def rotate(
    named: _Named,
    overlap_hours: Annotated[
        float, typer.Option(min=0, help="Hours for which the old secret stays good, so that clients can follow.")
    ] = 24.0,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a key another secret, and show it. Id, name and scope stay; the old secret works for a while."""
    context = open_context("keys", home)
    overlap_us = _microseconds(overlap_hours, HOUR, "--overlap-hours")
    key, token = rotate_key(context.home, named, clock=context.clock, overlap_us=overlap_us)
    _show_token(key, token, as_json=as_json, now_us=context.clock.now_us())
    context.record("key_rotated", key=key.id, name=key.name, overlap_hours=overlap_hours)


@app.command()
def revoke(named: _Named, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """End a key. Running servers refuse it within a second."""
    context = open_context("keys", home)
    key = revoke_key(context.home, named, clock=context.clock)
    context.record("key_revoked", key=key.id, name=key.name)
    if as_json:
        emit(_described(key, context.clock.now_us()))
    else:
        people.print(f"{key.name} ({key.id}) is revoked.")


def _show_token(key: ApiKey, token: str, *, as_json: bool, now_us: int) -> None:
    described = _described(key, now_us)
    if as_json:
        emit({**described, "key": token})
        return
    people.out(token)
    aside.print(f"This is the key {key.id} of {key.name}, scope {key.scope}. It is not shown again.")
    if described["old_secret_until"]:
        aside.print(f"The one before works until {described['old_secret_until']}.")


def _described(key: ApiKey, now_us: int) -> dict[str, Any]:
    state = "valid" if key.is_valid(now_us) else "expired" if key.revoked_us is None else "revoked"
    old = [secret.until_us for secret in key.secrets if secret.until_us is not None and secret.until_us > now_us]
    return {
        "id": key.id,
        "name": key.name,
        "scope": key.scope.value,
        "state": state,
        "created": _shown(key.created_us),
        "expires": _shown(key.expires_us),
        "revoked": _shown(key.revoked_us),
        "old_secret_until": _shown(max(old, default=None)),
    }


def _microseconds(number: float, unit: int, option: str) -> int:
    if not 0 <= number * unit <= 100 * 366 * DAY:
        raise InvalidInput(f"{option} is {number}", remedy="Give a number from 0 to a hundred years.")
    return round(number * unit)


def _shown(time_us: int | None) -> str | None:
    return None if time_us is None else datetime.fromtimestamp(time_us // 1_000_000, UTC).isoformat()
