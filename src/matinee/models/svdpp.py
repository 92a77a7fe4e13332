"""SVD++: matrix factorisation of ratings that also learns from which items a user rated, in linear time."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats, normal, require_finite, rows_or_zero
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart
from matinee.models.factors import pair_products
from matinee.models.svd import Rate
from matinee.models.svd_steps import ridge_rows


class SVDppParams(Params):
    """Hyperparameters of `SVDpp`; names and defaults are scikit-surprise's."""

    n_factors: Annotated[int, Field(gt=0)] = 20
    """Factors of each user and item."""
    n_epochs: Annotated[int, Field(ge=0)] = 20
    """Passes over the ratings."""
    init_mean: float = 0.0
    """Mean of the normal distribution that factors start from."""
    init_std_dev: Rate = 0.1
    """Its standard deviation."""
    lr_all: Rate = 0.007
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
    lr_yj: Rate | None = None
    """Learning rate of implicit item factors."""
    reg_bu: Rate | None = None
    """Regularisation of user biases."""
    reg_bi: Rate | None = None
    """Regularisation of item biases."""
    reg_pu: Rate | None = None
    """Regularisation of user factors."""
    reg_qi: Rate | None = None
    """Regularisation of item factors."""
    reg_yj: Rate | None = None
    """Regularisation of implicit item factors."""
    cache_ratings: bool = False
    """Taken for compatibility; affects neither speed nor results: each user's items are always at hand."""

    def rates(self) -> NDArray[np.float32]:
        """float32 (10,): the learning rates of b_u, b_i, p_u, q_i, y_j, then their regularisations."""
        own = (self.lr_bu, self.lr_bi, self.lr_pu, self.lr_qi, self.lr_yj,
               self.reg_bu, self.reg_bi, self.reg_pu, self.reg_qi, self.reg_yj)  # fmt: skip
        general = (self.lr_all,) * 5 + (self.reg_all,) * 5
        return np.array([g if o is None else o for o, g in zip(own, general, strict=True)], dtype=np.float32)


class SVDpp(Model[SVDppParams]):
    """r̂(u, i) = μ + b_u + b_i + q_i·(p_u + |I_u|^-½ Σ_{j∈I_u} y_j), clipped to the scale of the fit's ratings.

    I_u are the items that u rated. Each epoch goes through the ratings user by user in the order of the user
    indices, a user's in the order given. With e = r − r̂ (not clipped), z_u = |I_u|^-½ Σ_{j∈I_u} y_j, γ the learning
    rates and λ the regularisations, all from the values before the step:

        b_u += γ (e − λ b_u)          b_i += γ (e − λ b_i)
        p_u += γ (e q_i − λ p_u)      q_i += γ (e (p_u + z_u) − λ q_i)
        y_j += γ (e q_i / √|I_u| − λ y_j)      for every j in I_u

    The last line is the same affine map for all of a user's y_j, so it is not carried out rating by rating: z_u is
    kept up to date on its own, and the map that has come of all of a user's ratings is applied to its y_j once. So
    an epoch takes O(n_ratings · n_factors) time, not O(Σ_u |I_u|² · n_factors), for the same updates in another
    order of summation; `docs/svdpp.md` derives it. Memory is O((n_users + n_items) · n_factors + n_ratings).

    Koren 2008, "Factorization meets the neighborhood". Updates, initialisation and defaults are those of
    scikit-surprise's `SVDpp`; the arithmetic is in float32. Results do not depend on the number of threads.

    What is unknown takes no part: an unknown user leaves μ + b_i, an unknown item μ + b_u.

    `fold_in` of a user takes z_u from the y_j of the known items that it rated, and b_u and p_u that minimise

        Σ_{i∈I_u} (r_ui − μ − b_i − q_i·z_u − b_u − q_i·p_u)² + |I_u| (λ_bu b_u² + λ_pu |p_u|²),

    in O(|I_u| · n_factors²): what the steps above tend to, with everything of the items held fixed.

    State: mean (1,); of users and items each bias, factors, known; user_own (n_users, k), the p_u, and
    item_implicit (n_items, k), the y_j. user_factors are p_u + z_u: all that answers need.
    """

    name: ClassVar[str] = "svdpp"
    capabilities: ClassVar[Capabilities] = Capabilities(
        predicts_ratings=True, personal=True, folds_in_users=True, warm_starts=True
    )
    params_type: ClassVar[type[Params]] = SVDppParams

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        params, n_users, n_items = self.params, interactions.n_users, interactions.n_items
        learnt = _beginning(params, n_users, n_items, seed, start)
        by_user = np.argsort(interactions.user_index, kind="stable")
        item, rating = interactions.item_index[by_user], interactions.rating[by_user]
        count = np.bincount(interactions.user_index, minlength=n_users)
        first = np.concatenate([[0], np.cumsum(count)])
        user_known, item_known = count > 0, np.bincount(item, minlength=n_items) > 0
        for name, known in (("user_bias", user_known), ("user_own", user_known), ("item_bias", item_known),
                            ("item_factors", item_known), ("item_implicit", item_known)):  # fmt: skip
            learnt[name][~known] = 0
        mean, rates = np.float32(rating.mean(dtype=np.float64)), params.rates()
        for epoch in range(params.n_epochs):
            epoch_by_user(first, item, rating, mean, rates, *learnt.values())
            progress(epoch + 1, params.n_epochs)
        require_finite("SVDpp", "Lower the learning rates.", **learnt)
        return {
            "mean": np.array([mean]),
            **learnt,
            "user_factors": learnt["user_own"] + implicit_parts(first, item, learnt["item_implicit"]),
            "user_known": user_known,
            "item_known": item_known,
        }

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._mean = floats(state["mean"])[0]
        self._user_bias, self._item_bias = floats(state["user_bias"]), floats(state["item_bias"])
        self._user_factors, self._item_factors = floats(state["user_factors"]), floats(state["item_factors"])

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        raw = pair_products(self._user_factors, self._item_factors, user_index, item_index)
        raw += self._mean + rows_or_zero(self._user_bias, user_index) + rows_or_zero(self._item_bias, item_index)
        return raw

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        raw: NDArray[np.float32] = rows_or_zero(self._user_factors, user_index) @ self._item_factors.T
        raw += (self._mean + rows_or_zero(self._user_bias, user_index))[:, None]
        raw += self._item_bias
        return raw

    def _fold_in(self, newcomers: Interactions) -> State:
        state, rated = self._state, newcomers.rated()
        rated = rated.take((rated.user_index >= self.n_users) & (rated.item_index < self.n_items))
        rated = rated.take(state["item_known"].astype(np.bool_)[rated.item_index])
        rated = rated.take(np.argsort(rated.user_index, kind="stable"))
        row, item, n_new = rated.user_index - self.n_users, rated.item_index, newcomers.n_users - self.n_users
        first = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n_new))])
        implicit = implicit_parts(first, item, floats(state["item_implicit"]))
        features = self._item_factors[item]
        explained = np.einsum("nf,nf->n", features, implicit[row], dtype=np.float64)
        rates = self.params.rates()
        bias, own = ridge_rows(
            row, rated.rating - self._mean - self._item_bias[item] - explained, features, n_new, rates[5], rates[7]
        )
        new = {"user_bias": bias, "user_own": own, "user_factors": own + implicit, "user_known": np.diff(first) > 0}
        return {name: np.concatenate([state[name], rows]) for name, rows in new.items()}


def _beginning(
    params: SVDppParams, n_users: int, n_items: int, seed: int, start: WarmStart | None
) -> dict[str, NDArray[np.float32]]:
    """What `epoch_by_user` changes, in the order in which it takes it."""
    rng = np.random.default_rng(seed)
    own, factors, implicit = (
        normal(rng, params.init_mean, params.init_std_dev, (rows, params.n_factors))
        for rows in (n_users, n_items, n_items)
    )
    user_bias, item_bias = np.zeros(n_users, dtype=np.float32), np.zeros(n_items, dtype=np.float32)
    cold = {
        "user_bias": user_bias,
        "item_bias": item_bias,
        "user_own": own,
        "item_factors": factors,
        "item_implicit": implicit,
    }
    if start is None:
        return cold
    return {
        name: start.users(name, rows) if name.startswith("user") else start.items(name, rows)
        for name, rows in cold.items()
    }


@njit(cache=True, nogil=True)
def implicit_parts(
    first: NDArray[np.int64], item: NDArray[np.int32], item_implicit: NDArray[np.float32]
) -> NDArray[np.float32]:
    """z_u = |I_u|^-½ Σ_{j∈I_u} y_j of each user; 0 where it has no items.

    Args:
        first: int64, shape (n_users + 1,): user u's items are `item[first[u]:first[u + 1]]`.
        item: int32, shape (n,).
        item_implicit: the y_j, shape (n_items, k).

    Returns:
        Shape (n_users, k), in O((n + n_users) · k).
    """
    parts = np.zeros((first.size - 1, item_implicit.shape[1]), dtype=item_implicit.dtype)
    for u in range(first.size - 1):
        if first[u] < first[u + 1]:
            _implicit_part(item[first[u] : first[u + 1]], item_implicit, parts[u])
    return parts


@njit(cache=True, nogil=True)
def _implicit_part(items: NDArray[np.int32], item_implicit: NDArray[np.float32], part: NDArray[np.float32]) -> None:
    """Set `part` to |I|^-½ Σ_{j∈I} y_j."""
    part[:] = 0
    for j in items:
        for f in range(part.size):
            part[f] += item_implicit[j, f]
    root = part.dtype.type(np.sqrt(items.size))
    for f in range(part.size):
        part[f] /= root


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
def epoch_by_user(
    first: NDArray[np.int64],
    item: NDArray[np.int32],
    rating: NDArray[np.float32],
    mean: np.float32,
    rates: NDArray[np.float32],
    user_bias: NDArray[np.float32],
    item_bias: NDArray[np.float32],
    user_own: NDArray[np.float32],
    item_factors: NDArray[np.float32],
    item_implicit: NDArray[np.float32],
) -> None:
    """One pass over the ratings, user by user; changes the last five in place.

    After some of a user's ratings each of its y_j has become decay · y_j + moved / √|I_u| for a vector `moved` that
    is not kept: z_u has become decay · before + moved, and is.
    Works in the precision of its arrays, which must all have the same.
    """
    kind = rates.dtype.type
    one, zero = kind(1), kind(0)
    lr_bu, lr_bi, lr_pu, lr_qi, lr_yj, reg_bu, reg_bi, reg_pu, reg_qi, reg_yj = rates
    keep_pu, keep_qi, keep_yj = one - lr_pu * reg_pu, one - lr_qi * reg_qi, one - lr_yj * reg_yj
    k = user_own.shape[1]
    p, z, before = np.empty(k, rates.dtype), np.empty(k, rates.dtype), np.empty(k, rates.dtype)
    for u in range(first.size - 1):
        items = item[first[u] : first[u + 1]]
        if items.size == 0:
            continue
        p[:] = user_own[u]
        _implicit_part(items, item_implicit, before)
        z[:] = before
        decay, bu, product, known = one, user_bias[u], zero, False
        for n in range(items.size):
            i, row = np.uint32(items[n]), first[u] + n
            if not known:
                product = zero
                for f in range(k):
                    product += item_factors[i, f] * (p[f] + z[f])
            error = rating[row] - (mean + bu + item_bias[i] + product)
            bu += lr_bu * (error - reg_bu * bu)
            item_bias[i] += lr_bi * (error - reg_bi * item_bias[i])
            step_pu, step_qi, step_yj = lr_pu * error, lr_qi * error, lr_yj * error
            # The next product from sums over what stands here before this step: see `svd_steps.epoch`.
            j = np.uint32(items[min(n + 1, items.size - 1)])
            known = j != i
            pq, zq, qq = zero, zero, zero
            for f in range(k):
                qf, pf, zf, following = item_factors[i, f], p[f], z[f], item_factors[j, f]
                item_factors[i, f] = keep_qi * qf + step_qi * (pf + zf)
                p[f] = keep_pu * pf + step_pu * qf
                z[f] = keep_yj * zf + step_yj * qf
                pq += pf * following
                zq += zf * following
                qq += qf * following
            product = keep_pu * pq + keep_yj * zq + (step_pu + step_yj) * qq
            decay *= keep_yj
        user_bias[u], user_own[u] = bu, p
        root = kind(np.sqrt(items.size))
        for f in range(k):
            z[f] = (z[f] - decay * before[f]) / root
        for j in items:
            for f in range(k):
                item_implicit[j, f] = decay * item_implicit[j, f] + z[f]
