"""Disturbances by name are the disturbances."""

import numpy as np
import pytest

from matinee.core.errors import ConfigurationError
from matinee.simulation.adversaries import KINDS, parse_adversaries, parse_disturbance
from matinee.simulation.catalogue import make_catalogue
from matinee.simulation.disturbances import BadModel, Outage, Period, Trend
from matinee.simulation.options import MINUTES_A_DAY, WorldOptions
from matinee.simulation.shilling import FIRST_ACCOUNT, Shilling

OPTIONS = WorldOptions(start_us=0, viewers=1_000, movies=101)
CATALOGUE = make_catalogue(OPTIONS)


def parsed(text):
    return parse_disturbance(text, OPTIONS, CATALOGUE)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_there_is_begins_with_the_world_and_lasts_a_day(kind):
    assert parsed(kind).period == Period(0, MINUTES_A_DAY)


def test_day_and_hours_are_taken_as_they_stand():
    assert parsed("outage@2+3") == Outage(Period.at(2, 3))
    assert parsed("bad-model@0.5") == BadModel(Period.at(0.5, 24))
    assert parsed("bad-model+1.5") == BadModel(Period.at(0, 1.5))


def test_targets_follow_from_fame():
    out = np.flatnonzero(CATALOGUE.out_minute <= 0)
    trend, push, nuke = parsed("trend@1"), parsed("push-random@1"), parsed("nuke-bandwagon@1")
    assert isinstance(trend, Trend)
    assert (CATALOGUE.fame[out] < CATALOGUE.fame[trend.item]).sum() == out.size // 2
    assert push == Shilling(Period.at(1, 24), trend.item, "random", "push", accounts=50)
    assert (nuke.target, nuke.kind, nuke.aim) == (int(CATALOGUE.fame.argmax()), "bandwagon", "nuke")


def test_attacks_share_no_accounts():
    first, _, second, third = (
        made.disturbance
        for made in parse_adversaries(["push-random", "outage", "push-random", "nuke-average"], OPTIONS, CATALOGUE)
    )
    ranges = [range(made.first_account, made.first_account + made.accounts) for made in (first, second, third)]
    assert len(set().union(*ranges)) == sum(map(len, ranges)) == 150
    assert min(map(min, ranges)) == FIRST_ACCOUNT


def test_an_adversary_says_what_it_is_when_and_against_what():
    (nuke,) = parse_adversaries(["nuke-average@2+6"], OPTIONS, CATALOGUE)
    famous = CATALOGUE.ids[int(CATALOGUE.fame.argmax())]
    told = {"kind": "nuke-average", "begins": "1970-01-03T00:00:00+00:00", "hours": 6.0, "target": famous}
    assert nuke.as_dict() == told
    assert [made.target for made in parse_adversaries(["trend", "outage"], OPTIONS, CATALOGUE)][1] is None


@pytest.mark.parametrize("text", ["", "outage@", "flood", "outage@-1", "push-", "outage @1", "outage@1+"])
def test_anything_else_is_refused_with_what_there_is(text):
    with pytest.raises(ConfigurationError) as refused:
        parsed(text)
    assert "bad-model" in refused.value.remedy
