"""ItemKNN: items recommended for their likeness to those that a user liked."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from matinee.models.base import Capabilities, Params, Progress, State
from matinee.models.item_item import ItemItem, ItemItemParams, strongest_products


class ItemKNNParams(ItemItemParams):
    """Hyperparameters of `ItemKNN`."""

    similarity: Literal["cosine", "tf-idf", "bm25"] = "cosine"
    """How alike two items are."""
    k: Annotated[int, Field(gt=0)] = 20
    """Neighbours kept of each item; the item itself is none."""
    k1: Annotated[float, Field(gt=0)] = 100.0
    """Of bm25: how late the value of more weight levels off."""
    b: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Of bm25: how much popular items are held back."""


class ItemKNN(ItemItem[ItemKNNParams]):
    """s_uj = Σ_i w_ui sim(i, j), over the items i that the user liked and have j among their k nearest neighbours.

    sim(i, j) = a_i·a_j, where a_i is item i's vector over the users, made from the weights w that
    `matinee.models.preference.confidence` gives:

        cosine   a_ui = w_ui, scaled to |a_i| = 1
        tf-idf   a_ui = √w_ui · idf_u, scaled to |a_i| = 1
        bm25     a_ui = idf_u · w_ui (k1 + 1) / (k1 (1 − b + b L_i / L̄) + w_ui)

    with idf_u = ln(n_items / (1 + d_u)) for a user of d_u positives (one who likes everything says little),
    L_i = Σ_u w_ui and L̄ its mean over all items. Sarwar et al. 2001, "Item-Based Collaborative Filtering
    Recommendation Algorithms"; the weightings are those of information retrieval (Robertson and Zaragoza 2009, "The
    Probabilistic Relevance Framework: BM25 and Beyond") as the library `implicit` applies them, save that an item
    is not counted among its own neighbours.

    Time O(Σ_u d_u²), memory O(positives + n_items · k): no items × items matrix is held. Users without a positive
    are answered like the mean user; an item without one scores 0, and so does an unknown one. A user is folded in
    by storing its row.

    State: as `ItemItem` has it.
    """

    name: ClassVar[str] = "item_knn"
    capabilities: ClassVar[Capabilities] = Capabilities(
        predicts_ratings=False, personal=True, folds_in_users=True, seeded=False
    )
    params_type: ClassVar[type[Params]] = ItemKNNParams

    def _weights(self, liked: sparse.csr_array, threads: int, progress: Progress) -> State:
        vectors = _vectors(liked, self.params)
        ones = np.ones(liked.shape[1], dtype=np.float32)
        return strongest_products(vectors.T.tocsr(), vectors, ones, self.params.k, threads, progress)


def _vectors(liked: sparse.csr_array, params: ItemKNNParams) -> sparse.csr_array:
    """The items' vectors as columns: users × items, float32."""
    n_users, n_items = liked.shape
    weight, degree = liked.data.astype(np.float64), np.diff(liked.indptr)
    # Both vectors of a product hold the user's idf, so its sign makes no difference, and none may be negative.
    idf = np.repeat(np.abs(np.log(n_items) - np.log1p(degree)), degree)
    if params.similarity == "bm25":
        length = np.bincount(liked.indices, weight, minlength=n_items)
        norm = 1 - params.b + params.b * length / length.mean()
        values = idf * weight * (params.k1 + 1) / (params.k1 * norm[liked.indices] + weight)
    elif params.similarity == "tf-idf":
        values = _unit(np.sqrt(weight) * idf, liked.indices, n_items)
    else:
        values = _unit(weight, liked.indices, n_items)
    vectors = sparse.csr_array((values.astype(np.float32), liked.indices, liked.indptr), shape=(n_users, n_items))
    vectors.has_sorted_indices = True
    return vectors


def _unit(values: NDArray[np.float64], column: NDArray[np.int32], n_columns: int) -> NDArray[np.float64]:
    """The values with each column scaled to length 1; a column of zeros stays so."""
    length = np.sqrt(np.bincount(column, values**2, minlength=n_columns))[column]
    return np.divide(values, length, out=np.zeros_like(values), where=length > 0)
