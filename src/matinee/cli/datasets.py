"""Data for the verbs that compare and tune, by the name that people give."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from matinee.cli.context import Context
from matinee.cli.output import bars
from matinee.core.errors import InvalidInput, Unsuitable

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from matinee.dataset.interactions import Interactions
    from matinee.dataset.vocabulary import Vocabulary
    from matinee.evaluation.subgroups import Groups

PositiveRatingOption = Annotated[
    float | None,
    typer.Option(
        help="The least rating that counts as liking; else that of the settings. Where no rating reaches it, lists "
        "are not judged."
    ),
]

LAKE = "lake"
"""The name that stands for the home's own lake."""


@dataclass(frozen=True, slots=True)
class Data:
    """What is compared on, or searched with."""

    interactions: "Interactions"
    groups: "dict[str, Groups]" = field(default_factory=dict)
    """Groups of users by kind: `segment` (age band and gender), where that is known of anybody."""


def load_data(context: Context, dataset: str, path: Path | None, *, quiet: bool) -> Data:
    """A public data set, a table, or the home's own lake.

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
    from matinee.core.erasures import ERASED, read_erasures  # noqa: PLC0415
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
        encoded = encode(loaded.ratings)
        return Data(encoded.interactions, _segments(loaded.users, encoded.users))
    if path is not None:
        raise InvalidInput("--path is where a public data set lies", remedy=f"Name one of {', '.join(NAMES)}.")
    if dataset == LAKE:
        erased = read_erasures(context.home.data / ERASED)
        snapshot = take_snapshot(context.lake, without=erased or None)
        found = Data(snapshot.interactions, _named(snapshot.user_segment))
    elif Path(dataset).is_file():
        found = Data(_table(context, Path(dataset)))
    else:
        raise InvalidInput(
            f"{dataset} is neither a file nor a data set that matinee knows",
            remedy=f"Name a file, `{LAKE}`, or one of {', '.join(NAMES)}.",
        )
    if not len(found.interactions):
        raise Unsuitable(f"{dataset} holds not one interaction", remedy="Import some with `matinee import`.")
    return found


def _segments(users: "pl.DataFrame", vocabulary: "Vocabulary") -> "dict[str, Groups]":
    """The users' segments, from a table with user, age and gender."""
    import numpy as np  # noqa: PLC0415

    from matinee.dataset.segments import segment_of  # noqa: PLC0415

    segment = np.zeros(len(vocabulary), dtype=np.int16)
    place = vocabulary.indices(users["user"])
    segment[place[place >= 0]] = users.select(segment_of())["segment"].to_numpy()[place >= 0]
    return _named(segment)


def _named(segment: "NDArray[np.int16]") -> "dict[str, Groups]":
    from matinee.dataset.segments import SEGMENTS  # noqa: PLC0415
    from matinee.evaluation.subgroups import Groups  # noqa: PLC0415

    return {"segment": Groups(segment, SEGMENTS)} if segment.any() else {}  # 0 is unknown


def _table(context: Context, file: Path) -> "Interactions":
    from matinee.dataset.encoding import encode  # noqa: PLC0415
    from matinee.ingest.tables import map_columns, open_table, standard_columns  # noqa: PLC0415

    with open_table(file, context.home.run) as table:
        mapping = map_columns(table.collect_schema().names())
        if "rating" not in mapping:
            raise InvalidInput(f"{file} has no ratings", remedy="`matinee import` it, and compare `lake`.")
        frame = table.select(list(mapping.values())).collect()
    return encode(standard_columns(frame, mapping, timezone=context.settings.stream.timezone)).interactions
