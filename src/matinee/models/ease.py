"""EASE: a linear autoencoder over items, solved in closed form."""

import os
from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from scipy.linalg import lapack

from matinee.core.errors import ConfigurationError, Unsuitable
from matinee.models.arrays import floats
from matinee.models.base import Capabilities, Params, Progress, State
from matinee.models.item_item import ItemItem, ItemItemParams

BYTES_PER_PAIR = 12
"""Memory of the fit for each pair of items: the matrix inverted in float64, and the weights in float32."""


class EASEParams(ItemItemParams):
    """Hyperparameters of `EASE`."""

    reg: Annotated[float, Field(gt=0)] = 500.0
    """λ, added to each item's own count; the best one grows with the number of users."""
    weighted: bool = False
    """Whether X holds the interactions' weights; else 1 for each positive."""
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    """Gigabytes (10⁹ bytes) that the fit may take; all of the machine's memory where none is given."""


class EASE(ItemItem[EASEParams]):
    """Scores X·B, where B minimises |X − XB|² + λ|B|² under diag(B) = 0.

    With P = (XᵀX + λI)⁻¹,

        B_ij = −P_ij / P_jj  (i ≠ j),    B_ii = 0.

    Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data". X is users × items: 1 for each positive, or
    its weight. P is made by Cholesky factors in float64, since XᵀX may be badly conditioned where λ is small; B is
    kept in float32.

    Time O(n_items³ + Σ_u d_u²) for d_u positives of user u; memory 12 · n_items² bytes: 4.8 GB for 20 000 items.
    Users without a positive are answered like the mean user; an item without one scores 0, and so does an unknown
    one. A user is folded in by storing its row.

    State: the users' rows as `ItemItem` has them, prior (n_items,), weights (n_items, n_items): B.

    Raises:
        Unsuitable: there is no positive, or the items are too many for the memory.
    """

    name: ClassVar[str] = "ease"
    capabilities: ClassVar[Capabilities] = Capabilities(
        predicts_ratings=False, personal=True, folds_in_users=True, scales=False, seeded=False
    )
    params_type: ClassVar[type[Params]] = EASEParams

    def _rows(self, liked: sparse.csr_array) -> sparse.csr_array:
        if self.params.weighted:
            return liked
        return sparse.csr_array((np.ones_like(liked.data), liked.indices, liked.indptr), shape=liked.shape)

    def _weights(self, liked: sparse.csr_array, threads: int, progress: Progress) -> State:
        _require_memory(liked.shape[1], self.params.memory_gb)
        rows = self._rows(liked)
        gram = np.zeros((liked.shape[1], liked.shape[1]))
        _add_gram(rows.indptr, rows.indices, rows.data, gram)
        gram.flat[:: len(gram) + 1] += self.params.reg
        progress(1, 2)
        weights = _solution(gram)
        progress(2, 2)
        return {"weights": weights}

    def _load_weights(self, state: Mapping[str, NDArray[np.generic]], n_items: int) -> None:
        self._w = floats(state["weights"])

    def _row_scores(
        self, indptr: NDArray[np.int64], indices: NDArray[np.int32], data: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        return _dense_rows(indptr, indices, data, self._w)

    def _pair_scores(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        return _dense_pairs(user_index, item_index, self._indptr, self._indices, self._data, self._w)


def _require_memory(n_items: int, memory_gb: float | None) -> None:
    needed = BYTES_PER_PAIR * n_items**2 / 1e9
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9 if memory_gb is None else memory_gb
    if needed > most:
        raise Unsuitable(
            f"EASE needs {needed:.3g} GB for {n_items} items, and there are {most:.3g} GB",
            remedy="Use a model whose memory does not grow with items × items (als, item_knn), or fewer items.",
        )


def _solution(gram: NDArray[np.float64]) -> NDArray[np.float32]:
    """B from the lower triangle of XᵀX + λI, which it overwrites."""
    # LAPACK counts by columns: to it, this lower triangle is the upper one of the transpose.
    factor, failed = lapack.dpotrf(gram.T, lower=0, clean=0, overwrite_a=1)
    if not failed:
        inverse, failed = lapack.dpotri(factor, lower=0, overwrite_c=1)
    if failed:
        raise ConfigurationError("EASE: XᵀX + λI cannot be inverted", remedy="Raise reg.")
    weights = np.empty(gram.shape, dtype=np.float32)
    _divide(inverse.T, weights)
    return weights


@njit(cache=True, nogil=True)
def _add_gram(
    indptr: NDArray[np.int32], indices: NDArray[np.int32], data: NDArray[np.float32], gram: NDArray[np.float64]
) -> None:
    """Add XᵀX to the lower triangle of `gram`; columns are sorted within rows."""
    for row in range(indptr.size - 1):
        for a in range(indptr[row], indptr[row + 1]):
            x = np.float64(data[a])
            i = indices[a]
            for b in range(indptr[row], a + 1):
                gram[i, indices[b]] += x * data[b]


@njit(cache=True, nogil=True)
def _divide(inverse: NDArray[np.float64], weights: NDArray[np.float32]) -> None:
    """Set `weights` to −P_ij / P_jj and 0 on the diagonal, from the lower triangle of P."""
    for i in range(len(inverse)):
        weights[i, i] = np.float32(0)
        for j in range(i):
            weights[i, j] = -inverse[i, j] / inverse[j, j]
            weights[j, i] = -inverse[i, j] / inverse[i, i]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _dense_rows(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    data: NDArray[np.float32],
    weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Rows in CSR times dense weights, float32 (rows, n_items)."""
    out = np.zeros((indptr.size - 1, weights.shape[1]), dtype=np.float32)
    for row in range(indptr.size - 1):
        for a in range(indptr[row], indptr[row + 1]):
            x, w, into = data[a], weights[indices[a]], out[row]
            for j in range(into.size):
                into[j] += x * w[j]
    return out


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _dense_pairs(
    user_index: NDArray[np.int32],
    item_index: NDArray[np.int32],
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    data: NDArray[np.float32],
    weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Single elements of the same, float32 (n,); 0 where an index is -1."""
    out = np.zeros(user_index.size, dtype=np.float32)
    for n in range(user_index.size):
        u, j = user_index[n], item_index[n]
        if u < 0 or j < 0:
            continue
        for a in range(indptr[u], indptr[u + 1]):
            out[n] += data[a] * weights[indices[a], j]
    return out
