"""More like this: the items whose factors point the same way."""

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from matinee.bundle.open import Bundle
from matinee.models.fold_in import FoldIn, best

_inverse_lengths: "WeakKeyDictionary[Bundle, NDArray[np.float32]]" = WeakKeyDictionary()
"""1 / |y_i| of each open bundle, 0 for items without factors: made when first asked for, gone with the bundle."""


def similar(
    bundle: Bundle, item_index: int, n: int, allowed: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The `n` items most like one: of the highest cosine cos(y_i, y_j) = y_i·y_j / (|y_i| |y_j|) of item factors.

    Sarwar, Karypis, Konstan and Riedl 2001, "Item-based collaborative filtering recommendation algorithms" (on
    factors instead of ratings). Equal cosines in the order of the indices. O(n_items · k).

    Args:
        bundle: whose items.
        item_index: the item to be like; it is not among those found.
        n: items wanted.
        allowed: bool, shape (n_items,); what may be shown.

    Returns:
        (items int32, cosines float32 from -1 to 1), best first: at most n. None of an item that has no factors, or
        of a model that has none; and no item without factors is like another.
    """
    fold_in = bundle.fold_in
    if fold_in is None or not 0 <= item_index < len(fold_in.item_factors) or n <= 0:
        return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
    inverse = _inverse_lengths.get(bundle)
    if inverse is None:
        inverse = _inverse_lengths[bundle] = _inverse_lengths_of(fold_in)
    cosines = (fold_in.item_factors @ fold_in.item_factors[item_index]) * (inverse * inverse[item_index])
    comparable = allowed & (inverse > 0) & (inverse[item_index] > 0)
    comparable[item_index] = False
    index = best(np.where(comparable, cosines, np.float32(-np.inf)), n)
    return index.astype(np.int32), np.clip(cosines[index], -1, 1)


def _inverse_lengths_of(fold_in: FoldIn) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", fold_in.item_factors, fold_in.item_factors))
    inverse: NDArray[np.float32] = np.zeros_like(lengths)
    np.divide(np.float32(1), lengths, out=inverse, where=(lengths > 0) & np.isfinite(lengths))
    return inverse
