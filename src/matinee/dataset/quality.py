"""The checks of a snapshot before anything is trained on it.

Each gives a verdict: ok, warn, or stop. One that stops ends the run with a report of all. What a report knows of
its data it keeps as `statistics`, for the next run's to compare with.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from matinee.core.errors import QualityRefused
from matinee.dataset.changes import Change, ratings_change, row_change, volume_change
from matinee.dataset.profile import Profile
from matinee.dataset.snapshot import Snapshot

Verdict = Literal["ok", "warn", "stop"]
STATISTICS_FORMAT = 1


class Limits(BaseModel):
    """The value above which a check warns, and above which it stops a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warn: float
    stop: float


class QualityLimits(BaseModel):
    """The limits of all checks: shares from 0 to 1, but where another unit is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    missing: Limits = Limits(warn=0.0, stop=0.01)
    """Events that lack a user, an item, or what was rated or watched."""
    repeated: Limits = Limits(warn=0.05, stop=0.6)
    """Events whose record is there already. They change nothing; the same data from two files makes half."""
    unknown_items: Limits = Limits(warn=0.05, stop=0.5)
    """Interactions with items that the catalogue lacks; an empty catalogue warns and never stops."""
    rows: Limits = Limits(warn=0.1, stop=0.5)
    """By how much there are fewer interactions than in the previous snapshot."""
    volume: Limits = Limits(warn=1.0, stop=2.0)
    """How unusual the last whole day's volume is, in the units of `changes.volume_change`."""
    ratings: Limits = Limits(warn=0.1, stop=0.3)
    """Total variation distance between the histograms of ratings."""
    quarantined: Limits = Limits(warn=0.01, stop=0.1)
    """Records of the last day's batches that were quarantined."""
    duplicate: Limits = Limits(warn=0.05, stop=0.5)
    """Records of the last day's batches that were duplicates."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check and what came of it.

    Attributes:
        name: what it is called.
        verdict: ok, warn or stop.
        value: what was found; None where there was nothing to judge.
        limit: the limit that it exceeded, else the one at which it would warn.
        message: the same for people.
    """

    name: str
    verdict: Verdict
    value: float | None
    limit: float | None
    message: str


@dataclass(frozen=True, slots=True)
class QualityReport:
    """All checks of a snapshot, and the statistics that the next report compares with."""

    checks: tuple[Check, ...]
    statistics: dict[str, Any]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of any check."""
        found = {check.verdict for check in self.checks}
        return "stop" if "stop" in found else "warn" if "warn" in found else "ok"

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "verdict": self.verdict,
            "checks": [asdict(check) for check in self.checks],
            "statistics": self.statistics,
        }

    def raise_if_stopped(self) -> None:
        """Raise `QualityRefused`, listing every check that stops the run, where there is one."""
        stopped = [f"{check.name}: {check.message}" for check in self.checks if check.verdict == "stop"]
        if stopped:
            raise QualityRefused(
                f"the data failed {len(stopped)} of {len(self.checks)} checks: " + "; ".join(stopped),
                remedy="Find out what changed in the source. If the data is right: `matinee train --accept-data`.",
            )


def check(
    snapshot: Snapshot, previous: Mapping[str, Any] | None = None, *, limits: QualityLimits | None = None
) -> QualityReport:
    """Check a snapshot.

    Args:
        snapshot: what to check.
        previous: the `statistics` of the report before this one, of the last run that went through; without
            them, the latest days are compared with the days before.
        limits: when to warn and when to stop.
    """
    limits = limits or QualityLimits()
    profile = snapshot.profile
    before = previous if previous and previous.get("format_version") == STATISTICS_FORMAT else None
    checks = (
        _not_empty(snapshot),
        _share("missing", profile.missing, profile.events, limits.missing, "events lack a user, item or value"),
        _share("repeated", profile.repeated, profile.events, limits.repeated, "events are there already"),
        _unknown_items(snapshot, limits.unknown_items),
        _change("rows", row_change(len(snapshot.interactions), before), limits.rows),
        _change("volume", volume_change(profile), limits.volume),
        _change("ratings", ratings_change(profile, before), limits.ratings),
        *_batches(profile, limits),
    )
    return QualityReport(checks, _statistics(snapshot))


def _statistics(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "format_version": STATISTICS_FORMAT,
        "events": snapshot.profile.events,
        "interactions": len(snapshot.interactions),
        "users": len(snapshot.users),
        "items": len(snapshot.items),
        "ratings": dict(snapshot.profile.ratings),
        "content_hash": snapshot.content_hash,
    }


def _not_empty(snapshot: Snapshot) -> Check:
    rows = len(snapshot.interactions)
    if rows:
        said = f"{rows} interactions of {len(snapshot.users)} users and {len(snapshot.items)} items"
        return Check("not_empty", "ok", rows, 0, said)
    return Check("not_empty", "stop", 0, 0, "there is not one interaction")


def _judged(name: str, value: float, limits: Limits, message: str) -> Check:
    if value > limits.stop:
        return Check(name, "stop", value, limits.stop, f"{message}; at most {limits.stop:g} is let through")
    if value > limits.warn:
        return Check(name, "warn", value, limits.warn, f"{message}; more than {limits.warn:g} is unusual")
    return Check(name, "ok", value, limits.warn, message)


def _share(name: str, part: int, whole: int, limits: Limits, what: str) -> Check:
    if whole == 0:
        return Check(name, "ok", None, limits.warn, "nothing to judge")
    share = part / whole
    return _judged(name, share, limits, f"{part} of {whole} ({share:.2%}) {what}")


def _unknown_items(snapshot: Snapshot, limits: Limits) -> Check:
    profile, rows = snapshot.profile, len(snapshot.interactions)
    if profile.catalogue_items == 0 and rows:
        return Check("unknown_items", "warn", 1.0, limits.warn, "the catalogue is empty: no titles, no lengths")
    return _share(
        "unknown_items", profile.unknown_items, rows, limits, "interactions are with items that the catalogue lacks"
    )


def _change(name: str, change: Change, limits: Limits) -> Check:
    if change.value is None:
        return Check(name, "ok", None, limits.warn, change.message)
    return _judged(name, change.value, limits, change.message)


def _batches(profile: Profile, limits: QualityLimits) -> tuple[Check, Check]:
    counts = profile.batches
    return (
        _share("quarantined", counts.quarantined, counts.read, limits.quarantined, "records were quarantined"),
        _share("duplicate", counts.duplicate, counts.read, limits.duplicate, "records were duplicates"),
    )
