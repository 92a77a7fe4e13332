"""What every registered model must do, whatever it has learnt."""

import resource
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matinee.core.errors import ConfigurationError, InvalidInput, Unsuitable
from matinee.dataset.interactions import Interactions
from matinee.models.base import WarmStart
from matinee.models.registry import MODELS, NAMES, load, make

QUICK_SVD = {"n_factors": 8, "n_epochs": 100, "lr_all": 0.05}
QUICK = {
    "als": {"n_factors": 8},
    "blend": {"members": ["svd", "baseline_only"], "member_params": {"svd": QUICK_SVD}, "held_back": 0.2},
    "bpr": {"n_factors": 8, "n_epochs": 100},
    "svd": QUICK_SVD,
    "svdpp": QUICK_SVD,
}
"""Few factors, and for SVD as many steps as small data needs."""

PERSONAL = [name for name in NAMES if MODELS[name].capabilities.personal]
SEEDED = [name for name in NAMES if MODELS[name].capabilities.seeded]
WARM = [name for name in NAMES if MODELS[name].capabilities.warm_starts]
PREDICTORS = [name for name in NAMES if MODELS[name].capabilities.predicts_ratings]

EXCEPTIONS = {
    "learns_structure": {"slope_one"},
    "scales": {"blend", "ease", "slope_one"},
}
"""Who does not do what is asked of every model; all else that models differ in is a choice, not a want."""

every_model = pytest.mark.parametrize("name", NAMES)


def new(name):
    return make(name, QUICK.get(name, {}))


def everyone(data):
    return np.arange(data.n_users, dtype=np.int32)


def all_pairs(data):
    u, i = np.meshgrid(everyone(data), np.arange(data.n_items, dtype=np.int32), indexing="ij")
    return u.ravel(), i.ravel()


def same_bits(a, b):
    return a.keys() == b.keys() and all(
        np.array_equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a
    )


@pytest.mark.parametrize("asked", EXCEPTIONS)
def test_who_does_not_do_what_is_asked_of_all_is_listed_in_one_place(asked):
    assert {name for name in NAMES if not getattr(MODELS[name].capabilities, asked)} == EXCEPTIONS[asked]


@every_model
def test_shapes_and_dtypes(name, mixed):
    model = new(name).fit(mixed)
    users = np.array([4, -1, 4], dtype=np.int32)
    predicted, scores = model.predict(users, users), model.scores(users)
    items, best = model.recommend(users, 7)
    assert (predicted.shape, predicted.dtype) == ((3,), np.float32)
    assert (scores.shape, scores.dtype) == ((3, mixed.n_items), np.float32)
    assert (items.shape, items.dtype, best.shape, best.dtype) == ((3, 7), np.int32, (3, 7), np.float32)
    assert model.scores(users[:0]).shape == (0, mixed.n_items)
    assert model.predict(users[:0], users[:0]).shape == (0,)
    assert model.recommend(users[:0], 7)[0].shape == (0, 7)


@every_model
def test_scores_agree_with_predict(name, mixed):
    model = new(name).fit(mixed)
    u, i = all_pairs(mixed)
    scores = model.scores(everyone(mixed)).ravel()
    if name in PREDICTORS:
        scores = np.clip(scores, np.nanmin(mixed.rating), np.nanmax(mixed.rating))
    np.testing.assert_allclose(model.predict(u, i), scores, rtol=1e-4, atol=1e-5)


@every_model
def test_unknown_users_are_answered_like_users_without_interactions(name, mixed):
    model = new(name).fit(mixed)
    scores = model.scores(np.array([-1, 0, 1], dtype=np.int32))
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


@every_model
def test_unknown_items_are_predicted_like_items_without_interactions(name, mixed):
    model = new(name).fit(mixed)
    users = np.repeat(np.array([-1, 0, 10], dtype=np.int32), 3)
    items = np.tile(np.array([-1, 0, 1], dtype=np.int32), 3)
    predicted = model.predict(users, items).reshape(3, 3)
    assert np.isfinite(predicted).all()
    assert (predicted == predicted[:, :1]).all()


@every_model
@pytest.mark.parametrize(
    ("users", "items", "where"),
    [([0, 30], [0, 0], r"user_index\[1\] is 30"), ([0, 0, 0], [0, 1, 40], r"item_index\[2\] is 40"),
     ([-2], [0], r"user_index\[0\] is -2"), ([0, 1], [0], "shape")],
)  # fmt: skip
def test_pairs_that_cannot_be_are_refused_with_their_place(name, users, items, where, mixed):
    model = new(name).fit(mixed)
    with pytest.raises(InvalidInput, match=where):
        model.predict(np.array(users, dtype=np.int32), np.array(items, dtype=np.int32))


@every_model
def test_users_that_cannot_be_are_refused_by_scores(name, mixed):
    model = new(name).fit(mixed)
    with pytest.raises(InvalidInput, match=r"user_index\[1\] is 30"):
        model.scores(np.array([0, 30], dtype=np.int32))
    with pytest.raises(InvalidInput, match="float64"):
        model.scores(np.array([0.0, np.nan]))


@every_model
def test_infinite_ratings_never_reach_a_fit(name, mixed):
    rating = mixed.rating.copy()
    rating[17] = np.inf
    with pytest.raises(InvalidInput, match=r"rating\[17\]"):
        new(name).fit(replace(mixed, rating=rating))


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_rating_that_is_nan_is_refused_with_its_place(name, build):
    with pytest.raises(InvalidInput, match=r"rating\[1\] is NaN"):
        new(name).fit(build([(0, 0, 4.0), (0, 1, None), (1, 1, 2.0)], 2, 2))


@every_model
def test_a_model_that_has_learnt_nothing_says_so(name):
    nobody = np.array([-1], dtype=np.int32)
    for ask in (
        lambda model: model.predict(nobody, nobody),
        lambda model: model.scores(nobody),
        lambda m: m.state(),
    ):
        with pytest.raises(ConfigurationError, match="learnt nothing") as caught:
            ask(new(name))
        assert "fit" in caught.value.remedy


@every_model
def test_hyperparameters_are_set_by_name(name):
    given = make(name).params.model_dump()
    assert MODELS[name](**given).params == make(name).params
    with pytest.raises(ConfigurationError, match="no parameter no_such_thing"):
        MODELS[name](no_such_thing=1)


def warm(model, data):
    rows = (np.arange(n, dtype=np.int32) for n in (data.n_users, data.n_items))
    return WarmStart(model.state(), *rows)


@pytest.mark.parametrize("name", WARM)
def test_a_warm_start_goes_on_where_the_earlier_fit_ended(name, planted):
    """Twice half the epochs come as near as all of them at once; half of them from noise do not."""
    epochs = new(name).params.n_epochs
    half = QUICK.get(name, {}) | {"n_epochs": max(1, epochs // 10)}
    cold = make(name, half).fit(planted, seed=1)
    twice = make(name, half).fit(planted, seed=2, start=warm(cold, planted))
    whole = make(name, QUICK.get(name, {})).fit(planted, seed=1)
    pairs = planted.user_index, planted.item_index

    def apart(model):
        return np.abs(model.predict(*pairs) - whole.predict(*pairs)).mean()

    assert apart(twice) < apart(cold)


@pytest.mark.parametrize("name", [name for name in NAMES if MODELS[name].capabilities.converges])
def test_a_model_that_converges_stays_where_many_epochs_have_led(name, mixed):
    """A single epoch that goes on from there moves it less than the same from noise by a factor of 50."""
    assert MODELS[name].capabilities.warm_starts
    there = make(name, QUICK.get(name, {}) | {"n_epochs": 300}).fit(mixed, seed=1)
    once = QUICK.get(name, {}) | {"n_epochs": 1}
    stayed, anew = make(name, once).fit(mixed, start=warm(there, mixed)), make(name, once).fit(mixed)
    users = everyone(mixed)
    moved, apart = (np.abs(model.scores(users) - there.scores(users)).max() for model in (stayed, anew))
    assert 50 * moved < apart


@pytest.mark.parametrize("name", WARM)
def test_a_warm_start_moves_rows_to_their_new_places(name, planted):
    earlier = new(name).fit(planted)
    turned = replace(
        planted,
        user_index=(planted.n_users - 1 - planted.user_index).astype(np.int32),
        item_index=(planted.n_items - 1 - planted.item_index).astype(np.int32),
    )
    rows = (np.arange(n, dtype=np.int32)[::-1].copy() for n in (planted.n_users, planted.n_items))
    start = WarmStart(earlier.state(), *rows)
    model = make(name, QUICK.get(name, {}) | {"n_epochs": 1}).fit(turned, start=start)
    items, _ = model.recommend(everyone(turned), 1, turned.matrix())
    unturned, _ = earlier.recommend(everyone(planted), 1, planted.matrix())
    np.testing.assert_array_equal(planted.n_items - 1 - items[::-1, 0], unturned[:, 0])


@pytest.mark.parametrize("name", WARM)
def test_a_warm_start_of_another_size_is_refused(name, planted, mixed):
    earlier = new(name).fit(planted)
    with pytest.raises(InvalidInput, match="warm start") as caught:
        new(name).fit(mixed, start=warm(earlier, planted))
    assert caught.value.remedy


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(WARM)))
def test_a_model_that_begins_anew_refuses_a_warm_start(name, planted):
    earlier = new(name).fit(planted)
    with pytest.raises(Unsuitable, match="begin"):
        new(name).fit(planted, start=warm(earlier, planted))


def newcomer(data, *, user=False, item=False):
    """The data without its last user or item, and the rows of who is left out."""
    out = (data.user_index == data.n_users - 1) if user else (data.item_index == data.n_items - 1)
    known = replace(data.take(~out), n_users=data.n_users - user, n_items=data.n_items - item)
    return known, data.take(out)


@pytest.mark.parametrize("name", [n for n in NAMES if MODELS[n].capabilities.folds_in_users])
def test_a_user_who_came_later_gets_the_withheld_item(name, planted, planted_answer):
    known, rows = newcomer(planted, user=True)
    before = new(name).fit(known)
    model = before.fold_in(rows)
    items, _ = model.recommend(everyone(planted), 1, planted.matrix())
    assert items[-1, 0] == planted_answer[-1]
    np.testing.assert_array_equal(before.scores(everyone(known)), model.scores(everyone(known)))


@pytest.mark.parametrize("name", [n for n in NAMES if MODELS[n].capabilities.folds_in_items])
def test_an_item_that_came_later_is_liked_by_those_who_like_its_kind(name, planted):
    known, rows = newcomer(planted, item=True)
    before = new(name).fit(known)
    scores = before.fold_in(rows).scores(everyone(planted))
    own = everyone(planted) % 2 == (planted.n_items - 1) % 2
    assert scores[own, -1].min() > scores[~own, -1].max()
    np.testing.assert_allclose(before.scores(everyone(planted)), scores[:, :-1], rtol=1e-5, atol=1e-6)


@every_model
def test_who_cannot_be_folded_in_is_refused(name, planted):
    model, can = new(name).fit(planted), MODELS[name].capabilities
    for grown, able in (
        (replace(planted, n_users=planted.n_users + 1), can.folds_in_users),
        (replace(planted, n_items=planted.n_items + 1), can.folds_in_items),
    ):
        if not able:
            with pytest.raises(Unsuitable, match="cannot fold in"):
                model.fold_in(grown)
    with pytest.raises(InvalidInput, match="fewer"):
        model.fold_in(replace(planted.take(np.zeros(len(planted), np.bool_)), n_users=1))


@every_model
def test_nan_predictions_do_not_follow_from_missing_values(name, mixed):
    assert np.isnan(mixed.rating).any()
    assert np.isnan(mixed.watched).any()
    model = new(name).fit(mixed)
    assert all(np.isfinite(array).all() for array in model.state().values())


@every_model
def test_one_user_and_one_item(name, build):
    model = new(name).fit(build([(0, 0, 4.0)], 1, 1))
    items, _ = model.recommend(np.array([0], dtype=np.int32), 1)
    assert items.tolist() == [[0]]


@every_model
def test_all_ratings_equal(name, build):
    data = build([(u, i, 4.0) for u in range(6) for i in range(6) if u != i], 6, 6)
    model = new(name).fit(data)
    u, i = all_pairs(data)
    predicted = model.predict(u, i)
    assert np.isfinite(predicted).all()
    if name in PREDICTORS:
        assert (predicted == 4.0).all()


@pytest.mark.parametrize("name", [name for name in NAMES if MODELS[name].capabilities.needs_data])
def test_nothing_to_learn_from_is_refused(name, build):
    with pytest.raises(Unsuitable) as caught:
        new(name).fit(build([], 3, 4))
    assert caught.value.remedy


@pytest.mark.parametrize("name", [name for name in NAMES if not MODELS[name].capabilities.needs_data])
def test_who_needs_no_data_scores_all_alike_without(name, build):
    assert np.ptp(new(name).fit(build([], 3, 4)).scores(np.arange(3, dtype=np.int32))) == 0


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_predictor_of_ratings_refuses_data_without_them(name, build):
    with pytest.raises(Unsuitable, match="ratings"):
        new(name).fit(build([(0, 0, None, 0.7)], 1, 1))


@pytest.mark.parametrize(
    ("name", "threads"),
    [(name, t) for name in NAMES for t in (1, 2, 3) if t == 1 or not MODELS[name].capabilities.threads_race],
)
def test_same_seed_and_number_of_threads_same_bits(name, threads, mixed):
    once, again = (new(name).fit(mixed, seed=3, threads=threads).state() for _ in range(2))
    assert same_bits(once, again)


@pytest.mark.parametrize("name", [n for n in NAMES if MODELS[n].capabilities.threads_race])
def test_a_model_whose_threads_race_says_that_they_change_results(name):
    assert MODELS[name].capabilities.threads_change_results


@pytest.mark.parametrize("name", SEEDED)
def test_another_seed_another_start(name, mixed):
    assert not same_bits(new(name).fit(mixed, seed=3).state(), new(name).fit(mixed, seed=4).state())


@pytest.mark.parametrize("name", [name for name in NAMES if not MODELS[name].capabilities.threads_change_results])
def test_threads_do_not_change_the_result(name, mixed):
    assert same_bits(new(name).fit(mixed).state(), new(name).fit(mixed, threads=3).state())


@every_model
def test_a_model_is_its_state(name, mixed):
    model = new(name).fit(mixed)
    copy = load(name, model.params.model_dump(), {key: array.copy() for key, array in model.state().items()})
    users = np.array([-1, 0, 5, 29], dtype=np.int32)
    assert same_bits(copy.state(), model.state())
    np.testing.assert_array_equal(copy.scores(users), model.scores(users))
    np.testing.assert_array_equal(copy.predict(users, users), model.predict(users, users))
    assert same_bits(copy.fold_in_arrays(), model.fold_in_arrays())


@contextmanager
def address_space(extra_bytes):
    """Whatever is allocated in here, by whatever language, must fit into so much more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + extra_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("name", [n for n in NAMES if MODELS[n].capabilities.scales])
def test_a_model_that_scales_needs_no_dense_matrix(name, mixed):
    """A million users × 1,000 items: users × items would take 4 GB, users × users 4 TB."""
    new(name).fit(mixed).recommend(everyone(mixed), 1)  # compiles outside the limit
    rng = np.random.default_rng(0)
    n_users, n_items, size = 1_000_000, 1_000, 50_000
    users = np.sort(rng.choice(n_users, size, replace=False)).astype(np.int32)
    items = rng.integers(n_items, size=size, dtype=np.int32)
    ratings = rng.integers(1, 6, size).astype(np.float32)
    data = Interactions(n_users, n_items, users, items, ratings, np.full(size, np.nan, np.float32))
    few = QUICK.get(name, {}) | ({"n_epochs": 1} if "n_epochs" in MODELS[name].params_type.model_fields else {})
    with address_space(1_500_000_000):
        model = make(name, few).fit(data)
        predicted = model.predict(users[:50], items[:50])
        items_shown, _ = model.recommend(users[:3], 5)
    assert np.isfinite(predicted).all()
    assert items_shown.shape == (3, 5)


@every_model
def test_fitting_leaves_the_interactions_alone(name, mixed):
    before = [array.copy() for array in (mixed.user_index, mixed.item_index, mixed.rating, mixed.watched)]
    new(name).fit(mixed)
    for old, now in zip(before, (mixed.user_index, mixed.item_index, mixed.rating, mixed.watched), strict=True):
        np.testing.assert_array_equal(old, now)


@every_model
def test_fitting_again_forgets(name, mixed, planted):
    model = new(name).fit(planted, seed=1).fit(mixed, seed=2)
    assert same_bits(model.state(), new(name).fit(mixed, seed=2).state())


@every_model
def test_recommend_gives_the_best_scores_in_order(name, mixed):
    model = new(name).fit(mixed)
    items, best = model.recommend(everyone(mixed), 10)
    scores = model.scores(everyone(mixed))
    wanted = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    np.testing.assert_array_equal(items, wanted)
    np.testing.assert_array_equal(best, np.take_along_axis(scores, wanted, axis=1))


@every_model
def test_excluded_items_are_never_recommended_and_places_left_over_are_filled(name, mixed):
    model = new(name).fit(mixed)
    seen = mixed.matrix()
    items, scores = model.recommend(everyone(mixed), mixed.n_items + 5, seen)
    for u in range(mixed.n_users):
        shown = items[u][items[u] >= 0]
        left = np.setdiff1d(np.arange(mixed.n_items), seen[[u]].indices)
        np.testing.assert_array_equal(np.sort(shown), left)
        assert (items[u, left.size :] == -1).all()
        assert (scores[u, left.size :] == -np.inf).all()


@every_model
def test_progress_counts_up_to_its_total(name, mixed):
    steps = []
    new(name).fit(mixed, progress=lambda done, total: steps.append((done, total)))
    totals = {total for _, total in steps}
    assert len(totals) == 1
    assert [done for done, _ in steps] == list(range(1, totals.pop() + 1))


@pytest.mark.parametrize("name", [name for name in PERSONAL if MODELS[name].capabilities.learns_structure])
def test_a_personal_model_finds_the_withheld_part(name, planted, planted_answer):
    model = new(name).fit(planted)
    items, _ = model.recommend(everyone(planted), 1, planted.matrix())
    np.testing.assert_array_equal(items[:, 0], planted_answer)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(PERSONAL)))
def test_an_impersonal_model_puts_items_in_one_order_unless_it_draws_lots(name, mixed):
    items, _ = new(name).fit(mixed).recommend(everyone(mixed), mixed.n_items)
    assert (items == items[0]).all() == (not MODELS[name].capabilities.by_lot)


@every_model
def test_only_a_model_that_folds_in_gives_arrays_for_it(name, mixed):
    model = new(name).fit(mixed)
    assert bool(model.fold_in_arrays()) == model.capabilities.online_fold_in
