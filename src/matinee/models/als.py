"""ALS: matrix factorisation of implicit feedback by alternating least squares."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from matinee.core.errors import Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.models.als_steps import cholesky_step, conjugate_gradient_step
from matinee.models.arrays import floats, normal, on_cache_lines, padded, require_finite
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart
from matinee.models.factors import pair_products
from matinee.models.fold_in import FoldIn, scaled
from matinee.models.preference import DEFAULT_POSITIVE_RATING, confidence

ROWS_AT_ONCE = 256
"""Users or items that a thread takes at a time; affects speed, not results."""


class ALSParams(Params):
    """Hyperparameters of `ALS`."""

    n_factors: Annotated[int, Field(gt=0)] = 64
    """Factors of each user and item."""
    n_epochs: Annotated[int, Field(gt=0)] = 10
    """Alternations."""
    alpha: Annotated[float, Field(gt=0)] = 4.0
    """How much one unit of an interaction's weight adds to the confidence of 1 that everything unseen has."""
    reg: Annotated[float, Field(gt=0)] = 0.12
    """Regularisation, as a share of a row's confidence beyond 1."""
    reg_exponent: Annotated[float, Field(ge=0, le=1)] = 0.5
    """ν: how far regularisation grows with a row's confidence; 0 not at all, 1 in proportion."""
    weighting: Literal["linear", "log"] = "linear"
    """Whether confidence grows with an interaction's weight or with its logarithm."""
    epsilon: Annotated[float, Field(gt=0)] = 1.0
    """ε of the logarithm: weights well below it count linearly."""
    init_std_dev: Annotated[float, Field(gt=0)] = 0.1
    """Standard deviation of the normal distribution that factors start from."""
    cg_steps: Annotated[int, Field(ge=0)] = 3
    """Conjugate gradient steps for each row and epoch, from the last epoch's factors; 0 solves exactly."""
    positive_rating: Annotated[float, Field(gt=0)] = DEFAULT_POSITIVE_RATING
    """The least rating that counts as liking."""

    def confidences(self, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """What weights add to the confidence of 1, e: float32, shape (n,)."""
        e = self.alpha * scaled(weight.astype(np.float64), self.log_epsilon)
        return e.astype(np.float32)

    @property
    def log_epsilon(self) -> float:
        """ε as `FoldIn` has it: 0 where there is no logarithm."""
        return self.epsilon if self.weighting == "log" else 0.0


class ALS(Model[ALSParams]):
    """Implicit matrix factorisation: scores x_u·y_i.

    The factors minimise

        Σ_{u,i} (1 + e_ui) (p_ui − x_u·y_i)² + Σ_u λ_u |x_u|² + Σ_i λ_i |y_i|²,

    where e_ui = α w_ui, or α ln(1 + w_ui / ε) with `weighting="log"`; w is the weight that
    `matinee.models.preference.confidence` gives an interaction (0 where there was none), and p = 1 where w > 0,
    else 0. Hu, Koren and Volinsky 2008, "Collaborative Filtering for Implicit Feedback
    Datasets". With E_u = Σ_i e_ui and Ē its mean over users with a positive, λ_u = reg · E_u^ν Ē^(1 − ν), and the
    same for items: so one `reg` suits data small and large, sparse and dense, and busy rows are held more the
    greater the exponent ν (Rendle, Krichene, Zhang and Koren 2022, "Revisiting the Performance of iALS on Item
    Recommendation Benchmarks"): 0 holds all alike, ½ busy ones a little more. The conjugate gradient steps
    are those of Takács, Pilászy and Tikk 2011. The last user step is exact: a user's factors are what `FoldIn`
    gives for the same interactions.

    Users without a positive get the mean user's factors; items without one get none. An unknown item scores 0.
    Results do not depend on the number of threads. Newcomers are folded in by the same exact step, the other side's
    factors and Ē held as they were.

    Time O(positives · k + (n_users + n_items) · k²) an epoch for each conjugate gradient step, memory
    O((n_users + n_items) · k + positives).

    State: user_factors (n_users, k), item_factors (n_items, k), prior (k,), mean_total (1,), item_mean_total (1,),
    user_gram (k, k): XᵀX over the users with a positive.
    """

    name: ClassVar[str] = "als"
    capabilities: ClassVar[Capabilities] = Capabilities(
        predicts_ratings=False,
        personal=True,
        folds_in_users=True,
        folds_in_items=True,
        online_fold_in=True,
        warm_starts=True,
        converges=True,
    )
    params_type: ClassVar[type[Params]] = ALSParams

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        params = self.params
        by_user = _extras(interactions, params)
        if not by_user.nnz:
            raise Unsuitable(
                f"ALS learns from positives, and these {len(interactions)} interactions hold none",
                remedy=f"Lower positive_rating (now {params.positive_rating}) or add interactions.",
            )
        by_item = by_user.T.tocsr()
        rng = np.random.default_rng(seed)
        users = _initial(rng, by_user, params)
        items = _initial(rng, by_item, params)
        if start is not None:
            users, items = start.users("user_factors", users), start.items("item_factors", items)
            users[np.diff(by_user.indptr) == 0] = 0
            items[np.diff(by_item.indptr) == 0] = 0
        users, items = padded(users, 1), padded(items, 1)
        with ThreadPoolExecutor(threads) as pool:
            for epoch in range(params.n_epochs):
                _solve(pool, by_user, users, items, params, params.cg_steps)
                _solve(pool, by_item, items, users, params, params.cg_steps)
                progress(epoch + 1, params.n_epochs)
            _solve(pool, by_user, users, items, params, 0)
        require_finite("ALS", "Raise reg or lower alpha.", user_factors=users, item_factors=items)
        known, user_gram = np.diff(by_user.indptr) > 0, _gram(users)
        prior = users[known].mean(axis=0, dtype=np.float64).astype(np.float32)
        users[~known] = prior
        return {
            "user_factors": users,
            "item_factors": items,
            "prior": prior,
            "mean_total": np.array([_mean_total(by_user)]),
            "item_mean_total": np.array([_mean_total(by_item)]),
            "user_gram": user_gram,
        }

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._users, self._items = floats(state["user_factors"]), floats(state["item_factors"])
        self._prior = floats(state["prior"])
        self._mean_total, self._item_mean_total = (
            float(state[name].astype(np.float64)[0]) for name in ("mean_total", "item_mean_total")
        )
        self._user_gram = state["user_gram"].astype(np.float64)

    def _factors(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        factors: NDArray[np.float32] = self._users[user_index]
        factors[user_index < 0] = self._prior
        return factors

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        rows = np.arange(user_index.size, dtype=np.int32)
        return pair_products(self._factors(user_index), self._items, rows, item_index)

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._factors(user_index) @ self._items.T
        return scores

    def _fold_in(self, newcomers: Interactions) -> State:
        params, k = self.params, self.params.n_factors
        known_user, known_item = newcomers.user_index < self.n_users, newcomers.item_index < self.n_items
        users, items = (np.zeros((n, k), dtype=np.float32) for n in (newcomers.n_users, newcomers.n_items))
        users[: self.n_users], items[: self.n_items] = self._users, self._items
        users[self.n_users :] = self._prior  # stays where nothing is liked
        by_user = _extras(newcomers.take(~known_user & known_item), params)
        by_item = _extras(newcomers.take(known_user & ~known_item), params).T.tocsr()
        _exact(by_user, users, items, _gram(self._items), _row_reg(by_user, params, self._mean_total))
        _exact(by_item, items, users, self._user_gram, _row_reg(by_item, params, self._item_mean_total))
        return {"user_factors": users, "item_factors": items}

    def fold_in_arrays(self) -> State:
        """What `FoldIn.from_arrays` needs to answer users who came or did something after the fit."""
        items, params = self._items, self.params
        return FoldIn(
            item_factors=items,
            gram=_gram(items),
            prior=self._prior,
            alpha=params.alpha,
            reg=params.reg,
            mean_total=self._mean_total,
            positive_rating=params.positive_rating,
            reg_exponent=params.reg_exponent,
            epsilon=params.log_epsilon,
        ).to_arrays()


def _extras(interactions: Interactions, params: ALSParams) -> sparse.csr_array:
    """Users × items: what the positives add to the confidence of 1, e."""
    weight = confidence(interactions.rating, interactions.watched, params.positive_rating)
    return interactions.take(weight > 0).matrix(params.confidences(weight[weight > 0]))


def _initial(rng: np.random.Generator, rows: sparse.csr_array, params: ALSParams) -> NDArray[np.float32]:
    """Random factors for the rows that have entries; zeros for the others, which no step changes."""
    drawn = normal(rng, 0, params.init_std_dev, (rows.shape[0], params.n_factors))
    drawn[np.diff(rows.indptr) == 0] = 0
    return drawn


def _gram(factors: NDArray[np.float32]) -> NDArray[np.float64]:
    """FᵀF, float64 (k, k)."""
    wide = factors.astype(np.float64)
    gram: NDArray[np.float64] = wide.T @ wide
    return gram


def _row_sums(rows: sparse.csr_array) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = np.asarray(rows.sum(axis=1, dtype=np.float64))
    return sums


def _mean_total(rows: sparse.csr_array) -> float:
    """Ē: the mean of the sums of the rows that have entries."""
    total = _row_sums(rows)
    return float(total[total > 0].mean())


def _row_reg(rows: sparse.csr_array, params: ALSParams, mean_total: float) -> NDArray[np.float32]:
    """λ of each row; anything where it has no entries."""
    nu = params.reg_exponent
    reg: NDArray[np.float64] = params.reg * _row_sums(rows) ** nu * mean_total ** (1 - nu)
    return reg.astype(np.float32)


def _exact(
    rows: sparse.csr_array,
    solved: NDArray[np.float32],
    fixed: NDArray[np.float32],
    gram: NDArray[np.float64],
    row_reg: NDArray[np.float32],
) -> None:
    """Set the factors of the rows that have entries."""
    cholesky_step(0, len(solved), rows.indptr, rows.indices, rows.data, fixed, gram, row_reg, solved)


def _solve(
    pool: ThreadPoolExecutor,
    rows: sparse.csr_array,
    solved: NDArray[np.float32],
    fixed: NDArray[np.float32],
    params: ALSParams,
    cg_steps: int,
) -> None:
    """Set the factors of all rows, the other side's held fixed. Each row stands alone: threads change nothing."""
    gram = _gram(fixed)
    row_reg = _row_reg(rows, params, _mean_total(rows))
    narrow = padded(gram.astype(np.float32), 1)

    def part(first: int) -> None:
        last = min(first + ROWS_AT_ONCE, len(solved))
        if cg_steps:
            room = on_cache_lines(3, fixed.shape[1])
            conjugate_gradient_step(
                first, last, rows.indptr, rows.indices, rows.data, fixed, narrow, row_reg, solved, cg_steps, room
            )
        else:
            cholesky_step(first, last, rows.indptr, rows.indices, rows.data, fixed, gram, row_reg, solved)

    for _ in pool.map(part, range(0, len(solved), ROWS_AT_ONCE)):
        pass
