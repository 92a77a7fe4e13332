"""What the k-NN models share: ratings from both sides, neighbours, newcomers."""

from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Annotated, ClassVar, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from matinee.dataset.interactions import Interactions
from matinee.models.arrays import floats, rows_or_zero
from matinee.models.base import Capabilities, Model, Params, Progress, State, WarmStart
from matinee.models.bias import BaselineOnlyParams, baselines, newcomer_biases
from matinee.models.knn_steps import neighbour_means
from matinee.models.similarities import Ratings, Similarity, both_sides, measure, similarity_rows

GROUPS_AT_ONCE = 64
"""Users (or items) whose pairs a thread takes at a time; affects speed, not results."""

PAIRS_AT_ONCE = 2**20
"""Pairs that `scores` has in hand at once, unless one user (or item) has more; affects speed, not results."""


class KNNParams(Params):
    """Hyperparameters of k-NN; those of scikit-surprise, its `sim_options` among them by name."""

    k: Annotated[int, Field(gt=0)] = 40
    """The most neighbours that count."""
    min_k: Annotated[int, Field(ge=0)] = 1
    """The fewest that must count; with fewer (and with none in any case) the neighbours say nothing."""
    similarity: Similarity = "msd"
    """What makes neighbours; see `matinee.models.similarities.measure`."""
    user_based: bool = True
    """Neighbours are users who rated the item; else they are items that the user rated."""
    min_support: Annotated[int, Field(ge=1)] = 1
    """Common ratings that two need to be similar at all."""
    shrinkage: Annotated[float, Field(ge=0)] = 100
    """pearson_baseline: how much few common ratings shrink the similarity."""
    memory_limit_gb: Annotated[float, Field(ge=0)] = 1.0
    """The most that `scores` of an item-based model may keep of items × items, in units of 10⁹ bytes: enough for
    15 800 items. Beyond it similarities are worked out anew at each call. Affects no result."""


KP = TypeVar("KP", bound=KNNParams)


class Neighbours(Model[KP]):
    """What the k-NN models share.

    With x a user and y an item if `user_based`, else the other way round, and N the k among the x' that rated y
    whose similarity with x is greatest, of these only those with a similarity above 0:

        r̂ = base(x, y) + σ_x · Σ_N sim(x, x') value(x', y) / Σ_N sim(x, x')

    The kinds differ in base, σ and value. Formulas, defaults and edge cases are those of scikit-surprise 1.1.5.
    Of equally similar ones the first in the order of the interactions are taken, as there; but similarities are
    rounded to float32, so that a few more are equal. x is in its own neighbourhood where it rated y.

    Learning is keeping the ratings. Similarities are worked out when they are asked for, a row at a time, and
    forgotten: `predict` takes, for each x, Σ n_y steps over the ys that x rated (n_y being the ratings of y), then
    n_y for each of its pairs. Memory is that of the ratings, a few times, and in each thread O(n_x). Only `scores`
    of item-based models, which need all rows for any user, keeps the n_items² float32 matrix, if that is within
    `memory_limit_gb`. Results do not depend on the number of threads; those of the fit are used.

    `fold_in` keeps the newcomer's ratings of (or by) those of the fit, O(n) time. A new x finds its neighbours
    among the xs of the fit, and is nobody's neighbour, not even its own; a new y has those who rated it among the
    xs of the fit. So with item-based models a user's new row is all that a user is, and with none do similarities
    between the others change. Where baselines take part, a newcomer's bias is what one more step of `baselines`
    would give it, the others' held fixed.

    State: user_index, item_index, rating (n,) as given, newcomers' after those of the fit; mean (1,); fitted (3,):
    how many ratings, users and items were fitted; user_bias, item_bias where baselines take part.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        predicts_ratings=True, personal=True, folds_in_users=True, folds_in_items=True, seeded=False
    )
    params_type: ClassVar[type[Params]] = KNNParams
    _threads: int = 1

    def _fit(
        self, interactions: Interactions, seed: int, threads: int, progress: Progress, start: WarmStart | None
    ) -> State:
        self._threads = threads
        state: State = {
            "user_index": interactions.user_index,
            "item_index": interactions.item_index,
            "rating": interactions.rating,
            "mean": np.array([interactions.rating.mean(dtype=np.float64)], dtype=np.float32),
            "fitted": np.array([len(interactions), interactions.n_users, interactions.n_items], dtype=np.int64),
        }
        if self._needs_baselines():
            _, state["user_bias"], state["item_bias"] = baselines(interactions, self._baseline_params())
        progress(1, 1)
        return state

    def _needs_baselines(self) -> bool:
        return self.params.similarity == "pearson_baseline"

    def _baseline_params(self) -> BaselineOnlyParams:
        return BaselineOnlyParams()

    def _load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        users, items = (
            cast("NDArray[np.int32]", np.ascontiguousarray(state[name], dtype=np.int32))
            for name in ("user_index", "item_index")
        )
        rating, params = floats(state["rating"]), self.params
        nothing = np.full(rating.size, np.nan, dtype=np.float32)
        kept = Interactions(self.n_users, self.n_items, users, items, rating, nothing)
        n_fitted, n_users, n_items = (int(number) for number in state["fitted"].astype(np.int64))
        self._fitted_rating = rating[:n_fitted]
        self._mean = floats(state["mean"])[0]
        if self._needs_baselines():
            self._user_bias, self._item_bias = floats(state["user_bias"]), floats(state["item_bias"])
        self._measure = measure(params.similarity, params.min_support, params.shrinkage)
        compared = rating
        if params.similarity == "pearson_baseline":
            compared = rating - self._baseline(users, items)
        sides = partial(both_sides, kept, user_based=params.user_based, known=(n_users, n_items))
        self._ratings: Ratings = sides(compared)
        plain = self._ratings if compared is rating else sides(rating)
        self._known_x, self._known_y = np.diff(plain.x_start) > 0, np.diff(plain.y_start) > 0
        self._value = self._values(plain)
        self._matrix = np.empty((0, 0), dtype=np.float32)
        self._matrix_lock = Lock()

    def _fold_in(self, newcomers: Interactions) -> State:
        _, n_users, n_items = (int(number) for number in self._state["fitted"].astype(np.int64))
        rated = newcomers.rated()
        of_users = rated.take((rated.user_index >= self.n_users) & (rated.item_index < n_items))
        of_items = rated.take((rated.item_index >= self.n_items) & (rated.user_index < n_users))
        grown: State = {
            name: np.concatenate([self._state[name], getattr(of_users, name), getattr(of_items, name)])
            for name in ("user_index", "item_index", "rating")
        }
        if self._needs_baselines():
            u, i = of_users.user_index - self.n_users, of_items.item_index - self.n_items
            users = self._newcomer_biases(u, of_users, newcomers.n_users - self.n_users, "u")
            items = self._newcomer_biases(i, of_items, newcomers.n_items - self.n_items, "i")
            grown["user_bias"] = np.append(self._user_bias, users)
            grown["item_bias"] = np.append(self._item_bias, items)
        return grown

    def _newcomer_biases(
        self, index: NDArray[np.int32], rows: Interactions, n: int, side: Literal["u", "i"]
    ) -> NDArray[np.float32]:
        others = self._item_bias[rows.item_index] if side == "u" else self._user_bias[rows.user_index]
        residual = rows.rating.astype(np.float64) - self._mean - others
        return newcomer_biases(index, residual, n, side, self._baseline_params())

    def _baseline(self, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        baseline: NDArray[np.float32] = self._mean + rows_or_zero(self._user_bias, users)
        return baseline + rows_or_zero(self._item_bias, items)

    def _predict(self, user_index: NDArray[np.int32], item_index: NDArray[np.int32]) -> NDArray[np.float32]:
        by_user = self.params.user_based
        x, y = (user_index, item_index) if by_user else (item_index, user_index)
        return self._answer(x, y, np.empty((0, 0), dtype=np.float32))

    def _scores(self, user_index: NDArray[np.int32]) -> NDArray[np.float32]:
        by_user = self.params.user_based
        items = np.arange(self.n_items, dtype=np.int32)
        xs, ys = (user_index, items) if by_user else (items, user_index)
        matrix = self._matrix if by_user or not user_index.size else self._kept_matrix()
        scores = np.empty((user_index.size, self.n_items), dtype=np.float32)
        rows = max(1, PAIRS_AT_ONCE // max(1, ys.size))
        for first in range(0, xs.size, rows):
            part = xs[first : first + rows]
            answers = self._answer(np.repeat(part, ys.size), np.tile(ys, part.size), matrix)
            grid = answers.reshape(part.size, ys.size)
            if by_user:
                scores[first : first + rows] = grid
            else:
                scores[:, first : first + rows] = grid.T
        return scores

    def _answer(
        self, x: NDArray[np.int32], y: NDArray[np.int32], matrix: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        known = rows_or_zero(self._known_x, x) & rows_or_zero(self._known_y, y)
        neighbours = np.full(x.size, np.nan, dtype=np.float32)
        asked = np.flatnonzero(known)
        neighbours[asked] = self._neighbour_means(x[asked], y[asked], matrix)
        return self._combined(x, y, known, neighbours)

    def _neighbour_means(
        self, x: NDArray[np.int32], y: NDArray[np.int32], matrix: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The neighbours' means of pairs of known x and y, shape (n,); NaN where they say nothing."""
        order = np.argsort(x, kind="stable")
        xs, starts = np.unique(x[order], return_index=True)
        bounds, ys = np.append(starts, x.size), y[order]
        means = np.empty(x.size, dtype=np.float32)

        def part(first: int) -> None:
            last = min(first + GROUPS_AT_ONCE, xs.size)
            neighbour_means(first, last, xs, bounds, ys, self._ratings, self._value, self._measure, matrix,
                            self.params.k, self.params.min_k, means)  # fmt: skip

        with ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(part, range(0, xs.size, GROUPS_AT_ONCE)):
                pass
        placed = np.empty_like(means)
        placed[order] = means
        return placed

    def _kept_matrix(self) -> NDArray[np.float32]:
        """All similarities, (n_x, n_x), worked out once; nothing, (0, 0), where they are too many to keep."""
        n_x = self._known_x.size
        with self._matrix_lock:
            if not self._matrix.size and 4 * n_x * n_x <= self.params.memory_limit_gb * 1e9:
                matrix = np.empty((n_x, n_x), dtype=np.float32)

                def part(first: int) -> None:
                    last = min(first + GROUPS_AT_ONCE, n_x)
                    similarity_rows(first, last, self._ratings, self._measure, matrix)

                with ThreadPoolExecutor(self._threads) as pool:
                    for _ in pool.map(part, range(0, n_x, GROUPS_AT_ONCE)):
                        pass
                self._matrix = matrix
            return self._matrix

    @abstractmethod
    def _values(self, ratings: Ratings) -> NDArray[np.float32]:
        """What is averaged over the neighbours, shape (n,), in the order of `ratings.y_x`."""

    @abstractmethod
    def _combined(
        self, x: NDArray[np.int32], y: NDArray[np.int32], known: NDArray[np.bool_], neighbours: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The predictions from the neighbours' means, NaN where they say nothing."""
