"""ALS against dense linear algebra, and fold-in against ALS."""

from dataclasses import replace

import numpy as np
import pytest

from matinee.core.errors import InvalidInput, Unsuitable
from matinee.models.als import ALS, ALSParams
from matinee.models.fold_in import FoldIn
from matinee.models.preference import confidence

QUICK = ALSParams(n_factors=8, n_epochs=3)


def dense(data, params):
    """(extra confidence, preference), both (n_users, n_items)."""
    weight = confidence(data.rating, data.watched, params.positive_rating)
    extra = np.zeros((data.n_users, data.n_items))
    grown = np.log(1 + weight / params.epsilon) if params.weighting == "log" else weight
    extra[data.user_index, data.item_index] = params.alpha * grown
    return extra, (extra > 0).astype(float)


def regularisation(extra, params):
    total = extra.sum(axis=1)
    return params.reg * total**params.reg_exponent * total[total > 0].mean() ** (1 - params.reg_exponent)


def objective(data, params, x, y):
    extra, preference = dense(data, params)
    loss = ((1 + extra) * (preference - x @ y.T) ** 2).sum()
    penalties = (regularisation(side, params) @ (factors**2).sum(axis=1)
                 for side, factors in ((extra, x), (extra.T, y)))  # fmt: skip
    return loss + sum(penalties)


def factors(model):
    state = model.state()
    return state["user_factors"].astype(float), state["item_factors"].astype(float)


KINDS = [{}, {"reg_exponent": 0.0}, {"reg_exponent": 1.0}, {"weighting": "log", "epsilon": 0.3}]
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_user_factors_solve_the_normal_equations(kind, mixed):
    params = QUICK.model_copy(update=kind)
    x, y = factors(ALS(params).fit(mixed))
    extra, preference = dense(mixed, params)
    lam = regularisation(extra, params)
    for u in np.flatnonzero(preference.any(axis=1)):
        confident = 1 + extra[u]
        system = (y.T * confident) @ y + lam[u] * np.eye(QUICK.n_factors)
        wanted = np.linalg.solve(system, y.T @ (confident * preference[u]))
        np.testing.assert_allclose(x[u], wanted, rtol=1e-4, atol=1e-6)


@every_kind
def test_each_exact_epoch_lowers_the_objective(kind, mixed):
    values = []
    for epochs in range(1, 7):
        params = ALSParams(n_factors=8, n_epochs=epochs, cg_steps=0, **kind)
        x, y = factors(ALS(params).fit(mixed))
        x[~dense(mixed, params)[1].any(axis=1)] = 0  # the prior is no part of the objective
        values.append(objective(mixed, params, x, y))
    assert (np.diff(values) < 0).all()


def test_enough_conjugate_gradient_steps_are_exact(mixed):
    users = np.arange(mixed.n_users, dtype=np.int32)
    exact = ALS(ALSParams(n_factors=7, n_epochs=2, cg_steps=0)).fit(mixed).scores(users)
    iterated = ALS(ALSParams(n_factors=7, n_epochs=2, cg_steps=16)).fit(mixed).scores(users)
    np.testing.assert_allclose(iterated, exact, atol=2e-3)


@every_kind
def test_folding_in_gives_what_the_fit_gave(kind, mixed):
    model = ALS(QUICK.model_copy(update=kind)).fit(mixed)
    fold_in = FoldIn.from_arrays(model.fold_in_arrays())
    weight = confidence(mixed.rating, mixed.watched, fold_in.positive_rating)
    scores = model.scores(np.arange(mixed.n_users, dtype=np.int32))
    for u, rows in mixed.by_user():
        np.testing.assert_allclose(
            fold_in.scores(mixed.item_index[rows], weight[rows]), scores[u], rtol=1e-3, atol=1e-5
        )


def renumbered(data, users, items):
    """More rows for the same data: each row of a user or an item in the maps, for the index that it maps to."""
    rows = np.flatnonzero(np.isin(data.user_index, list(users)) if users else np.isin(data.item_index, list(items)))
    more = data.take(rows)
    user, item = ([among.get(index, index) for index in indices.tolist()]
                  for among, indices in ((users, more.user_index), (items, more.item_index)))  # fmt: skip
    return replace(
        more,
        n_users=data.n_users + len(users),
        n_items=data.n_items + len(items),
        user_index=np.array(user, np.int32),
        item_index=np.array(item, np.int32),
    )


@every_kind
def test_a_user_folded_in_gets_the_factors_of_the_same_likes(kind, mixed):
    model = ALS(QUICK.model_copy(update=kind)).fit(mixed)
    grown = model.fold_in(renumbered(mixed, {7: 30, 12: 31, 0: 32}, {}))
    x, before = grown.state()["user_factors"], model.state()
    np.testing.assert_array_equal(x[:30], before["user_factors"])
    np.testing.assert_allclose(x[30:32], x[[7, 12]], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(x[32], before["prior"])


@every_kind
def test_an_item_folded_in_solves_its_normal_equations(kind, mixed):
    params = QUICK.model_copy(update=kind)
    model = ALS(params).fit(mixed)
    grown = model.fold_in(renumbered(mixed, {}, {7: 40, 0: 41}))
    x, y = factors(grown)
    extra, preference = dense(mixed, params)
    x = np.where(preference.any(axis=1)[:, None], x[:30], 0)
    confident = 1 + extra[:, 7]
    lam = regularisation(extra.T, params)[7]
    wanted = np.linalg.solve((x.T * confident) @ x + lam * np.eye(8), x.T @ (confident * preference[:, 7]))
    np.testing.assert_allclose(y[40], wanted, rtol=1e-4, atol=1e-6)
    assert not y[41].any()
    np.testing.assert_array_equal(y[:40], factors(model)[1])


def test_fold_in_arrays_of_before_the_exponent_mean_what_they_meant(mixed):
    arrays = ALS(QUICK).fit(mixed).fold_in_arrays()
    older = {name: array for name, array in arrays.items() if name not in {"reg_exponent", "epsilon"}}
    item, weight = np.array([5, 9], np.int32), np.array([0.5, 1.0], np.float32)
    fold_in = FoldIn.from_arrays(older)
    np.testing.assert_array_equal(fold_in.scores(item, weight), FoldIn.from_arrays(arrays).scores(item, weight))
    assert (fold_in.reg_exponent, fold_in.epsilon) == (0.5, 0.0)
    with pytest.raises(InvalidInput, match="reg_exponent"):
        FoldIn.from_arrays(arrays | {"reg_exponent": np.ones(2)})


def test_a_stranger_with_the_tastes_of_a_group_gets_that_groups_items(planted):
    fold_in = FoldIn.from_arrays(ALS(ALSParams(n_factors=8)).fit(planted).fold_in_arrays())
    scores = fold_in.scores(np.array([1, 3], np.int32), np.ones(2, np.float32))
    assert scores[1::2].min() > scores[::2].max()


def test_nothing_liked_gives_the_mean_user(mixed):
    model = ALS(QUICK).fit(mixed)
    fold_in = FoldIn.from_arrays(model.fold_in_arrays())
    stranger = model.scores(np.array([-1], np.int32))[0]
    for items, weights in (([], []), ([3], [0.0]), ([-1], [1.0])):
        scores = fold_in.scores(np.array(items, np.int32), np.array(weights, np.float32))
        np.testing.assert_allclose(scores, stranger, rtol=1e-4, atol=1e-6)
    liked = confidence(mixed.rating, mixed.watched) > 0
    active = np.unique(mixed.user_index[liked])
    mean = model.state()["user_factors"][active].mean(axis=0)
    np.testing.assert_allclose(fold_in.factors(np.empty(0, np.int32), np.empty(0, np.float32)), mean, rtol=1e-5)


def test_fold_in_arrays_survive_a_round_trip_through_files(mixed, tmp_path):
    arrays = ALS(QUICK).fit(mixed).fold_in_arrays()
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=False)
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in arrays}
    item, weight = np.array([5], np.int32), np.array([0.5], np.float32)
    np.testing.assert_array_equal(
        FoldIn.from_arrays(mapped).scores(item, weight), FoldIn.from_arrays(arrays).scores(item, weight)
    )


@pytest.mark.parametrize(
    ("items", "weights", "where"),
    [([2, 40], [1, 1], r"item_index\[1\] is 40"), ([2], [np.nan], r"weight\[0\] is nan"),
     ([2, 3], [1, np.inf], r"weight\[1\] is inf"), ([2], [-1], r"weight\[0\] is -1"), ([2, 3], [1], "shape")],
)  # fmt: skip
def test_fold_in_refuses_what_cannot_be(items, weights, where, mixed):
    fold_in = FoldIn.from_arrays(ALS(QUICK).fit(mixed).fold_in_arrays())
    with pytest.raises(InvalidInput, match=where):
        fold_in.scores(np.array(items, np.int32), np.array(weights, np.float32))


@pytest.mark.parametrize("name", ["item_factors", "gram", "prior", "alpha", "reg", "mean_total", "positive_rating"])
def test_fold_in_names_the_array_that_is_missing_or_misshapen(name, mixed):
    arrays = ALS(QUICK).fit(mixed).fold_in_arrays()
    with pytest.raises(InvalidInput, match=name):
        FoldIn.from_arrays({key: array for key, array in arrays.items() if key != name})
    with pytest.raises(InvalidInput, match=r"shape"):
        FoldIn.from_arrays(arrays | {name: arrays[name][None]})


def test_ratings_below_the_threshold_teach_nothing(build):
    liked = [(u, i, 4.0) for u in range(4) for i in range(4) if u != i]
    disliked = [(u, u, 3.5) for u in range(4)]
    one, two = build(liked, 4, 4), build(liked + disliked, 4, 4)
    np.testing.assert_array_equal(
        ALS(QUICK).fit(one).state()["user_factors"], ALS(QUICK).fit(two).state()["user_factors"]
    )


def test_more_watched_weighs_more(build):
    """Users 0 and 1 differ only in how much of item 1 they watched."""
    rows = [(0, 0, 5.0), (1, 0, 5.0), (0, 1, None, 0.2), (1, 1, None, 0.9), (2, 0, 5.0), (3, 1, 5.0)]
    scores = ALS(ALSParams(n_factors=8)).fit(build(rows, 4, 2)).scores(np.array([0, 1], np.int32))
    assert scores[1, 1] > scores[0, 1]


def test_no_positives_is_refused_with_the_threshold(build):
    with pytest.raises(Unsuitable, match="positives") as caught:
        ALS(QUICK).fit(build([(0, 0, 3.0), (1, 1, 1.0)], 2, 2))
    assert "4.0" in caught.value.remedy
