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
    room: NDArray[np.float32],
) -> None:
    """Some conjugate gradient steps from where the row stands. Takács, Pilászy and Tikk 2011, algorithm 1.

    `room`, float32 (3, k), is overwritten. All arrays of k columns are best on cache lines (`arrays.padded`).
    """
    k = fixed.shape[1]
    residual, direction, product = room[0], room[1], room[2]
    for row in range(first, last):
        start, end = indptr[row], indptr[row + 1]
        if start == end:
            continue
        x = solved[row]
        _times(gram, reg[row], x, residual)
        for f in range(k):
            residual[f] = -residual[f]
        _add_entries(np.float32(1), x, start, end, indices, extra, fixed, residual)
        size = np.float32(0)
        for f in range(k):
            direction[f] = residual[f]
            size += residual[f] * residual[f]
        for _ in range(steps):
            if size < np.float32(1e-20):
                break
            _times(gram, reg[row], direction, product)
            _add_entries(np.float32(0), direction, start, end, indices, extra, fixed, product)
            along, smaller = np.float32(0), np.float32(0)
            for f in range(k):
                along += direction[f] * product[f]
            step = size / along
            for f in range(k):
                x[f] += step * direction[f]
                residual[f] -= step * product[f]
                smaller += residual[f] * residual[f]
            for f in range(k):
                direction[f] = smaller / size * direction[f] + residual[f]
            size = smaller


@njit(cache=True, nogil=True, fastmath=_FAST)
def _add_entries(
    wanted: np.float32,
    x: NDArray[np.float32],
    start: int,
    end: int,
    indices: NDArray[np.int32],
    extra: NDArray[np.float32],
    fixed: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Add Σ e_i y_i (y_i·x) to out, the entries' part of the system; if wanted is 1, Σ (1 + e_i (1 − y_i·x)) y_i.

    Four entries at a time, so that x and out pass through memory less often; what fills the last four up weighs 0.
    """
    sign, last = np.float32(1) - np.float32(2) * wanted, end - 1
    for n in range(start, end, 4):
        n1, n2, n3 = min(n + 1, last), min(n + 2, last), min(n + 3, last)
        y0, y1, y2, y3 = fixed[indices[n]], fixed[indices[n1]], fixed[indices[n2]], fixed[indices[n3]]
        a0, a1, a2, a3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for f in range(x.size):
            a0 += x[f] * y0[f]
            a1 += x[f] * y1[f]
            a2 += x[f] * y2[f]
            a3 += x[f] * y3[f]
        a0 = wanted + extra[n] * (wanted + sign * a0)
        a1 = (wanted + extra[n1] * (wanted + sign * a1)) * np.float32(n + 1 < end)
        a2 = (wanted + extra[n2] * (wanted + sign * a2)) * np.float32(n + 2 < end)
        a3 = (wanted + extra[n3] * (wanted + sign * a3)) * np.float32(n + 3 < end)
        for f in range(x.size):
            out[f] += a0 * y0[f] + a1 * y1[f] + a2 * y2[f] + a3 * y3[f]


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
