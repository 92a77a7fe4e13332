"""Everyone's answers in advance: the top n, scores and seen items of each user, block by block."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matinee.bundle.contents import UserBlock
from matinee.dataset.interactions import Interactions
from matinee.dataset.snapshot import Snapshot
from matinee.models.base import Model
from matinee.models.top_n import top_n
from matinee.training.candidates import StepProgress

BLOCK = 8_192


def user_blocks(
    model: Model[Any], snapshot: Snapshot, *, n: int, threads: int, progress: StepProgress
) -> Iterator[UserBlock]:
    """Blocks of users in the order of their ids, each with its best `n` unseen items; then who has no history.

    Memory is bounded by a block, whatever the number of users.
    """
    seen = snapshot.interactions.matrix()
    n_users = len(snapshot.users)
    for start in range(0, n_users, BLOCK):
        rows = np.arange(start, min(start + BLOCK, n_users), dtype=np.int32)
        seen_here = seen[start : start + len(rows)]
        top, scores = top_n(model, rows, n, seen_here, threads=threads)
        yield UserBlock(
            ids=snapshot.users.ids[start : start + len(rows)],
            top=top,
            scores=scores,
            seen_indptr=seen_here.indptr.astype(np.int64),
            seen_indices=seen_here.indices.astype(np.int32),
            segments=snapshot.user_segment[rows],
        )
        progress("everyone's answers", start + len(rows), n_users)
    if snapshot.extra_user_segments:
        yield _known_by_segment_only(snapshot.extra_user_segments)


def _known_by_segment_only(segments: Mapping[str, int]) -> UserBlock:
    """Users of whom nothing is known but who they are: they get what is popular with people like them."""
    users = sorted(segments)
    return UserBlock(
        ids=users,
        top=np.empty((len(users), 0), dtype=np.int32),
        scores=np.empty((len(users), 0), dtype=np.float32),
        seen_indptr=np.zeros(len(users) + 1, dtype=np.int64),
        seen_indices=np.empty(0, dtype=np.int32),
        segments=np.array([segments[user] for user in users], dtype=np.int16),
    )


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
