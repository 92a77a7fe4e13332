"""The guides say what there is: each command in them parses, and each model stands in their table."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from matinee.cli.main import app
from matinee.models.registry import MODELS, NAMES

DOCS = Path(__file__).parents[2] / "docs"
RUNBOOKS = tuple(sorted(f"runbooks/{path.name}" for path in (DOCS / "runbooks").glob("*.md")))
GUIDES = ("models.md", "tuning.md", "deployment.md", "world.md", "lake.md", "metadata.md")
TALK = (*GUIDES, "stream.md", *RUNBOOKS)
"""Guides that speak of commands within sentences."""
_COMMAND = re.compile(r"^(?:\$ |    )matinee (.+)$", re.MULTILINE)
_MENTION = re.compile(r"`matinee ([^`]+)`")


def table_of_models():
    """The cells of each row, the model's name without its marks."""
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    table = text.partition("## All models")[2].partition("\n## ")[0]
    return [
        [name, *(cell.strip() for cell in cells.split("|"))]
        for name, cells in re.findall(r"^\| `(\w+)` \|(.+)\|$", table, re.MULTILINE)
    ]


def commands(guide):
    """What is typed after `matinee` on a line of its own, in words; after a backslash it goes on."""
    text = (DOCS / guide).read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in _COMMAND.findall(text)]


def mentions(guide):
    """The commands within sentences, in words: a verb alone, or all that is to be typed."""
    text = re.sub(r"\s*\n\s*", " ", (DOCS / guide).read_text(encoding="utf-8"))
    return [shlex.split(line) for line in _MENTION.findall(text.replace(" --help`", "`"))]


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_has_commands(guide):
    assert commands(guide)


@pytest.mark.parametrize("words", [words for guide in GUIDES for words in commands(guide)], ids=shlex.join)
def test_a_command_parses(words):
    parse(words)


@pytest.mark.parametrize("words", [words for guide in TALK for words in mentions(guide)], ids=shlex.join)
def test_a_command_that_is_spoken_of_exists(words):
    parse(words, verb_alone=True)


@pytest.mark.parametrize("guide", TALK)
def test_a_guide_speaks_of_commands(guide):
    assert mentions(guide)


def parse(words, *, verb_alone=False):
    """Nothing runs: a context holds the verb and its arguments as they were understood."""
    command, rest = get_command(app), list(words)
    with typer.Context(command) as whole:
        while hasattr(command, "resolve_command") and rest and not rest[0].startswith("-"):  # `lake status`
            verb, command, rest = command.resolve_command(whole, rest)
            assert command is not None, verb
        if rest or not verb_alone:
            command.make_context(verb, rest, parent=whole)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [("tune svd x.csv --no-such-option", "No such option"), ("lake no-such-verb", "No such command")],
)
def test_what_does_not_exist_would_be_seen(words, complaint):
    with pytest.raises(Exception, match=complaint):
        parse(words.split())


def test_the_table_of_models_is_the_registry():
    assert [row[0] for row in table_of_models()] == list(NAMES)


def test_the_table_says_what_models_declare():
    for name, ratings, folds_in, scales, *_ in table_of_models():
        declared = MODELS[name].capabilities
        sides = (
            ("users (live)" if declared.online_fold_in else "users") if declared.folds_in_users else "",
            "items" if declared.folds_in_items else "",
        )
        told = (ratings == "yes", folds_in, scales == "yes")
        assert told == (declared.predicts_ratings, ", ".join(filter(None, sides)) or "no", declared.scales), name


@pytest.mark.parametrize("guide", TALK)
def test_a_link_leads_somewhere(guide):
    text = (DOCS / guide).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert targets or guide in RUNBOOKS
    assert [target for target in targets if not ((DOCS / guide).parent / target).exists()] == []
