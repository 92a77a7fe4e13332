"""The examples of docs/api.md run against a server process, and answer what the page says."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from matinee.bundle.attributes import ItemAttributes
from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.release.plan import publish
from matinee.serving.key_file import Scope, create_key
from tests_root import ROOT

sys.path.insert(0, str(ROOT / "tests" / "serving"))
from serving_samples import N_ITEMS, SNAPSHOT_END, act, make_bundle, ratings, server, users, wait_for

PAGE = ROOT / "docs" / "api.md"
CLOCK = SystemClock()
MOVIES = (
    "metropolis+1927", "m*a*s*h+1970", "dark+city+1998", "amlie+2001", "the+matrix+1999", "notting+hill+1999",
    "alien+1979", "annie+hall+1977", "blade+runner+1982", "groundhog+day+1993", "solaris+1972", "tootsie+1982",
)  # fmt: skip
"""Science fiction and comedies in turn: in the made-up bundle, even and odd items are two tastes."""
TITLES = {"m*a*s*h+1970": "M*A*S*H", "amlie+2001": "Amélie"}


class Example(NamedTuple):
    language: str
    code: str
    answer: str
    line: int


def examples() -> list[Example]:
    """Every block of code with the block of JSON that follows it."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.finditer(r"^```(bash|python)\n(.*?)^```\n\n```json\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Example(*block.groups(), text.count("\n", 0, block.start()) + 1) for block in blocks]


def attributes() -> ItemAttributes:
    nothing = ItemAttributes.unknown(N_ITEMS)
    index = np.arange(N_ITEMS)
    named = index[:, None] < len(MOVIES)
    years = [int(movie[-4:]) for movie in MOVIES]
    titles = [TITLES.get(movie, movie[:-5].replace("+", " ").title()) for movie in MOVIES]
    return ItemAttributes(
        titles=(*titles, *nothing.titles[len(MOVIES) :]),
        genres=("Comedy", "Sci-Fi"),
        genre_mask=named & (index[:, None] % 2 == np.array([1, 0])),
        year=np.array(years + [0] * (N_ITEMS - len(MOVIES)), dtype=np.int16),
        age_limit=nothing.age_limit,
        available_from_us=nothing.available_from_us,
        available_until_us=nothing.available_until_us,
        interactions=nothing.interactions,
    )


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    home = Home(tmp_path_factory.mktemp("api") / "home")
    with LmdbHistory(home.data / "history", map_bytes=1 << 24) as history:
        act(history, "10003", ["alien+1979"], position=SNAPSHOT_END - 1)
    items = [*MOVIES, *(f"film+{index}" for index in range(len(MOVIES), N_ITEMS))]
    version = make_bundle(home, items=items, users=[users("10")], attributes=attributes(), ratings=ratings())
    publish(home.data, version, clock=CLOCK)
    _, key = create_key(home, "docs", Scope.WRITE, clock=CLOCK)
    unhurried = {"MATINEE_SERVING__DEADLINE_MS": "60000", "MATINEE_SERVING__SHED_LATE_MS": "60000"}
    with server(home, **unhurried) as (url, _):
        wait_for(url)
        yield os.environ | {"MATINEE": url, "KEY": key}


@pytest.mark.parametrize("example", examples(), ids=lambda example: f"line {example.line}")
def test_an_example_answers_what_the_page_says(example: Example, environment: dict[str, str], tmp_path: Path):
    command = ["bash", "-euo", "pipefail", "-c"] if example.language == "bash" else [sys.executable, "-c"]
    ran = subprocess.run([*command, example.code], env=environment, cwd=tmp_path, capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert_says(json.loads(ran.stdout), json.loads(example.answer))


def assert_says(answer: object, page: object, where: str = "") -> None:
    """All that the page shows stands in the answer; of objects, the page may show a part."""
    if isinstance(page, dict):
        assert isinstance(answer, dict), where
        for name, value in page.items():
            assert name in answer, f"{where}.{name}"
            assert_says(answer[name], value, f"{where}.{name}")
    elif isinstance(page, list):
        assert isinstance(answer, list), where
        assert len(answer) == len(page), f"{where} has {len(answer)}: {answer}"
        for at, (one, other) in enumerate(zip(answer, page, strict=True)):
            assert_says(one, other, f"{where}[{at}]")
    else:
        assert answer == (pytest.approx(page) if isinstance(page, float) else page), where


def test_every_block_of_code_has_its_answer():
    text = PAGE.read_text(encoding="utf-8")
    assert len(examples()) == len(re.findall(r"^```(?:bash|python)$", text, re.MULTILINE)) >= 12


def test_every_operation_is_shown(tmp_path: Path):
    from matinee.core.settings import Settings
    from matinee.serving.api.app import create_api
    from matinee.serving.service import Service

    shown = " ".join(example.code for example in examples())
    home = Home(tmp_path)
    service = Service(Settings(home=home.path), home, CLOCK)
    for path in create_api(service, service.guard).openapi()["paths"]:
        assert re.search(re.sub(r"\{\w+\}", '[^/"]+', path), shown), path
