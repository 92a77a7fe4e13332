"""A small made-up catalogue and its ratings, for a demo where no real data set can be reached.

Viewers belong to a taste for one of five genres; they mostly watch and like what is of it, and sometimes
something popular. So there is structure to be learnt, and anybody can see whether it was.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from matinee.dataset.public import PublicDataset
from matinee.lake.schemas import ITEMS, USERS, TableSchema

GENRES = {
    "Adventure": ("Expedition", "Island", "River", "Summit", "Caravan"),
    "Comedy": ("Wedding", "Landlord", "Orchestra", "Neighbour", "Holiday"),
    "Crime": ("Alibi", "Harbour", "Witness", "Ledger", "Tunnel"),
    "Romance": ("Letter", "Garden", "Station", "Summer", "Dance"),
    "Science Fiction": ("Colony", "Signal", "Orbit", "Machine", "Eclipse"),
}
ADJECTIVES = ("Last", "Secret", "Golden", "Silent", "Broken", "Distant", "Crooked", "Endless")
N_USERS = 600
RATINGS_EACH = 40


def make_up(seed: int = 0) -> PublicDataset:
    """200 movies and 600 viewers with 40 ratings each; the same seed makes the same."""
    random = np.random.default_rng(seed)
    items = _catalogue(random)
    popularity = random.permuted(1.0 / np.arange(1, len(items) + 1) ** 0.6)
    genre = items["genres"].list.first().to_numpy()
    rows = []
    start = datetime(2025, 1, 1, tzinfo=UTC)
    for user in range(1, N_USERS + 1):
        taste = list(GENRES)[user % len(GENRES)]
        weight = popularity * np.where(genre == taste, 8.0, 1.0)
        chosen = random.choice(len(items), RATINGS_EACH, replace=False, p=weight / weight.sum())
        liking = np.where(genre[chosen] == taste, 4.3, 2.9) + random.normal(0, 0.7, RATINGS_EACH)
        stars = np.clip(np.round(liking), 1, 5)
        minutes = np.sort(random.integers(0, 525_600, RATINGS_EACH))
        rows += [
            (str(user), items["item"][int(item)], float(star), start + timedelta(minutes=int(minute)))
            for item, star, minute in zip(chosen, stars, minutes, strict=True)
        ]
    columns = ["user", "item", "rating", "time"]
    ratings = (
        pl.DataFrame(rows, schema=columns, orient="row")
        .with_columns(pl.col("rating").cast(pl.Float32), pl.col("time").cast(pl.Datetime("us", "UTC")))
        .sort("time", maintain_order=True)
    )
    users = _in_full({"user": [str(user) for user in range(1, N_USERS + 1)]}, USERS)
    return PublicDataset(
        name="made-up", ratings=ratings, items=items, users=users, timed=True,
        content_hash=f"made-up-{seed}", origin="made up here",
    )  # fmt: skip


def _catalogue(random: np.random.Generator) -> pl.DataFrame:
    titles = [
        (f"The {adjective} {noun}", genre)
        for genre, nouns in GENRES.items()
        for noun in nouns
        for adjective in ADJECTIVES
    ]
    described = {
        "item": [str(number) for number in range(1, len(titles) + 1)],
        "title": [title for title, _ in titles],
        "genres": [[genre] for _, genre in titles],
        "year": random.integers(1960, 2025, len(titles)).tolist(),
    }
    return _in_full(described, ITEMS)


def _in_full(columns: dict[str, list[Any]], table: TableSchema) -> pl.DataFrame:
    """The rows with all columns of a table of the lake; what is not known is null."""
    rows = len(next(iter(columns.values())))
    schema = {name: dtype for name, dtype in table.columns.items() if name not in table.filled}
    return pl.DataFrame({name: columns.get(name, [None] * rows) for name in schema}, schema_overrides=schema)
