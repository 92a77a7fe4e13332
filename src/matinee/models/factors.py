"""Products of factors, in compiled code."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def pair_products(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    left_row: NDArray[np.int32],
    right_row: NDArray[np.int32],
) -> NDArray[np.float32]:
    """left[left_row[n]] · right[right_row[n]] for each n, float32; a row of -1 is the last one."""
    products = np.empty(left_row.size, dtype=np.float32)
    for n in range(left_row.size):
        a, b = left[left_row[n]], right[right_row[n]]
        total = np.float32(0)
        for f in range(a.size):
            total += a[f] * b[f]
        products[n] = total
    return products


def with_zero_row(factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The factors with one more row, of zeros, which index -1 finds. Shape (n + 1, k)."""
    return np.concatenate([factors, np.zeros((1, factors.shape[1]), dtype=np.float32)])
