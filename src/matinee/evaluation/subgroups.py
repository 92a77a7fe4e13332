"""Groups of users and of items, to see for whom and with what a model does well.

Groups of users are handed to `RankingReport.by_subgroup`: `report.by_subgroup(groups.group, groups.names)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.evaluation.ranking import Relevant

NEW = "new"
"""Users without an interaction to learn from."""

ACTIVITY = ("light", "medium", "heavy")
"""Users by the number of their interactions, in thirds."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Each user's group.

    Attributes:
        group: int16, shape (n_users,): the place of the user's group in `names`; -1 for none.
        names: of the groups.

    Raises:
        InvalidInput: a place has no name.
    """

    group: NDArray[np.int16]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.group.size and not -1 <= int(self.group.min()) <= int(self.group.max()) < len(self.names):
            raise InvalidInput(
                f"group holds {self.group.min()} to {self.group.max()}; expected -1 to {len(self.names) - 1}"
            )

    def mask(self, name: str) -> NDArray[np.bool_]:
        """bool, shape (n_users,): who is in the group of that name.

        Raises:
            InvalidInput: there is no such group.
        """
        if name not in self.names:
            raise InvalidInput(f"there is no group {name!r}; there are {', '.join(self.names)}")
        found: NDArray[np.bool_] = self.group == self.names.index(name)
        return found

    def means(self, user_index: NDArray[np.int32], values: NDArray[np.float64]) -> dict[str, tuple[float, int]]:
        """The mean of users' values within each group, and how many users that is; groups without any are absent.

        Args:
            user_index: int32, shape (u,): whose the values are.
            values: float64, shape (u,).

        Raises:
            InvalidInput: a user lies beyond the groups, or the shapes differ.
        """
        if values.shape != user_index.shape or (user_index.size and int(user_index.max()) >= self.group.size):
            raise InvalidInput(f"{values.size} values of {user_index.size} users; groups are of {self.group.size}")
        own = self.group[user_index]
        return {
            name: (float(values[own == place].mean()), count)
            for place, name in enumerate(self.names)
            if (count := int((own == place).sum()))
        }


def by_activity(train: Interactions, names: Sequence[str] = ACTIVITY) -> Groups:
    """Users by the number of their interactions in `train`: `new` (none), then as many groups as there are `names`.

    With g names the bounds are the j/g quantiles, j = 1 … g − 1, of the counts of users who have any, each the
    least count that at least j/g of them do not exceed; a user whose count is above j bounds belongs to names[j].
    So users with the same count are always together, and groups are of like size only where few share a bound.

    Args:
        train: what was learnt from.
        names: from the least active to the most.

    Raises:
        InvalidInput: there are no names, or `new` is among them.
    """
    if not names or NEW in names:
        raise InvalidInput(f"names are {list(names)}; expected one or more, and none of them {NEW!r}")
    counts = np.bincount(train.user_index, minlength=train.n_users)
    active = np.sort(counts[counts > 0])
    if not active.size:
        return Groups(np.zeros(train.n_users, dtype=np.int16), (NEW, *names))
    bounds = [active[-(-j * active.size // len(names)) - 1] for j in range(1, len(names))]  # whole numbers: exact
    group = np.searchsorted(np.array(bounds, dtype=np.int64), counts, side="left") + 1
    group[counts == 0] = 0
    return Groups(group.astype(np.int16), (NEW, *names))


def tail_items(train: Interactions, share: float = 0.2) -> NDArray[np.bool_]:
    """The long tail: the least popular items that together make up at most `share` of the interactions.

    With n_i interactions of item i in `train`: item i is in the tail where Σ_{j: n_j ≤ n_i} n_j ≤ share · Σ_j n_j.
    So items as popular as one another are on the same side, and items without interactions are in the tail. After
    Cremonesi, Koren and Turrin 2010, "Performance of recommender algorithms on top-N recommendation tasks", section
    3, who cut the catalogue by its share of ratings.

    Args:
        train: what was learnt from.
        share: between 0 and 1.

    Returns:
        bool, shape (n_items,).

    Raises:
        InvalidInput: the share is not between 0 and 1.
        Unsuitable: `train` is empty.
    """
    if not 0 < share < 1:
        raise InvalidInput(f"the share of the tail is {share}; expected between 0 and 1")
    if not len(train):
        raise Unsuitable("no item is more popular than another: there are no interactions")
    counts = np.bincount(train.item_index, minlength=train.n_items)
    of_count = np.bincount(counts, weights=counts)  # interactions of all items that have c interactions
    reached = np.cumsum(of_count)
    tail: NDArray[np.bool_] = reached[counts] <= share * len(train)
    return tail


def recall_among(items: NDArray[np.int32], relevant: Relevant, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Recall at k of some items only, such as those of the tail: of a user's relevant ones, the share shown.

    (relevant and chosen among the list's k) / (relevant and chosen in all). Lists are those of the whole catalogue:
    popular items still take their places. The mean over users is `numpy.nanmean`.

    Args:
        items: int32, shape (u, k), the lists of `relevant.user_index` in its order (`RankingReport.items`).
        relevant: what there is to find (`ranking.find_relevant`).
        chosen: bool, shape (n_items,).

    Returns:
        float64, shape (u,), from 0 to 1; NaN for users to whom none of the chosen items is relevant.

    Raises:
        InvalidInput: shapes do not fit.
    """
    if chosen.shape != (relevant.n_items,) or items.ndim != 2 or len(items) != relevant.user_index.size:
        raise InvalidInput(
            f"items has shape {items.shape} and chosen {chosen.shape}; "
            f"expected ({relevant.user_index.size}, k) and ({relevant.n_items},)"
        )
    owner = np.repeat(np.arange(relevant.user_index.size), relevant.n_relevant)  # keys are in the users' order
    wanted = np.bincount(owner[chosen[relevant.keys % relevant.n_items]], minlength=relevant.user_index.size)
    found = (relevant.hits(items) & chosen[items]).sum(axis=1)
    share: NDArray[np.float64] = np.full(wanted.shape, np.nan)
    np.divide(found, wanted, out=share, where=wanted > 0)
    return share
