"""`matinee compare`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from matinee.cli.comparison_table import WIDE, best_first, markdown, note, table
from matinee.cli.context import Context, HomeOption, JsonOption, open_context
from matinee.cli.datasets import PositiveRatingOption, load_data
from matinee.cli.output import aside, emit, jsonable, people
from matinee.core.errors import ConfigurationError
from matinee.core.files import write_atomically, write_json

if TYPE_CHECKING:
    from matinee.evaluation.comparison import Comparison, Options, Row, StepProgress


def run(
    dataset: Annotated[
        str,
        typer.Argument(
            help="A public data set such as movielens-100k, a table with user, item and rating, or `lake`."
        ),
    ],
    models: Annotated[str | None, typer.Option(help="Models, separated by commas; else all there are.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="The same, one at a time; may be repeated.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the cross-validation.")] = 5,
    path: Annotated[
        Path | None,
        typer.Option(help="Folder or zip of the public data set. Else it is downloaded."),
    ] = None,
    positive_rating: PositiveRatingOption = None,
    threads: Annotated[int, typer.Option(min=1, help="Processor cores that each model may use.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Seed of folds and models; else that of the settings.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for comparison.md, comparison.json and the pictures.")
    ] = None,
    track: Annotated[bool, typer.Option("--track/--no-track", help="Log a run for each model in MLflow.")] = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare models on the same folds: accuracy, time, memory, size.

    Each model runs in a process of its own, one after the other, so that its memory and time are its own. A model
    that the data does not suit says why in its row. Models that do not predict ratings have no RMSE and MAE.
    """
    from matinee.evaluation.comparison import Options, compare  # noqa: PLC0415 - a verb imports what it uses

    context = open_context("compare", home)
    chosen = _models(models, model)
    training = context.settings.training
    options = Options(
        folds=folds,
        seed=training.seed if seed is None else seed,
        threads=threads,
        positive_rating=training.positive_rating if positive_rating is None else positive_rating,
        resamples=training.bootstrap_resamples,
    )
    data = load_data(context, dataset, path, quiet=as_json)
    with _watched(options, len(chosen), quiet=as_json) as (progress, on_row):
        comparison = compare(
            data.interactions,
            chosen,
            dataset=_title(dataset),
            options=options,
            groups=data.groups,
            progress=progress,
            on_row=on_row,
        )
    written = [] if out is None else _write(comparison, out)
    if track:
        _track(context, comparison)
    if as_json:
        emit({**comparison.as_dict(), "written": written})
    else:
        _show(comparison, written)
    if all(row.refused for row in comparison.rows):
        raise typer.Exit(1)


def _models(commas: str | None, repeated: list[str] | None) -> list[str]:
    from matinee.models.registry import NAMES, make  # noqa: PLC0415

    named = [name.strip() for name in (commas or "").split(",") if name.strip()] + (repeated or [])
    chosen = list(dict.fromkeys(named)) or list(NAMES)
    for name in chosen:
        make(name)  # a wrong name is told before the long work
    return chosen


def _title(dataset: str) -> str:
    return Path(dataset).name


@contextmanager
def _watched(
    options: "Options", models: int, *, quiet: bool
) -> Iterator[tuple["StepProgress | None", "Callable[[Row], None] | None"]]:
    """The table as it grows and what is going on, on standard error; nothing where nobody watches."""
    if quiet or not aside.is_terminal:
        yield None, None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30), TimeElapsedColumn())
    steps = Progress(*columns, console=aside)
    whole = steps.add_task("all", total=models * options.folds)
    current = steps.add_task("starting", total=None)
    rows: dict[str, Row] = {}
    with Live(Group(steps), console=aside, transient=True) as live:

        def progress(what: str, done: int, total: int) -> None:
            steps.update(current, description=escape(what), completed=done, total=total or None)

        def on_row(row: "Row") -> None:
            rows[row.model] = row
            ended = sum(options.folds if other.refused else len(other.folds) for other in rows.values())
            steps.update(whole, completed=ended)
            live.update(Group(table(list(rows.values()), wide=aside.width >= WIDE), steps))

        yield progress, on_row


def _write(comparison: "Comparison", out: Path) -> list[str]:
    """Markdown, JSON and pictures in a folder; returns their paths."""
    from matinee.evaluation.pictures import draw  # noqa: PLC0415 - matplotlib takes half a second to import

    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "comparison.md", markdown(comparison).encode())
        write_json(out / "comparison.json", jsonable(comparison.as_dict()))
        pictures = draw(comparison, out)
    except OSError as error:
        raise ConfigurationError(
            f"{out} cannot be written to: {error.strerror}", remedy="Give another folder with --out."
        ) from error
    return [str(path) for path in (out / "comparison.md", out / "comparison.json", *pictures)]


def _track(context: Context, comparison: "Comparison") -> None:
    """A run in MLflow for each model that has figures."""
    from matinee.training.tracking import Tracker  # noqa: PLC0415 - MLflow takes a second to import

    options = comparison.options
    answered = [row for row in comparison.rows if row.figures]
    if not answered:
        return
    tracker = Tracker(context.home.resolve(context.settings.mlflow_url), (context.home.data / "mlflow").as_uri())
    for row in answered:
        tracker.record_candidate(
            row.model,
            {**row.params, "seed": options.seed},
            {name.replace("@", "_at_"): figure.mean for name, figure in row.figures.items()},
            {
                "comparison": comparison.dataset,
                "dataset": comparison.dataset,
                "folds": str(options.folds),
                "seed": str(options.seed),
                "threads": str(options.threads),
            },
            context.clock.now_us(),
        )


def _show(comparison: "Comparison", written: list[str]) -> None:
    wide = people.width >= WIDE
    people.print(
        f"[bold]{escape(comparison.dataset)}[/]: {comparison.n_interactions:,} interactions of "
        f"{comparison.n_users:,} users and {comparison.n_items:,} items"
    )
    people.print(table(best_first(comparison.rows), wide=wide))
    for row in comparison.rows:
        if row.refused:
            people.print(f"[yellow]{escape(row.model)}[/]", escape(row.refused), soft_wrap=True)
    people.print(f"[dim]{note(comparison, wide=wide)}[/]")
    for file in written:
        people.print(escape(file), soft_wrap=True)
