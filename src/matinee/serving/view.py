"""What is known when an answer is chosen: the user, what they did lately, and what they may be shown."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from matinee.bundle.open import Bundle
from matinee.bundle.users import UserEntry
from matinee.core.errors import Corrupt
from matinee.history.record import Glance
from matinee.models.fold_in import best
from matinee.models.preference import DEFAULT_POSITIVE_RATING, confidence
from matinee.serving.request import Question

_Ranked = tuple[NDArray[np.int32], NDArray[np.float32]]
_CHOSEN = (np.nan, np.nan)
"""Rating and minutes of an item of which only the choice is known."""


class View:
    """Everything about one question that its answer needs. What is costly is made when it is first asked for.

    Args:
        question: what is asked.
        bundle: what answers.
        entry: what the bundle knows of the user.
        lately: what the history knows.
        free: bool, shape (n_items,); what may be shown, the view's own. What the user has met is taken out here.
    """

    def __init__(
        self,
        question: Question,
        bundle: Bundle,
        entry: UserEntry | None,
        lately: Glance | None,
        free: NDArray[np.bool_],
    ) -> None:
        self.question = question
        self.bundle = bundle
        self.entry = entry
        self.lately = lately
        self.free = free
        index = bundle.item_index
        self._session = [i for item in question.session if (i := index(item)) is not None]
        self._met = [i for item in (lately.items if lately else ()) if (i := index(item)) is not None]
        if not question.include_seen:
            for i in self._met:  # few: faster than making an array of them
                free[i] = False
            for i in self._session:
                free[i] = False
            if entry is not None:
                free[entry.seen] = False

    @property
    def segment(self) -> int:
        """-1 where the user is in none."""
        return -1 if self.entry is None else self.entry.segment

    @property
    def may_fold_in(self) -> bool:
        """Whether the bundle can fold in, and there is something to fold in."""
        return self.bundle.fold_in is not None and (self.lately is not None or bool(self._session))

    @property
    def is_newer(self) -> bool:
        """Whether the user did something that the bundle's snapshot does not know."""
        return self.lately is not None and self.bundle.is_newer(self.lately.offsets)

    @property
    def wants_more(self) -> bool:
        """Whether the question itself wants other candidates than the user's own best unseen ones."""
        return bool(self._session) or self.question.include_seen

    @cached_property
    def liked(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Item indices and weights of what the user did lately, session first; weight 0 says nothing of liking.

        Raises:
            Corrupt: the record cannot be read.
        """
        done = dict.fromkeys(self._session, _CHOSEN)
        for entry in self.lately.open().entries if self.lately else ():
            i = self.bundle.item_index(entry.item)
            if i is not None and (entry.minutes_seen or entry.rating is not None):  # else it says nothing of liking
                rated = np.nan if entry.rating is None else entry.rating
                done[i] = (rated, entry.minutes_seen or np.nan)  # minutes: NaN where none was seen
        index = np.fromiter(done, dtype=np.int32, count=len(done))
        rating, minutes = np.array(list(done.values()), dtype=np.float32).reshape(-1, 2).T
        watched = minutes / np.maximum(self.bundle.item_minutes[index], np.float32(1))
        fold_in = self.bundle.fold_in
        positive = DEFAULT_POSITIVE_RATING if fold_in is None else fold_in.positive_rating
        return index, confidence(rating, watched, positive)

    @cached_property
    def _scores(self) -> NDArray[np.float32] | None:
        """All items' scores by fold-in; nothing where there is no sign of liking.

        Raises:
            Corrupt: they are no numbers.
        """
        index, weight = self.liked
        if self.bundle.fold_in is None or not (weight > 0).any():
            return None
        scores = self.bundle.fold_in.scores(index, weight)
        if not np.isfinite(scores.max(initial=0)):
            raise Corrupt(
                "fold-in gave scores that are no numbers", remedy="Train again; look at the bundle's metrics."
            )
        return scores

    def best_unmet(self, n: int) -> _Ranked | None:
        """The best `n` that the user has not met, by fold-in: whatever the rules, the same until the next event."""
        scores = self._scores
        if scores is None:
            return None
        scores = scores.copy()
        scores[self._met] = -np.inf
        if self.entry is not None:
            scores[self.entry.seen] = -np.inf
        return _ranked(scores, n)

    def best_free(self, n: int) -> _Ranked | None:
        """The best `n` of all that may be shown, by fold-in."""
        scores = self._scores
        return None if scores is None else _ranked(np.where(self.free, scores, np.float32(-np.inf)), n)

    def only_free(self, index: NDArray[np.int32], scores: NDArray[np.float32]) -> _Ranked:
        """Those of a ranking that may be shown."""
        keep = np.flatnonzero(self.free[index])
        return (index, scores) if len(keep) == len(index) else (index[keep], scores[keep])

    def popular_in_segment(self, n: int) -> NDArray[np.int32] | None:
        """The first `n` that may be shown of what is popular in the user's segment; nothing where that is none."""
        return self._first_free(self.bundle.popular(self.segment), n) if self.segment >= 0 else None

    def popular_overall(self, n: int) -> NDArray[np.int32]:
        """The first `n` that may be shown of what is popular."""
        return self._first_free(self.bundle.popular(), n)

    def popular_besides(self, index: NDArray[np.int32], n: int) -> NDArray[np.int32]:
        """`n` more than those, of what is popular, in the user's segment where there is one."""
        self.free[index] = False
        found = self._first_free(self.bundle.popular(self.segment), n)
        self.free[index] = True
        return found

    def _first_free(self, ordering: NDArray[np.int32], n: int) -> NDArray[np.int32]:
        first = ordering[: 4 * n]  # mostly enough, and a hundredth of the work
        found: NDArray[np.int32] = first[self.free[first]]
        if len(found) < n:
            found = ordering[self.free[ordering]]
        return found[:n]


def _ranked(scores: NDArray[np.float32], n: int) -> _Ranked:
    order = best(scores, n)
    return order.astype(np.int32), scores[order]
