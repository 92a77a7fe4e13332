"""What is known when an answer is chosen: the user, what they did lately, and what they may be shown."""

from collections.abc import Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from matinee.bundle.open import Bundle
from matinee.bundle.users import UserEntry
from matinee.core.errors import Corrupt
from matinee.history.record import Glance
from matinee.models.fold_in import best
from matinee.models.preference import DEFAULT_POSITIVE_RATING, confidence
from matinee.serving.filters import allowed
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
        ruled: bool, shape (n_items,); what the rules let this user see. It is not written to.
    """

    def __init__(
        self,
        question: Question,
        bundle: Bundle,
        entry: UserEntry | None,
        lately: Glance | None,
        ruled: NDArray[np.bool_],
    ) -> None:
        self.question = question
        self.bundle = bundle
        self.entry = entry
        self.lately = lately
        self.ruled = ruled
        self.is_newer = lately is not None and bundle.is_newer(lately.offsets)
        """Whether the user did something that the bundle's snapshot does not know."""
        self.trusts_top = not self.is_newer
        """Whether the bundle's own list of the user's best is taken to hold nothing that was met."""
        self.wants_more = question.include_seen or (bool(question.session) and bool(self._session))
        """Whether the question itself wants other candidates than the user's own best unseen ones."""
        self._is_narrowed = question.where is not None or bool(question.exclude or question.session)
        """Whether the question itself rules anything out."""

    @cached_property
    def _session(self) -> list[int]:
        return self._known(self.question.session)

    @cached_property
    def _met(self) -> list[int]:
        return self._known(self.lately.items if self.lately else ())

    def _known(self, items: Iterable[str]) -> list[int]:
        return [i for item in items if (i := self.bundle.item_index(item)) is not None]

    @cached_property
    def free(self) -> NDArray[np.bool_]:
        """What may be shown, by rules, question and what was met: bool, shape (n_items,), the view's own."""
        question, free = self.question, self.ruled.copy()
        if question.where is not None:
            free &= allowed(question.where, self.bundle.attributes)
        if question.exclude:
            free[self._known(question.exclude)] = False
        if not question.include_seen:
            for i in (*self._met, *self._session):  # few: faster than making an array of them
                free[i] = False
            if self.entry is not None:
                free[self.entry.seen] = False
        return free

    @property
    def segment(self) -> int:
        """-1 where the user is in none."""
        return -1 if self.entry is None else self.entry.segment

    @property
    def may_fold_in(self) -> bool:
        """Whether the bundle can fold in, and there is something to fold in."""
        return self.bundle.fold_in is not None and (self.lately is not None or bool(self._session))

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
        """All items' scores by fold-in, -inf of what nobody has liked; nothing where there is no sign of liking.

        Raises:
            Corrupt: they are no numbers.
        """
        index, weight = self.liked
        fold_in = self.bundle.fold_in
        if fold_in is None or not fold_in.speaks(index, weight).any():
            return None
        scores = fold_in.scores(index, weight)
        scores[fold_in.without_factors] = -np.inf
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

    def looked_up(self, n: int) -> _Ranked | None:
        """The first `n` that may be shown of what the bundle holds as the user's best; nothing for a stranger.

        None of these was seen before the snapshot: that is the bundle's promise. So the rules' own mask will do for
        most, and no other is made.
        """
        if self.entry is None:
            return None
        free = self.ruled if self.trusts_top and not self._is_narrowed else self.free
        return _first(free, self.entry.top, self.entry.scores, n)

    def is_met(self, items: Iterable[str]) -> bool:
        """Whether any of these is among what the user did lately, and was to be left out."""
        return self.lately is not None and not (
            self.question.include_seen or set(self.lately.items).isdisjoint(items)
        )

    def only_free(self, index: NDArray[np.int32], scores: NDArray[np.float32]) -> _Ranked:
        """Those that may be shown of a ranking in which is nothing that the user has met."""
        return _first(self.free if self._is_narrowed else self.ruled, index, scores, len(index))

    def popular_in_segment(self, n: int) -> NDArray[np.int32] | None:
        """The first `n` that may be shown of what is popular in the user's segment; nothing where that is none."""
        return (
            self._first_of(self._free_and_met, self.bundle.popular(self.segment), n) if self.segment >= 0 else None
        )

    def popular_overall(self, n: int) -> NDArray[np.int32]:
        """The first `n` that may be shown of what is popular."""
        return self._first_of(self._free_and_met, self.bundle.popular(), n)

    def popular_besides(self, index: NDArray[np.int32], n: int) -> NDArray[np.int32]:
        """`n` more than those, of what is popular, in the user's segment where it has one; what nobody met last."""
        before = self.free[index]
        self.free[index] = False
        found = self._first_of(self.free, self.bundle.popular(self.segment), n)
        self.free[index] = before
        return found

    @cached_property
    def _free_and_met(self) -> NDArray[np.bool_]:
        """Of what may be shown, what somebody has met: what nobody has is not popular, however little is left."""
        return self.free & self.bundle.is_met

    @staticmethod
    def _first_of(mask: NDArray[np.bool_], ordering: NDArray[np.int32], n: int) -> NDArray[np.int32]:
        width = 4 * n  # mostly enough, and a hundredth of the work
        while True:
            first = ordering[:width]
            found: NDArray[np.int32] = first[mask.take(first)]
            if len(found) >= n or width >= len(ordering):
                return found[:n]
            width *= 4


def _first(mask: NDArray[np.bool_], index: NDArray[np.int32], scores: NDArray[np.float32], n: int) -> _Ranked:
    """The first `n` of a ranking that a mask of all items lets through."""
    at = mask.take(index).nonzero()[0][:n]
    return index[at], scores[at]


def _ranked(scores: NDArray[np.float32], n: int) -> _Ranked:
    order = best(scores, n)
    return order.astype(np.int32), scores[order]
