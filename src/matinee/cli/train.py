"""`matinee train`."""

from dataclasses import asdict, replace
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from matinee.cli.context import Context, HomeOption, JsonOption, open_context
from matinee.cli.output import bars, emit, people
from matinee.core.errors import ConfigurationError, DataUnavailable, GateRefused
from matinee.core.settings import TrainingSettings

if TYPE_CHECKING:
    from matinee.training.run import Request, RunReport

AUTO = "auto"
"""The name that stands for the candidates of the settings."""


def run(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Candidate; may be given several times. Of those that pass, the best wins (with "
            "`training.prefer_live`, of those that servers fold users into). `auto`: those that the setting "
            "`training.candidates` names. `svd@movielens-1m`: with a preset, or with what `matinee tune` kept by "
            "that name.",
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", help="Hyperparameter of the (single) candidate, as `name=value`."),
    ] = None,
    repeat: Annotated[str | None, typer.Option(help="Repeat the run of this bundle, from its manifest.")] = None,
    accept_data: Annotated[
        bool, typer.Option("--accept-data", help="Go on although a check of the data would stop the run.")
    ] = False,
    warm: Annotated[
        bool | None,
        typer.Option(
            "--warm/--cold",
            help="Whether the fit of what is published goes on, with few epochs, from where the last published one "
            "of the same kind and hyperparameters ended; else it begins from noise. Without either: goes on where "
            "models converge (als).",
            show_default=False,
        ),
    ] = None,
    publish: Annotated[bool, typer.Option(help="Release the bundle to everybody.")] = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit, evaluate, judge and publish a model.

    Takes a snapshot of the lake, checks it, holds a fifth out, fits the candidates, and compares each with
    popularity on full-catalogue nDCG@10. Only a model that is better beyond doubt is published; a refusal ends
    with status 1 and the figures.
    """
    context = open_context("train", home)
    with bars(quiet=as_json) as progress:
        report = _train(context, model, param, repeat, progress, accept_data=accept_data, warm=warm)
    if not as_json:
        people.print(candidates_table(describe(report, published=publish)))
        for name, why in report.unsuitable.items():
            people.print(f"[yellow]{name} was passed over:[/] {why}")
        for found in report.quality.checks:
            if found.verdict != "ok":
                people.print(f"[yellow]data: {found.name}[/]  {found.message}")
    try:
        report.raise_if_refused()
    except GateRefused as error:
        if not as_json:
            raise
        emit({**describe(report, published=False), "error": str(error), "remedy": error.remedy})
        raise typer.Exit(1) from error
    if publish:
        release(context, report)
    if as_json:
        emit(describe(report, published=publish))
    else:
        people.print(
            f"Bundle [bold]{report.bundle}[/]" + (" is released." if publish else " is kept, not released.")
        )
        if told := _what_it_follows(report):
            people.print(f"[yellow]{told}[/]", soft_wrap=True)
        if report.fitted is not None and report.fitted.warm_start is not None:
            people.print(f"[dim]Its fit went on from bundle {report.fitted.warm_start['version']}.[/]")


def _train(
    context: Context,
    model: list[str] | None,
    param: list[str] | None,
    repeat: str | None,
    progress: Any,
    *,
    accept_data: bool,
    warm: bool | None,
) -> "RunReport":
    from matinee.bundle.manifest import read_manifest, successor  # noqa: PLC0415 - a verb imports what it uses
    from matinee.training.run import repeat_of, train  # noqa: PLC0415

    settings = context.settings
    if repeat is not None:
        if model or param or accept_data or warm is not None:
            raise ConfigurationError(
                "--repeat takes model, parameters, data and what the fit began from out of the manifest",
                remedy="Leave --model, --param, --accept-data, --warm and --cold out.",
            )
        manifest = read_manifest(context.home.bundles / successor(context.home.bundles, repeat))
        if manifest.predecessors:
            raise DataUnavailable(
                f"the run of {manifest.predecessors[0]} learnt from a user who was erased since: it is no longer "
                "repeatable",
                remedy="Train anew.",
            )
        request = repeat_of(manifest)
        settings = settings.model_copy(update={"training": TrainingSettings(**manifest.options)})
    else:
        asked = _request(context, model or [settings.training.model], param or [])
        request = replace(asked, accept_data=accept_data, warm=warm)
    return train(
        request, settings=settings, home=context.home, lake=context.lake, clock=context.clock, progress=progress
    )


def _request(context: Context, asked: list[str], param: list[str]) -> "Request":
    """What the names and parameters on the command line ask training for."""
    from matinee.training.run import Request  # noqa: PLC0415 - a verb imports what it uses
    from matinee.training.tuned import resolve  # noqa: PLC0415

    candidates = context.settings.training.candidates
    names = dict.fromkeys(chain.from_iterable(candidates if name == AUTO else (name,) for name in asked))
    if param and len(names) > 1:
        raise ConfigurationError("--param belongs to one candidate", remedy="Give a single --model with it.")
    params: dict[str, dict[str, Any]] = {}
    for name in names:
        model, tuned = resolve(context.home, name)
        if model in params:
            raise ConfigurationError(
                f"{model} stands twice among the candidates",
                remedy="Give it once; `matinee tune` compares settings.",
            )
        params[model] = {**tuned, **_parse(param)}
    return Request(models=tuple(params), params=params, skip_unsuitable=AUTO in asked)


def _parse(texts: list[str]) -> dict[str, Any]:
    import json  # noqa: PLC0415

    params = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigurationError(f"--param {text!r} has no value", remedy="Write `--param n_factors=50`.")
        try:
            params[name] = json.loads(value)
        except ValueError:
            params[name] = value
    return params


def learn(context: Context, request: "Request", progress: Any) -> "RunReport":
    """Train what is asked for, and release what the gate lets through.

    Raises:
        GateRefused: it let nothing through.
    """
    from matinee.training.run import train  # noqa: PLC0415 - a verb imports what it uses

    report = train(
        request,
        settings=context.settings,
        home=context.home,
        lake=context.lake,
        clock=context.clock,
        progress=progress,
    )
    report.raise_if_refused()
    release(context, report)
    return report


def release(context: Context, report: "RunReport") -> None:
    """Release a run's bundle to everybody and note it in the audit.

    What its model has learnt is kept for the next fit to begin from; bundles beyond the budget are deleted.
    """
    from matinee.bundle.keep import prune  # noqa: PLC0415
    from matinee.bundle.manifest import successor  # noqa: PLC0415
    from matinee.release.plan import bundles_in_use, publish  # noqa: PLC0415
    from matinee.training import warm  # noqa: PLC0415

    assert report.bundle is not None
    version = successor(context.home.bundles, report.bundle)  # a user may have been erased since it was written
    publish(context.home.data, version, clock=context.clock)
    context.record("release", bundle=version, model=report.chosen)
    if report.fitted is not None:
        users, items = report.snapshot.users, report.snapshot.items
        warm.keep(context.home, report.bundle, report.fitted.model, report.fitted.params, users, items)
    prune(context.home.bundles, context.settings.training.keep_bundles, bundles_in_use(context.home.data))
    warm.prune(context.home)


def candidates_table(document: dict[str, Any]) -> Table:
    """The candidates with their figures and the gate's verdicts, from what `describe` gives."""
    table = Table(
        title="Candidates on the part held out; lists of 10 from the full catalogue",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for name in ("model", "RMSE", "MAE", "nDCG", "recall", "cover", "fit s", "ranks", "rates"):
        left = name in {"model", "ranks", "rates"}
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    ascending = sorted(document["candidates"].items(), key=lambda pair: pair[1]["metrics"]["ndcg"])
    for name, candidate in ascending:
        metrics, gate = candidate["metrics"], candidate["gate"]
        figures = (metrics.get(key) for key in ("rmse", "mae", "ndcg", "recall", "coverage"))
        table.add_row(
            f"[bold]{name}[/]" if name == document["model"] else name,
            *("" if figure is None else f"{figure:.3f}" for figure in figures),
            f"{candidate['fit_seconds']:.1f}",
            _colour(gate["ranking"]) if gate else "yardstick",
            _colour(gate["rating"]) if gate else "",
        )
    return table


def _what_it_follows(report: "RunReport") -> str:
    """What there is to know of how the published model follows what users do; nothing where it simply does."""
    from matinee.models.registry import make  # noqa: PLC0415 - a verb imports what it uses

    assert report.chosen is not None
    if not make(report.chosen).capabilities.online_fold_in:
        return f"Until the next run, answers of {report.chosen} leave out what users met, and learn nothing else."
    if not report.ranked_higher:
        return ""
    others = " and ".join(report.ranked_higher)
    return (
        f"{others} ranked better than {report.chosen}, and would learn nothing until the next run. "
        "With the setting training.prefer_live = false the best is taken all the same."
    )


def _colour(verdict: str) -> str:
    shown = {"passed": "[green]passed[/]", "refused": "[red]refused[/]", "not applicable": ""}
    return shown.get(verdict, f"[dim]{verdict}[/]")


def describe(report: "RunReport", *, published: bool) -> dict[str, Any]:
    """A run as JSON values."""
    return {
        "bundle": report.bundle,
        "model": report.chosen,
        "published": published,
        "candidates": {
            e.name: {
                "params": e.params,
                "metrics": e.metrics,
                "fit_seconds": e.fit_seconds,
                "gate": asdict(report.verdicts[e.name]) if e.name in report.verdicts else None,
            }
            for e in report.evaluations
        },
        "unsuitable": report.unsuitable,
        "ranked_higher": report.ranked_higher,
        "warm_start": None if report.fitted is None else report.fitted.warm_start,
        "bias_rmse": report.bias_rmse,
        "quality": report.quality.as_dict(),
        "lake_versions": report.snapshot.lake_versions,
        "content_hash": report.snapshot.content_hash,
        "timed": report.snapshot.timed,
        "row_counts": report.snapshot.row_counts,
        "mlflow_version": report.mlflow_version,
    }
