from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_samples import new_home, open_sample

from matinee.bundle.open import Bundle
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.serving.fold_cache import FoldCache


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return new_home(tmp_path)


@pytest.fixture
def bundle(home: Home) -> Iterator[Bundle]:
    with open_sample(home) as opened:
        yield opened


@pytest.fixture
def history(home: Home) -> Iterator[LmdbHistory]:
    with LmdbHistory(home.data / "history", map_bytes=1 << 24) as opened:
        yield opened


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FoldCache]:
    opened = FoldCache(tmp_path, 8)
    opened.tend()
    yield opened
    opened.close()
