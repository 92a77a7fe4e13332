"""`Interactions`: what users and items have had to do with each other, as arrays. All that models see of data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from matinee.core.errors import InvalidInput, Unsuitable


@dataclass(frozen=True, slots=True)
class Interactions:
    """One row for each pair of a user and an item that have met; at most one row a pair.

    Attributes:
        n_users: number of users, with or without rows; user indices are below it.
        n_items: number of items, with or without rows; item indices are below it.
        user_index: int32, shape (n,).
        item_index: int32, shape (n,).
        rating: float32, shape (n,); the latest rating, NaN where there is none.
        watched: float32, shape (n,); the share of the item's distinct minutes seen, 0 to 1, NaN where none was.
        time_us: int64, shape (n,), the pair's last event in UTC microseconds; None for an untimed data set.

    Raises:
        InvalidInput: shapes or dtypes differ, an index is out of range, or a value is not finite; says where.
    """

    n_users: int
    n_items: int
    user_index: NDArray[np.int32]
    item_index: NDArray[np.int32]
    rating: NDArray[np.float32]
    watched: NDArray[np.float32]
    time_us: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        rows = self.user_index.shape
        for name, dtype in (("user_index", "int32"), ("item_index", "int32"), ("rating", "float32"),
                            ("watched", "float32"), ("time_us", "int64")):  # fmt: skip
            array = getattr(self, name)
            if array is not None and (array.shape != rows or array.ndim != 1 or array.dtype != dtype):
                raise InvalidInput(f"{name} is {array.dtype}{array.shape}; expected {dtype}{rows}")
        for name, bound in (("user_index", self.n_users), ("item_index", self.n_items)):
            array = getattr(self, name)
            wrong = np.flatnonzero((array < 0) | (array >= bound))
            if wrong.size:
                raise InvalidInput(f"{name}[{wrong[0]}] is {array[wrong[0]]}; expected 0 to {bound - 1}")
        for name in ("rating", "watched"):
            wrong = np.flatnonzero(np.isinf(getattr(self, name)))
            if wrong.size:
                raise InvalidInput(f"{name}[{wrong[0]}] is infinite; expected a number, or NaN where there is none")

    def __len__(self) -> int:
        return int(self.user_index.size)

    @property
    def timed(self) -> bool:
        """Whether every row has a time."""
        return self.time_us is not None

    def require_times(self, wanted_by: str) -> NDArray[np.int64]:
        """The times, or `Unsuitable` naming what wanted them."""
        if self.time_us is None:
            raise Unsuitable(
                f"{wanted_by} needs event times, and this data set has none",
                remedy="Use a random split, or import the data set with its timestamps.",
            )
        return self.time_us

    def take(self, rows: "NDArray[np.bool_] | NDArray[np.intp]") -> "Interactions":
        """The same users and items with only these rows (a mask or row numbers)."""
        return replace(
            self,
            user_index=self.user_index[rows],
            item_index=self.item_index[rows],
            rating=self.rating[rows],
            watched=self.watched[rows],
            time_us=None if self.time_us is None else self.time_us[rows],
        )

    def rated(self) -> "Interactions":
        """Only the rows with a rating; itself where every row has one."""
        without = np.isnan(self.rating)
        return self.take(~without) if without.any() else self

    def positive(self, threshold: float) -> NDArray[np.bool_]:
        """bool, shape (n,): what counts as liking. A rating decides where there is one; else the choice counts."""
        return np.isnan(self.rating) | (self.rating >= threshold)

    def matrix(self, values: "NDArray[np.float32] | None" = None) -> sparse.csr_array:
        """Users × items in CSR with sorted indices; `values` (n,) or ones."""
        data = np.ones(len(self), dtype=np.float32) if values is None else values
        shape = (self.n_users, self.n_items)
        matrix = sparse.csr_array((data, (self.user_index, self.item_index)), shape=shape)
        return matrix if matrix.has_sorted_indices else matrix.tocsc().tocsr()  # linear, where sorting is not

    def by_user(self) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Each user that has rows, with their row numbers."""
        order = np.argsort(self.user_index, kind="stable")
        users, starts = np.unique(self.user_index[order], return_index=True)
        ends = np.append(starts[1:], order.size)
        for user, start, end in zip(users.tolist(), starts.tolist(), ends.tolist(), strict=False):
            yield user, order[start:end]
