"""BPR: matrix factorisation that learns which of two items a user prefers."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats, require_finite, rows_or_zero
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart
from matinee.models.factors import pair_products
from matinee.models.item_item import require_positives
from matinee.models.preference import DEFAULT_POSITIVE_RATING

TRIES = 32
"""Draws of an item that the user does not like before a sample is given up."""


class BPRParams(Params):
    """Hyperparameters of `BPR`."""

    n_factors: Annotated[int, Field(gt=0)] = 64
    """Factors of each user and item."""
    n_epochs: Annotated[int, Field(ge=0)] = 50
    """Passes; in each as many samples are drawn as there are positives."""
    lr: Annotated[float, Field(gt=0)] = 0.05
    """Learning rate."""
    reg: Annotated[float, Field(ge=0)] = 0.01
    """Regularisation of all parameters."""
    init_std_dev: Annotated[float, Field(gt=0)] = 0.1
    """Standard deviation of the normal distribution that factors start from."""
    positive_rating: Annotated[float, Field(gt=0)] = DEFAULT_POSITIVE_RATING
    """The least rating that counts as liking."""


class BPR(Model[BPRParams]):
    """s_ui = b_i + p_u·q_i, learnt so that users' positives come before other items.

    Each sample is a positive (u, i), drawn uniformly from all, and an item j drawn uniformly from the items that
    anybody likes and u does not. With d = s_ui − s_uj, g = 1 / (1 + eᵈ), γ the learning rate and λ the
    regularisation, it steps up the gradient of ln σ(d) − λ/2 |Θ|²:

        p_u += γ (g (q_i − q_j) − λ p_u)
        q_i += γ (g p_u − λ q_i)       b_i += γ (g − λ b_i)
        q_j −= γ (g p_u + λ q_j)       b_j −= γ (g + λ b_j)       from the values before the step

    Rendle, Freudenthaler, Gantner and Schmidt-Thieme 2009, "BPR: Bayesian Personalized Ranking from Implicit
    Feedback". All positives count alike, whatever their weight. A user who likes so much that `TRIES` draws find
    nothing else is passed over for that sample.

    Users without a positive get the mean user's factors. Items without one, and unknown ones, get no factors and
    the least bias there is: they come after those of which something is known.

    Time O(positives · n_factors) an epoch, memory O((n_users + n_items) · n_factors + positives). Several
    threads share the parameters without locks (Niu, Recht, Ré and Wright 2011, "Hogwild!"), so that results vary;
    on one thread the same seed gives the same bits.

    State: user_factors (n_users, k), item_factors (n_items, k), item_bias (n_items,), prior (k,), least_bias (1,).

    Raises:
        Unsuitable: there is no positive.
        ConfigurationError: the fit diverged.
    """

    name: ClassVar[str] = "bpr"
    capabilities: ClassVar[Capabilities] = Capabilities(
        predicts_ratings=False, personal=True, warm_starts=True, threads_change_results=True, threads_race=True
    )
    params_type: ClassVar[type[Params]] = BPRParams

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        params, rng = self.params, np.random.default_rng(seed)
        liked = require_positives(interactions, params.positive_rating, "BPR")
        users, items = (_initial(rng, rows, params) for rows in liked.shape)
        bias = np.zeros(liked.shape[1], dtype=np.float32)
        if start is not None:
            users, items = start.users("user_factors", users), start.items("item_factors", items)
            bias = start.items("item_bias", bias)
        user_known = np.diff(liked.indptr) > 0
        item_known = np.bincount(liked.indices, minlength=liked.shape[1]) > 0
        _train(liked, users, items, bias, params, rng, threads, progress)
        require_finite("BPR", "Lower lr.", user_factors=users, item_factors=items, item_bias=bias)
        prior = users[user_known].mean(axis=0, dtype=np.float64).astype(np.float32)
        least = bias[item_known].min()
        users[~user_known], items[~item_known], bias[~item_known] = prior, 0, least
        return {
            "user_factors": users,
            "item_factors": items,
            "item_bias": bias,
            "prior": prior,
            "least_bias": np.array([least]),
        }

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._users, self._items = floats(state["user_factors"]), floats(state["item_factors"])
        self._bias, self._prior = floats(state["item_bias"]), floats(state["prior"])
        self._least = floats(state["least_bias"])[0]

    def _factors(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        factors: NDArray[np.float32] = self._users[user_index]
        factors[user_index < 0] = self._prior
        return factors

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        rows = np.arange(user_index.size, dtype=np.int32)
        bias = np.where(item_index < 0, self._least, rows_or_zero(self._bias, item_index))
        scores: NDArray[np.float32] = bias + pair_products(self._factors(user_index), self._items, rows, item_index)
        return scores

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._factors(user_index) @ self._items.T
        scores += self._bias
        return scores


def _initial(rng: np.random.Generator, rows: int, params: BPRParams) -> NDArray[np.float32]:
    drawn: NDArray[np.float32] = rng.standard_normal((rows, params.n_factors), dtype=np.float32)
    drawn *= np.float32(params.init_std_dev)
    return drawn


def _train(
    liked: sparse.csr_array,
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    bias: NDArray[np.float32],
    params: BPRParams,
    rng: np.random.Generator,
    threads: int,
    progress: Progress,
) -> None:
    """All epochs; changes the factors and biases in place."""
    row_user = np.repeat(np.arange(liked.shape[0], dtype=np.int32), np.diff(liked.indptr))
    candidates = np.unique(liked.indices).astype(np.int32)
    lr, reg = np.float32(params.lr), np.float32(params.reg)
    shares = [liked.nnz * (t + 1) // threads - liked.nnz * t // threads for t in range(threads)]
    states = rng.integers(2**64, size=(threads, 1), dtype=np.uint64)

    def part(thread: int) -> None:
        _epoch(shares[thread], states[thread], liked.indptr, liked.indices, row_user, candidates,
               users, items, bias, lr, reg)  # fmt: skip

    with ThreadPoolExecutor(threads) as pool:
        for epoch in range(params.n_epochs):
            for _ in pool.map(part, range(threads)):
                pass
            progress(epoch + 1, params.n_epochs)


@njit(cache=True, nogil=True, inline="always")
def _below(state: NDArray[np.uint64], n: int) -> np.int64:
    """A number from 0 to n - 1, n below 2³²; advances the state. SplitMix64 (Steele, Lea and Flood 2014)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.int64(((z >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(cache=True, nogil=True, inline="always")
def _holds(sorted_items: NDArray[np.int32], low: int, high: int, item: int) -> bool:
    """Whether the item is among `sorted_items[low:high]`."""
    end = high
    while low < high:
        middle = (low + high) // 2
        if sorted_items[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low < end and sorted_items[low] == item


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _epoch(
    samples: int,
    state: NDArray[np.uint64],
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    row_user: NDArray[np.int32],
    candidates: NDArray[np.int32],
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    bias: NDArray[np.float32],
    lr: np.float32,
    reg: np.float32,
) -> None:
    """Some samples and their steps."""
    one, keep = np.float32(1), np.float32(1) - lr * reg
    for _ in range(samples):
        row = _below(state, indices.size)
        u, i = row_user[row], indices[row]
        j = candidates[_below(state, candidates.size)]
        tries = 1
        while _holds(indices, indptr[u], indptr[u + 1], j) and tries < TRIES:
            j = candidates[_below(state, candidates.size)]
            tries += 1
        if tries == TRIES and _holds(indices, indptr[u], indptr[u + 1], j):
            continue
        pu, qi, qj = users[u], items[i], items[j]
        ahead = bias[i] - bias[j]
        for f in range(pu.size):
            ahead += pu[f] * (qi[f] - qj[f])
        step = lr / (one + np.exp(ahead))
        bias[i] = keep * bias[i] + step
        bias[j] = keep * bias[j] - step
        for f in range(pu.size):
            puf, qif, qjf = pu[f], qi[f], qj[f]
            pu[f] = keep * puf + step * (qif - qjf)
            qi[f] = keep * qif + step * puf
            qj[f] = keep * qjf - step * puf
