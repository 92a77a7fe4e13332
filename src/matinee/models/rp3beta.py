"""RP3beta: three steps of a random walk between users and items, popular items held back."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from scipy import sparse

from matinee.models.base import Capabilities, Params, Progress, State
from matinee.models.item_item import ItemItem, ItemItemParams, strongest_products


class RP3betaParams(ItemItemParams):
    """Hyperparameters of `RP3beta`."""

    alpha: Annotated[float, Field(ge=0)] = 1.0
    """Power of each step's probability."""
    beta: Annotated[float, Field(ge=0)] = 0.6
    """How much popular items are held back; 0 is the plain walk, P³α."""
    k: Annotated[int, Field(gt=0)] = 100
    """Items kept that can be reached from each item."""


class RP3beta(ItemItem[RP3betaParams]):
    """s_uj = Σ_i p_ui^α W_ij,    W_ij = Σ_v p_iv^α p_vj^α / D_j^β for i ≠ j.

    The walk goes from user u to an item i it liked, on to a user v who liked that, and on to an item j that v
    liked. With w the weights that `matinee.models.preference.confidence` gives, D_u = Σ_i w_ui and D_i = Σ_u w_ui,
    the steps are p_ui = w_ui / D_u and p_iu = w_ui / D_i. Of each row of W only the k greatest are kept. α: Cooper,
    Lee, Radzik and Siantos 2014, "Random Walks in Recommender Systems: Exact Computation and Simulations"; β:
    Paudel, Christoffel, Newell and Bernstein 2017, "Updatable, Accurate, Diverse, and Scalable Recommendations for
    Interactive Applications".

    Time O(Σ_u d_u²) for d_u positives of user u, memory O(positives + n_items · k). Users without a positive are
    answered like the mean user; an item without one scores 0, and so does an unknown one. A user is folded in by
    storing its row.

    State: as `ItemItem` has it; the users' rows are p_ui^α.
    """

    name: ClassVar[str] = "rp3beta"
    capabilities: ClassVar[Capabilities] = Capabilities(
        predicts_ratings=False, personal=True, folds_in_users=True, seeded=False
    )
    params_type: ClassVar[type[Params]] = RP3betaParams

    def _rows(self, liked: sparse.csr_array) -> sparse.csr_array:
        return _steps(liked, self.params.alpha)

    def _weights(self, liked: sparse.csr_array, threads: int, progress: Progress) -> State:
        degree = np.asarray(liked.sum(axis=0, dtype=np.float64))
        scale = np.where(degree > 0, degree, 1.0) ** -self.params.beta
        back = _steps(liked.T.tocsr(), self.params.alpha)
        return strongest_products(
            back, self._rows(liked), scale.astype(np.float32), self.params.k, threads, progress
        )


def _steps(rows: sparse.csr_array, alpha: float) -> sparse.csr_array:
    """Each row's entries over their sum, to the power of α."""
    total = np.repeat(np.asarray(rows.sum(axis=1, dtype=np.float64)), np.diff(rows.indptr))
    steps = ((rows.data / total) ** alpha).astype(np.float32)
    return sparse.csr_array((steps, rows.indices, rows.indptr), shape=rows.shape)
