"""k-NN against its equations, written out plainly."""

import heapq
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.core.errors import ConfigurationError
from matinee.dataset.interactions import Interactions
from matinee.models import neighbours
from matinee.models.bias import BaselineOnlyParams, baselines
from matinee.models.knn import KNNBaseline, KNNBaselineParams, KNNBasic, KNNWithMeans, KNNWithZScore
from matinee.models.knn_steps import SPARE
from matinee.models.neighbours import KNNParams
from matinee.models.registry import load
from matinee.models.similarities import both_sides, measure, similarity_rows
from models.conftest import make_interactions

KINDS = (KNNBasic, KNNWithMeans, KNNWithZScore, KNNBaseline)
SIMILARITIES = ("cosine", "msd", "pearson", "pearson_baseline")

every_kind = pytest.mark.parametrize("kind", KINDS)


class Plain:
    """The four predictors, neighbour by neighbour, from given similarities."""

    def __init__(self, model, data):
        self.model, self.params, self.mean = model, model.params, data.rating.mean(dtype=np.float64)
        _, bu, bi = baselines(data, BaselineOnlyParams())
        by_user = self.params.user_based
        x, y = (data.user_index, data.item_index) if by_user else (data.item_index, data.user_index)
        n_x = data.n_users if by_user else data.n_items
        self.bx, self.by = (bu, bi) if by_user else (bi, bu)
        compared = data.rating
        if self.params.similarity == "pearson_baseline":
            compared = (data.rating - self.mean - bu[data.user_index] - bi[data.item_index]).astype(np.float32)
        self.alike = np.zeros((n_x, n_x), dtype=np.float32)
        how = measure(self.params.similarity, self.params.min_support, self.params.shrinkage)
        similarity_rows(0, n_x, both_sides(data, compared, by_user), how, self.alike)
        self.of_x, self.of_y = {}, {}
        for a, b, r in zip(x.tolist(), y.tolist(), data.rating.astype(float).tolist(), strict=True):
            self.of_x.setdefault(a, []).append(r)
            self.of_y.setdefault(b, []).append((a, r))
        self.overall = data.rating.std(dtype=np.float64)

    def deviation(self, x):
        return np.std(self.of_x[x]) or self.overall or 1.0

    def baseline(self, x, y):
        return self.mean + (self.bx[x] if x in self.of_x else 0) + (self.by[y] if y in self.of_y else 0)

    def value(self, x, y, r):
        return {
            "knn_basic": lambda: r,
            "knn_with_means": lambda: r - np.mean(self.of_x[x]),
            "knn_with_z_score": lambda: (r - np.mean(self.of_x[x])) / self.deviation(x),
            "knn_baseline": lambda: r - self.baseline(x, y),
        }[self.model.name]()

    def predict(self, u, i):
        name = self.model.name
        x, y = (u, i) if self.params.user_based else (i, u)
        if not (x in self.of_x and y in self.of_y):
            return self.baseline(x, y) if name == "knn_baseline" else self.mean
        near = heapq.nlargest(self.params.k, self.of_y[y], key=lambda pair: self.alike[x, pair[0]])
        near = [(v, r) for v, r in near if self.alike[x, v] > 0]
        if len(near) < max(1, self.params.min_k):
            if name in {"knn_basic", "knn_baseline"}:
                return self.baseline(x, y) if name == "knn_baseline" else self.mean
            return np.mean(self.of_x[x])
        weights = np.array([self.alike[x, v] for v, _ in near], dtype=float)
        mean = weights @ [self.value(v, y, r) for v, r in near] / weights.sum()
        if name == "knn_basic":
            return mean
        if name == "knn_baseline":
            return self.baseline(x, y) + mean
        return np.mean(self.of_x[x]) + mean * (self.deviation(x) if name == "knn_with_z_score" else 1)

    def scores(self, n_users, n_items):
        return [[self.predict(u, i) for i in range(n_items)] for u in range(n_users)]


def everyone(data):
    return np.arange(data.n_users, dtype=np.int32)


def pairs(*rows):
    return tuple(np.array(column, dtype=np.int32) for column in zip(*rows, strict=True))


@every_kind
@pytest.mark.parametrize("user_based", [True, False])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_scores_are_those_of_the_equations(kind, similarity, user_based, mixed):
    model = kind(similarity=similarity, user_based=user_based, k=3, min_k=2, min_support=2).fit(mixed)
    wanted = Plain(model, mixed.rated()).scores(mixed.n_users, mixed.n_items)
    np.testing.assert_allclose(model.scores(everyone(mixed)), wanted, rtol=1e-4, atol=1e-5)


rated = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 5), st.sampled_from([0.5, 1.0, 2.5, 5.0])),
    min_size=1, max_size=42, unique_by=lambda row: row[:2],
)  # fmt: skip


@settings(max_examples=60)
@given(rows=rated, kind=st.sampled_from(KINDS), similarity=st.sampled_from(SIMILARITIES),
       k=st.integers(1, 8), min_k=st.integers(0, 3), user_based=st.booleans())  # fmt: skip
def test_any_small_data_is_answered_by_the_equations(rows, kind, similarity, k, min_k, user_based):
    data = make_interactions(rows, 8, 7)
    model = kind(similarity=similarity, k=k, min_k=min_k, user_based=user_based).fit(data)
    scores = model.scores(everyone(data))
    np.testing.assert_allclose(scores, Plain(model, data).scores(8, 7), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("k", [1, 7, 40, 1000])
def test_of_many_neighbours_the_nearest_count_and_of_ties_the_first(k):
    """Long lists, which the compiled code thins first, most of them tied."""
    rng = np.random.default_rng(3)
    n_users = 6 * SPARE
    rows = [(u, 0, float(rng.integers(1, 6))) for u in rng.permutation(n_users)]
    rows += [(u, i, float(rng.integers(1, 4))) for u in range(n_users) for i in (1, 2)]
    data = make_interactions(rows, n_users, 3)
    model = KNNBasic(k=k).fit(data)
    plain = Plain(model, data)
    some = np.arange(0, n_users, 17, dtype=np.int32)
    wanted = [plain.predict(u, 0) for u in some.tolist()]
    np.testing.assert_allclose(model.predict(some, np.zeros_like(some)), wanted, rtol=1e-5)


def test_basic_by_hand(build):
    """User 0 and 1 differ by 0 on item 0: similarity 1; user 2 by 2: 1/5. So (5 + 1/5 · 2) / (6/5) = 4.5."""
    data = build([(0, 0, 3.0), (1, 0, 3.0), (2, 0, 5.0), (1, 1, 5.0), (2, 1, 2.0)], 3, 2)
    assert KNNBasic().fit(data).predict(*pairs((0, 1)))[0] == pytest.approx(4.5)


def test_with_means_by_hand(build):
    """The same neighbours are 1 above and 1.5 below their means (4, 3.5): 3 + (1 − 1.5/5) / (6/5)."""
    data = build([(0, 0, 3.0), (1, 0, 3.0), (2, 0, 5.0), (1, 1, 5.0), (2, 1, 2.0)], 3, 2)
    assert KNNWithMeans().fit(data).predict(*pairs((0, 1)))[0] == pytest.approx(3 + 0.7 / 1.2)


def test_only_similarities_above_zero_count(build):
    """User 1 is user 0's opposite, the only one who rated item 2."""
    rows = [(0, 0, 1.0), (0, 1, 5.0), (1, 0, 5.0), (1, 1, 1.0), (1, 2, 5.0)]
    data = build(rows, 2, 3)
    question = pairs((0, 2))
    assert KNNBasic(similarity="pearson").fit(data).predict(*question)[0] == pytest.approx(17 / 5)
    assert KNNWithMeans(similarity="pearson").fit(data).predict(*question)[0] == 3.0
    assert KNNWithZScore(similarity="pearson").fit(data).predict(*question)[0] == 3.0


def test_with_too_few_neighbours_the_prior_remains(planted):
    users, items = pairs((0, 0), (3, 5))
    mean = planted.rating.mean()
    own = [planted.rating[planted.user_index == u].mean() for u in (0, 3)]
    baseline = KNNBaseline(min_k=30).fit(planted)
    state = baseline.state()
    wanted = mean + state["user_bias"][users] + state["item_bias"][items]
    np.testing.assert_allclose(KNNBasic(min_k=30).fit(planted).predict(users, items), mean, rtol=1e-6)
    np.testing.assert_allclose(KNNWithMeans(min_k=30).fit(planted).predict(users, items), own, rtol=1e-6)
    np.testing.assert_allclose(KNNWithZScore(min_k=30).fit(planted).predict(users, items), own, rtol=1e-6)
    np.testing.assert_allclose(baseline.predict(users, items), wanted, rtol=1e-6)


def test_z_scores_of_equal_ratings_are_zero_and_do_not_divide_by_it(build):
    data = build([(u, i, 3.7) for u in range(3) for i in range(7)], 3, 8)
    scores = KNNWithZScore().fit(data).scores(everyone(data))
    np.testing.assert_allclose(scores, 3.7, rtol=1e-6)


def test_the_baselines_are_those_asked_for(mixed):
    params = BaselineOnlyParams(method="sgd", n_epochs=3, learning_rate=0.05, reg=0.1)
    state = KNNBaseline(**params.model_dump()).fit(mixed).state()
    _, user_bias, item_bias = baselines(mixed.rated(), params)
    np.testing.assert_array_equal(state["user_bias"], user_bias)
    np.testing.assert_array_equal(state["item_bias"], item_bias)


def test_defaults_are_surprises():
    plain = {"k": 40, "min_k": 1, "similarity": "msd", "user_based": True, "min_support": 1, "shrinkage": 100}
    assert KNNParams().model_dump(exclude={"memory_limit_gb"}) == plain
    baselines = BaselineOnlyParams().model_dump()
    assert KNNBaselineParams().model_dump(exclude={"memory_limit_gb"}) == {**plain, **baselines}


def test_there_are_four_similarities():
    with pytest.raises(ConfigurationError, match="pearson_baseline"):
        KNNBasic(similarity="jaccard")


@every_kind
@pytest.mark.parametrize("user_based", [True, False])
def test_threads_and_blocks_change_nothing(kind, user_based, mixed, monkeypatch):
    one = kind(user_based=user_based).fit(mixed)
    scores = one.scores(everyone(mixed))
    monkeypatch.setattr(neighbours, "GROUPS_AT_ONCE", 3)
    monkeypatch.setattr(neighbours, "PAIRS_AT_ONCE", 100)
    np.testing.assert_array_equal(kind(user_based=user_based).fit(mixed, threads=4).scores(everyone(mixed)), scores)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_items_too_many_for_a_matrix_are_answered_alike(similarity, mixed):
    model = KNNBaseline(similarity=similarity, user_based=False).fit(mixed)
    scores = model.scores(everyone(mixed))
    again = load("knn_baseline", model.params.model_dump() | {"memory_limit_gb": 0}, model.state())
    np.testing.assert_array_equal(again.scores(everyone(mixed)), scores)


def test_many_users_need_no_matrix_of_users():
    """300,000² float32 would be 360 GB."""
    rng = np.random.default_rng(1)
    n_users, n_items = 300_000, 500
    u, i = rng.integers(n_users, size=600_000), rng.integers(n_items, size=600_000)
    cells = np.unique(u * n_items + i)
    rows = np.full(cells.size, np.nan, dtype=np.float32)
    rating = rng.integers(1, 6, cells.size).astype(np.float32)
    data = Interactions(
        n_users, n_items, (cells // n_items).astype(np.int32), (cells % n_items).astype(np.int32), rating, rows
    )
    model = KNNWithMeans().fit(data)
    assert np.isfinite(model.scores(np.array([0, 299_999], dtype=np.int32))).all()
    assert sum(array.nbytes for array in model.state().values()) < 13 * cells.size


def test_many_items_need_no_matrix_of_items():
    """60,000² float32 would be 14.4 GB."""
    rng = np.random.default_rng(1)
    n_users, n_items = 500, 60_000
    cells = np.unique(rng.integers(n_users * n_items, size=20_000))
    rating = rng.integers(1, 6, cells.size).astype(np.float32)
    index = [(part).astype(np.int32) for part in np.divmod(cells, n_items)]
    data = Interactions(n_users, n_items, *index, rating, np.full_like(rating, np.nan))
    model = KNNBasic(user_based=False).fit(data)
    assert np.isfinite(model.scores(np.array([0, 499], dtype=np.int32))).all()
    assert model._matrix.size == 0


def twin_of(data, user=None, item=None):
    """One more user (or item), with the ratings of another."""
    rows = data.take(data.user_index == user if item is None else data.item_index == item)
    if item is None:
        return replace(rows, n_users=data.n_users + 1, user_index=np.full(len(rows), data.n_users, np.int32))
    return replace(rows, n_items=data.n_items + 1, item_index=np.full(len(rows), data.n_items, np.int32))


@every_kind
@pytest.mark.parametrize("method", ["als", "sgd"])
@pytest.mark.parametrize("user_based", [True, False])
@pytest.mark.parametrize("similarity", ["cosine", "msd", "pearson"])
def test_a_newcomer_who_rates_as_another_is_answered_alike(kind, similarity, user_based, method, mixed):
    """Each finds the other's place among neighbours: one is alike to itself as the other is to it, which is 1."""
    data = mixed.rated()
    settled = (
        {"method": method, "n_epochs": 10_000, "learning_rate": 5e-4, "reg": 0.5} if kind is KNNBaseline else {}
    )
    model = kind(similarity=similarity, user_based=user_based, min_k=2, **settled).fit(data)
    scores = model.scores(everyone(data))
    user, item = int(data.user_index[0]), int(data.item_index[0])
    with_user = model.fold_in(twin_of(data, user=user)).scores(everyone(data) + 1)
    np.testing.assert_allclose(with_user[-1], scores[user], rtol=2e-3)
    with_item = model.fold_in(twin_of(data, item=item)).scores(everyone(data))
    np.testing.assert_allclose(with_item[:, -1], scores[:, item], rtol=2e-3)


@every_kind
@pytest.mark.parametrize("user_based", [True, False])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_newcomers_change_nothing_between_the_others(kind, similarity, user_based, mixed):
    data = mixed.rated()
    model = kind(similarity=similarity, user_based=user_based).fit(data)
    rng = np.random.default_rng(0)
    more = make_interactions(
        [(u, i, float(rng.integers(1, 6))) for u in range(33) for i in range(45) if u >= 30 or i >= 40], 33, 45
    )
    grown = model.fold_in(more)
    np.testing.assert_array_equal(grown.scores(everyone(data))[:, :40], model.scores(everyone(data)))
    step = model.fold_in(replace(more.take(more.item_index < 40), n_items=40)).fold_in(
        more.take(more.user_index < 30)
    )
    np.testing.assert_array_equal(step.scores(everyone(more)), grown.scores(everyone(more)))
