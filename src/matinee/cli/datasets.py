"""Data for the verbs that compare and tune, by the name that people give."""

from pathlib import Path
from typing import TYPE_CHECKING

from matinee.cli.context import Context
from matinee.cli.output import bars
from matinee.core.errors import InvalidInput, Unsuitable

if TYPE_CHECKING:
    from matinee.dataset.interactions import Interactions

LAKE = "lake"
"""The name that stands for the home's own lake."""


def load_interactions(context: Context, dataset: str, path: Path | None, *, quiet: bool) -> "Interactions":
    """The interactions of a public data set, a table, or the home's own lake.

    Args:
        context: the home.
        dataset: a public data set's name, a file, or `lake`.
        path: where a public data set lies; else it is downloaded.
        quiet: show no progress.

    Raises:
        InvalidInput: there is no such data set or file, or the file has no ratings.
        DataUnavailable: the data set could not be reached.
        Unsuitable: it is empty.
    """
    from matinee.dataset.encoding import encode  # noqa: PLC0415
    from matinee.dataset.public import NAMES, load  # noqa: PLC0415
    from matinee.dataset.snapshot import take_snapshot  # noqa: PLC0415

    if dataset in NAMES:
        with bars(quiet=quiet) as progress:
            loaded = load(
                dataset,
                path=path,
                cache=context.home.data / "downloads",
                progress=lambda done, total: progress(f"getting {dataset}", done, total or 0),
            )
        return encode(loaded.ratings).interactions
    if path is not None:
        raise InvalidInput("--path is where a public data set lies", remedy=f"Name one of {', '.join(NAMES)}.")
    if dataset == LAKE:
        found = take_snapshot(context.lake).interactions
    elif Path(dataset).is_file():
        found = _table(context, Path(dataset))
    else:
        raise InvalidInput(
            f"{dataset} is neither a file nor a data set that matinee knows",
            remedy=f"Name a file, `{LAKE}`, or one of {', '.join(NAMES)}.",
        )
    if not len(found):
        raise Unsuitable(f"{dataset} holds not one interaction", remedy="Import some with `matinee import`.")
    return found


def _table(context: Context, file: Path) -> "Interactions":
    from matinee.dataset.encoding import encode  # noqa: PLC0415
    from matinee.ingest.tables import map_columns, open_table, standard_columns  # noqa: PLC0415

    with open_table(file, context.home.run) as table:
        mapping = map_columns(table.collect_schema().names())
        if "rating" not in mapping:
            raise InvalidInput(f"{file} has no ratings", remedy="`matinee import` it, and compare `lake`.")
        frame = table.select(list(mapping.values())).collect()
    return encode(standard_columns(frame, mapping, timezone=context.settings.stream.timezone)).interactions
