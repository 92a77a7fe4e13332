"""What `matinee simulate` tells people: the world, its days, and what they come to."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from matinee.core.clock import SECOND
from matinee.core.errors import ConfigurationError
from matinee.simulation.options import WorldOptions

if TYPE_CHECKING:
    from matinee.simulation.adversaries import Adversary
    from matinee.simulation.report import DayReport

HEADER = (
    f"{'day':>3} {'sessions':>9} {'failed':>6} {'alone':>6} {'got':>5} {'best':>5} {'regret':>6} {'given':>6} "
    f"{'caused':>6} {'Gini':>5} {'top 1%':>6} {'lines':>10}"
)


def introduction(
    options: WorldOptions, minute: int, target: str, lines: str | None, adversaries: "list[Adversary]"
) -> str:
    """What world it is, from which minute on, whom it asks, where its lines go, and what happens to it."""
    first = datetime.fromtimestamp(options.start_us / SECOND, UTC)
    goes_on = f", goes on at minute {minute:,}" if minute else ""
    happens = [
        f"\n{told['kind']}, {told['hours']:g} hours from {told['begins']}"
        + (f", movie {told['target']}." if told["target"] else ".")
        for told in (adversary.as_dict() for adversary in adversaries)
    ]
    return (
        f"A world of {options.viewers:,} viewers and {options.movies:,} movies, seed {options.seed}, from "
        f"{first:%Y-%m-%d}{goes_on}. It asks {target}; its lines go to {lines or 'nobody'}." + "".join(happens)
    )


def nobody_answered(document: dict[str, Any]) -> ConfigurationError | None:
    """What is the matter where no ask at all was answered, and nobody wanted it so."""
    asked = sum(day["sessions"] for day in document["days"])
    answered = asked - sum(day["failed"] for day in document["days"])
    if not asked or answered or any(told["kind"] == "outage" for told in document["adversaries"]):
        return None
    return ConfigurationError(
        f"none of {asked:,} asks of {document['target']} was answered",
        remedy="Is there a recommender at this address, and does it have a model? Ask it for one viewer: "
        f"`curl -i {document['target']}/recommend/1`. `matinee up` starts one.",
    )


def row(report: "DayReport") -> str:
    """A day, under `HEADER`, and how asks failed in it."""
    failed = f"\n    failed: {_ways(report.failures)}" if report.failures else ""
    return (
        f"{report.day:>3} {report.sessions:>9,} {report.failed:>6,} {report.alone:>6.3f} {report.pleasure:>5.3f} "
        f"{report.best:>5.3f} {report.regret:>6.3f} {report.share:>6.1%} {report.caused:>6.1%} {report.gini:>5.3f} "
        f"{report.top_share:>6.1%} {report.lines:>10,}{failed}"
    )


def moral(document: dict[str, Any]) -> str:
    """What all days together come to."""
    days = document["days"]
    sessions = sum(day["sessions"] for day in days)
    if not sessions:
        return "No day has ended."

    def mean(name: str) -> float:
        return float(sum(day[name] * day["sessions"] for day in days) / sessions)

    failures: Counter[str] = Counter()
    for day in days:
        failures.update(day["failures"])
    return (
        f"[bold]A session gave {mean('pleasure'):.3f}[/], without recommendations {mean('alone'):.3f}; of what "
        f"recommending can give, {mean('share'):.1%} was given. {failures.total():,} of {sessions:,} asks failed"
        + (f" ({escape(_ways(failures))})." if failures else ".")
    )


def _ways(failures: Mapping[str, int]) -> str:
    return "; ".join(f"{number:,} × {way}" for way, number in sorted(failures.items(), key=lambda of: -of[1]))
