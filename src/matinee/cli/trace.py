"""`matinee trace`: from a past answer to the model, the code and the data behind it."""

from typing import Annotated, Any

import typer

from matinee.bundle.manifest import Manifest, read_manifest
from matinee.cli.context import Context, HomeOption, JsonOption, open_context
from matinee.cli.output import emit, people
from matinee.core.errors import Corrupt, InvalidInput


def run(
    request_id: Annotated[str, typer.Argument(help="The X-Request-Id of an answer.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lead from an answer to the bundle, its manifest, and the version of the lake it was trained on.

    An answer reaches the lake a few seconds after it was given, while `matinee ingest` runs.
    """
    context = open_context("trace", home)
    served = context.lake.find_served(request_id)
    if served is None:
        raise InvalidInput(
            f"no answer {request_id} is in the lake",
            remedy="Is `matinee ingest` running? An answer arrives within seconds, if telemetry was not dropped.",
        )
    manifest, note = _manifest(context, served["model_version"])
    if as_json:
        emit({"served": served, "manifest": _document(manifest), "note": note})
        return
    _show(served, manifest, note)


def _manifest(context: Context, version: str) -> tuple[Manifest | None, str]:
    try:
        return read_manifest(context.home.bundles / version), ""
    except Corrupt as error:
        return None, f"The bundle is no longer here: {error}"


def _document(manifest: Manifest | None) -> dict[str, Any] | None:
    import msgspec  # noqa: PLC0415 - only for --json

    document: dict[str, Any] | None = None if manifest is None else msgspec.to_builtins(manifest)
    return document


def _show(served: dict[str, Any], manifest: Manifest | None, note: str) -> None:
    people.print("[bold]The answer[/]")
    for key in ("request_id", "time", "user", "step", "arm", "latency_ms", "items"):
        value = served[key]
        people.print(
            f"  [dim]{key:>14}[/]  {', '.join(value) if isinstance(value, list) else value}", soft_wrap=True
        )
    people.print(f"[bold]The bundle[/]\n  [dim]{'version':>14}[/]  {served['model_version']}")
    if manifest is None:
        people.print(f"  {note}")
        return
    code = manifest.code
    told = {
        "model": f"{manifest.model} {manifest.params}, seed {manifest.seed}",
        "nDCG@10": f"{manifest.metrics['all']['ndcg']:.4f} on the part held out",
        "gate": manifest.gate.evidence.get("verdict"),
        "code": f"matinee {code.package}" + (f", commit {code.commit}" if code.commit else ""),
    }
    for key, value in told.items():
        people.print(f"  [dim]{key:>14}[/]  {value}", soft_wrap=True)
    people.print("[bold]The data[/]")
    people.print(f"  [dim]{'content hash':>14}[/]  {manifest.content_hash}", soft_wrap=True)
    for table, version in manifest.lake_versions.items():
        people.print(f"  [dim]{table:>14}[/]  lake version {version}")
    for what, rows in manifest.row_counts.items():
        people.print(f"  [dim]{what:>14}[/]  {rows:,}")
    for end in manifest.offsets:
        people.print(
            f"  [dim]{'read up to':>14}[/]  {end.end:,} of {end.generation}/{end.partition}", soft_wrap=True
        )
    people.print(f"Repeat the run: [bold]matinee train --repeat {manifest.version} --no-publish[/]", soft_wrap=True)
