"""Splits of interactions into a part to learn from and a part held out.

Both parts keep all users and items of the whole, so that an index means the same in each; their rows, in the
order of the whole, make it up again. What to choose when: Campos, Díez and Cantador, "Time-aware recommender
systems: a comprehensive survey and analysis of existing evaluation protocols", UMUAI 24, 2014.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions

SplitKind = Literal["random", "time", "last"]
Parts = tuple[Interactions, Interactions]
"""(to learn from, held out)"""


def split(interactions: Interactions, kind: SplitKind, fraction: float, seed: int = 0) -> Parts:
    """The split of that kind; see `random_split`, `time_split` and `last_split`. Only `random` uses the seed.

    Raises:
        InvalidInput: there is no such kind, or the fraction is not between 0 and 1.
        Unsuitable: the kind needs times and there are none, or a part would be empty.
    """
    if kind == "random":
        return random_split(interactions, fraction, seed)
    if kind == "time":
        return time_split(interactions, fraction)
    if kind == "last":
        return last_split(interactions, fraction)
    raise InvalidInput(f"there is no split {kind!r}", remedy="Use random, time or last.")


def random_split(interactions: Interactions, fraction: float, seed: int = 0) -> Parts:
    """Hold out a random `fraction` of all rows, rounded to whole rows; the same seed holds out the same.

    Raises:
        InvalidInput: the fraction is not between 0 and 1.
        Unsuitable: a part would be empty.
    """
    _check_fraction(fraction)
    held_out = np.zeros(len(interactions), dtype=np.bool_)
    size = round(fraction * len(interactions))
    held_out[np.random.default_rng(seed).permutation(len(interactions))[:size]] = True
    return _parts(interactions, held_out)


def time_split(interactions: Interactions, fraction: float) -> Parts:
    """Hold out everything from one moment on, so chosen that about `fraction` of the rows are.

    Rows of the same moment stay together; where most have the same, the part held out may be much larger or
    smaller. This is the split that sees no future, and in which users may be new.

    Raises:
        InvalidInput: the fraction is not between 0 and 1.
        Unsuitable: there are no times, or all rows have the same.
    """
    _check_fraction(fraction)
    times = interactions.require_times("a split by time")
    if times.size == 0:
        raise _too_few(interactions)
    moments = np.unique(times)
    wanted = np.sort(times)[min(times.size - 1, times.size - round(fraction * times.size))]
    cutoff = wanted if wanted > moments[0] else moments[min(1, moments.size - 1)]
    return _parts(interactions, times >= cutoff)


def last_split(interactions: Interactions, fraction: float) -> Parts:
    """Hold out the latest `fraction` of each user's rows: at least one, but never all.

    So each user with two rows or more is in both parts, and one with a single row only in the first. Rows of the
    same moment are put in an order that depends on nothing but their indices, and that prefers no item.

    Raises:
        InvalidInput: the fraction is not between 0 and 1.
        Unsuitable: there are no times, or no user has two rows.
    """
    _check_fraction(fraction)
    counts = np.bincount(interactions.user_index, minlength=interactions.n_users)
    return _hold_out_last(interactions, np.maximum(1, np.floor(counts * fraction + 0.5)).astype(np.int64))


def leave_last_out(interactions: Interactions) -> Parts:
    """Hold out the single latest row of each user that has two or more; as `last_split`, whatever a user's rows.

    Raises:
        Unsuitable: there are no times, or no user has two rows.
    """
    return _hold_out_last(interactions, np.ones(interactions.n_users, dtype=np.int64))


def k_folds(interactions: Interactions, folds: int, seed: int = 0) -> Iterator[Parts]:
    """Random folds: as many splits, in which each row is held out exactly once.

    The parts held out differ in size by one row at most, and their rows are drawn from all alike; the same seed
    gives the same folds. Stone 1974, "Cross-Validatory Choice and Assessment of Statistical Predictions". O(n)
    time for each fold, and memory for one at a time.

    Raises:
        InvalidInput: `folds` is below 2.
        Unsuitable: there are fewer rows than folds.
    """
    if folds < 2:
        raise InvalidInput(f"folds is {folds}; expected 2 or more")
    if len(interactions) < folds:
        raise _too_few(interactions)
    fold = np.empty(len(interactions), dtype=np.int32)
    order = np.random.default_rng(seed).permutation(len(interactions))
    fold[order] = np.arange(len(interactions), dtype=np.int32) % folds
    return (_parts(interactions, fold == number) for number in range(folds))


def _hold_out_last(interactions: Interactions, wanted: NDArray[np.int64]) -> Parts:
    """Hold out each user's `wanted` latest rows, but never all; see `last_split` for rows of the same moment."""
    times = interactions.require_times("a split by each user's last interactions")
    users = interactions.user_index
    order = np.lexsort((_tie_breaker(users, interactions.item_index), times, users))
    counts = np.bincount(users, minlength=interactions.n_users)
    sizes = np.minimum(wanted, np.maximum(counts - 1, 0))
    ends = np.cumsum(counts)
    place = np.arange(len(interactions))
    held_out = np.zeros(len(interactions), dtype=np.bool_)
    held_out[order] = place >= (ends - sizes)[users[order]]
    return _parts(interactions, held_out)


def _tie_breaker(users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.uint64]:
    """A hash of the pair (the finaliser of SplitMix64): by item index alone, low ids would always be learnt from.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    mixed = (users.astype(np.uint64) << np.uint64(32)) | items.astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise InvalidInput(f"the fraction held out is {fraction}; expected between 0 and 1")


def _parts(interactions: Interactions, held_out: NDArray[np.bool_]) -> Parts:
    if not held_out.any() or held_out.all():
        raise _too_few(interactions)
    return interactions.take(~held_out), interactions.take(held_out)


def _too_few(interactions: Interactions) -> Unsuitable:
    return Unsuitable(
        f"{len(interactions)} interactions cannot be split: a part would be empty",
        remedy="Gather more data, or choose another split or fraction.",
    )
