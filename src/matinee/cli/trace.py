"""`matinee trace`: from a past answer to the model, the code and the data behind it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from matinee.bundle.manifest import Manifest, read_manifest, successor
from matinee.cli.context import Context, HomeOption, JsonOption, open_context
from matinee.cli.output import emit, people
from matinee.core.erasures import ERASED, read_erasures
from matinee.core.errors import Corrupt, InvalidInput

_NOT_REPEATABLE = "No longer repeatable, erased:"


@dataclass(frozen=True)
class Trail:
    """Where an answer leads.

    Attributes:
        served: the record of the answer; nothing where its user is erased.
        manifest: of the bundle; nothing where that is no longer here.
        note: what is missing on the way; empty where nothing is.
        erased: whether it is missing because a user was erased.
    """

    served: dict[str, Any] | None
    manifest: Manifest | None = None
    note: str = ""
    erased: bool = False


def run(
    request_id: Annotated[str, typer.Argument(help="The X-Request-Id of an answer.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lead from an answer to the bundle, its manifest, and the version of the lake it was trained on.

    An answer reaches the lake a few seconds after it was given, while `matinee ingest` runs. Where the answer's
    user was erased, or a user from whom the bundle learnt, it says so and ends with status 1: the run that made
    the bundle can then not be repeated.
    """
    trail = follow(open_context("trace", home), request_id)
    if as_json:
        emit(
            {
                "served": trail.served,
                "manifest": _document(trail.manifest),
                "note": trail.note,
                "erased": trail.erased,
                "repeatable": trail.manifest is not None and not trail.note,
            }
        )
    else:
        _show(trail)
    if trail.erased:
        raise typer.Exit(1)


def follow(context: Context, request_id: str) -> Trail:
    """Where an answer leads.

    Raises:
        InvalidInput: there is no such answer in the lake.
    """
    served = context.lake.find_served(request_id)
    erased = read_erasures(context.home.data / ERASED)
    if served is None:
        was_erased = " If it was given to a user who was erased, it is no longer repeatable, erased."
        any_erased = erased or _erased_us(context, "served")
        raise InvalidInput(
            f"no answer {request_id} is in the lake",
            remedy="Is `matinee ingest` running? An answer arrives within seconds, if telemetry was not dropped."
            + (was_erased if any_erased else ""),
        )
    if served["user"] in erased:
        return Trail(None, note=f"{_NOT_REPEATABLE} the user who got this answer.", erased=True)
    version = successor(context.home.bundles, served["model_version"])
    try:
        manifest = read_manifest(context.home.bundles / version)
    except Corrupt as error:
        return Trail(served, note=f"The bundle is no longer here: {error}")
    return _checked(context, Trail(served, manifest))


def _checked(context: Context, trail: Trail) -> Trail:
    """The trail with a note where its data is no longer what it was."""
    manifest = trail.manifest
    assert manifest is not None
    if manifest.predecessors:
        note = f"{_NOT_REPEATABLE} a user from whom this bundle learnt. Its copy without that user stands for it."
        return replace(trail, note=note, erased=True)
    gone = [name for name, version in manifest.lake_versions.items() if not _is_there(context, name, version)]
    if not gone:
        return trail
    what = f"the lake's {', '.join(gone)} of this version"
    if any(_erased_us(context, name) > manifest.created_us for name in gone):
        return replace(trail, note=f"{_NOT_REPEATABLE} users in {what}.", erased=True)
    return replace(trail, note=f"No longer repeatable: {what} can no longer be read.")


def _erased_us(context: Context, table: str) -> int:
    """When old versions of a table last went for an erasure; 0 where none did."""
    from matinee.lake.erasure import erased_us  # noqa: PLC0415 - only where something is missing

    return erased_us(context.lake, table) or 0


def _is_there(context: Context, table: str, version: int) -> bool:
    """Whether all files of a table's version are there."""
    try:
        files = context.lake.table(table, version).file_uris()
    except InvalidInput:
        return False
    return all(Path(file).exists() for file in files)


def _document(manifest: Manifest | None) -> dict[str, Any] | None:
    import msgspec  # noqa: PLC0415 - only for --json

    document: dict[str, Any] | None = None if manifest is None else msgspec.to_builtins(manifest)
    return document


def _show(trail: Trail) -> None:
    served, manifest = trail.served, trail.manifest
    if served is None:
        people.print(trail.note)
        return
    people.print("[bold]The answer[/]")
    for key in ("request_id", "time", "user", "step", "arm", "latency_ms", "items"):
        value = served[key]
        people.print(
            f"  [dim]{key:>14}[/]  {', '.join(value) if isinstance(value, list) else value}", soft_wrap=True
        )
    people.print(f"[bold]The bundle[/]\n  [dim]{'version':>14}[/]  {served['model_version']}")
    if trail.note:
        people.print(f"  {trail.note}", soft_wrap=True)
    if manifest is None:
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
    if trail.note:
        return
    people.print(f"Repeat the run: [bold]matinee train --repeat {manifest.version} --no-publish[/]", soft_wrap=True)
