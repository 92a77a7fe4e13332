"""A public data set as the lines that the streaming service would have logged."""

from dataclasses import dataclass

import polars as pl

from matinee.dataset.public import PublicDataset, scenario_ids


@dataclass(frozen=True, slots=True)
class Stream:
    """Lines in order of time, and the catalogue and users they speak of."""

    lines: list[bytes]
    items: pl.DataFrame
    users: pl.DataFrame


def as_stream(dataset: PublicDataset) -> Stream:
    """Each rating as a line `<time>,<user>,GET /rate/<movie>=<stars>`, movies named as the service names them."""
    names = scenario_ids(dataset.items)
    lines = (
        dataset.ratings.sort("time", maintain_order=True)
        .with_columns(pl.col("item").replace_strict(names))
        .select(
            pl.format(
                "{},{},GET /rate/{}={}",
                pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%S"),
                "user",
                "item",
                pl.col("rating").cast(pl.Int8),
            )
        )
        .to_series()
    )
    items = dataset.items.with_columns(pl.col("item").replace_strict(names))
    return Stream([line.encode() for line in lines], items, dataset.users)
