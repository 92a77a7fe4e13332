"""`matinee release …`: which bundle answers."""

from typing import Annotated

import typer
from rich.table import Table

from matinee.cli.context import HomeOption, JsonOption, open_context
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
    from matinee.bundle.manifest import list_versions  # noqa: PLC0415
    from matinee.bundle.verify import verify_bundle  # noqa: PLC0415
    from matinee.release.plan import publish as publish_bundle  # noqa: PLC0415

    context = open_context("release", home)
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
