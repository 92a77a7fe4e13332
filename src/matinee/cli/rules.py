"""`matinee rules …`: what is blocked, and the other rules of what may be shown."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from matinee.cli.context import Context, HomeOption, JsonOption, open_context
from matinee.cli.output import aside, emit, people

if TYPE_CHECKING:
    from matinee.serving.rules import Rules, Window

app = typer.Typer(
    no_args_is_help=True,
    help="What may be shown: blocked items, availability, age limits, a genre's share. Running servers follow by "
    "themselves.\n\nThe rules stand in `data/rules.toml`; edit it by hand for what has no verb here, "
    "after `matinee rules check` of a copy.",
)
ItemsArgument = Annotated[list[str], typer.Argument(help="Item ids.", show_default=False)]


@app.command()
def show(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the rules that hold, and the items among them that the released bundle does not know."""
    context = open_context("rules", home)
    _tell(context, _path(context), as_json=as_json)


@app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="A file of rules.", show_default="data/rules.toml")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a file of rules means, without making it hold; fails where servers would refuse it."""
    from matinee.core.errors import InvalidInput  # noqa: PLC0415 - a verb imports what it uses

    context = open_context("rules", home)
    path = file or _path(context)
    if not path.is_file():
        raise InvalidInput(f"{path} is not there", remedy="Give a file of rules; `matinee rules block` makes one.")
    _tell(context, path, as_json=as_json)


@app.command()
def block(items: ItemsArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Never show these items to anybody. What else stands in the file stays as it is, comments too."""
    from matinee.core.ids import item_id  # noqa: PLC0415

    context = open_context("rules", home)
    wanted = [str(item_id(item)) for item in dict.fromkeys(items)]
    before = _edit(context, lambda blocked: [*blocked, *(item for item in wanted if item not in blocked)])
    added = [item for item in wanted if item not in before]
    context.record("rules_block", items=added)
    unknown = _unknown(context, wanted)
    if as_json:
        emit({"blocked": added, "blocked_before": [i for i in wanted if i in before], "unknown": unknown})
        return
    for item in wanted:
        note = "; the released bundle does not know it" if item in (unknown or ()) else ""
        people.print(f"{item} is blocked{'' if item in added else ' already'}{note}.", markup=False)


@app.command()
def unblock(items: ItemsArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Let these items be shown again."""
    context = open_context("rules", home)
    before = _edit(context, lambda blocked: [item for item in blocked if item not in items])
    removed = [item for item in dict.fromkeys(items) if item in before]
    context.record("rules_unblock", items=removed)
    if as_json:
        emit({"unblocked": removed, "not_blocked": [item for item in dict.fromkeys(items) if item not in before]})
        return
    for item in dict.fromkeys(items):
        people.print(f"{item} is {'no longer' if item in removed else 'not'} blocked.", markup=False)


def _path(context: Context) -> Path:
    from matinee.serving.rules import RULES  # noqa: PLC0415

    return context.home.data / RULES


def _edit(context: Context, change: Callable[[list[str]], list[str]]) -> list[str]:
    """Change the list of blocked items in the file, and return what was blocked before.

    Raises:
        InvalidInput: the file holds no rules; it stays as it is.
        Locked: somebody else edits it.
    """
    from matinee.core.files import write_atomically  # noqa: PLC0415
    from matinee.serving.rules import parse_rules  # noqa: PLC0415

    path = _path(context)
    with context.home.lock("rules"):
        text = path.read_bytes() if path.is_file() else b""
        before = list(parse_rules(text, str(path)).blocked)
        after = change(before)
        if after != before:
            write_atomically(path, edited(text.decode(), after).encode())
    return before


def edited(text: str, blocked: list[str]) -> str:
    """A file of rules with another list of blocked items, and everything else as it was written."""
    import tomlkit  # noqa: PLC0415

    from matinee.serving.rules import RULES_FORMAT  # noqa: PLC0415

    document = tomlkit.parse(text) if text else tomlkit.document().add("format_version", RULES_FORMAT)
    if "blocked" not in document:
        document.add("blocked", tomlkit.array())
    kept: Any = document["blocked"]
    for item in [item for item in kept if item not in blocked]:
        kept.remove(item)
    kept.extend(blocked[len(kept) :])
    kept.multiline(multiline=True)
    return tomlkit.dumps(document)


def _unknown(context: Context, items: list[str]) -> list[str] | None:
    """Those that the released bundles do not know; nothing where none is released, or can be read."""
    from matinee.bundle.open import open_bundle  # noqa: PLC0415
    from matinee.core.errors import MatineeError  # noqa: PLC0415
    from matinee.release.plan import read_plan  # noqa: PLC0415

    left = items
    try:
        plan = read_plan(context.home.data)
        for version in sorted(plan.bundles if plan else ()):
            with open_bundle(context.home.bundles / version, context.home.run) as bundle:
                left = [item for item in left if bundle.item_index(item) is None]
    except (MatineeError, OSError) as error:
        aside.print(f"What the released bundle knows cannot be told: {error}", markup=False)
        return None
    return left if plan else None


def _tell(context: Context, path: Path, *, as_json: bool) -> None:
    from matinee.serving.rules import Rules, parse_rules  # noqa: PLC0415

    rules = parse_rules(path.read_bytes(), str(path)) if path.is_file() else Rules()
    unknown = _unknown(context, sorted(rules.items))
    if as_json:
        emit(_document(path, rules) | {"unknown": unknown})
        return
    people.print(f"{path}{'' if path.is_file() else ' is not there: no rule holds'}", markup=False, soft_wrap=True)
    table = Table("rule", "of", "", "")
    for rule, of, value in _rows(rules):
        table.add_row(rule, of, value, "not in the released bundle" if of in (unknown or ()) else "")
    people.print(table)


def _document(path: Path, rules: "Rules") -> dict[str, Any]:
    return {
        "path": str(path),
        "blocked": rules.blocked,
        "unknown_age": rules.unknown_age,
        "available": {
            item: dict(zip(("from", "until"), _ends(window), strict=True))
            for item, window in rules.available.items()
        },
        "age_limits": rules.age_limits,
        "most_of_one_genre": rules.most_of_one_genre,
    }


def _rows(rules: "Rules") -> list[tuple[str, str, str]]:
    return [
        *(("blocked", item, "") for item in rules.blocked),
        *(
            ("available", item, " until ".join(end or "…" for end in _ends(w)))
            for item, w in rules.available.items()
        ),
        *(("age limit", item, f"{age} years" if age else "none") for item, age in rules.age_limits.items()),
        *(("most of a list", genre, f"{share:.0%}") for genre, share in rules.most_of_one_genre.items()),
        ("unknown age", "", f"taken as {rules.unknown_age} years"),
    ]


def _ends(window: "Window") -> tuple[str | None, str | None]:
    """Both ends as UTC times; nothing where open."""
    import numpy as np  # noqa: PLC0415 - a verb imports what it uses

    from matinee.bundle.attributes import ALWAYS_US  # noqa: PLC0415
    from matinee.core.clock import SECOND  # noqa: PLC0415

    # Not `datetime`: the day after 9999-12-31, which stands for "for ever" in many a file, is none of its own.
    start, end = (None if us in ALWAYS_US else f"{np.datetime64(us // SECOND, 's')}Z" for us in window.us())
    return start, end
