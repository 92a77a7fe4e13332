"""SVD: biased matrix factorisation of ratings by stochastic gradient descent."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats, normal, padded, require_finite, rows_or_zero
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart
from matinee.models.factors import pair_products
from matinee.models.svd_steps import Blocks, epoch, ridge_rows

Rate = Annotated[float, Field(ge=0)]


class SVDParams(Params):
    """Hyperparameters of `SVD`; names and defaults are scikit-surprise's."""

    n_factors: Annotated[int, Field(gt=0)] = 100
    """Factors of each user and item."""
    n_epochs: Annotated[int, Field(ge=0)] = 20
    """Passes over the ratings."""
    biased: bool = True
    """Whether the mean and the biases take part; without them it is probabilistic matrix factorisation."""
    init_mean: float = 0.0
    """Mean of the normal distribution that factors start from."""
    init_std_dev: Rate = 0.1
    """Its standard deviation."""
    lr_all: Rate = 0.005
    """Learning rate of all parameters that have none of their own."""
    reg_all: Rate = 0.02
    """Regularisation of all parameters that have none of their own."""
    lr_bu: Rate | None = None
    """Learning rate of user biases."""
    lr_bi: Rate | None = None
    """Learning rate of item biases."""
    lr_pu: Rate | None = None
    """Learning rate of user factors."""
    lr_qi: Rate | None = None
    """Learning rate of item factors."""
    reg_bu: Rate | None = None
    """Regularisation of user biases."""
    reg_bi: Rate | None = None
    """Regularisation of item biases."""
    reg_pu: Rate | None = None
    """Regularisation of user factors."""
    reg_qi: Rate | None = None
    """Regularisation of item factors."""

    def rates(self) -> NDArray[np.float32]:
        """float32 (8,): the learning rates of b_u, b_i, p_u, q_i, then their regularisations."""
        own = (self.lr_bu, self.lr_bi, self.lr_pu, self.lr_qi, self.reg_bu, self.reg_bi, self.reg_pu, self.reg_qi)
        general = (self.lr_all,) * 4 + (self.reg_all,) * 4
        return np.array([g if o is None else o for o, g in zip(own, general, strict=True)], dtype=np.float32)


class SVD(Model[SVDParams]):
    """r̂(u, i) = μ + b_u + b_i + p_u·q_i, clipped to the scale of the ratings it was fitted to.

    Each epoch goes through the ratings in the order given. With e = r − r̂ (not clipped), γ the learning rates and
    λ the regularisations:

        b_u += γ (e − λ b_u)          b_i += γ (e − λ b_i)
        p_u += γ (e q_i − λ p_u)      q_i += γ (e p_u − λ q_i)      from the values before the step

    Funk 2006; Koren, Bell and Volinsky 2009, "Matrix Factorization Techniques for Recommender Systems". Updates,
    initialisation and defaults are those of scikit-surprise's `SVD`; the arithmetic is in float32.

    What is unknown takes no part: an unknown user leaves μ + b_i, an unknown item μ + b_u. Without biases (`biased`
    false) a pair with anything unknown gets μ.

    With t threads an epoch goes through t × t blocks of users × items, t at a time that share neither (`Blocks`):
    the same updates with the ratings in another order, which converge to the same error. The order, and so the
    result, depends on t alone: the same seed and t give the same bits.

    An epoch takes O(n_ratings · n_factors) time, shared among the threads. Memory is
    O((n_users + n_items) · n_factors), and with several threads a copy of the ratings.

    `fold_in` of a user gives it the b_u and p_u that minimise, over its n ratings of known items,

        Σ (r_ui − μ − b_i − b_u − q_i·p_u)² + n (λ_bu b_u² + λ_pu |p_u|²),

    in O(n · n_factors² + n_factors³): what the steps above tend to, with everything of the items held fixed. Of an
    item the same the other way round, with the λ of items. Without biases μ, b_u and b_i are left out.

    State: mean (1,), and of users and items each bias, factors, known.
    """

    name: ClassVar[str] = "svd"
    capabilities: ClassVar[Capabilities] = Capabilities(
        predicts_ratings=True,
        personal=True,
        folds_in_users=True,
        folds_in_items=True,
        warm_starts=True,
        threads_change_results=True,
    )
    params_type: ClassVar[type[Params]] = SVDParams

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        params = self.params
        learnt = _beginning(params, interactions.n_users, interactions.n_items, seed, start)
        mean = np.float32(interactions.rating.mean(dtype=np.float64))
        rates, offset = params.rates(), mean
        if not params.biased:
            rates[:2], offset = 0, np.float32(0)  # so the biases stay 0
        known = {
            "user": np.bincount(interactions.user_index, minlength=interactions.n_users) > 0,
            "item": np.bincount(interactions.item_index, minlength=interactions.n_items) > 0,
        }
        for name, rows in learnt.items():
            rows[~known[name[:4]]] = 0
        blocks = Blocks.cut(interactions.user_index, interactions.item_index, interactions.rating, threads)

        def step(users: NDArray[np.int32], items: NDArray[np.int32], ratings: NDArray[np.float32]) -> None:
            epoch(users, items, ratings, offset, rates, *learnt.values())

        with ThreadPoolExecutor(threads) as pool:
            for done in range(params.n_epochs):
                blocks.epoch(pool, step)
                progress(done + 1, params.n_epochs)
        for name in ("user_factors", "item_factors"):
            learnt[name] = np.ascontiguousarray(learnt[name][:, : params.n_factors])
        require_finite("SVD", "Lower the learning rates.", **learnt)
        return {
            "mean": np.array([mean]),
            **learnt,
            "user_known": known["user"],
            "item_known": known["item"],
        }

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._mean = floats(state["mean"])[0]
        self._user_bias, self._item_bias = floats(state["user_bias"]), floats(state["item_bias"])
        self._user_factors, self._item_factors = floats(state["user_factors"]), floats(state["item_factors"])
        self._user_known, self._item_known = (
            state["user_known"].astype(np.bool_),
            state["item_known"].astype(np.bool_),
        )

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        raw = pair_products(self._user_factors, self._item_factors, user_index, item_index)
        if self.params.biased:
            raw += (
                self._mean + rows_or_zero(self._user_bias, user_index) + rows_or_zero(self._item_bias, item_index)
            )
        else:
            known = rows_or_zero(self._user_known, user_index) & rows_or_zero(self._item_known, item_index)
            raw[~known] = self._mean
        return raw

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        raw: NDArray[np.float32] = rows_or_zero(self._user_factors, user_index) @ self._item_factors.T
        if self.params.biased:
            raw += (self._mean + rows_or_zero(self._user_bias, user_index))[:, None]
            raw += self._item_bias
        else:
            raw[~rows_or_zero(self._user_known, user_index)] = self._mean
            raw[:, ~self._item_known] = self._mean
        return raw

    def _fold_in(self, newcomers: Interactions) -> State:
        rated, rates = newcomers.rated(), self.params.rates()
        users = self._folded(
            "user", rated.user_index, "item", rated.item_index, rated.rating, newcomers.n_users, rates[[4, 6]]
        )
        items = self._folded(
            "item", rated.item_index, "user", rated.user_index, rated.rating, newcomers.n_items, rates[[5, 7]]
        )
        return {**users, **items}

    def _folded(
        self,
        new: str,
        new_index: NDArray[np.int32],
        old: str,
        old_index: NDArray[np.int32],
        rating: NDArray[np.float32],
        n_all: int,
        regs: NDArray[np.float32],
    ) -> State:
        """The arrays of the side `new` ("user" or "item"), grown to `n_all` rows."""
        state, biased = self._state, self.params.biased
        n_known, known = len(state[f"{new}_known"]), state[f"{old}_known"].astype(np.bool_)
        rows = np.flatnonzero((new_index >= n_known) & (old_index < known.size))
        rows = rows[known[old_index[rows]]]
        row, others = new_index[rows] - n_known, old_index[rows]
        residual = rating[rows] - self._mean - floats(state[f"{old}_bias"])[others] if biased else rating[rows]
        features = floats(state[f"{old}_factors"])[others]
        bias, factors = ridge_rows(row, residual, features, n_all - n_known, regs[0], regs[1], biased=biased)
        met = np.bincount(row, minlength=n_all - n_known) > 0
        grown = {f"{new}_bias": bias, f"{new}_factors": factors, f"{new}_known": met}
        return {name: np.concatenate([state[name], added]) for name, added in grown.items()}


def _beginning(
    params: SVDParams, n_users: int, n_items: int, seed: int, start: WarmStart | None
) -> dict[str, NDArray[np.float32]]:
    """What `epoch` changes, in the order in which it takes it; factors filled up with columns of zeros."""
    rng = np.random.default_rng(seed)
    user_factors, item_factors = (
        normal(rng, params.init_mean, params.init_std_dev, (rows, params.n_factors)) for rows in (n_users, n_items)
    )
    user_bias, item_bias = np.zeros(n_users, dtype=np.float32), np.zeros(n_items, dtype=np.float32)
    if start is not None:
        user_factors = start.users("user_factors", user_factors)
        item_factors = start.items("item_factors", item_factors)
        if params.biased:
            user_bias, item_bias = start.users("user_bias", user_bias), start.items("item_bias", item_bias)
    return {
        "user_bias": user_bias,
        "item_bias": item_bias,
        "user_factors": padded(user_factors),
        "item_factors": padded(item_factors),
    }
