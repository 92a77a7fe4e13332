from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_samples import N_ITEMS, new_home, open_sample

from matinee.bundle.attributes import ALWAYS_US, ItemAttributes
from matinee.bundle.open import Bundle
from matinee.core.clock import DAY, HOUR, ManualClock
from matinee.core.errors import FormatTooNew, InvalidInput
from matinee.core.files import write_atomically
from matinee.core.home import Home
from matinee.serving.rules import BUNDLES_KEPT, LiveRules, parse_rules

MIDNIGHT = 1_798_070_400_000_000  # 2026-12-24T00:00:00Z
LIMITS = {0: 6, 1: 12, 2: 18}
ALL = set(range(N_ITEMS))


def attributes() -> ItemAttributes:
    """Items 0, 1 and 2 are from the ages of 6, 12 and 18; item 3 is there until midnight, item 4 from then on."""
    known = ItemAttributes.unknown(N_ITEMS)
    age_limit, until, start = (
        known.age_limit.copy(),
        known.available_until_us.copy(),
        known.available_from_us.copy(),
    )
    mask = np.zeros((N_ITEMS, 2), dtype=np.bool_)
    age_limit[list(LIMITS)] = list(LIMITS.values())
    until[3] = start[4] = MIDNIGHT
    mask[5, 0] = mask[6, 1] = True
    return replace(known, genres=("Drama", "Horror"), genre_mask=mask, age_limit=age_limit,
                   available_until_us=until, available_from_us=start)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    with open_sample(new_home(tmp_path_factory.mktemp("rules")), attributes=attributes()) as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rules.toml"


def live(path: Path, text: str | None = None) -> LiveRules:
    if text is not None:
        write_atomically(path, text.encode())
    rules = LiveRules(path, ManualClock())
    rules.look()
    return rules


def hidden(rules: LiveRules, bundle: Bundle, now_us: int = MIDNIGHT - HOUR, age: int = 99) -> set[int]:
    return set(np.flatnonzero(~rules.mask(bundle, now_us=now_us, age=age)).tolist())


def test_without_a_file_only_the_catalogues_own_rules_hold(path: Path, bundle: Bundle):
    rules = live(path)
    assert (rules.why_not, rules.version, rules.refused) == ("", 1, 0)
    assert hidden(rules, bundle) == {4}
    assert hidden(rules, bundle, MIDNIGHT) == {3}


@pytest.mark.parametrize(
    ("age", "items"),
    [(0, {0, 1, 2}), (5, {0, 1, 2}), (6, {1, 2}), (11, {1, 2}), (12, {2}), (17, {2}), (18, set()), (255, set())],
)
def test_an_item_is_for_those_of_its_age_and_above(path: Path, bundle: Bundle, age: int, items: set[int]):
    assert hidden(live(path), bundle, age=age) - {4} == items


def test_whose_age_is_not_known_sees_what_the_operator_says(path: Path, bundle: Bundle):
    assert hidden(live(path), bundle, age=-1) == {0, 1, 2, 4}
    assert hidden(live(path, "unknown_age = 12"), bundle, age=-1) == {2, 4}
    assert hidden(live(path, "unknown_age = 12"), bundle, age=0) == {0, 1, 2, 4}


def test_blocked_items_are_shown_to_nobody(path: Path, bundle: Bundle):
    assert hidden(live(path, 'blocked = ["a+7", "a+9"]'), bundle) == {4, 7, 9}


def test_rules_stand_above_the_catalogue(path: Path, bundle: Bundle):
    rules = live(
        path,
        '[available."a+3"]\nfrom = 2026-12-25\n[available."a+4"]\nuntil = 2026-12-24T02:00:00+01:00\n'
        '[age_limits]\n"a+2" = 0\n"a+8" = 21\n',
    )
    assert hidden(rules, bundle, age=20) == {3, 8}
    assert hidden(rules, bundle, MIDNIGHT + HOUR - 1, age=21) == {3}
    assert hidden(rules, bundle, MIDNIGHT + HOUR, age=21) == {3, 4}
    assert hidden(rules, bundle, MIDNIGHT + DAY, age=21) == {4}


@given(
    moments=st.lists(st.integers(MIDNIGHT - 3, MIDNIGHT + 3), min_size=1, max_size=8),
    ages=st.lists(st.integers(-1, 20), min_size=1, max_size=8),
)
def test_a_mask_that_was_kept_is_the_one_that_would_be_made(bundle: Bundle, moments: list[int], ages: list[int]):
    """Whichever way the clock goes."""
    rules = LiveRules(Path("/nowhere/rules.toml"), ManualClock())
    for now_us in moments:
        for age in ages:
            too_old = {item for item, limit in LIMITS.items() if limit > max(age, 0)}
            assert hidden(rules, bundle, now_us, age) == too_old | ({4} if now_us < MIDNIGHT else {3})


def test_a_mask_is_made_once_for_each_age_limit_and_until_something_changes(path: Path, bundle: Bundle):
    rules = live(path)
    first = rules.mask(bundle, now_us=MIDNIGHT - HOUR, age=12)
    assert rules.mask(bundle, now_us=MIDNIGHT - 1, age=17) is first
    assert rules.mask(bundle, now_us=MIDNIGHT - 1, age=18) is not first
    assert rules.mask(bundle, now_us=MIDNIGHT, age=12) is not first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = False


def test_a_changed_file_holds_after_a_look(path: Path, bundle: Bundle):
    rules = live(path, 'blocked = ["a+7"]')
    write_atomically(path, b'blocked = ["a+8"]')
    assert hidden(rules, bundle) == {4, 7}
    rules.look()
    assert (hidden(rules, bundle), rules.version) == ({4, 8}, 2)
    path.unlink()
    rules.look()
    assert (hidden(rules, bundle), rules.version) == ({4}, 3)


def test_a_file_written_again_with_the_same_rules_costs_no_mask(path: Path, bundle: Bundle):
    rules = live(path, 'blocked = ["a+7"]')
    first = rules.mask(bundle, now_us=MIDNIGHT, age=20)
    write_atomically(path, b'# as before\nblocked = ["a+7"]')
    rules.look()
    assert rules.version == 1
    assert rules.mask(bundle, now_us=MIDNIGHT, age=20) is first


@pytest.mark.parametrize("broken", [b"blocked = [", b"blocked = 3", b"\xff", b"typo = 1", b"format_version = 2",
                                    b"a = " + b"[" * 5_000])  # fmt: skip
def test_a_broken_file_leaves_the_rules_before_it(path: Path, bundle: Bundle, broken: bytes):
    rules = live(path, 'blocked = ["a+7"]')
    write_atomically(path, broken)
    for _ in range(3):  # it is read, refused and counted once
        rules.look()
    assert (hidden(rules, bundle), rules.refused, rules.version) == ({4, 7}, 1, 1)
    assert str(path) in rules.why_not
    write_atomically(path, b'blocked = ["a+8"]')
    rules.look()
    assert (hidden(rules, bundle), rules.why_not) == ({4, 8}, "")


def test_a_file_that_cannot_be_opened_leaves_the_rules_before_it(path: Path, bundle: Bundle):
    rules = live(path, 'blocked = ["a+7"]')
    path.unlink()
    path.mkdir()
    rules.look()
    assert (hidden(rules, bundle), rules.refused) == ({4, 7}, 1)


def test_a_broken_file_at_the_start_is_told(path: Path):
    rules = live(path, "blocked = [")
    assert (rules.version, rules.taken_us) == (0, None)
    assert rules.why_not


def test_what_was_blocked_stays_so_over_a_start_with_a_broken_file(path: Path, bundle: Bundle):
    live(path, 'blocked = ["a+7"]')
    started = live(path, "blocked = [")
    assert (hidden(started, bundle), started.refused) == ({4, 7}, 1)
    assert started.why_not
    live(path, "")  # no rule any more, and that is kept too
    assert hidden(live(path, "blocked = ["), bundle) == {4}


def test_rules_hold_where_they_cannot_be_kept(path: Path, bundle: Bundle):
    path.with_suffix(".taken.toml").mkdir()
    assert hidden(live(path, 'blocked = ["a+7"]'), bundle) == {4, 7}
    assert hidden(live(path, "blocked = ["), bundle) == {4}


def test_items_that_the_bundle_does_not_know_are_kept_and_told(path: Path, bundle: Bundle, home: Home):
    rules = live(path, 'blocked = ["a+7", "b+1", "no id"]\n[age_limits]\n"gone+1999" = 3\n')
    assert hidden(rules, bundle) == {4, 7}
    assert rules.unknown_items(bundle) == ("b+1", "gone+1999", "no id")
    with open_sample(home, "b") as another:  # which knows what the first does not
        assert hidden(rules, another) == {1}
        assert rules.unknown_items(another) == ("a+7", "gone+1999", "no id")


def test_masks_of_bundles_that_are_gone_are_let_go(path: Path, home: Home):
    rules = live(path)
    for number in range(BUNDLES_KEPT + 2):
        with open_sample(home, f"b{number}") as another:
            first = rules.mask(another, now_us=0, age=1)
            assert rules.mask(another, now_us=0, age=1) is first
    assert len(rules._state[1]) == BUNDLES_KEPT


def test_a_genres_share_is_the_rules_or_the_settings(path: Path, bundle: Bundle):
    rules = live(path, "[most_of_one_genre]\nhorror = 0.2\nWestern = 0.1\n")
    assert rules.most_of_one_genre(bundle, 0.9).tolist() == [0.9, 0.2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('blocked = "a+1"', "$.blocked"),
        ("unknown_age = -1", "unknown_age"),
        ('age_limits = {"a+1" = 256}', "age_limits"),
        ("most_of_one_genre = {Drama = 1.5}", "most_of_one_genre"),
        ('available."a+1" = {from = "soon"}', "soon"),
        ('available."a+1" = {from = 12:00:00}', "is no date"),
        ('available."a+1" = {since = 2026-01-01}', "since"),
        ('available."a+1" = {from = 2026-01-02, until = 2026-01-01}', "a+1"),
        ("format_version = 'one'", "format_version"),
    ],
)
def test_what_is_no_rule_is_named(text: str, told: str):
    with pytest.raises(InvalidInput, match="rules") as refused:
        parse_rules(text.encode(), "rules.toml")
    assert told in str(refused.value)


def test_rules_of_a_newer_matinee_are_refused():
    with pytest.raises(FormatTooNew):
        parse_rules(b"format_version = 2\nwhat_this_one_does_not_know = 1", "rules.toml")


def test_open_ends_and_zones_and_whole_days():
    one_day = parse_rules(b"available.x = {from = 2026-12-24, until = 2026-12-24}", "rules.toml").available["x"]
    assert one_day.us() == (MIDNIGHT, MIDNIGHT + DAY)
    window = parse_rules(b"available.x = {until = 2026-12-24T01:00:00+01:00}", "rules.toml").available["x"]
    assert window.us() == (ALWAYS_US[0], MIDNIGHT)
    assert parse_rules(b"available.x = {from = 2026-12-24}", "r").available["x"].us() == (MIDNIGHT, ALWAYS_US[1])
    assert (
        parse_rules(b"available.x = {from = 2026-12-24T00:00:00.5}", "r").available["x"].us()[0]
        == MIDNIGHT + 500_000
    )


def test_the_guides_file_is_one():
    page = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
    shown = page.partition("```toml\n")[2].partition("```")[0]
    rules = parse_rules(shown.encode(), "docs/rules.md")
    assert (rules.blocked, rules.age_limits) == (("some+movie+1999",), {"third+movie+1980": 16})
    assert rules.available["other+movie+2024"].us() == (MIDNIGHT, MIDNIGHT + 15 * DAY)
    assert rules.most_of_one_genre == {"Horror": 0.2}
