"""`matinee release …`: which bundle answers."""

from typing import Annotated

import typer
from rich.table import Table

from matinee.cli.context import Context, HomeOption, JsonOption, open_context
from matinee.cli.output import emit, people
from matinee.core.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="Which bundle answers whom: list, publish, roll back.")


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the bundles, newest first, and say which is released."""
    from matinee.bundle.manifest import list_bundles  # noqa: PLC0415 - a verb imports what it uses
    from matinee.release.plan import read_plan  # noqa: PLC0415

    context = open_context("release", home)
    plan = read_plan(context.home.data)
    released = plan.bundles if plan else set()
    manifests = list_bundles(context.home.bundles)[::-1]
    if as_json:
        emit(
            {
                "released": sorted(released),
                "bundles": [
                    {
                        "version": m.version,
                        "model": m.model,
                        "users": m.n_users,
                        "items": m.n_items,
                        "metrics": m.metrics,
                    }
                    for m in manifests
                ],
            }
        )
        return
    table = Table("bundle", "model", "users", "items", "nDCG@10", "released")
    for m in manifests:
        ndcg = m.metrics.get("all", {}).get("ndcg")
        mark = "yes" if m.version in released else ""
        table.add_row(m.version, m.model, f"{m.n_users:,}", f"{m.n_items:,}", f"{ndcg:.4f}" if ndcg else "", mark)
    people.print(table)


@app.command()
def publish(
    version: Annotated[str, typer.Argument(help="A bundle's version, as `matinee release list` shows it.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a bundle answer everybody. Servers pick it up by themselves."""
    from matinee.bundle.manifest import list_versions, successor  # noqa: PLC0415
    from matinee.bundle.verify import verify_bundle  # noqa: PLC0415
    from matinee.release.plan import publish as publish_bundle  # noqa: PLC0415

    context = open_context("release", home)
    version = successor(context.home.bundles, version)
    if version not in list_versions(context.home.bundles):
        raise InvalidInput(f"there is no bundle {version}", remedy="`matinee release list` names those there are.")
    verify_bundle(context.home.bundles / version, context.home.run)
    publish_bundle(context.home.data, version, clock=context.clock)
    context.record("release", bundle=version)
    if as_json:
        emit({"released": [version]})
    else:
        people.print(f"{version} is released.")


@app.command()
def rollback(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Return to the release before this one."""
    from matinee.release.plan import rollback as roll_back  # noqa: PLC0415

    context = open_context("release", home)
    plan = roll_back(context.home.data, clock=context.clock)
    context.record("rollback", bundles=sorted(plan.bundles))
    if as_json:
        emit({"released": sorted(plan.bundles)})
    else:
        people.print(f"Back to {', '.join(sorted(plan.bundles))}.")


@app.command()
def erase(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Write every bundle that holds an erased user again without, and put it in the old one's place.

    `matinee schedule` (and so `matinee up`) does this by itself within hours of `matinee erase`, and
    `matinee erase --now` does it at once. Servers take the new bundle up without a failed request, and a rollback
    leads to new ones, too. What models had learnt for the next fit to begin from goes, and so do kept fold-ins.
    """
    context = open_context("release", home)
    replaced = erase_from_bundles(context)
    if as_json:
        emit({"replaced": replaced})
        return
    for before, after in replaced.items():
        people.print(f"{before} is gone; " + (f"{after} stands for it." if after else "it was damaged."))
    people.print("No bundle holds an erased user.")


def erase_from_bundles(context: Context) -> dict[str, str | None]:
    """Erase from the bundles, and from what else models and servers have made of a user; note that it is done.

    Where nobody is erased nothing is touched. Where all was done before, it is done again: a bundle may have been
    put back.

    Returns:
        Version → what took its place, of each bundle that is gone; nothing where it was damaged.

    Raises:
        Locked: a training run is under way, whose bundle may still hold the user: call again after it.
        OutOfRoom: there is no room for a bundle beside the one it is to replace.
        StoreUnavailable: something could not be deleted.
    """
    from matinee.core.erasures import ERASED, mark_done, read_erasures  # noqa: PLC0415 - a verb imports what it uses
    from matinee.release import erasure  # noqa: PLC0415
    from matinee.serving import fold_cache  # noqa: PLC0415
    from matinee.training import warm  # noqa: PLC0415

    home = context.home
    with home.lock("train"):
        erased = read_erasures(home.data / ERASED)
        if not erased:
            return {}
        replaced = erasure.erase_from_bundles(home, erased)
        warm.erase(home, erased)
        fold_cache.throw_away(home.run)
        mark_done(home, "bundles", erased.pending("bundles"), context.clock.now_us())
    context.record("erase_from_bundles", replaced=replaced)
    return replaced
