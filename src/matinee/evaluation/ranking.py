"""Evaluation of rankings: every user against the whole catalogue, no sampled negatives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.evaluation.ranking_metrics import METRICS, coverage
from matinee.models.base import Model
from matinee.models.preference import DEFAULT_POSITIVE_RATING


@dataclass(frozen=True, slots=True)
class RankingReport:
    """What a model's lists were worth.

    Attributes:
        k: length of the lists.
        user_index: int32, shape (u,); the users evaluated, ascending. The same for every model on one split.
        per_user: by metric (`ranking_metrics.METRICS`), float64, shape (u,), in the order of `user_index`.
        coverage: the share of the catalogue that anybody of them was shown.
        users_left_out: users with held-out interactions of which none is relevant: nothing to find, not evaluated.
    """

    k: int
    user_index: NDArray[np.int32]
    per_user: Mapping[str, NDArray[np.float64]]
    coverage: float
    users_left_out: int

    @property
    def means(self) -> dict[str, float]:
        """The mean of each metric over the users evaluated, and `coverage`."""
        return {name: float(values.mean()) for name, values in self.per_user.items()} | {"coverage": self.coverage}

    def by_subgroup(self, group: NDArray[np.integer], names: Sequence[str]) -> dict[str, dict[str, float]]:
        """The means within groups of users, with `users`: how many of the group were evaluated.

        Args:
            group: shape (n_users,); for every user of the data set the place of its group in `names`; -1 for none.
            names: the groups' names.

        Returns:
            By name; groups without an evaluated user are absent.

        Raises:
            InvalidInput: `group` is too short, or a value has no name.
        """
        if self.user_index.size and group.size <= int(self.user_index[-1]):
            raise InvalidInput(f"group has {group.size} users; expected more than {self.user_index[-1]}")
        if group.size and not -1 <= int(group.min()) <= int(group.max()) < len(names):
            raise InvalidInput(f"group holds {group.min()} to {group.max()}; expected -1 to {len(names) - 1}")
        own = group[self.user_index]
        return {
            name: {metric: float(values[own == place].mean()) for metric, values in self.per_user.items()}
            | {"users": float(count)}
            for place, name in enumerate(names)
            if (count := int((own == place).sum()))
        }


def evaluate_ranking(
    model: Model[Any],
    train: Interactions,
    test: Interactions,
    k: int = 10,
    *,
    positive_rating: float = DEFAULT_POSITIVE_RATING,
) -> RankingReport:
    """Let a model rank, for each user, the whole catalogue without what the user had in `train`.

    Relevant to a user are the items of its interactions in `test` that are positive (`Interactions.positive`):
    rated at or above `positive_rating`, or watched and not rated. Users without a relevant item are left out and
    counted. Why no negatives are sampled: Krichene and Rendle 2020, "On Sampled Metrics for Item Recommendation".

    Args:
        model: fitted to `train`.
        train: whose items are left out of each user's list, liked or not.
        test: of the same users and items.
        k: length of the lists; 1 or more.
        positive_rating: the least rating that makes an item relevant.

    Raises:
        InvalidInput: `k` is below 1, or `train` and `test` do not share their users and items.
        Unsuitable: no user has a relevant item.
    """
    if k < 1:
        raise InvalidInput(f"k is {k}; expected 1 or more")
    if (train.n_users, train.n_items) != (test.n_users, test.n_items):
        raise InvalidInput(
            f"train is {train.n_users} users × {train.n_items} items, test {test.n_users} × {test.n_items}"
        )
    relevant = test.take(test.positive(positive_rating))
    if not len(relevant):
        raise Unsuitable(
            f"none of the {len(test)} held-out interactions is positive: there is nothing to find",
            remedy=f"Hold out more, or lower positive_rating (now {positive_rating}).",
        )
    n_relevant = np.bincount(relevant.user_index, minlength=test.n_users)
    users = np.flatnonzero(n_relevant).astype(np.int32)
    items, _ = model.recommend(users, k, train.matrix()[users])
    hits = _hits(users, items, relevant)
    per_user = {name: metric(hits, n_relevant[users]) for name, metric in METRICS.items()}
    left_out = np.unique(test.user_index).size - users.size
    return RankingReport(k, users, per_user, coverage(items, test.n_items), left_out)


def _hits(users: NDArray[np.int32], items: NDArray[np.int32], relevant: Interactions) -> NDArray[np.bool_]:
    """Where the recommended items are relevant, bool, the shape of `items`. Places of -1 hold no item."""
    width = np.int64(relevant.n_items)
    wanted = relevant.user_index * width + relevant.item_index
    shown = users[:, None] * width + items
    return np.isin(shown, wanted) & (items >= 0)
