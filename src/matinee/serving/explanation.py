"""Because you liked X: what each item of a user's history adds to a score, from the model itself."""

import numpy as np
from numpy.typing import NDArray

from matinee.models.fold_in import FoldIn, scaled


def contributions(
    fold_in: FoldIn, item_index: NDArray[np.int32], weight: NDArray[np.float32], targets: NDArray[np.integer]
) -> NDArray[np.float64]:
    """How much each item of a history adds to the scores of some items, float64, shape (t, h).

    A folded-in user's factors are linear in the history's terms (see `FoldIn`), so a score falls apart into one
    addend for each item i of the history:

        score_j = y_jᵀ A⁻¹ Σ_i (1 + e_i) y_i = Σ_i (1 + e_i) · y_jᵀ A⁻¹ y_i,     A = YᵀY + λI + Σ_i e_i y_i y_iᵀ,

    and rows sum to the scores that `FoldIn.scores` gives. y_jᵀ A⁻¹ y_i is how alike the user finds i and j. Hu,
    Koren and Volinsky 2008, section 5. One solve with h right-hand sides: O(h k² + k³ + t k h).

    Args:
        fold_in: the model.
        item_index: int32, shape (h,); each item at most once; an unknown one (-1) adds nothing.
        weight: float32, shape (h,); as for `FoldIn.factors`; what is 0 adds nothing.
        targets: shape (t,); the items whose scores are to be explained.
    """
    added = np.zeros((len(targets), len(item_index)))
    used = fold_in.speaks(item_index, weight)
    if not used.any():
        return added
    y = fold_in.item_factors[item_index[used]].astype(np.float64)
    extra = fold_in.alpha * scaled(weight[used].astype(np.float64), fold_in.epsilon)
    system = fold_in.gram + (y.T * extra) @ y
    nu = fold_in.reg_exponent
    system.flat[:: len(system) + 1] += fold_in.reg * extra.sum() ** nu * fold_in.mean_total ** (1 - nu)
    added[:, used] = fold_in.item_factors[targets].astype(np.float64) @ np.linalg.solve(system, y.T * (1.0 + extra))
    return added


def reasons(
    fold_in: FoldIn,
    item_index: NDArray[np.int32],
    weight: NDArray[np.float32],
    targets: NDArray[np.integer],
    k: int,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The `k` items of a history that speak most for each target, strongest first.

    Only what speaks for it (a contribution above 0) is a reason, and an item is none for itself. Ties go to the
    item that comes first in the history. Arguments as for `contributions`.

    Returns:
        (item indices int32, their contributions float64), both (t, k); -1 and 0 where there are no more.
    """
    added = contributions(fold_in, item_index, weight, targets)
    added[np.asarray(targets)[:, None] == item_index] = 0.0
    strongest = np.argsort(-added, axis=1, kind="stable")[:, :k]
    value = np.take_along_axis(added, strongest, axis=1)
    speaks = value > 0
    found = np.full((len(targets), k), -1, dtype=np.int32)
    amounts = np.zeros((len(targets), k))
    width = value.shape[1]
    found[:, :width] = np.where(speaks, item_index[strongest], -1)
    amounts[:, :width] = np.where(speaks, value, 0.0)
    return found, amounts
