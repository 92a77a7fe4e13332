"""Erasure from bundles: complete, in every plan, and finished by the next call wherever one was killed."""

import shutil
from pathlib import Path

import pytest

from bundle.bundle_samples import contents, provenance, user_block
from matinee.bundle.manifest import list_versions, read_manifest
from matinee.bundle.open import open_bundle
from matinee.bundle.write import write_bundle
from matinee.core.clock import ManualClock
from matinee.core.errors import OutOfRoom, StoreUnavailable
from matinee.core.home import Home
from matinee.release import erasure
from matinee.release.erasure import erase_from_bundles
from matinee.release.plan import Arm, publish, publish_arms, read_plans, rollback

CLOCK = ManualClock()
WHO = "who-is-it"
OTHERS = ["ann", "bob", "zoe"]
ERASED = frozenset({WHO})


class Killed(BaseException):
    """The process ends here."""


def made(home: Home, name: str, users: list[str]) -> str:
    CLOCK.step(1)
    given = contents([user_block(users)], provenance=provenance(params={"name": name}))
    return write_bundle(home.bundles, contents=given, clock=CLOCK)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def versions(home: Home) -> list[str]:
    """Two that hold the user and were released one after the other, and two that answer now: one holds the user."""
    held = [made(home, name, sorted([*OTHERS, WHO])) for name in ("first", "second", "third")]
    free = made(home, "fourth", OTHERS)
    for version in held[:2]:
        publish(home.data, version, clock=CLOCK)
    publish_arms(home.data, [Arm("a", held[2], 0.5), Arm("b", free, 0.5)], clock=CLOCK)
    return [*held, free]


def bytes_with(home: Home, user: str) -> list[str]:
    """Files under the home that hold the text."""
    files = (path for path in sorted(home.path.rglob("*")) if path.is_file())
    return [str(path) for path in files if user.encode() in path.read_bytes()]


def require_erased(home: Home, versions: list[str]) -> None:
    """No bundle holds the user, no plan leads to one that did, and everybody else is as before."""
    assert bytes_with(home, WHO) == []
    now = list_versions(home.bundles)
    assert len(now) == len(versions)
    assert versions[3] in now
    assert not {*versions[:3]} & {*now}
    assert [path.name for path in home.bundles.iterdir() if path.name not in now] == []
    stands_for = {before: v for v in now for before in read_manifest(home.bundles / v).predecessors[:1]}
    assert list(stands_for) == versions[:3]  # in the order of their age
    plans = read_plans(home.data)
    assert [sorted(plan.bundles) for plan in plans] == [
        sorted([stands_for[versions[2]], versions[3]]),
        [stands_for[versions[1]]],
        [stands_for[versions[0]]],
    ]
    assert [(arm.name, arm.weight) for arm in plans[0].arms] == [("a", 0.5), ("b", 0.5)]
    for version in now:
        with open_bundle(home.bundles / version, home.run) as bundle:
            assert bundle.users.ids() == OTHERS
            assert bundle.user(WHO) is None
            assert bundle.manifest.n_users == len(OTHERS)


def test_no_bundle_and_no_plan_leads_to_the_user_any_more(home: Home, versions: list[str]):
    before = read_plans(home.data)
    assert erase_from_bundles(home, ERASED).keys() == {*versions[:3]}
    require_erased(home, versions)
    after = read_plans(home.data)
    assert [(plan.salt, plan.published_us) for plan in after] == [(plan.salt, plan.published_us) for plan in before]
    assert rollback(home.data, clock=CLOCK).bundles == after[1].bundles
    plans = read_plans(home.data)
    assert erase_from_bundles(home, ERASED) == {}
    assert read_plans(home.data) == plans


def test_bundles_without_an_erased_user_are_left_alone(home: Home, versions: list[str]):
    stamps = {path: path.stat().st_mtime_ns for path in home.bundles.rglob("*")}
    assert erase_from_bundles(home, frozenset({"somebody-else"})) == {}
    assert erase_from_bundles(home, frozenset()) == {}
    assert {path: path.stat().st_mtime_ns for path in home.bundles.rglob("*")} == stamps


STEPS = ("rewrite_bundle", "replace_bundle", "delete")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", range(3))
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_the_next_call_finishes(
    home: Home, versions: list[str], monkeypatch: pytest.MonkeyPatch, step: str, call: int, when: str
):
    real, calls = getattr(erasure, step), []

    def killing(*given, **named):
        calls.append(given)
        if len(calls) == call + 1 and when == "before":
            raise Killed
        result = real(*given, **named)
        if len(calls) == call + 1:
            raise Killed
        return result

    with monkeypatch.context() as patch:
        patch.setattr(erasure, step, killing)
        with pytest.raises(Killed):
            erase_from_bundles(home, ERASED)
    assert read_plans(home.data)[0].bundles <= {*list_versions(home.bundles)}  # what answers is always there
    erase_from_bundles(home, ERASED)
    require_erased(home, versions)


def test_a_second_user_may_be_erased_after_a_call_that_was_killed(
    home: Home, versions: list[str], monkeypatch: pytest.MonkeyPatch
):
    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(erasure, "delete", lambda bundles, gone: killed() if gone else [])
        with pytest.raises(Killed):
            erase_from_bundles(home, ERASED)
    replaced = erase_from_bundles(home, frozenset({WHO, "bob"}))
    assert not bytes_with(home, WHO)
    assert not bytes_with(home, "bob")
    assert versions[3] in replaced
    now = list_versions(home.bundles)
    assert len(now) == 4
    assert all(plan.bundles <= {*now} for plan in read_plans(home.data))
    first = read_manifest(home.bundles / now[0])
    assert first.predecessors[0] == versions[0]
    assert len(first.predecessors) == 2


def test_what_a_killed_writer_and_a_killed_deletion_left_goes_too(home: Home, versions: list[str]):
    for name in (".writing-abc", f".removing-{versions[0]}"):
        shutil.copytree(home.bundles / versions[0], home.bundles / name)
    erase_from_bundles(home, ERASED)
    require_erased(home, versions)


@pytest.mark.parametrize("damage", ["users.lmdb", "manifest.json", "items.txt"])
def test_a_damaged_bundle_is_deleted_since_nobody_can_say_whom_it_holds(
    home: Home, versions: list[str], damage: str
):
    file = home.bundles / versions[1] / damage
    file.write_bytes(file.read_bytes()[:3])
    replaced = erase_from_bundles(home, ERASED)
    assert replaced[versions[1]] is None
    assert bytes_with(home, WHO) == []
    assert len(list_versions(home.bundles)) == 3
    back = rollback(home.data, clock=CLOCK)  # passes over the plan whose bundle is gone
    assert back.bundles == {replaced[versions[0]]}


def test_without_room_for_a_copy_everything_stays_and_says_so(
    home: Home, versions: list[str], monkeypatch: pytest.MonkeyPatch
):
    plans = read_plans(home.data)

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matinee.bundle.write.copy_users", full)
    with pytest.raises(OutOfRoom, match="no room for a bundle"):
        erase_from_bundles(home, ERASED)
    assert list_versions(home.bundles) == versions
    assert read_plans(home.data) == plans
    monkeypatch.undo()
    erase_from_bundles(home, ERASED)
    require_erased(home, versions)


def test_a_bundle_that_cannot_be_deleted_is_said_and_the_next_call_deletes_it(
    home: Home, versions: list[str], monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(StoreUnavailable, match="could not be deleted"):
            erase_from_bundles(home, ERASED)
    assert read_plans(home.data)[0].bundles <= {*list_versions(home.bundles)}
    erase_from_bundles(home, ERASED)
    require_erased(home, versions)
