"""`matinee tune`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from matinee.cli.context import HomeOption, JsonOption, open_context
from matinee.cli.datasets import PositiveRatingOption, load_data
from matinee.cli.output import bars, emit, people

if TYPE_CHECKING:
    from matinee.models.spaces import Space
    from matinee.training.search import Judged, SearchReport

SHOWN = ("rmse", "mae", "ndcg@10", "recall@20", "coverage@10")


def run(
    model: Annotated[str, typer.Argument(help="The model whose hyperparameters are searched for.")],
    dataset: Annotated[
        str, typer.Argument(help="A public data set such as movielens-100k, a table of ratings, or `lake`.")
    ],
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", help="Values, as `n_factors=50,100`; all combinations are tried."),
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space",
            help="Range or choice, as `lr_all=0.001..0.02:log`, `n_factors=20..200`, `biased=true|false`. Without "
            "this and --grid the model's own default space is searched.",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Settings to try; a grid ends when it is through.")] = 30,
    metric: Annotated[
        Literal["rmse", "ndcg@10"] | None,
        typer.Option(help="What to search for. Else RMSE where the model predicts ratings, and nDCG@10 where not."),
    ] = None,
    positive_rating: PositiveRatingOption = None,
    folds: Annotated[int, typer.Option(min=2, help="Inner folds that each trial is judged on.")] = 3,
    prune: Annotated[bool, typer.Option(help="Give hopeless trials up after their first folds.")] = True,
    jobs: Annotated[int, typer.Option(min=1, help="Trials at the same time.")] = 2,
    seed: Annotated[int | None, typer.Option(help="Of splits, models, sampler; else the settings'.")] = None,
    path: Annotated[Path | None, typer.Option(help="Folder or zip of the public data set.")] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What the search and its best set are called; else the data set's name."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for a picture of the search.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search for a model's best hyperparameters, and judge them on data that the search has not seen.

    A fifth of the interactions is set aside; trials are cross-validated within the rest. The best set is kept by
    name, and `matinee train --model MODEL@NAME` takes it. After Ctrl-C the same command goes on where it ended.
    """
    from matinee.training.search import SearchOptions, search  # noqa: PLC0415 - a verb imports what it uses
    from matinee.training.tuned import keep, name_of  # noqa: PLC0415

    context = open_context("tune", home)
    dimensions = _dimensions(model, grid, space)
    training = context.settings.training
    options = SearchOptions(
        trials=trials,
        sampler="grid" if grid else "tpe",
        metric=metric,
        folds=folds,
        prune=prune,
        seed=training.seed if seed is None else seed,
        jobs=jobs,
        positive_rating=training.positive_rating if positive_rating is None else positive_rating,
        resamples=training.bootstrap_resamples,
    )
    label = name or Path(dataset).stem.lower()
    study_name = name_of(model, label)  # a wrong name is told before the long work
    data = load_data(context, dataset, path, quiet=as_json)
    with bars(quiet=as_json) as progress:
        report = search(
            model,
            dimensions,
            data.interactions,
            options,
            groups=data.groups,
            storage_url=f"sqlite:///{context.home.data / 'tuning.sqlite'}",
            study_name=study_name,
            clock=context.clock,
            progress=lambda done, total, _best: progress(f"searching {model}", done, total),
        )
    kept = keep(context.home, model, label, report.best, _evidence(report, dataset))
    pictures = [] if out is None else _draw(report, out)
    if as_json:
        emit({"name": kept, **describe(report), "written": pictures})
    else:
        _show(report, kept, pictures)


def _dimensions(model: str, grid: list[str] | None, space: list[str] | None) -> "Space":
    from matinee.core.errors import ConfigurationError  # noqa: PLC0415
    from matinee.models.registry import make  # noqa: PLC0415
    from matinee.models.spaces import SPACES, parse_grid, parse_space  # noqa: PLC0415

    if "@" in model:
        raise ConfigurationError(
            f"{model} is a tuned set, and a search is for a model",
            remedy=f"Name the model, {model.partition('@')[0]}, and search near that set with --space.",
        )
    kind = make(model).params_type
    if grid and space:
        raise ConfigurationError("--grid and --space are two ways to search", remedy="Give one of them.")
    if grid:
        return parse_grid(grid, kind)
    if space:
        return parse_space(space, kind)
    if model not in SPACES:
        raise ConfigurationError(f"{model} has no default space", remedy="Say where to search with --space.")
    return SPACES[model]


def describe(report: "SearchReport") -> dict[str, Any]:
    """A search as JSON values."""
    return {
        "model": report.model,
        "metric": report.metric,
        "best": report.best,
        "before": figures(report.before),
        "after": figures(report.after),
        "gain": asdict(report.gain),
        "counts": report.counts,
        "importance": report.importance,
        "trials": report.trials,
    }


def figures(judged: "Judged") -> dict[str, Any]:
    """What a setting showed on the part set aside."""
    result = judged.result
    figures = {"rmse": result.rmse, "mae": result.mae, **result.ranking, "fit_seconds": result.fit_seconds}
    return {**figures, "subgroups": judged.subgroups}


def _evidence(report: "SearchReport", dataset: str) -> dict[str, Any]:
    told = {key: value for key, value in describe(report).items() if key != "trials"}
    return {"dataset": Path(dataset).name, **told}


def _show_groups(report: "SearchReport") -> None:
    """The metric that was searched for within each group of users."""
    count = "rated_users" if report.metric == "rmse" else "users"
    table = Table(title=f"{report.metric} by group, every user alike", title_justify="left")
    table.add_column("users")
    for column in ("how many", "defaults", "best found"):
        table.add_column(column, justify="right")
    for kind, before in report.before.subgroups.items():
        for name, own in before.items():
            after = report.after.subgroups[kind].get(name, {})
            if report.metric in own and report.metric in after:
                figures = (f"{found[report.metric]:.4f}" for found in (own, after))
                table.add_row(f"{kind}: {name}", f"{own[count]:,.0f}", *figures)
    if table.row_count:
        people.print(table)


def _draw(report: "SearchReport", out: Path) -> list[str]:
    from matinee.training.search_picture import draw_search  # noqa: PLC0415 - matplotlib takes half a second

    return [str(path) for path in draw_search(report, out)]


def _show(report: "SearchReport", kept: str, pictures: list[str]) -> None:
    before, after = figures(report.before), figures(report.after)
    table = Table(title=f"{report.model} on the part set aside", title_justify="left")
    table.add_column("")
    for column in ("defaults", "best found"):
        table.add_column(column, justify="right")
    for key in (*SHOWN, "fit_seconds"):
        if before.get(key) is not None:
            table.add_row(key, f"{before[key]:.4f}", f"{after[key]:.4f}")
    people.print(table)
    _show_groups(report)
    gain = report.gain
    people.print(
        f"Difference in {report.metric}, the mean over users: [bold]{gain.mean:+.4f}[/] "
        f"(95% interval {gain.low:+.4f} to {gain.high:+.4f})"
    )
    for name, value in report.best.items():
        share = report.importance.get(name)
        people.print(f"  {name} = [bold]{value}[/]" + ("" if share is None else f"   importance {share:.2f}"))
    told = ", ".join(f"{count} {state}" for state, count in report.counts.items() if count)
    people.print(f"Trials: {told}. `matinee train --model {kept}` takes this set.")
    for picture in pictures:
        people.print(picture, soft_wrap=True)
