"""How strongly an interaction speaks for an item: one definition, for training data and for live history alike.

NumPy only, so that servers can use it.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

DEFAULT_POSITIVE_RATING = 4.0
"""The rating at and above which a rated item counts as liked, unless told otherwise."""

LEAST_WATCHED = 0.1
"""The weight of an unrated item of which next to nothing was watched."""


def confidence(
    rating: ArrayLike, watched: ArrayLike, positive_rating: float = DEFAULT_POSITIVE_RATING
) -> NDArray[np.float32]:
    """The weight w of each interaction as a sign of liking; 0 where it is none.

    A rating decides where there is one, because people say what they mean; else what was watched does:

        w = rating / positive_rating               if rating ≥ positive_rating
        w = 0                                      if rating < positive_rating: seen, and not liked
        w = 0.1 + 0.9 · min(max(watched, 0), 1)    if unrated: choosing it counts, finishing it counts more
        w = 1                                      if neither is known: all there is to it is the choice

    So a rating that just suffices and a movie watched to its end weigh the same: 1. The weight is positive exactly
    where `Interactions.positive` is true.

    Args:
        rating: shape (n,); NaN where there is none.
        watched: shape (n,); the share of the item's minutes seen, NaN where none was.
        positive_rating: the least rating that counts as liking; above 0.

    Returns:
        float32, shape (n,).
    """
    ratings = np.asarray(rating, dtype=np.float32)
    shares = np.asarray(watched, dtype=np.float32)
    rated = np.where(ratings >= positive_rating, ratings / np.float32(positive_rating), np.float32(0))
    chosen = np.float32(LEAST_WATCHED) + np.float32(1 - LEAST_WATCHED) * np.clip(shares, 0, 1)
    unrated = np.where(np.isnan(shares), np.float32(1), chosen)
    return np.where(np.isnan(ratings), unrated, rated).astype(np.float32)
