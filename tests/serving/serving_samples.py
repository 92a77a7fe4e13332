"""A small world to serve from, with answers that can be derived: a home, bundles, a plan, a history, a log."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from matinee.bundle.contents import BundleContents, UserBlock
from matinee.bundle.manifest import CodeVersion, Gate, Provenance, SourceEnd
from matinee.bundle.open import Bundle, open_bundle
from matinee.bundle.write import write_bundle
from matinee.core.clock import ManualClock
from matinee.core.home import Home
from matinee.core.settings import ServingSettings, Settings
from matinee.events.offsets import Source
from matinee.history.base import Actions
from matinee.history.lmdb import LmdbHistory
from matinee.models.fold_in import FoldIn
from matinee.models.rating_fold_in import RatingFoldIn

N_ITEMS = 40
SOURCE = Source("generation", 0)
SNAPSHOT_END = 100
CLOCK = ManualClock()


def fold_in() -> FoldIn:
    """Two tastes: even items and odd items. Within a taste the lower index scores higher."""
    factors = np.zeros((N_ITEMS, 2), dtype=np.float32)
    factors[np.arange(N_ITEMS), np.arange(N_ITEMS) % 2] = np.linspace(1.0, 0.6, N_ITEMS)
    return FoldIn(
        item_factors=factors,
        gram=factors.T.astype(np.float64) @ factors,
        prior=np.full(2, 0.1, dtype=np.float32),
        alpha=20.0,
        reg=0.01,
        mean_total=100.0,
        positive_rating=4.0,
    )


def ratings() -> RatingFoldIn:
    """Ratings from 1 to 5, 3 on average, by the same tastes; item i has a bias of i / 40."""
    bias = np.arange(N_ITEMS, dtype=np.float32) / N_ITEMS
    rated = np.ones(N_ITEMS, dtype=np.bool_)
    return RatingFoldIn.of(fold_in().item_factors, bias, rated, mean=3.0, low=1.0, high=5.0)


def users(prefix: str = "u") -> UserBlock:
    """u000 to u019. User r has seen items 0 to r-1 and is recommended r, r+1, … up to 10; segment r % 3 - 1."""
    ids = [f"{prefix}{row:03d}" for row in range(20)]
    rows = np.arange(20)
    top = (rows[:, None] + np.arange(10)[None]).astype(np.int32)
    scores = np.broadcast_to(np.linspace(1, 0.1, 10, dtype=np.float32), (20, 10)).copy()
    indptr = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
    seen = np.concatenate([np.arange(row) for row in rows]).astype(np.int32)
    return UserBlock(ids, top, scores, indptr, seen, (rows % 3 - 1).astype(np.int16))


def contents(name: str = "a", *, folds_in: bool = True, **changes: Any) -> BundleContents:
    """Item i is called `<name>+i`. Popular overall: 39, 38, …; in segment 0: 0, 1, …; in segment 1: 20, 21, …"""
    order = np.arange(N_ITEMS, dtype=np.int32)
    fields: dict[str, Any] = {
        "provenance": Provenance(
            model="als", params={"name": name}, seed=0, lake_versions={"events": 1},
            offsets=(SourceEnd(generation=SOURCE.generation, partition=SOURCE.partition, end=SNAPSHOT_END),),
            time_range=None, row_counts={"events": 1}, content_hash="00", code=CodeVersion(package="0"),
            libraries={}, metrics={"all": {}}, gate=Gate(passed=True, evidence={}),
        ),
        "items": [f"{name}+{index}" for index in range(N_ITEMS)],
        "item_minutes": np.full(N_ITEMS, 100, dtype=np.float32),
        "popular": order[::-1].copy(),
        "segments": ["young", "old"],
        "popular_by_segment": np.stack([order, np.roll(order, -20)]),
        "users": [users()],
        "fold_in": fold_in().to_arrays() if folds_in else {},
    }  # fmt: skip
    return BundleContents(**(fields | changes))


def make_bundle(home: Home, name: str = "a", **changes: Any) -> str:
    """Write a bundle and return its version."""
    CLOCK.step(1)
    return write_bundle(home.bundles, contents=contents(name, **changes), clock=CLOCK)


def open_sample(home: Home, name: str = "a", **changes: Any) -> Bundle:
    """Write a bundle and open it."""
    return open_bundle(home.bundles / make_bundle(home, name, **changes), home.run)


def act(
    history: LmdbHistory,
    user: str,
    items: Iterable[str],
    *,
    position: int,
    minute: int | None = None,
    rating: float | None = 5.0,
) -> None:
    """Let a user rate items (or watch a minute of each), at successive positions."""
    names = list(items)
    n = len(names)
    positions = list(range(position, position + n))
    ratings = [None if minute is not None else rating] * n
    actions = Actions(positions, [user] * n, names, [1_000_000 + p for p in positions], [minute] * n, ratings)
    assert history.apply(SOURCE, actions, end=position + n) == n


def settings(home: Home, **serving: Any) -> Settings:
    """Settings for tests: everything happens soon."""
    fields = {"reload_seconds": 0.05, "telemetry_seconds": 0.02, "shed_late_ms": 60_000.0} | serving
    return Settings(home=home.path, serving=ServingSettings(**fields))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


PROGRAM = """
import sys
from pathlib import Path
from matinee.core.home import Home
from matinee.core.logging import configure_logging
from matinee.core.settings import load_settings
from matinee.serving.server import serve
settings = load_settings(home=Path(sys.argv[1]))
home = Home(settings.home)
configure_logging("serve", home.logs, settings.logging, settings.budget)
serve(settings, home)
"""


SOON = {
    "MATINEE_SERVING__RELOAD_SECONDS": "0.05",
    "MATINEE_SERVING__DRAIN_SECONDS": "0",
    "MATINEE_SERVING__SHED_LATE_MS": "60000",
}  # however busy the machine is that tests run on


@contextmanager
def server(home: Home, **environment: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A server process of its own, listening; yields its URL and the process. Ended when the block is left."""
    port = free_port()
    env = os.environ | {"MATINEE_SERVING__PORT": str(port), **SOON} | environment
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(home.path)], env=env, cwd=home.path)
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(url: str, path: str = "/readyz", status: int = 200, seconds: float = 90) -> httpx.Response:
    """Ask until the status comes."""
    end = time.monotonic() + seconds
    last = "no answer"
    while time.monotonic() < end:
        try:
            response = httpx.get(url + path, timeout=5)
        except httpx.TransportError as error:
            last = repr(error)
        else:
            if response.status_code == status:
                return response
            last = f"{response.status_code}: {response.text}"
        time.sleep(0.02)
    raise AssertionError(f"{path} never answered {status}; last {last}")


def new_home(path: Path) -> Home:
    return Home(path / "home")
