"""What goes into a bundle, as plain things: it needs nothing of training."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from matinee.bundle.attributes import ItemAttributes
from matinee.bundle.checks import expect, expect_range
from matinee.bundle.manifest import Provenance
from matinee.core.errors import InvalidInput
from matinee.core.ids import item_id
from matinee.models.fold_in import FoldIn
from matinee.models.rating_fold_in import RatingFoldIn

_ARRAY_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
MAX_TOP = 65_535
MAX_SEGMENTS = 32_767
UNKNOWN_AGE = -1
MAX_AGE = 255
_CHECKED = 64
"""Users whose lists are compared with what they have seen at once: so many fit into a processor's cache."""


@dataclass(frozen=True, slots=True)
class UserBlock:
    """Some users, one row each.

    Attributes:
        ids: u user ids. Ascending, within a block and from block to block, is fastest and smallest on disk.
        top: int32, shape (u, n); item indices, best first, none that was seen; -1 where there are no more.
        scores: float32, shape (u, n), aligned with `top`.
        seen_indptr: int64, shape (u + 1,); row r has seen `seen_indices[seen_indptr[r]:seen_indptr[r + 1]]`.
        seen_indices: int32, item indices; distinct within a row.
        segments: int16, shape (u,); the user's segment, -1 where there is none.
        ages: int16, shape (u,); years, -1 where not known; None where no age is.

    Raises:
        InvalidInput: a shape or dtype differs; says which.
    """

    ids: Sequence[str]
    top: NDArray[np.int32]
    scores: NDArray[np.float32]
    seen_indptr: NDArray[np.int64]
    seen_indices: NDArray[np.int32]
    segments: NDArray[np.int16]
    ages: NDArray[np.int16] | None = None

    def __post_init__(self) -> None:
        rows = len(self.ids)
        width = self.top.shape[1] if self.top.ndim == 2 else -1
        expect("top", self.top, "int32", (rows, width))
        expect("scores", self.scores, "float32", (rows, width))
        expect("seen_indptr", self.seen_indptr, "int64", (rows + 1,))
        expect("seen_indices", self.seen_indices, "int32", (len(self.seen_indices),))
        expect("segments", self.segments, "int16", (rows,))
        if self.ages is not None:
            expect("ages", self.ages, "int16", (rows,))
            expect_range("ages", self.ages, UNKNOWN_AGE, MAX_AGE + 1)
        if width > MAX_TOP:
            raise InvalidInput(f"top has {width} columns; at most {MAX_TOP} fit")
        ends = self.seen_indptr
        if ends[0] != 0 or ends[-1] != len(self.seen_indices) or (np.diff(ends) < 0).any():
            raise InvalidInput("seen_indptr does not ascend from 0 to the length of seen_indices")

    def known_ages(self) -> NDArray[np.int16]:
        """int16, shape (u,); -1 where no age is known."""
        return np.full(len(self.ids), UNKNOWN_AGE, dtype=np.int16) if self.ages is None else self.ages

    def check(self, n_items: int, n_segments: int) -> None:
        """Raise `InvalidInput` where an index or a segment is out of range, or `top` holds what was seen."""
        expect_range("top", self.top, -1, n_items)
        expect_range("seen_indices", self.seen_indices, 0, n_items)
        expect_range("segments", self.segments, -1, n_segments)
        user = self._shown_again(n_items)
        if user is not None:
            raise InvalidInput(f"top of user {user} holds an item that the user has seen")

    def _shown_again(self, n_items: int) -> str | None:
        """The first user whose `top` holds something seen; nothing where there is none, as it has to be."""
        seen = np.zeros((_CHECKED, n_items + 1), dtype=np.bool_)  # the last column is for what is no item: -1
        for start in range(0, len(self.ids), _CHECKED):
            top = self.top[start : start + _CHECKED]
            ends = self.seen_indptr[start : start + len(top) + 1]
            rows = np.repeat(np.arange(len(top)), np.diff(ends))
            columns = self.seen_indices[ends[0] : ends[-1]]
            seen[rows, columns] = True
            again = seen[np.arange(len(top))[:, None], top].any(axis=1)
            if again.any():
                return self.ids[start + int(again.argmax())]
            seen[rows, columns] = False
        return None


@dataclass(frozen=True, slots=True)
class BundleContents:
    """Everything that `write_bundle` needs.

    Attributes:
        provenance: what the run says about itself.
        items: n_items distinct item ids, in the order of their indices.
        item_minutes: float32, shape (n_items,); each item's length in minutes.
        popular: int32, shape (n_items,); all item indices, most popular first.
        segments: names of the user segments.
        popular_by_segment: int32, shape (n_segments, n_items); the same within each segment.
        users: blocks of users, read once; no user stands there twice.
        fold_in: what the model's `fold_in_arrays()` gives; empty where it does not fold in.
        ratings: what predicts ratings; None where there were none. Where the model folds in, its vectors are the
            item factors.
        attributes: what is known of the items; None where nothing is.
        trending: int32, shape (n_items,); all item indices, most liked of late first; None where that is not known.

    Raises:
        InvalidInput: something does not fit together; says what.
    """

    provenance: Provenance
    items: Sequence[str]
    item_minutes: NDArray[np.float32]
    popular: NDArray[np.int32]
    segments: Sequence[str]
    popular_by_segment: NDArray[np.int32]
    users: Iterable[UserBlock]
    fold_in: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    ratings: RatingFoldIn | None = None
    attributes: ItemAttributes | None = None
    trending: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        n_items, n_segments = len(self.items), len(self.segments)
        for text in self.items:
            item_id(text)
        if len(set(self.items)) != n_items:
            raise InvalidInput("items holds an id twice")
        if len(set(self.segments)) != n_segments or n_segments > MAX_SEGMENTS:
            raise InvalidInput(f"segments holds a name twice, or more than {MAX_SEGMENTS} names")
        expect("item_minutes", self.item_minutes, "float32", (n_items,))
        expect("popular", self.popular, "int32", (n_items,))
        expect("popular_by_segment", self.popular_by_segment, "int32", (n_segments, n_items))
        orderings = [self.popular, *self.popular_by_segment]
        if self.trending is not None:
            expect("trending", self.trending, "int32", (n_items,))
            orderings.append(self.trending)
        for row in orderings:
            if not np.array_equal(np.sort(row), np.arange(n_items)):
                raise InvalidInput("an ordering by popularity does not hold every item once")
        for name, array in self.fold_in.items():
            if _ARRAY_NAME.fullmatch(name) is None or array.dtype.hasobject:
                raise InvalidInput(f"fold_in[{name!r}] has a name or dtype ({array.dtype}) that cannot be stored")
        if self.fold_in and len(FoldIn.from_arrays(self.fold_in).item_factors) != n_items:
            raise InvalidInput(f"fold_in is of another catalogue; expected {n_items} items")
        if self.attributes is not None and len(self.attributes.titles) != n_items:
            raise InvalidInput(f"attributes are of {len(self.attributes.titles)} items; expected {n_items}")
        if self.ratings is not None:
            self._check_vectors(self.ratings.item_vectors)

    def _check_vectors(self, vectors: NDArray[np.float32]) -> None:
        if len(vectors) != len(self.items):
            raise InvalidInput(f"ratings are of another catalogue; expected {len(self.items)} items")
        if self.fold_in and not np.array_equal(vectors, self.fold_in["item_factors"]):
            raise InvalidInput("ratings have other vectors than the item factors, in whose place they are kept")
