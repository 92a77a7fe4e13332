"""The home that `serving.py` measures on: a bundle, histories, and rules, all made up from fixed seeds.

Users `user0000000` and on: the first seven tenths did nothing since the bundle's snapshot (they are looked up), the
others did (they are folded in). Everyone has sixty seen items and a top 100 in the bundle, and ten items in the
history: of the first they are among the seen, of the others they are new.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matinee.bundle.attributes import ALWAYS_US, ItemAttributes
from matinee.bundle.contents import BundleContents, UserBlock
from matinee.bundle.manifest import CodeVersion, Gate, Provenance, SourceEnd
from matinee.bundle.write import write_bundle
from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.events.offsets import Source
from matinee.history.base import Actions
from matinee.history.lmdb import LmdbHistory
from matinee.log.sqlite import SqliteLog
from matinee.models.fold_in import FoldIn
from matinee.release.plan import publish, read_plan

N_ITEMS, N_FACTORS, TOP, SEEN, LATELY = 27_000, 64, 100, 60, 10
LOOKED_UP_OF_TEN = 7
BLOCKED = 200
"""Items that the rules block: the most popular ones, so that the filter has something to do for everyone."""
GENRES = tuple(sorted(f"genre {number:02d}" for number in range(20)))
CLOCK = SystemClock()
ITEMS = [f"some+title+of+a+movie+{index}+1999" for index in range(N_ITEMS)]

_SOURCE = Source("benchmark", 0)
_BLOCK = 8_192


def user(index: int) -> str:
    """The id of a user."""
    return f"user{index:07d}"


def looked_up(n_users: int) -> range:
    """Users who did nothing since the snapshot."""
    return range(n_users * LOOKED_UP_OF_TEN // 10)


def folded_in(n_users: int) -> range:
    """Users who did something since."""
    return range(n_users * LOOKED_UP_OF_TEN // 10, n_users)


def open_home(path: Path, n_users: int) -> Home:
    """The home at that path; made where there is none."""
    home = Home(path)
    if read_plan(home.data) is None:
        _write_bundle(home, n_users)
        _write_history(home, n_users)
        _write_rules(home)
        SqliteLog(home.data / "log.sqlite", CLOCK).close()
    return home


def _write_bundle(home: Home, n_users: int) -> None:
    order = np.arange(N_ITEMS, dtype=np.int32)
    end = len(looked_up(n_users)) * LATELY
    contents = BundleContents(
        provenance=Provenance(
            model="als", params={}, seed=0, lake_versions={}, time_range=None, row_counts={}, content_hash="",
            offsets=(SourceEnd(generation=_SOURCE.generation, partition=0, end=end),),
            code=CodeVersion(package="0"), libraries={}, metrics={}, gate=Gate(passed=True, evidence={}),
        ),
        items=ITEMS,
        item_minutes=np.full(N_ITEMS, 100, dtype=np.float32),
        popular=order,
        segments=["a", "b", "c"],
        popular_by_segment=np.stack([np.roll(order, shift) for shift in (1, 2, 3)]),
        users=_user_blocks(n_users),
        fold_in=fold_in().to_arrays(),
        attributes=_attributes(),
    )  # fmt: skip
    publish(home.data, write_bundle(home.bundles, contents=contents, clock=CLOCK), clock=CLOCK)


def _user_blocks(n_users: int) -> Iterator[UserBlock]:
    for start, items in _items_of_users(n_users):
        rows, rng = len(items), np.random.default_rng((6, start))
        yield UserBlock(
            ids=[user(start + row) for row in range(rows)],
            top=np.ascontiguousarray(items[:, :TOP]),
            scores=-np.sort(-rng.random((rows, TOP), dtype=np.float32)),
            seen_indptr=np.arange(rows + 1, dtype=np.int64) * SEEN,
            seen_indices=items[:, TOP : TOP + SEEN].reshape(-1),
            segments=rng.integers(-1, 3, rows).astype(np.int16),
            ages=rng.integers(-1, 80, rows).astype(np.int16),
        )


def _items_of_users(n_users: int) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Of each block of users the first one's number, and item indices: `TOP`, then `SEEN`, then `LATELY` new ones.

    Distinct in each row, in no order, and popular ones more often.
    """
    for start in range(0, n_users, _BLOCK):
        rng = np.random.default_rng((0, start))
        rows = np.sort(_drawn(rng, (min(_BLOCK, n_users - start), TOP + SEEN + LATELY)), axis=1)
        while (repeated := rows[:, 1:] == rows[:, :-1]).any():
            rows[:, 1:][repeated] = _drawn(rng, int(repeated.sum()))
            rows.sort(axis=1)
        yield start, rng.permuted(rows, axis=1)


def _drawn(rng: np.random.Generator, shape: int | tuple[int, int]) -> NDArray[np.int32]:
    return (N_ITEMS * rng.random(shape) ** 3).astype(np.int32)


def fold_in() -> FoldIn:
    """Random item factors, and what is needed beside them."""
    factors = np.random.default_rng(1).normal(0, 0.1, (N_ITEMS, N_FACTORS)).astype(np.float32)
    return FoldIn(
        item_factors=factors,
        gram=factors.T.astype(np.float64) @ factors + np.eye(N_FACTORS),
        prior=factors.mean(axis=0),
        alpha=1.0,
        reg=1.0,
        mean_total=1.0,
        positive_rating=4.0,
    )


def _attributes() -> ItemAttributes:
    rng = np.random.default_rng(5)
    return ItemAttributes(
        titles=tuple(ITEMS),
        genres=GENRES,
        genre_mask=rng.random((N_ITEMS, len(GENRES))) < 0.1,
        year=rng.integers(1930, 2025, N_ITEMS).astype(np.int16),
        age_limit=rng.choice(np.array([0, 0, 0, 0, 6, 12, 16, 18], dtype=np.uint8), N_ITEMS),
        available_from_us=np.full(N_ITEMS, ALWAYS_US[0], dtype=np.int64),
        available_until_us=np.full(N_ITEMS, ALWAYS_US[1], dtype=np.int64),
        interactions=rng.integers(0, 10_000, N_ITEMS).astype(np.int32),
    )


def _write_history(home: Home, n_users: int) -> None:
    old = looked_up(n_users)
    with LmdbHistory(home.data / "history") as history:
        for start, drawn in _items_of_users(n_users):
            users = [user(start + row) for row in range(len(drawn)) for _ in range(LATELY)]
            seen, new = drawn[:, TOP : TOP + LATELY], drawn[:, -LATELY:]
            is_old = np.arange(start, start + len(drawn))[:, None] < old.stop
            items = [ITEMS[index] for index in np.where(is_old, seen, new).reshape(-1).tolist()]
            positions = [start * LATELY + offset for offset in range(len(users))]
            times = [1_700_000_000_000_000 + position for position in positions]
            ratings: list[float | None] = [5.0] * len(users)
            actions = Actions(positions, users, items, times, [None] * len(users), ratings)
            history.apply(_SOURCE, actions, end=positions[-1] + 1)


def _write_rules(home: Home) -> None:
    blocked = ",\n".join(f'  "{item}"' for item in ITEMS[:BLOCKED])
    (home.data / "rules.toml").write_text(f"format_version = 1\nblocked = [\n{blocked},\n]\nunknown_age = 12\n")
