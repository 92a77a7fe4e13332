"""Choosing an answer: by the best step of the fallback chain that can be had in time.

Synchronous. All files, clocks and counters are the caller's.
"""

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from matinee.bundle.open import Bundle
from matinee.bundle.users import UserEntry
from matinee.core.breaker import Breaker, CircuitOpen
from matinee.history.record import Glance
from matinee.serving.answer import Answer, Budget, DoneWithout, Part, Reason, Step, unexplained
from matinee.serving.arrange import CANDIDATES, Style, because, by_place, left_to_chance, mixed_genres, reranked
from matinee.serving.fold_cache import FoldCache
from matinee.serving.load import Shed
from matinee.serving.request import Question
from matinee.serving.rules import LiveRules
from matinee.serving.view import View

ReadGlance = Callable[[str], Glance | None]
_Scored = tuple[NDArray[np.int32], NDArray[np.float32]]
_Ranked = tuple[NDArray[np.int32], NDArray[np.float32] | None]
_Chain = tuple[tuple[Step, Part, Callable[[View], _Scored | None]], ...]
_Result = TypeVar("_Result")


class Recommender:
    """Chooses answers. Holds what all answers of a process share.

    Args:
        glance: reads what a user did lately; may raise.
        users_breaker: guards the bundle's users.
        cache_breaker: guards the fold-ins.
        rules: what may be shown to whom; everything where none are given.
        folded: the fold-ins that all processes share; none are kept where it is not given.
        style: how lists are arranged where the question says nothing else.
    """

    def __init__(
        self,
        glance: ReadGlance,
        *,
        users_breaker: Breaker,
        cache_breaker: Breaker,
        rules: LiveRules | None = None,
        folded: FoldCache | None = None,
        style: Style | None = None,
    ) -> None:
        self.glance = glance
        self.users_breaker = users_breaker
        self.cache_breaker = cache_breaker
        self.rules = rules
        self.folded = folded
        self.style = style or Style()

    def answer(
        self,
        question: Question,
        *,
        arm: str,
        bundle: Bundle,
        budget: Budget,
        without: DoneWithout,
        shed: Shed = Shed.NOTHING,
        seed: str = "0",
    ) -> Answer:
        """Choose `n` items that the user may be shown and has not seen; fewer only where there are no more.

        A user who did something since the bundle's snapshot is folded in; others are looked up; strangers get what
        is popular. Where rules, filters and exclusions leave too few of a user's best 100, the whole catalogue is
        scored; what is missing then comes from popularity. Whatever fails leaves its place to the next step. Past
        the deadline no further store is read and nothing is scored: what is at hand answers. So the bundle's
        entry, which every step needs, is read first.

        Args:
            question: who asks for what.
            arm: the name of the arm that the user is in.
            bundle: that arm's bundle.
            budget: the deadline.
            without: told of everything that failed or was passed over.
            shed: what to do without, because there is too much to do.
            seed: for what is left to chance; hexadecimal.
        """
        return _Answering(self, question, arm, bundle, budget, without, shed, seed).answer()


class _Answering:
    """One answer in the making."""

    _missed: frozenset[tuple[Part, Reason]] = frozenset()
    """What it did without, so far."""

    def __init__(
        self,
        by: Recommender,
        question: Question,
        arm: str,
        bundle: Bundle,
        budget: Budget,
        without: DoneWithout,
        shed: Shed,
        seed: str,
    ) -> None:
        self._by = by
        self._question = question
        self._arm = arm
        self._bundle = bundle
        self._budget = budget
        self._tell_without = without
        self._shed = shed
        self._seed = seed
        asked, style, rules = question.diversity, by.style, by.rules
        self._strength = style.diversity if asked is None else asked  # of re-ranking
        self._mixes = style.most_of_one_genre < 1 or (rules is not None and rules.mixes)
        n = question.n
        self._width = max(n, CANDIDATES) if self._strength or self._mixes else n  # candidates worth having

    def answer(self) -> Answer:
        """See `Recommender.answer`."""
        entry = self._entry()
        view = View(self._question, self._bundle, entry, self._lately(), self._ruled(entry))
        found = self._answer(view)
        if view.is_met(found.items):
            view.trusts_top = False  # the history knows what the lake has forgotten, and so the bundle
            found = self._answer(view)
        return found

    def _answer(self, view: View) -> Answer:
        step, index, scores = self._candidates(view)
        n = self._question.n
        if len(index) > n or self._strength or self._mixes:
            index, scores = self._arranged(view, index, scores)
        if len(index) < n:
            index, scores = _filled_up(view, index, scores)
        propensities: tuple[float, ...] = ()
        if self._by.style.explore_share:
            index, scores, propensities = self._explored(view, index, scores)
        ids = self._bundle.items
        explains = self._question.explain
        return Answer(
            tuple([ids[i] for i in index.tolist()]),
            () if scores is None else tuple(scores.tolist()),
            step,
            self._arm,
            self._bundle.version,
            propensities,
            self._reasons(view, index) if explains else (),
            unexplained(self._missed, self._bundle.fold_in is not None) if explains else None,
        )

    # What is known.

    def _entry(self) -> UserEntry | None:
        user = self._question.user
        if user is None:
            return None
        return self._tried(Part.BUNDLE_USER, self._by.users_breaker.call, self._bundle.user, user)

    def _lately(self) -> Glance | None:
        user = self._question.user
        if user is None or self._is_passed_over(Part.HISTORY, Shed.HISTORY):
            return None
        return self._tried(Part.HISTORY, self._by.glance, user)

    def _ruled(self, entry: UserEntry | None) -> NDArray[np.bool_]:
        """What the rules let the user see, bool, shape (n_items,); shared by all answers."""
        rules = self._by.rules
        if rules is None:
            return np.ones(len(self._bundle.items), dtype=np.bool_)
        age = -1 if entry is None else entry.age
        return rules.mask(self._bundle, now_us=self._budget.clock.now_us(), age=age)

    # The steps.

    def _candidates(self, view: View) -> tuple[Step, NDArray[np.int32], NDArray[np.float32] | None]:
        """Of the first step that has n; else of the personal step that has most; else what is popular."""
        if not view.is_newer and not view.wants_more:  # the common way, and the shortest
            own = self._tried(Part.LOOK_UP, view.looked_up, self._width)
            if own is not None and len(own[0]) >= self._question.n:
                return Step.PERSONAL, *own
        best: tuple[Step, _Scored] | None = None
        for step, part, ranked in self._personal(view):
            found = self._tried(part, ranked, view)
            if found is not None and len(found[0]) > (0 if best is None else len(best[1][0])):
                best = step, found
                if len(found[0]) >= self._question.n:
                    break
        if best is not None:
            return best[0], *best[1]
        popular = self._tried(Part.SEGMENT, view.popular_in_segment, self._width)
        if popular is not None:
            return Step.POPULAR_IN_SEGMENT, popular, None
        return Step.POPULAR, view.popular_overall(self._width), None

    def _personal(self, view: View) -> _Chain:
        """The steps that know the user, in the order in which they are to be tried."""
        look_up = Step.PERSONAL, Part.LOOK_UP, self._looked_up
        fold_in = Step.FOLDED_IN, Part.FOLD_IN, self._folded_in
        if not view.may_fold_in:
            return (look_up,)
        return (fold_in, look_up) if view.is_newer or view.wants_more else (look_up, fold_in)

    def _looked_up(self, view: View) -> _Scored | None:
        return view.looked_up(self._width)

    def _folded_in(self, view: View) -> _Scored | None:
        """The user's best by fold-in; where too few of these may be shown, the best of all that may.

        Nothing where the history holds no sign of liking: there is nothing to fold in.
        """
        found: _Scored | None = None
        if not view.wants_more and not self._budget.is_over():
            found = self._kept(view)
            if found is not None and len(found[0]) >= self._question.n:
                return found
        return view.best_free(CANDIDATES) if self._may_score else found

    def _kept(self, view: View) -> _Scored | None:
        """Of the best by fold-in, from the cache or now and into the cache, those that may be shown."""
        user, lately, folded = self._question.user, view.lately, self._by.folded
        if user is None or lately is None:
            return None
        version, stamp = self._bundle.version, lately.stamp()
        found: _Scored | None = None
        if folded is not None:
            found = self._tried(Part.FOLD_CACHE, self._by.cache_breaker.call, folded.get, version, user, stamp)
        if found is None and self._may_score:
            found = view.best_unmet(CANDIDATES)
            if found is not None and folded is not None:
                folded.put(version, user, stamp, *found)
        return None if found is None else view.only_free(*found)

    @cached_property
    def _may_score(self) -> bool:
        """Whether there is time to score the catalogue; told once where there is not."""
        return not self._is_passed_over(Part.FOLD_IN, Shed.SCORING)

    # The list.

    def _arranged(self, view: View, index: NDArray[np.int32], scores: NDArray[np.float32] | None) -> _Ranked:
        """The first n, re-ranked and mixed."""
        n, style, strength = self._question.n, self._by.style, self._strength
        if strength and not self._is_passed_over(Part.RERANK, Shed.SCORING):
            worth = by_place(len(index)) if scores is None else scores
            positions = self._tried(Part.RERANK, reranked, view, index, worth, n, style, strength)
            if positions is not None:
                index, scores = index[positions], None if scores is None else scores[positions]
        if self._mixes and len(index) > n:
            positions = self._tried(Part.MIX, self._mixed, view, index)
            if positions is not None:
                index, scores = index[positions], None if scores is None else scores[positions]
        return index[:n], None if scores is None else scores[:n]

    def _mixed(self, view: View, index: NDArray[np.int32]) -> NDArray[np.int64]:
        rules, most = self._by.rules, self._by.style.most_of_one_genre
        shares = most if rules is None else rules.most_of_one_genre(view.bundle, most)
        return mixed_genres(view, index, self._question.n, shares)

    def _explored(
        self, view: View, index: NDArray[np.int32], scores: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32] | None, tuple[float, ...]]:
        if self._is_passed_over(Part.EXPLORATION, Shed.SCORING):
            return index, scores, ()
        n, share = self._question.n, self._by.style.explore_share
        found = self._tried(Part.EXPLORATION, left_to_chance, view, index, n, share, int(self._seed, 16))
        if found is None:
            return index, scores, ()
        shown, propensities = found
        return shown, scores if np.array_equal(shown, index) else None, propensities

    def _reasons(self, view: View, index: NDArray[np.int32]) -> tuple[tuple[str, ...], ...]:
        if self._is_passed_over(Part.EXPLANATION, Shed.SCORING):
            return ()
        return self._tried(Part.EXPLANATION, because, view, index) or ()

    # What was done without.

    def _without(self, part: Part, reason: Reason, error: Exception | None) -> None:
        self._missed |= {(part, reason)}
        self._tell_without(part, reason, error)

    def _tried(self, part: Part, body: Callable[..., _Result | None], *given: object) -> _Result | None:
        """What `body` returns; nothing where it fails, whatever it was: there is always another step."""
        try:
            return body(*given)
        except CircuitOpen as error:
            self._without(part, Reason.BREAKER, error)
        except Exception as error:  # noqa: BLE001 - see above
            self._without(part, Reason.ERROR, error)
        return None

    def _is_passed_over(self, part: Part, at: Shed) -> bool:
        """Whether a part must be left out, for want of time; told where it must."""
        if self._shed >= at:
            self._without(part, Reason.OVERLOAD, None)
        elif self._budget.is_over():
            self._without(part, Reason.DEADLINE, None)
        else:
            return False
        return True


def _filled_up(view: View, index: NDArray[np.int32], scores: NDArray[np.float32] | None) -> _Ranked:
    """Exactly n items, as far as there are so many: what is missing comes from popularity."""
    more = view.popular_besides(index, view.question.n - len(index))
    return (np.concatenate([index, more]), None) if more.size else (index, scores)
