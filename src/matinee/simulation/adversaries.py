"""Disturbances by name, as they are asked for in words: `outage@2+3`, three hours from day 2 on."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from matinee.core.clock import SECOND
from matinee.core.errors import ConfigurationError
from matinee.simulation.catalogue import Catalogue
from matinee.simulation.disturbances import BadModel, BrokenClient, Disturbance, Outage, Period, Trend
from matinee.simulation.lines import minute_us
from matinee.simulation.options import WorldOptions
from matinee.simulation.shilling import FIRST_ACCOUNT, Shilling

KINDS = {
    "outage": "no request is answered",
    "bad-model": "answers are those of a model that has learnt the opposite",
    "trend": "a movie is on everyone's lips",
    "broken-client": "a device repeats a request, garbled every other time",
    **{
        f"{aim}-{kind}": f"made-up accounts {what} a movie ({kind} attack)"
        for aim, what in (("push", "praise"), ("nuke", "bury"))
        for kind in ("random", "average", "bandwagon")
    },
}
"""What may happen, and what it is."""
_FORM = re.compile(r"([a-z-]+)(?:@(\d+(?:\.\d+)?))?(?:\+(\d+(?:\.\d+)?))?")
_ACCOUNTS = 0.05
"""An attack's accounts, against the viewers there are."""


@dataclass(frozen=True, slots=True)
class Adversary:
    """A disturbance under the name by which it was asked for.

    Attributes:
        kind: one of `KINDS`.
        begins_us: when, UTC microseconds of the world.
        hours: for how long.
        target: the id of the movie that it is for or against, where there is one.
        disturbance: what does it.
    """

    kind: str
    begins_us: int
    hours: float
    target: str | None
    disturbance: Disturbance

    def as_dict(self) -> dict[str, Any]:
        """What happens, ready for JSON."""
        begins = datetime.fromtimestamp(self.begins_us / SECOND, UTC).isoformat(timespec="seconds")
        return {"kind": self.kind, "begins": begins, "hours": self.hours, "target": self.target}


def parse_adversaries(texts: Iterable[str], options: WorldOptions, catalogue: Catalogue) -> list[Adversary]:
    """All that is to happen to a world; the accounts of each attack are its own.

    Raises:
        ConfigurationError: see `parse_disturbance`.
    """
    adversaries, first_account = [], FIRST_ACCOUNT
    for text in texts:
        made = parse_disturbance(text, options, catalogue, first_account)
        target = made.item if isinstance(made, Trend) else made.target if isinstance(made, Shilling) else None
        if isinstance(made, Shilling):
            first_account += made.accounts
        adversaries.append(
            Adversary(
                kind=re.split("[@+]", text)[0],
                begins_us=minute_us(options.start_us, made.period.begin),
                hours=made.period.length / 60,
                target=None if target is None else catalogue.ids[target],
                disturbance=made,
            )
        )
    return adversaries


def parse_disturbance(
    text: str, options: WorldOptions, catalogue: Catalogue, first_account: int = FIRST_ACCOUNT
) -> Disturbance:
    """The disturbance `KIND[@DAY][+HOURS]`: from day 0 and for 24 hours unless told otherwise.

    A trend and a push are for the movie whose fame is the median of those that are out from the start, a nuke
    against the most famous one. An attack has one account for 20 viewers.

    Raises:
        ConfigurationError: there is no such kind, or the text is of another form.
    """
    found = _FORM.fullmatch(text)
    if found is None or found[1] not in KINDS:
        raise ConfigurationError(
            f"{text!r} is nothing that may happen to a world",
            remedy=f"Write KIND, KIND@DAY or KIND@DAY+HOURS, as in outage@2+3; kinds: {', '.join(KINDS)}.",
        )
    name = found[1]
    period = Period.at(float(found[2] or 0), float(found[3] or 24))
    out = np.flatnonzero(catalogue.out_minute <= 0)
    by_fame = out[np.argsort(catalogue.fame[out])]
    middling, best_known = int(by_fame[out.size // 2]), int(by_fame[-1])
    simple: dict[str, Disturbance] = {
        "outage": Outage(period),
        "bad-model": BadModel(period),
        "trend": Trend(period, middling),
        "broken-client": BrokenClient(period, viewer=0),
    }
    if name in simple:
        return simple[name]
    aim, _, kind = name.partition("-")
    target = middling if aim == "push" else best_known
    accounts = max(10, round(_ACCOUNTS * options.viewers))
    return Shilling(
        period,
        target,
        kind,  # type: ignore[arg-type]  # _FORM and KINDS checked
        aim,  # type: ignore[arg-type]
        accounts=accounts,
        first_account=first_account,
    )
