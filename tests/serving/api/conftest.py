from collections.abc import Iterator

import pytest
from api_samples import TestClient, opened_api, published

from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory


@pytest.fixture
def version(home: Home) -> str:
    return published(home)


@pytest.fixture
def client(home: Home, history: LmdbHistory, version: str) -> Iterator[TestClient]:
    with opened_api(home, history) as opened:
        yield opened
