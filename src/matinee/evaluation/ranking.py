"""Evaluation of rankings: every user against the whole catalogue, no sampled negatives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.evaluation.ranking_metrics import METRICS, coverage
from matinee.models.base import Model, Progress
from matinee.models.preference import DEFAULT_POSITIVE_RATING
from matinee.models.top_n import top_n

USERS_AT_ONCE = 4_096
"""Users ranked between two reports of progress; bounds what is held beside the lists; affects no result."""


@dataclass(frozen=True, slots=True)
class RankingReport:
    """What a model's lists were worth.

    Attributes:
        k: length of the lists.
        user_index: int32, shape (u,); the users evaluated, ascending. The same for every model on one split.
        per_user: by metric (`ranking_metrics.METRICS`), float64, shape (u,), in the order of `user_index`.
        coverage: the share of the catalogue that anybody of them was shown.
        users_left_out: users with held-out interactions of which none is relevant: nothing to find, not evaluated.
        items: int32, shape (u, k); the lists themselves, best first, in the order of `user_index`; -1 where a list
            is shorter than k.
    """

    k: int
    user_index: NDArray[np.int32]
    per_user: Mapping[str, NDArray[np.float64]]
    coverage: float
    users_left_out: int
    items: NDArray[np.int32]

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
    threads: int = 1,
    progress: Progress | None = None,
) -> RankingReport:
    """Let a model rank, for each user, the whole catalogue without what the user had in `train`.

    Arguments and errors as for `evaluate_rankings`, with one length `k` of the lists.
    """
    reports = evaluate_rankings(
        model, train, test, (k,), positive_rating=positive_rating, threads=threads, progress=progress
    )
    return reports[k]


def evaluate_rankings(
    model: Model[Any],
    train: Interactions,
    test: Interactions,
    ks: Sequence[int],
    *,
    positive_rating: float = DEFAULT_POSITIVE_RATING,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[int, RankingReport]:
    """`evaluate_ranking` at several lengths of the lists, ranking once: shorter lists begin the longest.

    Relevant to a user are the items of its interactions in `test` that are positive (`Interactions.positive`):
    rated at or above `positive_rating`, or not rated at all. Users without a relevant item are left out and
    counted. Why no negatives are sampled: Krichene and Rendle 2020, "On Sampled Metrics for Item Recommendation".

    Time is what the model's `scores` of u users take and O(u · n_items) to select. Memory, beside the
    interactions: O(u · k) for the lists, and blocks of scores for `threads` (`matinee.models.top_n`); never
    u × n_items.

    Args:
        model: fitted to `train`.
        train: whose items are left out of each user's list, liked or not.
        test: of the same users and items.
        ks: lengths of the lists; at least one, each 1 or more.
        positive_rating: the least rating that makes an item relevant.
        threads: blocks of users ranked at the same time; affects speed, not results.
        progress: called after each `USERS_AT_ONCE` users, counting such blocks.

    Returns:
        A report for each of `ks`.

    Raises:
        InvalidInput: `ks` is empty or holds one below 1, or `train` and `test` do not share their users and items.
        Unsuitable: no user has a relevant item.
    """
    if not ks or min(ks) < 1:
        raise InvalidInput(f"k is {min(ks, default='not given')}; expected 1 or more")
    relevant = find_relevant(train, test, positive_rating)
    items = rank(model, train, relevant.user_index, max(ks), threads=threads, progress=progress)
    return evaluate_lists(items, relevant, ks)


def evaluate_lists(items: NDArray[np.int32], relevant: "Relevant", ks: Sequence[int]) -> dict[int, RankingReport]:
    """Reports on lists ranked before, each cut to the lengths `ks`, none above that of the lists.

    Args:
        items: int32, shape (u, k), of `relevant.user_index` in its order; -1 where a list has ended.
        relevant: what there is to find.
        ks: the lengths.
    """
    hits = relevant.hits(items)
    return {k: _report(items[:, :k], hits[:, :k], relevant) for k in ks}


@dataclass(frozen=True, slots=True)
class Relevant:
    """What there is to find in the part held out.

    Attributes:
        n_items: items of the catalogue.
        user_index: int32, shape (u,); users with a relevant item, ascending.
        n_relevant: int64, shape (u,), how many each has.
        keys: int64, shape (number of relevant pairs,), ascending: user · n_items + item.
        users_left_out: users with held-out interactions of which none is relevant.
    """

    n_items: int
    user_index: NDArray[np.int32]
    n_relevant: NDArray[np.int64]
    keys: NDArray[np.int64]
    users_left_out: int

    def hits(self, items: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Where the items of lists are relevant, bool, the shape of `items`. Places of -1 hold no item.

        O(u · k · log(number of relevant pairs)) time, and memory for one block of users beside what is returned.

        Args:
            items: int32, shape (u, k), of `user_index` in its order.
        """
        found = np.zeros(items.shape, dtype=np.bool_)
        for first in range(0, len(items), USERS_AT_ONCE):
            part = slice(first, first + USERS_AT_ONCE)
            shown = self.user_index[part, None] * np.int64(self.n_items) + items[part]
            place = np.minimum(np.searchsorted(self.keys, shown), self.keys.size - 1)
            # A place of -1 has the key of the last item of the user before.
            found[part] = (self.keys[place] == shown) & (items[part] >= 0)
        return found


def find_relevant(train: Interactions, test: Interactions, positive_rating: float) -> Relevant:
    """The relevant pairs of the part held out; see `evaluate_rankings` for what they are and for errors."""
    if (train.n_users, train.n_items) != (test.n_users, test.n_items):
        raise InvalidInput(
            f"train is {train.n_users} users × {train.n_items} items, test {test.n_users} × {test.n_items}"
        )
    positive = test.positive(positive_rating)
    if not positive.any():
        raise Unsuitable(
            f"none of the {len(test)} held-out interactions is positive: there is nothing to find",
            remedy=f"Hold out more, or lower positive_rating (now {positive_rating}).",
        )
    owners = test.user_index[positive]
    keys = owners * np.int64(test.n_items) + test.item_index[positive]
    counts = np.bincount(owners, minlength=test.n_users)
    users = np.flatnonzero(counts).astype(np.int32)
    left_out = int(np.count_nonzero(np.bincount(test.user_index, minlength=test.n_users))) - users.size
    return Relevant(test.n_items, users, counts[users], np.sort(keys), left_out)


def rank(
    model: Model[Any],
    train: Interactions,
    user_index: NDArray[np.int32],
    k: int,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> NDArray[np.int32]:
    """The model's best `k` items of each user without those it had in `train`; int32, shape (u, k), -1 for none.

    Args:
        model: fitted to `train`.
        train: whose items are left out.
        user_index: int32, shape (u,), users of `train`.
        k: length of the lists.
        threads: blocks of users ranked at the same time; affects speed, not results.
        progress: called after each `USERS_AT_ONCE` users, counting such blocks.
    """
    had = train.matrix()
    items = np.empty((user_index.size, k), dtype=np.int32)
    starts = range(0, user_index.size, USERS_AT_ONCE)
    for done, first in enumerate(starts, 1):
        users = user_index[first : first + USERS_AT_ONCE]
        items[first : first + users.size], _ = top_n(model, users, k, had[users], threads=threads)
        if progress is not None:
            progress(done, len(starts))
    return items


def _report(items: NDArray[np.int32], hits: NDArray[np.bool_], relevant: Relevant) -> RankingReport:
    per_user = {name: metric(hits, relevant.n_relevant) for name, metric in METRICS.items()}
    share = coverage(items, relevant.n_items)
    return RankingReport(
        items.shape[1], relevant.user_index, per_user, share, relevant.users_left_out, np.ascontiguousarray(items)
    )
