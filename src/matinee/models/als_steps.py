"""The steps of ALS in compiled code: one row's factors with the other side's held fixed.

Row x of entries i with extra confidence e_i = α·w_i and regularisation λ solves
(G + λI + Σ e_i y_i y_iᵀ) x = Σ (1 + e_i) y_i with G = YᵀY. All functions work on rows `first` to `last - 1` of a
CSR matrix (`indptr`, `indices`, `extra`) and write into `solved`, float32 (rows, k); `fixed` is Y, float32
(columns, k); `reg` is λ, float32 (rows,). Rows without entries are left as they are.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

_FAST = {"reassoc", "contract", "nsz"}  # sums of products in vector registers


@njit(cache=True, nogil=True, fastmath=_FAST)
def conjugate_gradient_step(
    first: int,
    last: int,
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    extra: NDArray[np.float32],
    fixed: NDArray[np.float32],
    gram: NDArray[np.float32],
    reg: NDArray[np.float32],
    solved: NDArray[np.float32],
    steps: int,
) -> None:
    """Some conjugate gradient steps from where the row stands. Takács, Pilászy and Tikk 2011, algorithm 1."""
    k = fixed.shape[1]
    residual = np.empty(k, dtype=np.float32)
    product = np.empty(k, dtype=np.float32)
    for row in range(first, last):
        start, end = indptr[row], indptr[row + 1]
        if start == end:
            continue
        x = solved[row]
        _start(x, start, end, indices, extra, fixed, gram, reg[row], residual)
        direction = residual.copy()
        size = np.dot(residual, residual)
        for _ in range(steps):
            if size < np.float32(1e-20):
                break
            _apply(direction, start, end, indices, extra, fixed, gram, reg[row], product)
            step = size / np.dot(direction, product)
            x += step * direction
            residual -= step * product
            smaller = np.dot(residual, residual)
            direction *= smaller / size
            direction += residual
            size = smaller


@njit(cache=True, nogil=True, fastmath=_FAST)
def _start(
    x: NDArray[np.float32],
    start: int,
    end: int,
    indices: NDArray[np.int32],
    extra: NDArray[np.float32],
    fixed: NDArray[np.float32],
    gram: NDArray[np.float32],
    reg: np.float32,
    residual: NDArray[np.float32],
) -> None:
    """Set residual to Σ (1 + e_i) y_i − (G + λI + Σ e_i y_i y_iᵀ) x, in one pass over the entries."""
    _times(gram, reg, x, residual)
    for f in range(x.size):
        residual[f] = -residual[f]
    for entry in range(start, end):
        y = fixed[indices[entry]]
        along = np.float32(0)
        for f in range(x.size):
            along += x[f] * y[f]
        step = np.float32(1) + extra[entry] * (np.float32(1) - along)
        for f in range(x.size):
            residual[f] += step * y[f]


@njit(cache=True, nogil=True, fastmath=_FAST)
def _times(gram: NDArray[np.float32], reg: np.float32, x: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Set out to (G + λI) x; G is symmetric. Four rows at a time, so that out passes through memory less often."""
    k = x.size
    for b in range(k):
        out[b] = reg * x[b]
    whole = k - k % 4
    for a in range(0, whole, 4):
        x0, x1, x2, x3 = x[a], x[a + 1], x[a + 2], x[a + 3]
        g0, g1, g2, g3 = gram[a], gram[a + 1], gram[a + 2], gram[a + 3]
        for b in range(k):
            out[b] += x0 * g0[b] + x1 * g1[b] + x2 * g2[b] + x3 * g3[b]
    for a in range(whole, k):
        for b in range(k):
            out[b] += x[a] * gram[a, b]


@njit(cache=True, nogil=True, fastmath=_FAST)
def _apply(
    x: NDArray[np.float32],
    start: int,
    end: int,
    indices: NDArray[np.int32],
    extra: NDArray[np.float32],
    fixed: NDArray[np.float32],
    gram: NDArray[np.float32],
    reg: np.float32,
    out: NDArray[np.float32],
) -> None:
    """Set out to (G + λI + Σ e_i y_i y_iᵀ) x."""
    k = x.size
    _times(gram, reg, x, out)
    for entry in range(start, end):
        y = fixed[indices[entry]]
        along = np.float32(0)
        for f in range(k):
            along += x[f] * y[f]
        along *= extra[entry]
        for f in range(k):
            out[f] += along * y[f]


@njit(cache=True, nogil=True, fastmath=_FAST)
def cholesky_step(
    first: int,
    last: int,
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    extra: NDArray[np.float32],
    fixed: NDArray[np.float32],
    gram: NDArray[np.float64],
    reg: NDArray[np.float32],
    solved: NDArray[np.float32],
) -> None:
    """The exact solution, in float64, by Cholesky factors."""
    k = fixed.shape[1]
    system = np.empty((k, k))
    right = np.empty(k)
    for row in range(first, last):
        start, end = indptr[row], indptr[row + 1]
        if start == end:
            continue
        system[:] = gram
        right[:] = 0.0
        for a in range(k):
            system[a, a] += reg[row]
        for entry in range(start, end):
            y = fixed[indices[entry]]
            e = np.float64(extra[entry])
            for a in range(k):
                ya = np.float64(y[a])
                right[a] += (1.0 + e) * ya
                for b in range(a + 1):
                    system[a, b] += e * ya * y[b]
        _cholesky_solve(system, right)
        for f in range(k):
            solved[row, f] = right[f]


@njit(cache=True, nogil=True, fastmath=_FAST)
def _cholesky_solve(system: NDArray[np.float64], right: NDArray[np.float64]) -> None:
    """Solve in place: `system`'s lower triangle becomes its Cholesky factor L, `right` the solution."""
    k = right.size
    for a in range(k):
        for b in range(a + 1):
            total = system[a, b]
            for f in range(b):
                total -= system[a, f] * system[b, f]
            system[a, b] = np.sqrt(total) if a == b else total / system[b, b]
    for a in range(k):
        for f in range(a):
            right[a] -= system[a, f] * right[f]
        right[a] /= system[a, a]
    for a in range(k - 1, -1, -1):
        right[a] /= system[a, a]
        for f in range(a):
            right[f] -= system[a, f] * right[a]
