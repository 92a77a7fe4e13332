"""The API over a small world in which answers can be derived."""

import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from serving_samples import N_ITEMS, make_bundle, settings

from matinee.bundle.attributes import ItemAttributes
from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.release.plan import publish
from matinee.serving.api.app import create_api
from matinee.serving.key_file import KEYS, Scope, create_key
from matinee.serving.keys import Guard
from matinee.serving.service import Service

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette would rather have the successor of httpx
    from starlette.testclient import TestClient

CLOCK = SystemClock()
UNHURRIED = {"deadline_ms": 60_000.0, "shed_late_ms": 60_000.0}
"""Settings under which a busy machine gives no other answers."""
ADULTS_ONLY = 39
"""The most popular item has an age limit; nobody's age is known in these tests."""


def attributes() -> ItemAttributes:
    """Item i is "Title i" of 1980 + i; comedies, dramas and science fiction by i % 3; 39 is for adults."""
    index = np.arange(N_ITEMS)
    nothing = ItemAttributes.unknown(N_ITEMS)
    age_limit = np.zeros(N_ITEMS, dtype=np.uint8)
    age_limit[ADULTS_ONLY] = 18
    return ItemAttributes(
        titles=tuple(f"Title {i}" for i in index),
        genres=("Comedy", "Drama", "Sci-Fi"),
        genre_mask=index[:, None] % 3 == np.arange(3),
        year=(1980 + index).astype(np.int16),
        age_limit=age_limit,
        available_from_us=nothing.available_from_us,
        available_until_us=nothing.available_until_us,
        interactions=(index + 1).astype(np.int32),
    )


@contextmanager
def started(home: Home, history: LmdbHistory | None = None, *, ready: bool = True) -> Iterator[tuple[FastAPI, str]]:
    """The API over a started service whose release is open once `ready`, and a key of scope write."""
    _, key = create_key(home, "tests", Scope.WRITE, clock=CLOCK)
    options: dict[str, Any] = {} if history is None else {"open_live_history": lambda: history}
    service = Service(settings(home, **UNHURRIED), home, CLOCK, **options)
    guard = Guard(home.data / KEYS, CLOCK)
    service.start()
    try:
        end = time.monotonic() + 20
        while ready and (service.releases.why_not or not service.history.is_open):
            assert time.monotonic() < end
            time.sleep(0.01)
        api = create_api(service, guard)
        api.state.service = service
        yield api, key
    finally:
        service.stop()


@contextmanager
def opened_api(home: Home, history: LmdbHistory | None = None, *, ready: bool = True) -> Iterator[TestClient]:
    """The same, asked with that key."""
    with started(home, history, ready=ready) as (api, key), TestClient(api, headers={"X-Api-Key": key}) as client:
        yield client


def published(home: Home, **changes: Any) -> str:
    version = make_bundle(home, **({"attributes": attributes()} | changes))
    publish(home.data, version, clock=CLOCK)
    return version


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        return create_api(Service(settings(home), home, CLOCK), Guard(home.data / KEYS, CLOCK)).openapi()
