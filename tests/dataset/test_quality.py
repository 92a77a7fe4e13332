import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.core.errors import QualityRefused
from matinee.dataset.changes import ratings_change, row_change, total_variation, volume_change
from matinee.dataset.profile import BatchCounts, Profile
from matinee.dataset.quality import Limits, QualityLimits, check
from matinee.dataset.snapshot import take_snapshot

USUAL = {"1.0": 100, "2.0": 200, "3.0": 500, "4.0": 700, "5.0": 500}
PROFILE = Profile(
    events=10_000,
    missing=0,
    repeated=0,
    time_range_us=None,
    daily_events=(1_000,) * 35,
    ratings=USUAL,
    recent_ratings=USUAL,
    earlier_ratings=USUAL,
    catalogue_items=3,
    unknown_items=0,
    batches=BatchCounts(read=1_000),
)


def profile(**changed):
    return dataclasses.replace(PROFILE, **changed)


@pytest.fixture
def snapshot(lake, put, describe):
    """A small snapshot whose counts a test may put others in the place of."""
    describe("items", {"item": "x"}, {"item": "y"})
    put({"user": "u", "item": "x", "rating": 4.0, "time": 0}, {"user": "u", "item": "y", "rating": 3.0, "time": 1})
    taken = take_snapshot(lake)
    return lambda **changed: dataclasses.replace(taken, profile=profile(**changed))


def verdict(report, name):
    (found,) = (one for one in report.checks if one.name == name)
    return found.verdict


def test_fine_data_passes_and_the_report_is_json(snapshot):
    report = check(snapshot())
    assert report.verdict == "ok"
    report.raise_if_stopped()
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False)) == report.as_dict()


@pytest.mark.parametrize(
    ("name", "warns", "stops"),
    [
        ("missing", {"missing": 1}, {"missing": 101}),
        ("repeated", {"repeated": 501}, {"repeated": 6_001}),
        ("volume", {"daily_events": (1_000,) * 34 + (300,)}, {"daily_events": (1_000,) * 34 + (0,)}),
        ("volume", {"daily_events": (1_000,) * 34 + (3_100,)}, {"daily_events": (1_000,) * 34 + (9_500,)}),
        ("ratings", {"recent_ratings": USUAL | {"1.0": 500}}, {"recent_ratings": {"1.0": 2_000}}),
        ("quarantined", {"batches": BatchCounts(1_000, 0, 11)}, {"batches": BatchCounts(1_000, 0, 101)}),
        ("duplicate", {"batches": BatchCounts(1_000, 51, 0)}, {"batches": BatchCounts(1_000, 501, 0)}),
    ],
)
def test_what_is_unusual_warns_and_what_is_wrong_stops(snapshot, name, warns, stops):
    warned, stopped = check(snapshot(**warns)), check(snapshot(**stops))
    assert verdict(warned, name) == warned.verdict == "warn"
    warned.raise_if_stopped()
    assert verdict(stopped, name) == stopped.verdict == "stop"
    with pytest.raises(QualityRefused, match=rf"failed 1 of 9 checks: {name}: "):
        stopped.raise_if_stopped()


def test_every_check_that_stops_is_listed(snapshot):
    with pytest.raises(QualityRefused, match=r"failed 2 of 9 checks: missing: .*; quarantined: "):
        check(snapshot(missing=9_000, batches=BatchCounts(10, 0, 9))).raise_if_stopped()


def test_items_that_the_catalogue_lacks(snapshot):
    assert verdict(check(snapshot(unknown_items=1)), "unknown_items") == "warn"
    assert verdict(check(snapshot(unknown_items=2)), "unknown_items") == "stop"
    assert verdict(check(snapshot(unknown_items=2, catalogue_items=0)), "unknown_items") == "warn"


def test_nothing_at_all_stops(lake):
    report = check(take_snapshot(lake))
    assert verdict(report, "not_empty") == "stop"
    with pytest.raises(QualityRefused, match="not one interaction"):
        report.raise_if_stopped()


def test_a_report_is_what_the_next_one_compares_with(snapshot):
    first = json.loads(json.dumps(check(snapshot()).statistics))
    assert check(snapshot(), first).verdict == "ok"
    assert verdict(check(snapshot(), first | {"interactions": 3}), "rows") == "warn"
    assert verdict(check(snapshot(), first | {"interactions": 5}), "rows") == "stop"
    assert verdict(check(snapshot(), first | {"interactions": 1}), "rows") == "ok"
    assert verdict(check(snapshot(ratings={"1.0": 2_000}), first), "ratings") == "stop"
    assert verdict(check(snapshot(ratings={"1.0": 2_000})), "ratings") == "ok"
    assert check(snapshot(events=1), {"format_version": 99}).verdict == "ok"


def test_limits_may_be_set(snapshot):
    limits = QualityLimits(missing=Limits(warn=0.5, stop=0.6))
    assert check(snapshot(missing=4_000), limits=limits).verdict == "ok"


def test_the_checks_of_a_real_snapshot(lake, put, describe):
    describe("items", {"item": "x"})
    put({"user": "u", "item": "x", "rating": 4.0, "time": 0}, {"user": None, "item": "x", "rating": 4.0, "time": 1},
        {"user": "u", "item": "z", "rating": 4.0, "time": 2},
        batch={"read": 4, "accepted": 3, "repaired": 0, "duplicate": 0, "quarantined": 1})  # fmt: skip
    values = {one.name: one.value for one in check(take_snapshot(lake)).checks}
    assert values["missing"] == pytest.approx(1 / 3)
    assert values["unknown_items"] == 0.5
    assert values["quarantined"] == 0.25
    assert values["rows"] is values["volume"] is values["ratings"] is None


histograms = st.dictionaries(st.sampled_from("12345"), st.integers(1, 50), min_size=1)


@given(histograms, histograms, histograms)
def test_total_variation_is_a_distance_between_0_and_1(a, b, c):
    assert total_variation(a, a) == 0
    assert 0 <= total_variation(a, b) <= 1 + 1e-12
    assert total_variation(a, b) == total_variation(b, a)
    assert total_variation(a, c) <= total_variation(a, b) + total_variation(b, c) + 1e-12


def test_total_variation_of_known_histograms():
    assert total_variation({"1": 3}, {"2": 8}) == 1
    assert total_variation({"1": 1, "2": 1}, {"1": 3, "2": 1}) == 0.25


def test_a_steady_stream_warns_at_a_third_and_stops_at_a_ninth():
    for factor, value in ((1, 0), (1 / 3, 1), (3, 1), (1 / 9, 2), (9, 2)):
        days = (*[90_000] * 20, round(90_000 * factor))
        assert volume_change(profile(daily_events=days)).value == pytest.approx(value, abs=1e-3)


def test_a_bursty_stream_is_given_more_room():
    rng = np.random.default_rng(0)
    days = np.exp(rng.normal(8, 1.5, 34)).astype(int).tolist()
    quiet = round(float(np.median(days)) / 9)
    assert volume_change(profile(daily_events=(*days, quiet))).value < 1


@pytest.mark.parametrize("days", [(), (5,), (1_000,) * 7, (10,) * 20])
def test_too_few_days_or_events_are_not_judged(days):
    assert volume_change(profile(daily_events=days)).value is None


def test_too_few_ratings_are_not_judged():
    assert ratings_change(profile(recent_ratings={"1.0": 999}), None).value is None
    assert row_change(2, None).value is None
