"""One answer: what to show a user, by the best step of the fallback chain that can be had in time.

Pure and synchronous. All files, clocks and counters are the caller's.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from matinee.bundle.open import Bundle
from matinee.bundle.users import UserEntry
from matinee.core.clock import Clock
from matinee.core.errors import Corrupt
from matinee.history.record import UserHistory
from matinee.models.preference import confidence

DEFAULT_N = 20
MAX_N = 100


class Step(StrEnum):
    """The steps of the fallback chain."""

    PERSONAL = "personal"
    """The bundle's top 100 of this user, looked up."""
    FOLDED_IN = "folded_in"
    """Scored now from what the user did lately."""
    POPULAR_IN_SEGMENT = "popular_in_segment"
    POPULAR = "popular"


class Part(StrEnum):
    """What an answer may have to do without."""

    BUNDLE_USER = "bundle_user"
    HISTORY = "history"
    FOLD_IN = "fold_in"
    LOOK_UP = "look_up"
    SEGMENT = "segment"


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What one user is shown."""

    items: tuple[str, ...]
    """Item ids, best first; none that the user has seen."""
    scores: tuple[float, ...]
    """Aligned with `items`; empty where the step has none, or popularity had to fill the answer up."""
    step: Step
    arm: str
    model_version: str


class Budget(msgspec.Struct, frozen=True):
    """The time that an answer may take, counted from the request's arrival."""

    clock: Clock
    ends: float
    """On the clock's monotonic scale, in seconds."""

    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self.clock.monotonic() >= self.ends


DoneWithout = Callable[[Part, Exception | None], None]
"""Told of each part that an answer did without: with the error, or nothing where the deadline had passed."""
ReadHistory = Callable[[str], UserHistory | None]


def answer(
    user: str, n: int, *, arm: str, bundle: Bundle, history: ReadHistory, budget: Budget, without: DoneWithout
) -> Answer:
    """Choose `n` items that the user has not seen; fewer only where the catalogue has no more.

    A user who did something since the bundle's snapshot is folded in; others are looked up; strangers get what
    is popular. Whatever fails leaves its place to the next step. Past the deadline no further store is read and
    nothing is scored: what is at hand answers. So the bundle's entry, which every step needs, is read first.

    Args:
        user: the user's id.
        n: items wanted, 1 to 100.
        arm: the name of the arm that the user is in.
        bundle: that arm's bundle.
        history: reads what the user did lately; may raise.
        budget: the deadline.
        without: told of everything that failed or was passed over.
    """
    view = _look(user, n, bundle, history, budget, without)
    for step, part, ranked in _chain(view, budget, without):
        try:
            found = ranked(view)
        except Exception as error:  # noqa: BLE001 - whatever fails, the next step answers
            without(part, error)
            continue
        if found is not None:
            index, scores = _filled_up(view, *found)
            ids = bundle.items
            return Answer(tuple([ids[i] for i in index.tolist()]), scores, step, arm, bundle.version)
    ids = bundle.items
    index = _unseen(bundle.popular(None), view.seen, n)
    return Answer(tuple([ids[i] for i in index.tolist()]), (), Step.POPULAR, arm, bundle.version)


class _View(msgspec.Struct, frozen=True):
    """All that is known when the choice is made."""

    bundle: Bundle
    n: int
    entry: UserEntry | None
    lately: UserHistory | None
    lately_index: list[int | None]
    """Aligned with the history's entries; nothing where the bundle does not know the item."""
    seen: NDArray[np.bool_]
    """Shape (n_items,): what the bundle or the history says was seen."""


_Ranked = tuple[NDArray[np.int32], NDArray[np.float32] | None]
_Chain = Iterator[tuple[Step, Part, Callable[[_View], _Ranked | None]]]


def _look(user: str, n: int, bundle: Bundle, history: ReadHistory, budget: Budget, without: DoneWithout) -> _View:
    seen = np.zeros(len(bundle.items), dtype=np.bool_)
    entry: UserEntry | None = None
    lately: UserHistory | None = None
    lately_index: list[int | None] = []
    try:
        entry = bundle.user(user)
        if entry is not None:
            seen[entry.seen] = True
    except Exception as error:  # noqa: BLE001 - a broken entry is as good as none
        entry = None
        without(Part.BUNDLE_USER, error)
    if budget.is_over():
        without(Part.HISTORY, None)
        return _View(bundle, n, entry, lately, lately_index, seen)
    try:
        lately = history(user)
        if lately is not None:
            lately_index = [bundle.item_index(done.item) for done in lately.entries]
            for index in lately_index:
                if index is not None:
                    seen[index] = True
    except Exception as error:  # noqa: BLE001 - a broken history is as good as none
        lately = None
        without(Part.HISTORY, error)
    return _View(bundle, n, entry, lately, lately_index, seen)


def _chain(view: _View, budget: Budget, without: DoneWithout) -> _Chain:
    """The steps to try, in order. Overall popularity is not among them: it answers where none of these did."""
    folds_in = view.bundle.fold_in is not None and view.lately is not None
    newer = folds_in and view.lately is not None and view.bundle.is_newer(view.lately.offsets)
    look_up = (Step.PERSONAL, Part.LOOK_UP, _looked_up)
    if not newer:
        yield look_up
    if folds_in:
        if budget.is_over():
            without(Part.FOLD_IN, None)
        else:
            yield Step.FOLDED_IN, Part.FOLD_IN, _folded_in
    if newer:
        yield look_up
    yield Step.POPULAR_IN_SEGMENT, Part.SEGMENT, _popular_in_segment


def _looked_up(view: _View) -> _Ranked | None:
    if view.entry is None:
        return None
    keep = np.flatnonzero(~view.seen[view.entry.top])[: view.n]
    return (view.entry.top[keep], view.entry.scores[keep]) if keep.size else None


def _folded_in(view: _View) -> _Ranked | None:
    """Nothing where the history holds no sign of liking: then there is nothing to fold in."""
    fold_in, lately = view.bundle.fold_in, view.lately
    if fold_in is None or lately is None:
        return None
    known = [
        (i, done)
        for i, done in zip(view.lately_index, lately.entries, strict=True)
        if i is not None and (done.minutes_seen or done.rating is not None)  # else it says nothing of liking
    ]
    index = np.array([i for i, _ in known], dtype=np.int32)
    rating = np.array([np.nan if done.rating is None else done.rating for _, done in known], dtype=np.float32)
    # The share of each item's minutes that was seen, NaN where none was.
    minutes = np.array([done.minutes_seen or np.nan for _, done in known], dtype=np.float32)
    watched = minutes / np.maximum(view.bundle.item_minutes[index], np.float32(1))
    weight = confidence(rating, watched, fold_in.positive_rating)
    if not (weight > 0).any():
        return None
    return _best(fold_in.scores(index, weight), view.seen, view.n)


def _popular_in_segment(view: _View) -> _Ranked | None:
    if view.entry is None or view.entry.segment < 0:
        return None
    return _unseen(view.bundle.popular(view.entry.segment), view.seen, view.n), None


def _best(scores: NDArray[np.float32], seen: NDArray[np.bool_], n: int) -> _Ranked:
    """The unseen items of the highest scores; equal scores in the order of the indices."""
    unseen = np.flatnonzero(~seen)
    among = scores[unseen]
    n = min(n, len(among))
    least = np.partition(among, len(among) - n)[len(among) - n] if n else np.float32(0)
    candidates = np.flatnonzero(among >= least)
    order = candidates[np.argsort(-among[candidates], kind="stable")[:n]]
    if len(order) < n or not np.isfinite(among[order]).all():
        raise Corrupt(
            "fold-in gave scores that are no numbers", remedy="Train again; look at the bundle's metrics."
        )
    return unseen[order].astype(np.int32), among[order]


def _unseen(ordering: NDArray[np.int32], seen: NDArray[np.bool_], n: int) -> NDArray[np.int32]:
    """The first `n` of an ordering of the whole catalogue that were not seen."""
    first = ordering[: n + int(np.count_nonzero(seen))]  # no more than that can be needed
    return first[~seen[first]][:n]


def _filled_up(view: _View, index: NDArray[np.int32], scores: NDArray[np.float32] | None) -> tuple[
    NDArray[np.int32], tuple[float, ...]
]:  # fmt: skip
    """Exactly n items: what is missing comes from popularity, in the user's segment where there is one."""
    if len(index) == view.n:
        return index, () if scores is None else tuple(scores.tolist())
    taken = view.seen.copy()
    taken[index] = True
    ordering = view.bundle.popular(None if view.entry is None else view.entry.segment)
    more = _unseen(ordering, taken, view.n - len(index))
    if not more.size and scores is not None:
        return index, tuple(scores.tolist())
    return np.concatenate([index, more]), ()
