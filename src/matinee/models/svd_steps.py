"""What `SVD` and `SVDpp` repeat: passes over the ratings, alone and by blocks, and the ridge of newcomers."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numba import njit
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Blocks:
    """Ratings cut into t × t blocks of users × items: blocks that share neither can be gone through at once.

    With t = 1 the ratings stay as they are. The blocks' ratings are copies in the order given, and lie together.
    Users are cut into t runs of indices with about as many ratings each, and so are items. O(n log n) time, O(n)
    memory. Gemulla, Nijkamp, Haas and Sismanis 2011, "Large-Scale Matrix Factorization with Distributed Stochastic
    Gradient Descent".

    Attributes:
        user_index: int32, shape (n,).
        item_index: int32, shape (n,).
        rating: float32, shape (n,).
        first: int64, shape (t² + 1,): where the block of user part a and item part b, number a t + b, begins.
        t: parts of the users, and of the items.
    """

    user_index: NDArray[np.int32]
    item_index: NDArray[np.int32]
    rating: NDArray[np.float32]
    first: NDArray[np.int64]
    t: int

    @classmethod
    def cut(
        cls, user_index: NDArray[np.int32], item_index: NDArray[np.int32], rating: NDArray[np.float32], t: int
    ) -> "Blocks":
        """Cut into t × t."""
        if t == 1:
            return cls(user_index, item_index, rating, np.array([0, rating.size]), t)
        block = (_part(user_index, t) * t + _part(item_index, t)).astype(np.min_scalar_type(t * t))  # sorts fast
        order = np.argsort(block, kind="stable")
        first = np.concatenate([[0], np.cumsum(np.bincount(block, minlength=t * t))])
        return cls(user_index[order], item_index[order], rating[order], first, t)

    def epoch(
        self, pool: Executor, step: Callable[[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]], None]
    ) -> None:
        """Go through every block once: t times t blocks that share no user and no item.

        The blocks of one turn change different rows, so what comes out does not depend on which is done first.
        """
        for turn in range(self.t):
            for _ in pool.map(self._one, range(self.t), repeat(turn), repeat(step)):
                pass

    def _one(
        self,
        part: int,
        turn: int,
        step: Callable[[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]], None],
    ) -> None:
        block = part * self.t + (part + turn) % self.t
        rows = slice(self.first[block], self.first[block + 1])
        step(self.user_index[rows], self.item_index[rows], self.rating[rows])


def _part(index: NDArray[np.int32], t: int) -> NDArray[np.int64]:
    """The part, 0 to t − 1, that each row's index falls in; parts have about equally many rows."""
    before = np.cumsum(np.bincount(index)) - np.bincount(index)
    part: NDArray[np.int64] = (before * t // index.size)[index]
    return part


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
def epoch(
    user_index: NDArray[np.int32],
    item_index: NDArray[np.int32],
    rating: NDArray[np.float32],
    mean: np.float32,
    rates: NDArray[np.float32],
    user_bias: NDArray[np.float32],
    item_bias: NDArray[np.float32],
    user_factors: NDArray[np.float32],
    item_factors: NDArray[np.float32],
) -> None:
    """One pass over the ratings in their order; changes the last four in place."""
    lr_bu, lr_bi, lr_pu, lr_qi, reg_bu, reg_bi, reg_pu, reg_qi = rates
    keep_pu, keep_qi = np.float32(1) - lr_pu * reg_pu, np.float32(1) - lr_qi * reg_qi
    last, product, known = rating.size - 1, np.float32(0), False
    for row in range(rating.size):
        u, i = np.uint32(user_index[row]), np.uint32(item_index[row])  # unsigned: no look whether to wrap around
        if not known:
            product = np.float32(0)
            for f in range(user_factors.shape[1]):
                product += user_factors[u, f] * item_factors[i, f]
        error = rating[row] - (mean + user_bias[u] + item_bias[i] + product)
        user_bias[u] += lr_bu * (error - reg_bu * user_bias[u])
        item_bias[i] += lr_bi * (error - reg_bi * item_bias[i])
        step_pu, step_qi = lr_pu * error, lr_qi * error
        # Each step waits for the error, which waits for a sum over what the step before wrote. So a user's next
        # product is made of sums over what stands here before this step, which need not wait for this error:
        #     (keep p + step q_i)·q_j = keep p·q_j + step q_i·q_j
        after = min(row + 1, last)
        j = np.uint32(item_index[after])
        known = np.uint32(user_index[after]) == u and j != i
        pq, qq = np.float32(0), np.float32(0)
        for f in range(user_factors.shape[1]):
            pf, qf, following = user_factors[u, f], item_factors[i, f], item_factors[j, f]
            user_factors[u, f] = keep_pu * pf + step_pu * qf
            item_factors[i, f] = keep_qi * qf + step_qi * pf
            pq += pf * following
            qq += qf * following
        product = keep_pu * pq + step_pu * qq


def ridge_rows(
    row: NDArray[np.int32],
    residual: NDArray[np.floating],
    features: NDArray[np.float32],
    n_rows: int,
    reg_bias: float,
    reg_factors: float,
    *,
    biased: bool = True,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The bias b and factors x of each row by ridge regression.

    They minimise, over the n residuals t with features f that belong to the row,

        Σ (t − b − f·x)² + n (reg_bias b² + reg_factors |x|²).

    Of several minima (without regularisation) it is the one nearest 0. Rows without residuals get 0.

    Args:
        row: int32, shape (m,), 0 to n_rows − 1.
        residual: shape (m,).
        features: shape (m, k).
        n_rows: rows wanted.
        reg_bias: regularisation of the biases.
        reg_factors: regularisation of the factors.
        biased: whether there is a bias; else b is 0.

    Returns:
        (biases, shape (n_rows,), factors, shape (n_rows, k)), float32, solved in float64 in O(m k² + n_rows k³).
    """
    k = features.shape[1]
    solved = np.zeros((n_rows, 1 + k))
    order = np.argsort(row, kind="stable")
    rows, starts = np.unique(row[order], return_index=True)
    penalty = np.sqrt(np.array([reg_bias] * biased + [reg_factors] * k, dtype=np.float64))
    for one, start, end in zip(rows.tolist(), starts, np.append(starts[1:], order.size), strict=False):
        chosen = order[start:end]
        design = np.column_stack([np.ones((chosen.size, int(biased))), features[chosen]])
        tall = np.vstack([design, np.diag(np.sqrt(chosen.size) * penalty)])
        wanted = np.concatenate([residual[chosen], np.zeros(penalty.size)])
        solved[one, -penalty.size :] = np.linalg.lstsq(tall, wanted, rcond=None)[0]
    narrow = solved.astype(np.float32)
    return narrow[:, 0], narrow[:, 1:]
