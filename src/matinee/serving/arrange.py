"""From candidates to a list: re-ranked, mixed, and with a share left to chance."""

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from matinee.core.settings import ServingSettings
from matinee.serving.explanation import reasons
from matinee.serving.exploration import explored, uncertain
from matinee.serving.rerank import Positions, calibrated, continued, diversified, genre_share, mixed
from matinee.serving.view import View

CANDIDATES = 100
"""The best items that a list is re-ranked and mixed from, and that a fold-in keeps."""
REASONS = 3
"""Liked items that are named for each item."""


class Style(msgspec.Struct, frozen=True):
    """How lists are arranged; see the settings of the same names under `serving`."""

    diversity: float = 0.0
    rerank: Literal["mmr", "calibrated"] = "mmr"
    most_of_one_genre: float = 1.0
    explore_share: float = 0.0

    @classmethod
    def of(cls, settings: ServingSettings) -> "Style":
        """The style that settings ask for."""
        return cls(settings.diversity, settings.rerank, settings.most_of_one_genre, settings.explore_share)


def reranked(
    view: View, index: NDArray[np.int32], scores: NDArray[np.float32], n: int, style: Style, strength: float
) -> Positions:
    """Positions in a ranking, all of them: the first `n` are diverse, the others follow in their order."""
    if style.rerank == "calibrated":
        mask = view.bundle.attributes.genre_mask
        chosen = calibrated(index, scores, mask, genre_share(mask, *_tastes(view)), n, strength)
    else:
        fold_in = view.bundle.fold_in
        genres = view.bundle.attributes.genre_mask
        vectors = genres.astype(np.float32) if fold_in is None else fold_in.item_factors
        chosen = diversified(index, scores, vectors, n, strength)
    return continued(chosen, len(index))


def by_place(n: int) -> NDArray[np.float32]:
    """Scores for a ranking that has none, as popularity: the first is worth most, each place the same less."""
    return np.arange(n, 0, -1, dtype=np.float32)


def mixed_genres(view: View, index: NDArray[np.int32], n: int, most: float | NDArray[np.floating]) -> Positions:
    """Positions of the first `n` of a list in which no genre has more than its share."""
    return mixed(index, view.bundle.attributes.genre_mask, n, most)


def left_to_chance(
    view: View, index: NDArray[np.int32], n: int, share: float, seed: int
) -> tuple[NDArray[np.int32], tuple[float, ...]]:
    """A list of which a share of the slots explores, and the propensities. The seed makes it repeatable."""
    pool = uncertain(view.bundle.attributes.interactions, view.free)
    shown, propensities = explored(index, pool, n, share, np.random.default_rng(seed))
    return shown, tuple(propensities.tolist())


def because(view: View, index: NDArray[np.int32]) -> tuple[tuple[str, ...], ...]:
    """Of each item the ids of the liked items that speak for it; empty where the model cannot say."""
    fold_in = view.bundle.fold_in
    if fold_in is None or not view.may_fold_in:
        return ()
    found, _ = reasons(fold_in, *view.liked, index, REASONS)
    ids = view.bundle.items
    return tuple(tuple(ids[i] for i in row if i >= 0) for row in found.tolist())


def _tastes(view: View) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Items and weights that speak for a user's mix of genres: what was liked lately, or all that was seen."""
    index, weight = view.liked
    if (weight > 0).any() or view.entry is None:
        return index, weight
    return view.entry.seen, np.ones(len(view.entry.seen), dtype=np.float32)
