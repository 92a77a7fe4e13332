"""The plan of a release: who gets which bundle, publishing, and going back."""

import hashlib
import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.bundle.contents import BundleContents
from matinee.bundle.manifest import MANIFEST, CodeVersion, Gate, Provenance
from matinee.bundle.write import write_bundle
from matinee.core.clock import ManualClock
from matinee.core.errors import Corrupt, FormatTooNew, GateRefused, InvalidInput
from matinee.release.plan import (
    RELEASE,
    Arm,
    Plan,
    assign,
    bundles_in_use,
    publish,
    publish_arms,
    read_plan,
    rollback,
)

USERS = [f"user{number}" for number in range(2_000)]


def plan_of(*weights, salt="salt"):
    return Plan(tuple(Arm(f"arm{at}", f"bundle{at}", weight) for at, weight in enumerate(weights)), salt)


def where(plan):
    return [assign(plan, user).name for user in USERS]


def normalised(weights):
    total = math.fsum(weights)
    return [weight / total for weight in weights]


WEIGHTS = st.lists(st.floats(0.01, 1), min_size=2, max_size=5).map(normalised)


class TestAssign:
    def test_one_arm_has_everybody(self):
        assert set(where(plan_of(1.0))) == {"arm0"}

    def test_an_arm_without_weight_has_nobody(self):
        assert set(where(plan_of(0.0, 1.0, 0.0))) == {"arm1"}

    def test_shares_are_the_weights(self):
        """Each count is binomial: beyond five standard deviations once in 1.7 million."""
        n = 20_000
        weights = (0.6, 0.25, 0.1, 0.05)
        names = [assign(plan_of(*weights), f"u{number}").name for number in range(n)]
        for at, weight in enumerate(weights):
            assert abs(names.count(f"arm{at}") - n * weight) < 5 * math.sqrt(n * weight * (1 - weight))

    def test_another_salt_deals_anew(self):
        """Two independent halvings agree on half the users, within five standard deviations."""
        one, two = (where(plan_of(0.5, 0.5, salt=salt)) for salt in ("one", "two"))
        same = sum(a == b for a, b in zip(one, two, strict=True))
        assert abs(same - len(USERS) / 2) < 5 * math.sqrt(len(USERS) / 4)

    def test_it_is_the_documented_race(self):
        plan = plan_of(0.3, 0.7, salt="pepper")

        def draw(arm, user):
            digest = hashlib.blake2b(f"pepper\0{arm.name}\0{user}".encode(), digest_size=8).digest()
            h = (int.from_bytes(digest, "little") // 4096 + 0.5) / 2**52
            return -math.log(h) / arm.weight

        for user in USERS[:200]:
            first, second = plan.arms
            expected = first if draw(first, user) <= draw(second, user) else second
            assert assign(plan, user) == expected

    def test_every_process_says_the_same(self):
        code = """
from matinee.release.plan import Arm, Plan, assign
plan = Plan((Arm("arm0", "bundle0", 0.5), Arm("arm1", "bundle1", 0.5)), "salt")
print(*(assign(plan, f"user{number}").name for number in range(2_000)))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == where(plan_of(0.5, 0.5))

    def test_the_order_of_the_arms_does_not_matter(self):
        plan = plan_of(0.2, 0.3, 0.5)
        assert where(plan) == where(msgspec.structs.replace(plan, arms=plan.arms[::-1]))

    @given(weights=WEIGHTS, raised=st.integers(0, 4), by=st.floats(1.05, 20))
    def test_raising_one_arm_moves_users_only_into_it(self, weights, raised, by):
        raised %= len(weights)
        after = normalised([weight * (by if at == raised else 1) for at, weight in enumerate(weights)])
        moves = [(a, b) for a, b in zip(where(plan_of(*weights)), where(plan_of(*after)), strict=True) if a != b]
        assert {b for _, b in moves} <= {f"arm{raised}"}

    @given(before=WEIGHTS, after=WEIGHTS)
    def test_whoever_moves_goes_where_the_weight_rose(self, before, after):
        size = min(len(before), len(after))
        before, after = normalised(before[:size]), normalised(after[:size])
        rise = {f"arm{at}": new / old for at, (old, new) in enumerate(zip(before, after, strict=True))}
        for a, b in zip(where(plan_of(*before)), where(plan_of(*after)), strict=True):
            assert a == b or rise[b] > rise[a]

    @pytest.mark.parametrize("user", ["", "u\0v", "u\ud800", "x" * 10_000])
    def test_any_text_is_somebody(self, user):
        assert assign(plan_of(0.5, 0.5), user) in plan_of(0.5, 0.5).arms


@pytest.mark.parametrize("weights", [(), (0.5,), (0.5, 0.6), (1.5, -0.5), (math.nan, 1.0), (0.0,)])
def test_weights_add_up_to_one(weights):
    with pytest.raises(InvalidInput):
        plan_of(*weights)


def test_arms_have_distinct_names():
    with pytest.raises(InvalidInput):
        Plan((Arm("a", "x", 0.5), Arm("a", "y", 0.5)), "salt")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def make(tmp_path, clock):
    """Writes a bundle into the data folder and gives its version."""

    def _make(*, passed=True):
        clock.step(1)
        provenance = Provenance(
            model="als", params={}, seed=0, lake_versions={}, offsets=(), time_range=None, row_counts={},
            content_hash="", code=CodeVersion(package="0"), libraries={}, metrics={},
            gate=Gate(passed=passed, evidence={"low": -0.125}),
        )  # fmt: skip
        order = np.arange(2, dtype=np.int32)
        contents = BundleContents(
            provenance, ["a", "b"], np.ones(2, np.float32), order, [], np.empty((0, 2), np.int32), []
        )
        return write_bundle(tmp_path / "bundles", contents=contents, clock=clock)

    return _make


def break_manifest(data, version):
    (data / "bundles" / version / MANIFEST).write_text("{}")


class TestPublish:
    def test_before_anything_is_published_there_is_no_plan(self, tmp_path):
        assert read_plan(tmp_path) is None
        assert bundles_in_use(tmp_path) == set()

    def test_what_is_published_is_read(self, tmp_path, make, clock):
        version = make()
        plan = publish(tmp_path, version, clock=clock, note="first")
        assert read_plan(tmp_path) == plan
        assert plan.arms == (Arm("main", version, 1.0),)
        assert (plan.published_us, plan.note) == (clock.now_us(), "first")
        assert assign(plan, "anybody").bundle == version

    def test_everybody_stays_in_their_arm_from_release_to_release(self, tmp_path, make, clock):
        old, new = make(), make()
        arms = [Arm("main", old, 0.9), Arm("canary", new, 0.1)]
        first = publish(tmp_path, old, clock=clock)
        second = publish_arms(tmp_path, arms, clock=clock)
        assert first.salt == second.salt == publish(tmp_path, new, clock=clock).salt
        assert publish_arms(tmp_path, arms, clock=clock, salt="anew").salt == "anew"

    def test_homes_deal_differently(self, tmp_path, make, clock):
        version = make()
        first = publish(tmp_path, version, clock=clock).salt
        (tmp_path / RELEASE).unlink()
        assert publish(tmp_path, version, clock=clock).salt != first

    @pytest.mark.parametrize("version", ["", "latest", "../../etc", "20261124T001530Z-als-1a2b3c4d/.."])
    def test_what_is_no_version_is_refused(self, tmp_path, clock, version):
        with pytest.raises(InvalidInput, match="not the version of a bundle"):
            publish(tmp_path, version, clock=clock)

    def test_a_bundle_that_is_missing_or_broken_is_refused_and_the_old_plan_stays(self, tmp_path, make, clock):
        good, bad = make(), make()
        break_manifest(tmp_path, bad)
        plan = publish(tmp_path, good, clock=clock)
        for version in (bad, "20261124T001530Z-als-1a2b3c4d"):
            with pytest.raises(Corrupt, match=MANIFEST):
                publish(tmp_path, version, clock=clock)
            with pytest.raises(Corrupt, match=MANIFEST):
                publish_arms(tmp_path, [Arm("a", good, 0.9), Arm("b", version, 0.1)], clock=clock)
        assert read_plan(tmp_path) == plan

    def test_a_bundle_that_did_not_pass_the_gate_is_refused(self, tmp_path, make, clock):
        with pytest.raises(GateRefused, match=r"-0\.125"):
            publish(tmp_path, make(passed=False), clock=clock)
        assert read_plan(tmp_path) is None

    def test_two_at_once_both_count(self, tmp_path, make, clock):
        versions = [make() for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda version: publish(tmp_path, version, clock=clock), versions))
        document = json.loads((tmp_path / RELEASE).read_text())
        plans = [document["current"], *document["previous"]]
        assert sorted(plan["arms"][0]["bundle"] for plan in plans) == versions
        assert len({plan["salt"] for plan in plans}) == 1


class TestRollback:
    def test_step_by_step(self, tmp_path, make, clock):
        versions = [make() for _ in range(3)]
        for version in versions:
            publish(tmp_path, version, clock=clock)
        for version in versions[1::-1]:
            clock.step(1)
            plan = rollback(tmp_path, clock=clock, note="it was worse")
            assert read_plan(tmp_path) == plan
            assert plan.bundles == {version}
            assert (plan.published_us, plan.note) == (clock.now_us(), "it was worse")
        with pytest.raises(InvalidInput, match="no earlier plan"):
            rollback(tmp_path, clock=clock)
        assert read_plan(tmp_path).bundles == {versions[0]}

    def test_publishing_the_same_again_is_no_step(self, tmp_path, make, clock):
        old, new = make(), make()
        for version in (old, new, new):
            publish(tmp_path, version, clock=clock)
        assert rollback(tmp_path, clock=clock).bundles == {old}

    def test_bundles_that_are_gone_are_passed_over(self, tmp_path, make, clock):
        versions = [make() for _ in range(3)]
        for version in versions:
            publish(tmp_path, version, clock=clock)
        break_manifest(tmp_path, versions[1])
        assert rollback(tmp_path, clock=clock).bundles == {versions[0]}

    def test_before_anything_is_published(self, tmp_path, clock):
        with pytest.raises(InvalidInput, match="no earlier plan"):
            rollback(tmp_path, clock=clock)

    def test_what_a_rollback_needs_is_in_use(self, tmp_path, make, clock):
        versions = [make() for _ in range(3)]
        for version in versions:
            publish(tmp_path, version, clock=clock)
        assert bundles_in_use(tmp_path) == set(versions[1:])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format_version": 1}',
        '{"format_version": 1, "current": 3}',
        '{"format_version": 1, "current": {"arms": [], "salt": "x"}}',
        '{"format_version": 1, "current": {"arms": [{"name": "a", "bundle": "b"}], "salt": "x"}, "previous": 3}',
    ],
)
def test_a_broken_plan_is_refused_by_name(tmp_path, text):
    (tmp_path / RELEASE).write_text(text)
    with pytest.raises(Corrupt, match=RELEASE):
        read_plan(tmp_path)


def test_a_newer_plan_is_refused(tmp_path):
    (tmp_path / RELEASE).write_text('{"format_version": 2}')
    with pytest.raises(FormatTooNew, match=RELEASE):
        read_plan(tmp_path)
