"""Everyone's answers in advance: the top n, scores and seen items of each user, block by block."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from matinee.bundle.attributes import ItemAttributes
from matinee.bundle.contents import UserBlock
from matinee.core.clock import DAY
from matinee.dataset.attributes import Attributes
from matinee.dataset.interactions import Interactions
from matinee.dataset.snapshot import ExtraUsers, Snapshot
from matinee.models.base import Model
from matinee.models.top_n import top_n
from matinee.training.candidates import StepProgress

BLOCK = 8_192
TRENDING_DAYS = 7.0
"""Half-life of a like in the order of what is liked of late."""


def user_blocks(
    model: Model[Any], snapshot: Snapshot, *, n: int, threads: int, progress: StepProgress
) -> Iterator[UserBlock]:
    """Blocks of users in the order of their ids, each with its best `n` unseen items; then who has no history.

    Memory beside the snapshot and the model is bounded by a block, but for 8 bytes a user.
    """
    seen = snapshot.interactions
    n_users = len(snapshot.users)
    # A snapshot's rows are in the order of users. Not int64: the search would make it of all rows.
    ends = np.searchsorted(seen.user_index, np.arange(n_users + 1, dtype=np.int32))
    for start in range(0, n_users, BLOCK):
        rows = np.arange(start, min(start + BLOCK, n_users), dtype=np.int32)
        indptr = ends[start : start + len(rows) + 1]
        indices = seen.item_index[indptr[0] : indptr[-1]]
        indptr = indptr - indptr[0]
        here = (np.ones(len(indices), dtype=np.bool_), indices, indptr)
        exclude = sparse.csr_array(here, shape=(len(rows), seen.n_items))
        top, scores = top_n(model, rows, n, exclude, threads=threads)
        yield UserBlock(
            ids=snapshot.users.ids[start : start + len(rows)],
            top=top,
            scores=scores,
            seen_indptr=indptr,
            seen_indices=indices,
            segments=snapshot.user_segment[rows],
            ages=snapshot.user_age[rows],
        )
        progress("everyone's answers", start + len(rows), n_users)
    if snapshot.extra_users.ids:
        yield _known_by_segment_only(snapshot.extra_users)


def _known_by_segment_only(users: ExtraUsers) -> UserBlock:
    """Users of whom nothing is known but who they are: they get what is popular with people like them."""
    n_users = len(users.ids)
    return UserBlock(
        ids=users.ids,
        top=np.empty((n_users, 0), dtype=np.int32),
        scores=np.empty((n_users, 0), dtype=np.float32),
        seen_indptr=np.zeros(n_users + 1, dtype=np.int64),
        seen_indices=np.empty(0, dtype=np.int32),
        segments=users.segment,
        ages=users.age,
    )


def with_whole_catalogue(snapshot: Snapshot) -> Interactions:
    """The same interactions among more items: those that nobody met yet follow the others."""
    met = snapshot.interactions
    return replace(met, n_items=met.n_items + len(snapshot.extra_items))


def fold_in_arrays(model: Model[Any], n_items: int) -> dict[str, NDArray[np.generic]]:
    """What the model folds users in with; items that it has not learnt have factors of 0. Empty where it cannot."""
    arrays = dict(model.fold_in_arrays())
    if arrays:
        factors = arrays["item_factors"]
        arrays["item_factors"] = np.pad(factors, ((0, n_items - len(factors)), (0, 0)))
    return arrays


def item_attributes(known: Attributes, interactions: Interactions) -> ItemAttributes:
    """What a bundle says of the items: their attributes, and how many users met each."""
    met = np.bincount(interactions.item_index, minlength=interactions.n_items)
    return ItemAttributes(
        titles=known.titles, genres=known.genres, **known.arrays(), interactions=met.astype(np.int32)
    )


def trending_order(interactions: Interactions, positive_rating: float) -> NDArray[np.int32] | None:
    """All items by likes of late, (n_items,): one of d days before the latest event counts 2^(−d / 7).

    Ties, such as items that nobody liked, follow in the order of popularity. Nothing where the data has no times.
    """
    if interactions.time_us is None or not len(interactions):
        return None
    liked = interactions.positive(positive_rating)
    items, times = interactions.item_index[liked], interactions.time_us[liked]
    ages = (interactions.time_us.max() - times) / DAY
    of_late = np.bincount(items, weights=np.exp2(-ages / TRENDING_DAYS), minlength=interactions.n_items)
    ever = np.bincount(items, minlength=interactions.n_items)
    return np.lexsort((-ever, -of_late)).astype(np.int32)


def popularity_orders(
    interactions: Interactions, user_segment: NDArray[np.int16], n_segments: int, positive_rating: float
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """All items by number of people who liked them: overall (n_items,), and within segments (n_segments, n_items).

    Within a segment, items that nobody there liked follow in the overall order.
    """
    liked = interactions.positive(positive_rating)
    items = interactions.item_index[liked]
    segments = user_segment[interactions.user_index[liked]]
    overall = np.bincount(items, minlength=interactions.n_items)
    by_segment = np.empty((n_segments, interactions.n_items), dtype=np.int32)
    for segment in range(n_segments):
        here = np.bincount(items[segments == segment], minlength=interactions.n_items)
        by_segment[segment] = np.lexsort((-overall, -here))
    return np.argsort(-overall, kind="stable").astype(np.int32), by_segment
