"""What popularity itself has shown to whom, so that the gate does not take it for what people wanted.

Who is shown what is popular watches of that, whatever they would have watched else; and a log that was made so
speaks for popularity (docs/world.md has figures): nothing that learns could ever take its place. So, where an item
was in a list that popularity made for a user, the pair is taken out of what is to be found and of every candidate's
list. What is left, candidate and yardstick find on the same terms. (Exposure bias: Schnabel et al. 2016,
"Recommendations as Treatments"; feedback loops: Chaney et al. 2018.)
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from matinee.dataset.interactions import Interactions
from matinee.dataset.snapshot import Snapshot
from matinee.lake.lake import Lake

TABLE = "served"
_STEPS = ("popular", "popular_in_segment")
_BUNDLE = "-popularity-"
"""In the version of a bundle whose model is popularity."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Pairs of a user and an item that was in a list for it, sorted by user, then item; int32, shape (n,)."""

    user_index: NDArray[np.int32]
    item_index: NDArray[np.int32]

    def __len__(self) -> int:
        return int(self.user_index.size)

    def left_out(self, interactions: Interactions) -> Interactions:
        """The interactions whose pair was not shown."""
        return interactions.take(~np.isin(_keys(interactions), _keys_of(self, interactions.n_items)))

    def added(self, interactions: Interactions) -> Interactions:
        """The interactions, and one without a rating for each pair that is shown and not there yet."""
        new = ~np.isin(_keys_of(self, interactions.n_items), _keys(interactions))
        nothing = np.full(int(np.count_nonzero(new)), np.nan, dtype=np.float32)
        return replace(
            interactions,
            user_index=np.concatenate([interactions.user_index, self.user_index[new]]),
            item_index=np.concatenate([interactions.item_index, self.item_index[new]]),
            rating=np.concatenate([interactions.rating, nothing]),
            watched=np.concatenate([interactions.watched, nothing]),
            time_us=None,
        )


def shown_by_popularity(lake: Lake, snapshot: Snapshot) -> Shown:
    """The pairs that lists of what is popular showed, among the snapshot's users and items.

    Lists are those of bundles whose model is popularity, and those that servers fell back to.

    Args:
        lake: where to read.
        snapshot: whose indices are wanted; of what was served it names the version, or nothing was.
    """
    if TABLE not in snapshot.lake_versions:
        return Shown(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32))
    popular = pl.col("step").is_in(_STEPS) | pl.col("model_version").str.contains(_BUNDLE, literal=True)
    pairs = (
        lake.read(TABLE, version=snapshot.lake_versions[TABLE], columns=["user", "items", "step", "model_version"])
        .filter(popular)
        .select("user", pl.col("items").alias("item"))
        .explode("item")
        .unique()
        .join(_indices(snapshot.users.ids, "user"), on="user")
        .join(_indices(snapshot.items.ids, "item"), on="item")
        .select("user_index", "item_index")
        .collect(engine="streaming")
        .sort("user_index", "item_index")
    )
    return Shown(pairs["user_index"].to_numpy(), pairs["item_index"].to_numpy())


def _indices(ids: tuple[str, ...], name: str) -> pl.LazyFrame:
    return pl.LazyFrame(
        {name: ids, f"{name}_index": np.arange(len(ids), dtype=np.int32)}, schema_overrides={name: pl.String}
    )


def _keys(interactions: Interactions) -> NDArray[np.int64]:
    return interactions.user_index * np.int64(interactions.n_items) + interactions.item_index


def _keys_of(shown: Shown, n_items: int) -> NDArray[np.int64]:
    return shown.user_index * np.int64(n_items) + shown.item_index
