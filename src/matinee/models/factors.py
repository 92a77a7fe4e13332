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
    """left[left_row[n]] · right[right_row[n]] for each n, float32; 0 where a row is -1."""
    products = np.empty(left_row.size, dtype=np.float32)
    for n in range(left_row.size):
        total = np.float32(0)
        if left_row[n] < 0 or right_row[n] < 0:
            products[n] = total
            continue
        a, b = left[left_row[n]], right[right_row[n]]
        for f in range(a.size):
            total += a[f] * b[f]
        products[n] = total
    return products
