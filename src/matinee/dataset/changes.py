"""How much a snapshot's data changed, against the previous snapshot or against its own earlier days."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from matinee.dataset.profile import RECENT_DAYS, Profile

MIN_DAYS = 7
"""Earlier days that a day's volume is compared with at the least."""
MIN_DAILY = 100
"""Events on a usual day below which a day's volume is chance."""
MIN_RATINGS = 1_000
"""Ratings that a histogram must have; with fewer, chance alone moves it by the limit at which a check warns."""


@dataclass(frozen=True, slots=True)
class Change:
    """How much something changed; `value` is None where there is too little to judge."""

    value: float | None
    message: str


def total_variation(first: Mapping[str, int], second: Mapping[str, int]) -> float:
    """Total variation distance ½·Σ|p − q| of two histograms, 0 (the same) to 1 (nothing in common).

    Source: Levin and Peres, "Markov Chains and Mixing Times", proposition 4.2. Both must have a count above zero.
    """
    n_first, n_second = sum(first.values()), sum(second.values())
    bins = first.keys() | second.keys()
    return 0.5 * math.fsum(abs(first.get(b, 0) / n_first - second.get(b, 0) / n_second) for b in bins)


def row_change(interactions: int, previous: Mapping[str, Any] | None) -> Change:
    """By what share there are fewer interactions than before; growth is no change here.

    Not events: gathering watch events into days leaves fewer of them, and every interaction.
    """
    if previous is None or previous["interactions"] <= 0:
        return Change(None, "there is no previous snapshot to compare with")
    before = previous["interactions"]
    fewer = max(0.0, 1.0 - interactions / before)
    return Change(fewer, f"{interactions} interactions, {fewer:.1%} fewer than the {before} before")


def volume_change(profile: Profile) -> Change:
    """How unusual the volume of the last whole day is, against the days before.

    With x = ln(1 + events), the distance of the last day's x from the median of the earlier days', over a unit:
    ln 3, or 3.5 robust standard deviations (1.4826 · the median absolute deviation) where the days differ more.
    So a steady stream warns (1) at three times or a third of the usual and stops (2) at nine times or a ninth,
    and a bursty one later.

    Source: Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993, for 3.5.
    """
    *earlier, last = profile.daily_events or (0,)
    if len(earlier) < MIN_DAYS:
        return Change(None, f"{len(earlier)} earlier days are too few to compare a day's volume with")
    x = np.log1p(np.array(earlier, dtype=np.float64))
    usual = float(np.median(x))
    if math.expm1(usual) < MIN_DAILY:
        return Change(None, f"a usual day has fewer than {MIN_DAILY} events: too few to compare a day with")
    unit = max(math.log(3.0), 3.5 * 1.4826 * float(np.median(np.abs(x - usual))))
    value = abs(math.log1p(last) - usual) / unit
    return Change(value, f"{last} events on the last whole day, {math.expm1(usual):.0f} on a usual one before")


def ratings_change(profile: Profile, previous: Mapping[str, Any] | None) -> Change:
    """Total variation distance between the histograms of ratings.

    The larger of two: this snapshot's against the previous one's, and the recent days' against the earlier
    days'. The second finds what a long past would drown in the first.
    """
    pairs = [(f"the last {RECENT_DAYS} days and the days before", profile.recent_ratings, profile.earlier_ratings)]
    if previous is not None:
        pairs.append(("this snapshot and the one before", profile.ratings, previous["ratings"]))
    judged = [
        (total_variation(new, old), between)
        for between, new, old in pairs
        if min(sum(new.values()), sum(old.values())) >= MIN_RATINGS
    ]
    if not judged:
        return Change(None, f"fewer than {MIN_RATINGS} ratings to compare")
    value, between = max(judged)
    return Change(value, f"the histograms of ratings of {between} differ by {value:.3f} (total variation)")
