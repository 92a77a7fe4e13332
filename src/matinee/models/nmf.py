"""NMF: factorisation of ratings into factors that are never negative."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from matinee.core.errors import ConfigurationError
from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats, on_cache_lines, padded, require_finite, rows_or_zero
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart
from matinee.models.factors import pair_products

Rate = Annotated[float, Field(ge=0)]

LANES = 16
"""Within the fit, rows of factors are filled up with zeros to a multiple of it, which vector registers like."""
GROUP = 4
"""Ratings that the compiled step takes at a time; within the fit, rows of ratings are filled up to a multiple."""
ROWS_AT_ONCE = 1024
"""Users or items that a thread takes at a time; affects speed, not results."""


class NMFParams(Params):
    """Hyperparameters of `NMF`; names and defaults are scikit-surprise's."""

    n_factors: Annotated[int, Field(gt=0)] = 15
    """Factors of each user and item."""
    n_epochs: Annotated[int, Field(ge=0)] = 50
    """Passes over the ratings."""
    biased: bool = False
    """Whether the mean and biases take part. More accurate in training, and prone to overfit."""
    reg_pu: Rate = 0.06
    """Regularisation of user factors."""
    reg_qi: Rate = 0.06
    """Regularisation of item factors."""
    reg_bu: Rate = 0.02
    """Regularisation of user biases; only if biased."""
    reg_bi: Rate = 0.02
    """Regularisation of item biases; only if biased."""
    lr_bu: Rate = 0.005
    """Learning rate of user biases; only if biased."""
    lr_bi: Rate = 0.005
    """Learning rate of item biases; only if biased."""
    init_low: Rate = 0.0
    """Least value that factors start from."""
    init_high: Rate = 1.0
    """Greatest value that factors start from; not below `init_low`."""


class NMF(Model[NMFParams]):
    """r̂(u, i) = p_u·q_i with p, q ≥ 0, or μ + b_u + b_i + p_u·q_i if biased, clipped to the scale of the ratings.

    Each epoch estimates all ratings from the factors before it, then multiplies every factor at once:

        p_uf ← p_uf · Σ_i q_if r_ui / (Σ_i q_if r̂_ui + λ_p |I_u| p_uf)
        q_if ← q_if · Σ_u p_uf r_ui / (Σ_u p_uf r̂_ui + λ_q |U_i| q_if)

    which are steps of gradient descent of just the length that keeps them from going below 0. Both sides move at
    once, so errors may swing from epoch to epoch. If biased, the biases move by stochastic gradient descent while
    the epoch goes through the ratings in the order of users, then items, b += γ (e − λ b); each estimate holds the
    biases before its own step. The biased swings are wide: results differ much with the seed and the epoch.

    Luo, Zhou, Xia and Zhu 2014, "An Efficient Non-Negative Matrix-Factorization-Based Approach to Collaborative
    Filtering for Recommender Systems". Updates, initialisation (uniform) and defaults are those of
    scikit-surprise's `NMF`; the arithmetic is in float32.

    A pair with anything unknown gets μ; if biased, μ + b_u or μ + b_i of what is known.

    Time O(n k) an epoch for n ratings and k factors; memory O(n + (users + items) k). Users and items are shared
    among threads; each is computed whole by one of them, so results do not depend on their number.

    State: mean (1,), and of users and items each bias, factors (k columns), known.

    Raises:
        ConfigurationError: `init_high` is below `init_low`, or the fit diverged.
    """

    name: ClassVar[str] = "nmf"
    capabilities: ClassVar[Capabilities] = Capabilities(predicts_ratings=True, personal=True, warm_starts=True)
    params_type: ClassVar[type[Params]] = NMFParams

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        params = self.params
        by_user = interactions.matrix(interactions.rating)
        by_item = by_user.T.tocsr()
        known = [np.diff(by_user.indptr) > 0, np.diff(by_item.indptr) > 0]
        factors = _initial(params, known, np.random.default_rng(seed), start)
        biases = [np.zeros(rows.size, dtype=np.float32) for rows in known]
        if start is not None and params.biased:
            biases = [start.users("user_bias", biases[0]), start.items("item_bias", biases[1])]
        mean = np.float32(interactions.rating.mean(dtype=np.float64))
        _descend((by_user, by_item), factors, biases, mean, params, threads, progress)
        state: dict[str, NDArray[np.float32]] = {}
        for n, side in enumerate(("user", "item")):
            biases[n][~known[n]] = 0
            state[f"{side}_bias"] = biases[n]
            state[f"{side}_factors"] = np.ascontiguousarray(factors[n][:-1, : params.n_factors])
        require_finite("NMF", "Lower the learning rates of the biases, or raise reg_pu and reg_qi.", **state)
        return {"mean": np.array([mean]), **state, "user_known": known[0], "item_known": known[1]}

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._mean = floats(state["mean"])[0]
        self._user_bias, self._item_bias = floats(state["user_bias"]), floats(state["item_bias"])
        self._user_factors, self._item_factors = floats(state["user_factors"]), floats(state["item_factors"])
        self._user_known = state["user_known"].astype(np.bool_)
        self._item_known = state["item_known"].astype(np.bool_)

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        raw = pair_products(self._user_factors, self._item_factors, user_index, item_index)
        if self.params.biased:
            by_user: NDArray[np.float32] = self._mean + rows_or_zero(self._user_bias, user_index)
            raw += by_user + rows_or_zero(self._item_bias, item_index)
        else:
            known = rows_or_zero(self._user_known, user_index) & rows_or_zero(self._item_known, item_index)
            raw[~known] = self._mean
        return raw

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        raw: NDArray[np.float32] = rows_or_zero(self._user_factors, user_index) @ self._item_factors.T
        if self.params.biased:
            raw += (self._mean + rows_or_zero(self._user_bias, user_index))[:, None] + self._item_bias
        else:
            raw[~rows_or_zero(self._user_known, user_index)] = self._mean
            raw[:, ~self._item_known] = self._mean
        return raw


class _Rows(NamedTuple):
    """Ratings by user or by item; each row filled up to whole groups with ratings of 0 of a row of zeros."""

    start: NDArray[np.int64]
    """(rows + 1,)"""
    real: NDArray[np.int64]
    """(rows,): how many ratings there are before what fills up."""
    other: NDArray[np.uint32]
    """(n,): the item or user; the number of them in what fills up."""
    rating: NDArray[np.float32]
    """(n,)"""
    place: NDArray[np.int64]
    """Where each rating of the matrix went."""


def _rows(matrix: sparse.csr_array) -> _Rows:
    count = np.diff(matrix.indptr).astype(np.int64)
    start = np.append(0, np.cumsum(-(-count // GROUP) * GROUP))
    place = np.arange(matrix.nnz) + np.repeat(start[:-1] - matrix.indptr[:-1], count)
    other = np.full(start[-1], matrix.shape[1], dtype=np.uint32)
    rating = np.zeros(start[-1], dtype=np.float32)
    other[place], rating[place] = matrix.indices, matrix.data
    return _Rows(start, count, other, rating, place)


def _twins(sides: list[_Rows], item_index: NDArray[np.int32]) -> NDArray[np.int64]:
    """Where among the ratings by user stands each of those by item; what fills up points anywhere."""
    twin = np.zeros(sides[1].other.size, dtype=np.int64)
    twin[sides[1].place] = sides[0].place[np.argsort(item_index, kind="stable")]
    return twin


def _initial(
    params: NMFParams, known: list[NDArray[np.bool_]], rng: np.random.Generator, start: WarmStart | None
) -> list[NDArray[np.float32]]:
    """Factors to begin with, filled up with columns of zeros and a last row of zeros; zeros without ratings."""
    if params.init_high < params.init_low:
        raise ConfigurationError(
            f"NMF: init_high ({params.init_high}) is below init_low ({params.init_low})", remedy="Raise init_high."
        )
    found = []
    for n, rows in enumerate(known):
        drawn = rng.uniform(params.init_low, params.init_high, (rows.size, params.n_factors)).astype(np.float32)
        if start is not None:
            warm = start.items("item_factors", drawn) if n else start.users("user_factors", drawn)
            learnt = warm.any(axis=1)  # products never leave 0, which is what those without ratings had
            drawn[learnt] = warm[learnt]
        drawn[~rows] = 0
        found.append(padded(np.append(drawn, np.zeros((1, params.n_factors), dtype=np.float32), axis=0), LANES))
    return found


def _descend(
    matrices: tuple[sparse.csr_array, sparse.csr_array],
    factors: list[NDArray[np.float32]],
    biases: list[NDArray[np.float32]],
    mean: np.float32,
    params: NMFParams,
    threads: int,
    progress: Progress,
) -> None:
    """All epochs; changes factors and biases in place."""
    sides = [_rows(matrix) for matrix in matrices]
    offsets = [np.zeros(side.other.size if params.biased else 0, dtype=np.float32) for side in sides]
    twin = _twins(sides, matrices[0].indices) if params.biased else np.empty(0, dtype=np.int64)
    rates = np.array([params.lr_bu, params.lr_bi, params.reg_bu, params.reg_bi], dtype=np.float32)
    regs = np.array([params.reg_pu, params.reg_qi], dtype=np.float32)
    with ThreadPoolExecutor(threads) as pool:
        for epoch in range(params.n_epochs):
            if params.biased:
                users = sides[0]
                _bias_pass(users.start, users.real, users.other, users.rating, factors[0], factors[1], mean,
                           biases[0], biases[1], rates, offsets[0])  # fmt: skip
                np.take(offsets[0], twin, out=offsets[1])
            renewed = [
                _renewed(pool, sides[n], factors[n], factors[1 - n], regs[n], offsets[n]) for n in range(len(sides))
            ]
            factors[:] = renewed
            progress(epoch + 1, params.n_epochs)


def _renewed(
    pool: ThreadPoolExecutor,
    side: _Rows,
    own: NDArray[np.float32],
    other: NDArray[np.float32],
    reg: np.float32,
    offset: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The factors of one side after the epoch, from both sides' before it. Each row stands alone."""
    out = on_cache_lines(*own.shape)
    n_rows = side.real.size

    def part(first: int) -> None:
        _multiply(first, min(first + ROWS_AT_ONCE, n_rows), side.start, side.real, side.other, side.rating,
                  own, other, reg, offset, out)  # fmt: skip

    for _ in pool.map(part, range(0, n_rows, ROWS_AT_ONCE)):
        pass
    return out


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _bias_pass(
    start: NDArray[np.int64],
    count: NDArray[np.int64],
    other: NDArray[np.uint32],
    rating: NDArray[np.float32],
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    mean: np.float32,
    user_bias: NDArray[np.float32],
    item_bias: NDArray[np.float32],
    rates: NDArray[np.float32],
    offset: NDArray[np.float32],
) -> None:
    """One pass of gradient descent over the biases; keeps μ + b_u + b_i before each step in `offset`."""
    lr_bu, lr_bi, reg_bu, reg_bi = rates
    for u in range(count.size):
        p = users[u]
        for n in range(start[u], start[u] + count[u]):
            i = other[n]
            q = items[i]
            product = np.float32(0)
            for f in range(p.size):
                product += p[f] * q[f]
            offset[n] = mean + user_bias[u] + item_bias[i]
            error = rating[n] - offset[n] - product
            user_bias[u] += lr_bu * (error - reg_bu * user_bias[u])
            item_bias[i] += lr_bi * (error - reg_bi * item_bias[i])


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _multiply(
    first: int,
    last: int,
    start: NDArray[np.int64],
    count: NDArray[np.int64],
    index: NDArray[np.uint32],
    rating: NDArray[np.float32],
    own: NDArray[np.float32],
    other: NDArray[np.float32],
    reg: np.float32,
    offset: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """The factors of rows `first` to `last` - 1 after the epoch, into `out`; `offset` is empty if not biased."""
    width, zero = own.shape[1], np.float32(0)
    above, below = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    for row in range(first, last):
        p, weight = own[row], reg * np.float32(count[row])
        for f in range(width):
            above[f], below[f] = zero, weight * p[f]
        for n in range(start[row], start[row + 1], GROUP):  # four at a time: fewer trips of the sums to memory
            a, b, c, d = other[index[n]], other[index[n + 1]], other[index[n + 2]], other[index[n + 3]]
            ra, rb, rc, rd = rating[n], rating[n + 1], rating[n + 2], rating[n + 3]
            ea, eb, ec, ed = zero, zero, zero, zero
            for f in range(width):
                ea += p[f] * a[f]
                eb += p[f] * b[f]
                ec += p[f] * c[f]
                ed += p[f] * d[f]
            if offset.size:
                ea, eb, ec, ed = ea + offset[n], eb + offset[n + 1], ec + offset[n + 2], ed + offset[n + 3]
            for f in range(width):
                above[f] += a[f] * ra + b[f] * rb + c[f] * rc + d[f] * rd
                below[f] += a[f] * ea + b[f] * eb + c[f] * ec + d[f] * ed
        for f in range(width):
            out[row, f] = p[f]
            if p[f] != 0 and below[f] != 0:
                out[row, f] *= above[f] / below[f]
