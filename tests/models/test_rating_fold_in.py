from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.core.errors import InvalidInput
from matinee.models.rating_fold_in import REG, REG_BIAS, RatingFoldIn

NOTHING = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)


def made(seed: int = 0, *, n_items: int = 30, k: int = 4, scale: float = 1.0, low: float = 1.0) -> RatingFoldIn:
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(n_items, k)) * scale).astype(np.float32)
    bias = rng.normal(size=n_items).astype(np.float32) / 4
    return RatingFoldIn.of(vectors, bias, np.ones(n_items, dtype=np.bool_), mean=3.5, low=low, high=5.0)


def plain(vectors: np.ndarray, bias: list[float], *, low: float = 1.0, high: float = 5.0) -> RatingFoldIn:
    """All are rated, 3 on average."""
    rated = np.ones(len(vectors), dtype=np.bool_)
    return RatingFoldIn.of(
        vectors.astype(np.float32), np.array(bias, dtype=np.float32), rated, mean=3.0, low=low, high=high
    )


def rated(seed: int, m: int, n_items: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.permutation(n_items)[:m].astype(np.int32), rng.integers(1, 6, m).astype(np.float32)


@given(seed=st.integers(0, 1_000), m=st.integers(1, 30), k=st.integers(0, 6))
def test_no_other_bias_and_tastes_have_a_lower_loss(seed, m, k):
    fold_in = made(seed, k=k, low=-1e9)
    index, rating = rated(seed, m)
    every = np.arange(30)
    z = fold_in.item_vectors.astype(np.float64)
    base = fold_in.mean + fold_in.item_bias
    # As augmented least squares: rows of √λ stand for the ridge.
    reg = REG * (z**2).sum(axis=1).mean() if k else REG
    held = np.diag(np.sqrt([REG_BIAS] + [reg] * k))
    system = np.vstack([np.column_stack([np.ones(m), z[index]]), held])
    wanted = np.concatenate([rating - base[index], np.zeros(1 + k)])
    solution, *_ = np.linalg.lstsq(system, wanted, rcond=None)
    expected = base + solution[0] + z @ solution[1:]
    found = replace(fold_in, low=-1e9, high=1e9)
    np.testing.assert_allclose(found.ratings(index, rating, every), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_the_scale_of_the_vectors_makes_no_difference(scale):
    index, rating = rated(1, 12)
    every = np.arange(30)
    np.testing.assert_allclose(
        made(scale=scale).ratings(index, rating, every), made().ratings(index, rating, every), rtol=1e-4
    )


def test_without_ratings_there_are_the_items_biases_within_the_scale():
    fold_in = plain(np.ones((4, 2)), [0.5, -0.25, 9.0, -9.0])
    assert fold_in.ratings(*NOTHING, np.arange(4)).tolist() == [3.5, 2.75, 5.0, 1.0]


def test_without_vectors_a_user_has_a_bias_that_few_ratings_hardly_move():
    fold_in = plain(np.empty((3, 0)), [0.0, 0.0, 0.0])
    found = fold_in.ratings(np.array([0, 1], dtype=np.int32), np.array([5.0, 5.0], dtype=np.float32), np.arange(3))
    assert found == pytest.approx([3 + 4 / (REG_BIAS + 2)] * 3)


def test_tastes_that_were_planted_are_found():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(200, 3)).astype(np.float32)
    tastes = np.array([0.6, -0.4, 0.2])
    truth = 3 + vectors @ tastes
    fold_in = plain(vectors, [0.0] * 200, low=-10.0, high=10.0)
    known = np.arange(100, dtype=np.int32)
    found = fold_in.ratings(known, truth[known].astype(np.float32), np.arange(100, 200))
    error, alone = (np.sqrt(np.mean((guess - truth[100:]) ** 2)) for guess in (found, 3.0))
    assert error < alone / 4


def test_what_nobody_rated_or_liked_is_not_known():
    vectors = np.array([[0, 0], [0, 1], [0, 0]])
    fold_in = replace(plain(vectors, [0.0] * 3), rated=np.array([False, False, True]))
    assert fold_in.knows(np.array([0, 1, 2, 0])).tolist() == [False, True, True, False]


def test_it_comes_back_from_its_arrays_and_the_vectors():
    fold_in, (index, rating) = made(), rated(2, 9)
    again = RatingFoldIn.from_arrays(fold_in.to_arrays(), fold_in.item_vectors)
    every = np.arange(30)
    assert again.ratings(index, rating, every).tolist() == fold_in.ratings(index, rating, every).tolist()


@pytest.mark.parametrize("name", ["item_bias", "rated", "mean", "low", "high", "reg"])
def test_arrays_that_do_not_fit_together_are_refused(name):
    arrays = made().to_arrays()
    for wrong in ({**arrays, name: np.zeros(7)}, {key: value for key, value in arrays.items() if key != name}):
        with pytest.raises(InvalidInput, match=name):
            RatingFoldIn.from_arrays(wrong, made().item_vectors)
