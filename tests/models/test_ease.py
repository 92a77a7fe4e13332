"""EASE against dense linear algebra."""

import numpy as np
import pytest

from matinee.core.errors import Unsuitable
from matinee.models.ease import EASE
from matinee.models.preference import confidence


def dense(data, weighted):
    weight = confidence(data.rating, data.watched)
    x = np.zeros((data.n_users, data.n_items))
    x[data.user_index, data.item_index] = weight if weighted else weight > 0
    return x


def solution(x, reg):
    inverse = np.linalg.inv(x.T @ x + reg * np.eye(x.shape[1]))
    b = -inverse / np.diag(inverse)
    np.fill_diagonal(b, 0)
    return b


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reg", [0.5, 50.0])
def test_weights_and_scores_are_those_of_the_paper(weighted, reg, mixed):
    model = EASE(reg=reg, weighted=weighted).fit(mixed)
    x = dense(mixed, weighted)
    b = solution(x, reg)
    np.testing.assert_allclose(model.state()["weights"], b, rtol=1e-5, atol=1e-7)
    known = np.flatnonzero(x.any(axis=1)).astype(np.int32)
    np.testing.assert_allclose(model.scores(known), x[known] @ b, rtol=1e-4, atol=1e-6)


def test_the_weights_are_the_least_squares_fit_without_the_item_itself(mixed):
    """Each column of B is ridge regression of an item on all others."""
    x, reg = dense(mixed, weighted=False), 3.0
    b = EASE(reg=reg).fit(mixed).state()["weights"]
    for j in (3, 17, 39):
        others = np.delete(np.arange(x.shape[1]), j)
        rest = x[:, others]
        wanted = np.linalg.solve(rest.T @ rest + reg * np.eye(others.size), rest.T @ x[:, j])
        np.testing.assert_allclose(b[others, j], wanted, rtol=1e-4, atol=1e-6)
        assert b[j, j] == 0


def test_strangers_get_the_mean_user(mixed):
    model = EASE(reg=5.0).fit(mixed)
    x = dense(mixed, weighted=False)
    known = np.flatnonzero(x.any(axis=1)).astype(np.int32)
    wanted = model.scores(known).mean(axis=0)
    np.testing.assert_allclose(model.scores(np.array([-1], np.int32))[0], wanted, rtol=1e-4, atol=1e-6)


def test_a_user_folded_in_is_answered_like_one_of_the_same_likes(build):
    rows = [(0, 0, 5.0), (0, 1, 4.0), (1, 1, 5.0), (1, 2, 4.0), (2, 0, 5.0), (2, 3, 5.0)]
    model = EASE(reg=1.0).fit(build(rows, 3, 4))
    # User 0's row of before is passed over; user 3 is user 1 over again, and user 4 liked nothing.
    grown = model.fold_in(build([(0, 3, 5.0), (3, 1, 5.0), (3, 2, 4.0), (4, 0, 1.0)], 5, 4))
    before, after = model.scores(np.arange(-1, 3, dtype=np.int32)), grown.scores(np.arange(-1, 5, dtype=np.int32))
    np.testing.assert_array_equal(after[:4], before)
    np.testing.assert_array_equal(after[4], before[2])
    np.testing.assert_array_equal(after[5], before[0])


def test_items_that_do_not_fit_in_memory_are_refused_with_the_gigabytes(build):
    data = build([(0, 0, 5.0)], 1, 100_000)
    with pytest.raises(Unsuitable, match=r"EASE needs 120 GB for 100000 items, and there are 2 GB"):
        EASE(memory_gb=2).fit(data)
