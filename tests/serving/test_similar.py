import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_samples import N_ITEMS, fold_in, new_home, open_sample

from matinee.bundle.open import Bundle
from matinee.core.home import Home
from matinee.serving.similar import similar

K = 3
WITHOUT = (5, 17)
"""Items without factors."""


def vectors() -> np.ndarray:
    found = np.random.default_rng(4).normal(size=(N_ITEMS, K)).astype(np.float32)
    found[list(WITHOUT)] = 0
    found[30] = 2 * found[0]  # as like as can be, whatever the length
    found[31] = -found[0]
    return found


@pytest.fixture(scope="module")
def pointed(tmp_path_factory: pytest.TempPathFactory):
    factors = vectors()
    arrays = fold_in().to_arrays() | {
        "item_factors": factors,
        "gram": factors.T.astype(np.float64) @ factors,
        "prior": np.zeros(K, dtype=np.float32),
    }
    with open_sample(new_home(tmp_path_factory.mktemp("similar")), fold_in=arrays) as bundle:
        yield bundle


@given(
    item=st.integers(0, N_ITEMS - 1), n=st.integers(0, N_ITEMS + 2),
    allowed=st.lists(st.booleans(), min_size=N_ITEMS, max_size=N_ITEMS).map(np.array),
)  # fmt: skip
def test_the_allowed_items_of_the_highest_cosines(pointed: Bundle, item: int, n: int, allowed: np.ndarray):
    before = allowed.copy()
    found, cosines = similar(pointed, item, n, allowed)
    factors = vectors().astype(np.float64)
    lengths = np.linalg.norm(factors, axis=1)
    others = [i for i in range(N_ITEMS) if allowed[i] and i != item and i not in WITHOUT and item not in WITHOUT]
    expected = sorted(
        (float(factors[i] @ factors[item] / lengths[i] / lengths[item]) for i in others), reverse=True
    )
    assert cosines == pytest.approx(expected[:n], abs=1e-5)
    assert set(found.tolist()) <= set(others)
    assert len(set(found.tolist())) == len(found) == min(n, len(others))
    assert (allowed == before).all()


def test_length_does_not_count_and_direction_does(pointed: Bundle):
    found, cosines = similar(pointed, 0, N_ITEMS, np.ones(N_ITEMS, dtype=np.bool_))
    assert (found[0], found[-1]) == (30, 31)
    assert (cosines[0], cosines[-1]) == (pytest.approx(1), pytest.approx(-1))


@pytest.mark.parametrize("item", [*WITHOUT, -1, N_ITEMS, 10**9])
def test_an_item_without_factors_is_like_none(pointed: Bundle, item: int):
    assert similar(pointed, item, 5, np.ones(N_ITEMS, dtype=np.bool_))[0].tolist() == []


def test_a_model_without_factors_knows_no_similar_items(home: Home):
    with open_sample(home, folds_in=False) as bundle:
        assert similar(bundle, 0, 5, np.ones(N_ITEMS, dtype=np.bool_))[0].tolist() == []
