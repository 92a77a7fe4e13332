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
GUIDES = ("models.md", "tuning.md", "deployment.md", "world.md")


def table_of_models():
    """The cells of each row, the model's name without its marks."""
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    table = text.partition("## All models")[2].partition("\n## ")[0]
    return [
        [name, *(cell.strip() for cell in cells.split("|"))]
        for name, cells in re.findall(r"^\| `(\w+)` \|(.+)\|$", table, re.MULTILINE)
    ]


def commands(guide):
    """What is typed after `$ matinee`, in words; a backslash at the end goes on with the next line."""
    text = (DOCS / guide).read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in re.findall(r"^\$ matinee (.+)$", text, re.MULTILINE)]


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_has_commands(guide):
    assert commands(guide)


@pytest.mark.parametrize("words", [words for guide in GUIDES for words in commands(guide)], ids=shlex.join)
def test_a_command_parses(words):
    """Nothing runs: a context holds the verb and its arguments as they were understood."""
    group = get_command(app)
    with typer.Context(group) as whole:
        verb, command, rest = group.resolve_command(whole, list(words))
        assert command is not None, verb
        command.make_context(verb, rest, parent=whole)


def test_a_wrong_option_would_be_seen():
    group = get_command(app)
    with typer.Context(group) as whole:
        verb, command, rest = group.resolve_command(whole, ["tune", "svd", "x.csv", "--no-such-option"])
        with pytest.raises(Exception, match="No such option"):
            command.make_context(verb, rest, parent=whole)


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


@pytest.mark.parametrize("guide", GUIDES)
def test_a_link_leads_somewhere(guide):
    text = (DOCS / guide).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert targets
    assert [target for target in targets if not (DOCS / target).exists()] == []
