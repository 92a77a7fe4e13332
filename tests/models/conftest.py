"""Small data whose answers are known."""

import numpy as np
import pytest

from matinee.dataset.interactions import Interactions

GROUPS, USERS, ITEMS = 2, 24, 16


def make_interactions(rows, n_users, n_items) -> Interactions:
    """From (user, item, rating) or (user, item, rating, watched); None is NaN."""
    filled = [(*row, None)[:4] for row in rows]
    columns = list(zip(*filled, strict=True)) or [(), (), (), ()]
    ratings, watched = (
        np.array([np.nan if value is None else value for value in column], dtype=np.float32)
        for column in columns[2:]
    )
    users, items = (np.array(column, dtype=np.int32) for column in columns[:2])
    return Interactions(n_users, n_items, users, items, ratings, watched)


@pytest.fixture
def build():
    return make_interactions


def planted_rows():
    """Users like the items of their own group (5) and not the others' (1). One of each kind is withheld."""
    for u in range(USERS):
        own = [i for i in range(ITEMS) if i % GROUPS == u % GROUPS]
        others = [i for i in range(ITEMS) if i % GROUPS != u % GROUPS]
        withheld = {own[u % len(own)], others[(3 * u) % len(others)]}
        for i in range(ITEMS):
            if i not in withheld:
                yield u, i, 5.0 if i in own else 1.0


@pytest.fixture(scope="session")
def planted() -> Interactions:
    """Group structure: what each user should get is the one withheld item of its own group."""
    return make_interactions(list(planted_rows()), USERS, ITEMS)


@pytest.fixture(scope="session")
def planted_answer():
    own = ITEMS // GROUPS
    return np.array([(u % own) * GROUPS + u % GROUPS for u in range(USERS)])


@pytest.fixture(scope="session")
def mixed() -> Interactions:
    """Random ratings and watching; users 0 to 2 and items 0 to 2 have met nobody."""
    rng = np.random.default_rng(5)
    n_users, n_items = 30, 40
    pairs = rng.permutation((n_users - 3) * (n_items - 3))[:400]
    rating = rng.integers(1, 6, pairs.size).astype(np.float32)
    watched = rng.random(pairs.size).astype(np.float32)
    kind = rng.integers(3, size=pairs.size)
    rating[kind == 0], watched[kind == 1] = np.nan, np.nan
    return Interactions(
        n_users,
        n_items,
        (3 + pairs // (n_items - 3)).astype(np.int32),
        (3 + pairs % (n_items - 3)).astype(np.int32),
        rating,
        watched,
    )
