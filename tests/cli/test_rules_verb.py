"""`matinee rules`, and what a server's rules make of the file it leaves."""

import tomllib
from pathlib import Path

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from matinee.cli.rules import edited
from matinee.core.clock import ManualClock
from matinee.serving.rules import LiveRules

BY_HAND = """\
# Rights, as of today.
blocked = ["b+2"]  # by the lawyers

[available."c+3"]
from = 2026-12-24  # Christmas
until = 2027-01-07T00:00:00+01:00

[available."e+5"]
until = 9999-12-31

[age_limits]
"d+4" = 16

[most_of_one_genre]
Horror = 0.2
"""


def rules_file(matinee) -> Path:
    return Path(matinee.home) / "data" / "rules.toml"


def test_what_is_blocked_holds_at_the_next_look_of_a_server(matinee):
    live = LiveRules(rules_file(matinee), ManualClock())
    live.look()
    assert matinee.json("rules", "block", "a+1", "b+2", "a+1") == {
        "blocked": ["a+1", "b+2"], "blocked_before": [], "unknown": None,
    }  # fmt: skip
    live.look()
    assert live.rules.blocked == ("a+1", "b+2")
    assert matinee.json("rules", "block", "b+2")["blocked_before"] == ["b+2"]
    assert matinee.json("rules", "unblock", "a+1", "c+3") == {"unblocked": ["a+1"], "not_blocked": ["c+3"]}
    live.look()
    assert (live.rules.blocked, live.why_not) == (("b+2",), "")
    assert "b+2" in matinee("rules", "show").stdout


def test_what_is_written_by_hand_stays(matinee):
    rules_file(matinee).parent.mkdir(parents=True)
    rules_file(matinee).write_text(BY_HAND)
    matinee("rules", "block", "a+1")
    text = rules_file(matinee).read_text()
    kept = [line for line in BY_HAND.splitlines() if not line.startswith("blocked")]
    assert [line for line in text.splitlines() if line in kept] == kept
    assert "# by the lawyers" in text
    assert matinee.json("rules", "show") == {
        "path": str(rules_file(matinee)), "blocked": ["b+2", "a+1"], "unknown_age": 0, "unknown": None,
        "available": {"c+3": {"from": "2026-12-24T00:00:00Z", "until": "2027-01-06T23:00:00Z"},
                      "e+5": {"from": None, "until": "10000-01-01T00:00:00Z"}},
        "age_limits": {"d+4": 16}, "most_of_one_genre": {"Horror": 0.2},
    }  # fmt: skip
    shown = matinee("rules", "check", rules_file(matinee)).stdout
    for told in ("c+3", "2027-01-06T23:00:00Z", "16 years", "20%"):
        assert told in shown


ITEMS = st.lists(st.sampled_from("abcdef"), unique=True)
RESTS = ("", "\n[age_limits]\na = 3  # why\n", BY_HAND.partition("\n\n")[2])


@given(kept=ITEMS, gone=ITEMS, added=ITEMS, rest=st.sampled_from(RESTS))
def test_an_edit_changes_the_blocked_items_alone(kept, gone, added, rest):
    kept = [item for item in kept if item not in gone]
    before = sorted({*kept, *gone}, key=[*kept, *gone].index)
    after = kept + [item for item in added if item not in before]
    text = f"# top\n{tomlkit.dumps({'blocked': before})}{rest}"
    assert tomllib.loads(edited(text, after)) == tomllib.loads(text) | {"blocked": after}
    assert tomllib.loads(edited(rest, added)) == tomllib.loads(rest or "format_version = 1") | {"blocked": added}


def test_a_broken_file_is_refused_and_left_as_it_is(matinee):
    rules_file(matinee).parent.mkdir(parents=True)
    rules_file(matinee).write_bytes(b"blocked = [\xff")
    for words in (("block", "a+1"), ("unblock", "a+1"), ("show",), ("check",)):
        assert matinee.json("rules", *words, status=1)["kind"] == "InvalidInput"
    assert rules_file(matinee).read_bytes() == b"blocked = [\xff"


def test_what_cannot_be_an_item_is_not_blocked(matinee):
    assert matinee.json("rules", "block", "a b", status=1)["kind"] == "InvalidId"
    assert matinee.json("rules", "check", "nowhere.toml", status=1)["kind"] == "InvalidInput"
    assert not rules_file(matinee).exists()


@pytest.mark.parametrize("verb", ["show", "check", "block", "unblock"])
def test_every_verb_teaches(matinee, verb):
    assert "Usage:" in matinee("rules", verb, "--help").stdout
