"""SVD: biased matrix factorisation of ratings by stochastic gradient descent."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats, require_finite, rows_or_zero
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart
from matinee.models.factors import pair_products

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

    State: mean (1,), and of users and items each bias, factors, known.
    """

    name: ClassVar[str] = "svd"
    capabilities: ClassVar[Capabilities] = Capabilities(predicts_ratings=True, personal=True, warm_starts=True)
    params_type: ClassVar[type[Params]] = SVDParams

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        params, rng = self.params, np.random.default_rng(seed)
        n_users, n_items = interactions.n_users, interactions.n_items
        user_factors = _initial(rng, n_users, params)
        item_factors = _initial(rng, n_items, params)
        user_bias, item_bias = np.zeros(n_users, dtype=np.float32), np.zeros(n_items, dtype=np.float32)
        if start is not None:
            user_factors = start.users("user_factors", user_factors)
            item_factors = start.items("item_factors", item_factors)
            user_bias, item_bias = start.users("user_bias", user_bias), start.items("item_bias", item_bias)
        mean = np.float32(interactions.rating.mean(dtype=np.float64))
        rates, offset = params.rates(), mean
        if not params.biased:
            rates[:2], offset = 0, np.float32(0)  # so the biases stay 0
            user_bias[:], item_bias[:] = 0, 0
        for epoch in range(params.n_epochs):
            _epoch(interactions.user_index, interactions.item_index, interactions.rating, offset,
                   user_bias, item_bias, user_factors, item_factors, rates)  # fmt: skip
            progress(epoch + 1, params.n_epochs)
        factors = {"user_factors": user_factors, "item_factors": item_factors}
        require_finite("SVD", "Lower the learning rates.", **factors)
        user_known = np.bincount(interactions.user_index, minlength=n_users) > 0
        item_known = np.bincount(interactions.item_index, minlength=n_items) > 0
        user_factors[~user_known] = 0
        item_factors[~item_known] = 0
        return {
            "mean": np.array([mean]),
            "user_bias": user_bias,
            "item_bias": item_bias,
            **factors,
            "user_known": user_known,
            "item_known": item_known,
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


def _initial(rng: np.random.Generator, rows: int, params: SVDParams) -> NDArray[np.float32]:
    drawn = rng.normal(params.init_mean, params.init_std_dev, (rows, params.n_factors))
    return drawn.astype(np.float32)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})  # sums of products in vector registers
def _epoch(
    user_index: NDArray[np.int32],
    item_index: NDArray[np.int32],
    rating: NDArray[np.float32],
    mean: np.float32,
    user_bias: NDArray[np.float32],
    item_bias: NDArray[np.float32],
    user_factors: NDArray[np.float32],
    item_factors: NDArray[np.float32],
    rates: NDArray[np.float32],
) -> None:
    """One pass over the ratings in their order; changes the biases and factors in place."""
    lr_bu, lr_bi, lr_pu, lr_qi, reg_bu, reg_bi, reg_pu, reg_qi = rates
    keep_pu, keep_qi = np.float32(1) - lr_pu * reg_pu, np.float32(1) - lr_qi * reg_qi
    n_factors = user_factors.shape[1]
    for row in range(rating.size):
        u, i = user_index[row], item_index[row]
        pu, qi = user_factors[u], item_factors[i]
        product = np.float32(0)
        for f in range(n_factors):
            product += pu[f] * qi[f]
        error = rating[row] - (mean + user_bias[u] + item_bias[i] + product)
        user_bias[u] += lr_bu * (error - reg_bu * user_bias[u])
        item_bias[i] += lr_bi * (error - reg_bi * item_bias[i])
        step_pu, step_qi = lr_pu * error, lr_qi * error
        for f in range(n_factors):
            puf, qif = pu[f], qi[f]
            pu[f] = keep_pu * puf + step_pu * qif
            qi[f] = keep_qi * qif + step_qi * puf
