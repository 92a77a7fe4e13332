import pytest
from serving_samples import make_bundle

from matinee.bundle.open import Bundle
from matinee.core.clock import ManualClock
from matinee.core.errors import Corrupt, StoreUnavailable
from matinee.core.home import Home
from matinee.release.plan import RELEASE, Arm, publish, publish_arms, rollback
from matinee.serving.release import GRACE_SECONDS, ReleaseHolder

CLOCK = ManualClock()


@pytest.fixture
def holder(home: Home):
    opened = ReleaseHolder(home, CLOCK)
    yield opened
    opened.close()


def release(home: Home, name: str) -> str:
    version = make_bundle(home, name)
    publish(home.data, version, clock=CLOCK)
    return version


def bundle_of(holder: ReleaseHolder) -> Bundle:
    assert holder.current is not None
    return holder.current.choose("anybody")[1]


def flip_last_byte(home: Home, version: str) -> bytes:
    path = home.bundles / version / "users.lmdb"
    intact = path.read_bytes()
    path.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
    return intact


def test_without_a_release_it_says_so(holder: ReleaseHolder):
    holder.look()
    assert holder.current is None
    assert "no release was published yet" in holder.why_not
    assert holder.refused == 0


def test_a_release_is_found_and_followed(home: Home, holder: ReleaseHolder):
    first = release(home, "a")
    holder.look()
    assert (bundle_of(holder).version, holder.swaps, holder.why_not) == (first, 1, "")
    second = release(home, "b")
    holder.look()
    assert (bundle_of(holder).version, holder.swaps) == (second, 2)
    holder.look()
    assert holder.swaps == 2


def test_the_old_bundle_answers_until_the_grace_period_is_over(home: Home, holder: ReleaseHolder):
    release(home, "a")
    holder.look()
    old = bundle_of(holder)
    release(home, "b")
    holder.look()
    assert old.user("u001") is not None
    CLOCK.sleep(GRACE_SECONDS)
    holder.look()
    with pytest.raises(Exception, match=r"(?i)closed|transaction|txn|invalid"):
        old.user("u001")


def test_a_corrupt_bundle_is_refused_once_and_the_old_one_stays(home: Home, holder: ReleaseHolder):
    first = release(home, "a")
    holder.look()
    second = release(home, "b")
    intact = flip_last_byte(home, second)
    for _ in range(3):
        holder.look()
    assert (bundle_of(holder).version, holder.refused, holder.swaps) == (first, 1, 1)
    assert "users.lmdb" in holder.why_not
    (home.bundles / second / "users.lmdb").write_bytes(intact)
    holder.look()
    assert (bundle_of(holder).version, holder.refused, holder.why_not) == (second, 1, "")


def test_a_plan_that_cannot_be_read_changes_nothing(home: Home, holder: ReleaseHolder):
    first = release(home, "a")
    holder.look()
    good = (home.data / RELEASE).read_bytes()
    (home.data / RELEASE).write_bytes(b"{")
    holder.look()
    holder.look()
    assert (bundle_of(holder).version, holder.refused) == (first, 1)
    (home.data / RELEASE).write_bytes(good)
    holder.look()
    assert (holder.why_not, holder.swaps) == ("", 1)


def test_a_bundle_that_went_missing_is_tried_again_when_it_is_back(home: Home, holder: ReleaseHolder):
    version = release(home, "a")
    hidden = home.bundles / "hidden"
    (home.bundles / version).rename(hidden)
    holder.look()
    holder.look()
    assert (holder.current, holder.refused) == (None, 1)
    hidden.rename(home.bundles / version)
    holder.look()
    assert bundle_of(holder).version == version


def test_a_server_that_starts_on_a_corrupt_release_serves_the_one_before(home: Home, holder: ReleaseHolder):
    first = release(home, "a")
    flip_last_byte(home, release(home, "b"))
    holder.look()
    assert bundle_of(holder).version == first
    assert "users.lmdb" in holder.why_not


def test_rolling_back_is_a_release_like_any_other(home: Home, holder: ReleaseHolder):
    first = release(home, "a")
    release(home, "b")
    holder.look()
    rollback(home.data, clock=CLOCK)
    holder.look()
    assert bundle_of(holder).version == first


def test_two_arms_have_two_bundles_and_a_shared_one_is_not_opened_again(home: Home, holder: ReleaseHolder):
    first = release(home, "a")
    holder.look()
    kept = bundle_of(holder)
    second = make_bundle(home, "b")
    publish_arms(home.data, [Arm("main", first, 0.5), Arm("canary", second, 0.5)], clock=CLOCK)
    holder.look()
    assert holder.current is not None
    assert holder.current.bundles[first] is kept
    chosen = {holder.current.choose(f"user{number}")[0] for number in range(100)}
    assert chosen == {"main", "canary"}
    assert all(
        bundle.version == {"main": first, "canary": second}[arm]
        for arm, bundle in (holder.current.choose(f"user{number}") for number in range(100))
    )
    assert holder.current.main_version == first


def test_no_third_bundle_is_opened_before_the_first_is_closed(home: Home, holder: ReleaseHolder):
    release(home, "a")
    holder.look()
    oldest = bundle_of(holder)
    second = release(home, "b")
    holder.look()
    third = release(home, "c")
    for _ in range(3):
        CLOCK.sleep(GRACE_SECONDS / 4)
        holder.look()
        assert (bundle_of(holder).version, holder.held) == (second, 2)
        assert oldest.user("u001") is not None
    CLOCK.sleep(GRACE_SECONDS / 4)
    holder.look()  # the first is closed, and the third takes over at once
    assert (bundle_of(holder).version, holder.held, holder.why_not) == (third, 2, "")
    with pytest.raises(StoreUnavailable):
        oldest.user("u001")


def test_going_back_within_the_grace_period_takes_the_bundle_up_again(home: Home, holder: ReleaseHolder):
    first = release(home, "a")
    holder.look()
    kept = bundle_of(holder)
    release(home, "b")
    holder.look()
    rollback(home.data, clock=CLOCK)
    holder.look()
    assert (bundle_of(holder), holder.held) == (kept, 2)
    CLOCK.sleep(2 * GRACE_SECONDS)
    holder.look()
    assert (holder.held, kept.version) == (1, first)
    assert kept.user("u001") is not None


def test_a_bundle_is_warmed_up_before_it_answers_anybody(home: Home):
    warmed: list[str] = []

    def warm_up(bundle: Bundle) -> None:
        assert holder.current is None or holder.current.main_version != bundle.version
        warmed.append(bundle.version)
        if len(warmed) == 2:
            raise ValueError("cannot answer")

    holder = ReleaseHolder(home, CLOCK, warm_up)
    first = release(home, "a")
    holder.look()
    second = release(home, "b")
    holder.look()
    assert (warmed, bundle_of(holder).version, holder.held) == ([first, second], first, 1)
    assert "cannot answer" in holder.why_not
    holder.close()


def test_nobody_in_particular_is_in_the_first_arm(home: Home, holder: ReleaseHolder):
    first, second = make_bundle(home, "a"), make_bundle(home, "b")
    publish_arms(home.data, [Arm("main", first, 0.1), Arm("canary", second, 0.9)], clock=CLOCK)
    holder.look()
    assert holder.current is not None
    assert holder.current.choose(None)[0] == "main"


def cut_short(home: Home, version: str, name: str = "users.lmdb") -> None:
    with (home.bundles / version / name).open("r+b") as file:
        file.truncate(8_192 if name == "users.lmdb" else 100)


@pytest.mark.parametrize("name", ["users.lmdb", "fold_in-item_factors.npy"])
def test_a_bundle_cut_short_while_it_answers_is_left_for_the_one_before(
    home: Home, holder: ReleaseHolder, name: str
):
    first, second = release(home, "a"), release(home, "b")
    holder.look()
    damaged = bundle_of(holder)
    cut_short(home, second, name)
    if name == "users.lmdb":
        with pytest.raises(Corrupt, match="cut short"):
            damaged.user("u001")
    else:
        assert damaged.fold_in is None
    assert len(damaged.popular()) == len(damaged.items)  # there is always this to answer with
    for _ in range(3):
        holder.look()
    assert (bundle_of(holder).version, holder.refused, holder.swaps) == (first, 1, 2)
    assert f"{name} has" in holder.why_not
    cut_short(home, first)
    third = release(home, "c")
    holder.look()
    assert (bundle_of(holder).version, holder.why_not) == (third, "")


def test_with_no_release_before_it_a_bundle_cut_short_goes_on_as_well_as_it_can(home: Home, holder: ReleaseHolder):
    version = release(home, "a")
    holder.look()
    cut_short(home, version)
    for _ in range(3):
        holder.look()
    assert (bundle_of(holder).version, holder.refused, holder.swaps) == (version, 1, 1)
    assert "has 8192 bytes" in holder.why_not


def test_the_release_fallen_back_to_is_left_too_when_it_is_cut_short(home: Home, holder: ReleaseHolder):
    first, second, third = (release(home, name) for name in "abc")
    holder.look()
    for damaged, answers in ((third, second), (second, first)):
        cut_short(home, damaged)
        holder.look()
        assert bundle_of(holder).version == answers


def test_two_arms_that_take_the_place_of_two_others_open_no_third_bundle(home: Home, holder: ReleaseHolder):
    a, b, c, d = (make_bundle(home, name) for name in "abcd")
    publish_arms(home.data, [Arm("canary", b, 0.1), Arm("main", a, 0.9)], clock=CLOCK)
    holder.look()
    publish_arms(home.data, [Arm("canary", d, 0.1), Arm("main", c, 0.9)], clock=CLOCK)
    answered = []
    for _ in range(12):
        holder.look()
        assert holder.current is not None
        assert holder.held <= 2
        answered.append(sorted(holder.current.bundles))
        CLOCK.sleep(GRACE_SECONDS / 4)
    assert [versions for at, versions in enumerate(answered) if versions not in answered[:at]] == [
        [a],
        [c],
        sorted([c, d]),
    ]
    assert holder.why_not == ""
    assert {holder.current.choose(f"user{number}")[0] for number in range(100)} == {"main", "canary"}


def test_arms_that_would_be_refused_cost_those_that_answer_nothing(home: Home, holder: ReleaseHolder):
    a, b, c, d = (make_bundle(home, name) for name in "abcd")
    publish_arms(home.data, [Arm("main", a, 0.5), Arm("canary", b, 0.5)], clock=CLOCK)
    holder.look()
    publish_arms(home.data, [Arm("main", c, 0.5), Arm("canary", d, 0.5)], clock=CLOCK)
    cut_short(home, d)
    for _ in range(3):
        holder.look()
    assert holder.current is not None
    assert (set(holder.current.bundles), holder.refused) == ({a, b}, 1)
