"""Selection of the best n, against a full stable sort."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from threadpoolctl import ThreadpoolController

from matinee.core.errors import InvalidInput
from matinee.models import top_n as module
from matinee.models.base import Capabilities, Model, Params
from matinee.models.top_n import top_n


class Fixed(Model):
    """Scores as given, one row a user."""

    name = "fixed"
    capabilities = Capabilities(predicts_ratings=False, personal=True)
    params_type = Params

    def __init__(self, table):
        super().__init__()
        table = np.asarray(table, dtype=np.float32)
        self._adopt({"table": table, "shape": np.array(table.shape)})

    def _fit(self, interactions, seed, threads, progress, start):
        return self.state()

    def _load(self, state):
        self.table = state["table"]

    def _predict(self, user_index, item_index):
        return self.table[user_index, item_index]

    def _scores(self, user_index):
        return self.table[user_index]


def by_sorting(table, n, excluded):
    """The definition: drop, sort stably, cut, fill."""
    items = np.full((len(table), n), -1, dtype=np.int32)
    scores = np.full((len(table), n), -np.inf, dtype=np.float32)
    for row, values in enumerate(table):
        left = [i for i in np.argsort(-values, kind="stable") if not excluded[row, i] and values[i] > -np.inf][:n]
        items[row, : len(left)], scores[row, : len(left)] = left, values[left]
    return items, scores


def everyone(table):
    return np.arange(len(table), dtype=np.int32)


@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 40) | st.sampled_from([300, 2_000])),
    n=st.integers(0, 50),
    levels=st.sampled_from([1, 3, 1000]),
    share=st.floats(0, 1),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_sorting(shape, n, levels, share, threads, seed):
    rng = np.random.default_rng(seed)
    table = rng.integers(-levels, levels + 1, shape).astype(np.float32)
    for odd in (-np.inf, np.inf, np.nan):
        table[rng.random(shape) < 0.05] = odd
    excluded = rng.random(shape) < share
    items, scores = top_n(Fixed(table), everyone(table), n, sparse.csr_array(excluded), threads=threads)
    wanted_items, wanted_scores = by_sorting(table, n, excluded)
    np.testing.assert_array_equal(items, wanted_items)
    np.testing.assert_array_equal(scores, wanted_scores)


@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_make_no_difference(threads, monkeypatch):
    rng = np.random.default_rng(0)
    table = rng.integers(0, 9, (23, 50)).astype(np.float32)
    excluded = sparse.csr_array(rng.random(table.shape) < 0.3)
    whole = top_n(Fixed(table), everyone(table), 10, excluded)
    monkeypatch.setattr(module, "BLOCK_BYTES", 4 * 50 * 3)  # three users at once
    parts = top_n(Fixed(table), everyone(table), 10, excluded, threads=threads)
    np.testing.assert_array_equal(parts[0], whole[0])
    np.testing.assert_array_equal(parts[1], whole[1])


def test_blocks_bound_the_scores_held_at_once(monkeypatch):
    sizes = []

    class Watching(Fixed):
        def scores(self, user_index):
            sizes.append(user_index.size)
            return super().scores(user_index)

    monkeypatch.setattr(module, "BLOCK_BYTES", 4 * 50 * 3)
    table = np.zeros((23, 50))
    top_n(Watching(table), everyone(table), 5)
    assert max(sizes) == 3


def test_blas_has_one_thread_while_blocks_are_worked_side_by_side():
    blas = ThreadpoolController().select(user_api="blas")
    seen = []

    class Watching(Fixed):
        def scores(self, user_index):
            seen.extend(library["num_threads"] for library in blas.info())
            return super().scores(user_index)

    with blas.limit(limits=2):
        before = [library["num_threads"] for library in blas.info()]
        top_n(Watching(np.zeros((3, 4))), np.arange(3, dtype=np.int32), 2, threads=2)
        assert [library["num_threads"] for library in blas.info()] == before
    assert set(seen) == {1}


def test_rows_of_exclude_belong_to_the_users_asked_for():
    table = [[3, 2, 1], [3, 2, 1], [3, 2, 1]]
    exclude = sparse.csr_array(([1.0, 1.0], ([0, 1], [0, 1])), shape=(2, 3))
    items, _ = top_n(Fixed(table), np.array([2, 0], np.int32), 1, exclude)
    assert items.tolist() == [[1], [0]]


def test_a_stored_zero_excludes_too():
    exclude = sparse.csr_array((np.zeros(1), np.array([0]), np.array([0, 1])), shape=(1, 2))
    assert top_n(Fixed([[2, 1]]), np.zeros(1, np.int32), 1, exclude)[0].tolist() == [[1]]


def test_nan_is_never_chosen():
    items, _ = top_n(Fixed([[np.nan, 1, np.nan]]), np.zeros(1, np.int32), 3)
    assert items.tolist() == [[1, -1, -1]]


def test_scores_are_not_changed():
    model = Fixed([[1.0, 2.0]])
    top_n(model, np.zeros(1, np.int32), 1, sparse.csr_array([[0, 1]]))
    assert model.table.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("n", "exclude"), [(-1, None), (1, sparse.csr_array((2, 2))), (1, sparse.csr_array([[0, 0, 1]]))]
)
def test_arguments_that_cannot_be_are_refused(n, exclude):
    with pytest.raises(InvalidInput):
        top_n(Fixed([[1, 2]]), np.zeros(1, np.int32), n, exclude)


def test_what_servers_import_is_numpy_only():
    heavy = ("scipy", "numba", "polars", "deltalake", "pydantic", "matinee.dataset", "matinee.training")
    code = "import sys, matinee.models.fold_in, matinee.models.preference; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded
    assert not [name for name in loaded if name.startswith(heavy)]
