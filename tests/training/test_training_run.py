import dataclasses
import itertools
import multiprocessing

import msgspec
import numpy as np
import polars as pl
import pytest
from mlflow import MlflowClient
from planted_lake import GROUPS, fill, planted

from matinee.bundle.manifest import read_manifest
from matinee.bundle.open import open_bundle
from matinee.core.clock import DAY, ManualClock
from matinee.core.errors import ConfigurationError, Corrupt, GateRefused, Locked, Unsuitable
from matinee.core.home import Home
from matinee.core.settings import TrainingSettings
from matinee.lake.schemas import ITEMS, USERS
from matinee.training.run import Request, repeat_of, train

DAYS = itertools.count(20_000)  # since 1970


def run(request, settings, home, lake, progress=lambda *_: None, clock=None):
    clock = clock or ManualClock(next(DAYS) * DAY)  # bundles are named by the second, in which two runs may end
    return train(request, settings=settings, home=home, lake=lake, clock=clock, progress=progress)


def test_als_finds_the_planted_structure_and_its_bundle_holds_the_answers(settings, home, lake):
    table = planted()
    fill(lake, table)
    report = run(Request(models=("als",), params={"als": {"n_factors": 8}}), settings, home, lake)
    assert report.verdicts["als"].ranking == "passed"
    with open_bundle(home.bundles / report.bundle, home.run) as bundle:
        assert bundle.manifest.model == "als"
        assert bundle.manifest.lake_versions == report.snapshot.lake_versions
        assert bundle.manifest.ends() == report.snapshot.offsets
        seen_by = {user: set(items) for user, items in table.group_by("user").agg("item").iter_rows()}
        for user, seen in seen_by.items():
            entry = bundle.user(user)
            shown = [bundle.items[i] for i in entry.top]
            assert {bundle.items[i] for i in entry.seen} == seen
            assert not seen & set(shown)
            # 14 of the 20 items of a user's own third were rated: the six that were withheld come first.
            own = {item for item in bundle.items if int(item[1:]) % GROUPS == int(user[1:]) % GROUPS}
            assert set(shown[:6]) == own - seen


def test_a_model_that_servers_fold_users_into_goes_before_a_better_one_unless_told_otherwise(settings, home, lake):
    fill(lake, planted())
    wanted = Request(models=("ease", "als"), params={"als": {"n_factors": 1}})
    live = run(wanted, settings, home, lake)
    ndcg = {e.name: e.metrics["ndcg"] for e in live.evaluations}
    assert ndcg["ease"] > ndcg["als"]
    assert (live.chosen, live.ranked_higher) == ("als", ("ease",))
    best = settings.model_copy(update={"training": settings.training.model_copy(update={"prefer_live": False})})
    report = run(wanted, best, home, lake)
    assert (report.chosen, report.ranked_higher) == ("ease", ())
    other = run(Request(models=("ease", "popularity")), settings, home, lake)  # none of them is live
    assert (other.chosen, other.ranked_higher) == ("ease", ())


def test_a_run_is_noted_in_mlflow_with_its_model_version(settings, home, lake):
    fill(lake, planted())
    report = run(Request(models=("als", "popularity"), params={"als": {"n_factors": 8}}), settings, home, lake)
    client = MlflowClient(tracking_uri=home.resolve(settings.mlflow_url))
    version = client.get_model_version("matinee", report.mlflow_version)
    assert version.tags["bundle"] == report.bundle
    run_of_it = client.get_run(version.run_id)
    assert run_of_it.data.tags["gate"] == "passed"
    assert run_of_it.data.metrics["ndcg"] == pytest.approx(report.verdicts["als"].evidence["ndcg_at_10"])
    assert len(client.search_runs([run_of_it.info.experiment_id])) == 2


def test_a_repeated_run_makes_the_same_bundle_from_the_same_version_of_the_lake(settings, home, lake):
    fill(lake, planted())
    wanted = Request(models=("als",), params={"als": {"n_factors": 8}})
    first = run(wanted, settings, home, lake, clock=ManualClock(DAY))
    for seed in range(1, 6):
        fill(lake, planted(seed), generation=f"later-{seed}")
    # Six times the rows, trained on: a repeated run must not be measured against them.
    run(wanted, settings, home, lake, clock=ManualClock(2 * DAY))
    manifest = read_manifest(home.bundles / first.bundle)
    repeated = run(repeat_of(manifest), settings, home, lake, clock=ManualClock(3 * DAY))
    again = read_manifest(home.bundles / repeated.bundle)
    assert again.content_hash == manifest.content_hash
    assert again.metrics == manifest.metrics
    assert again.files == manifest.files
    assert TrainingSettings(**manifest.options) == settings.training


def test_what_a_bundle_of_format_1_was_learnt_from_is_still_known(settings, home, lake):
    fill(lake, planted())
    first = run(Request(models=("popularity",)), settings, home, lake, clock=ManualClock(DAY))
    manifest = read_manifest(home.bundles / first.bundle)
    earlier = msgspec.structs.replace(manifest, format_version=1, content_hash=first.snapshot.earlier_hashes[0])
    repeated = run(repeat_of(earlier), settings, home, lake, clock=ManualClock(2 * DAY))
    assert (
        read_manifest(home.bundles / repeated.bundle).content_hash == manifest.content_hash != earlier.content_hash
    )


def rows(table, **columns):
    schema = {name: dtype for name, dtype in table.columns.items() if name not in table.filled}
    return pl.DataFrame(
        {name: columns.get(name, [None] * len(columns[table.key])) for name in schema}, schema=schema
    )


def test_a_bundle_says_what_the_lake_knows_of_items_and_ages(settings, home, lake):
    table = planted()
    fill(lake, table)
    lake.upsert(
        "items",
        rows(ITEMS, item=["i07", "i08"], title=["Seven", None], genres=[["War", "Art"], None], year=[1995, None],
             extra=['{"available_until": "1970-01-01T00:00:01Z"}', '{"adult": "True"}']),
    )  # fmt: skip
    lake.upsert("users", rows(USERS, user=["u003", "new"], age=[42, 17]))
    report = run(Request(models=("popularity",), accept_data=True), settings, home, lake)
    with open_bundle(home.bundles / report.bundle, home.run) as bundle:
        known = bundle.attributes
        seven, eight = bundle.item_index("i07"), bundle.item_index("i08")
        assert (known.titles[seven], known.titles[eight], known.genres) == ("Seven", "", ("Art", "War"))
        assert known.genre_mask.sum(axis=1).nonzero()[0].tolist() == [seven]
        assert {index: int(known.year[index]) for index in known.year.nonzero()[0]} == {seven: 1995}
        assert {index: int(known.age_limit[index]) for index in known.age_limit.nonzero()[0]} == {eight: 18}
        assert np.flatnonzero(known.available_until_us == 1_000_000).tolist() == [seven]
        met = dict(table.group_by("item").agg(pl.col("user").n_unique()).iter_rows())
        assert {item: int(known.interactions[bundle.item_index(item)]) for item in bundle.items} == met
        assert [bundle.user(user).age for user in ("u003", "new", "u004")] == [42, 17, -1]


@pytest.mark.parametrize("model", ["als", "ease"])
def test_items_that_nobody_met_are_in_the_bundle_last_of_all_and_on_no_list(settings, home, lake, model):
    table = planted()
    fill(lake, table)
    names = sorted(table["item"].unique())
    lake.upsert("items", rows(ITEMS, item=["a+new+one", *names, "i99"], title=["New", *([None] * len(names)), None],
                              genres=[["War"], *([["Art"]] * len(names)), None]))  # fmt: skip
    params = {"als": {"n_factors": 8}} if model == "als" else {}
    report = run(Request(models=(model,), params=params), settings, home, lake)
    with open_bundle(home.bundles / report.bundle, home.run) as bundle:
        assert bundle.items == (*names, "a+new+one", "i99")
        new, other = len(names), len(names) + 1
        for ordering in (bundle.popular(), bundle.popular(0), bundle.trending()):
            assert ordering[-2:].tolist() == [new, other]
        assert bundle.attributes.interactions[[new, other]].tolist() == [0, 0]
        assert bundle.attributes.titles[new] == "New"
        assert bundle.attributes.genre_mask[new].tolist() == [False, True]
        listed = {int(i) for user in table["user"].unique() for i in bundle.user(user).top}
        assert listed == set(range(len(names)))  # every other one is on somebody's
        if bundle.fold_in is not None:
            assert np.flatnonzero(~bundle.fold_in.has_factors).tolist() == [new, other]
        assert np.flatnonzero(~bundle.is_met).tolist() == [new, other]
        assert bundle.ratings.knows(np.array([0, new, other])).tolist() == [True, False, False]
        assert report.snapshot.profile.unknown_items == 0


@pytest.mark.parametrize("model", ["als", "ease"])
def test_a_bundle_predicts_ratings_as_the_run_measured(settings, home, lake, model):
    fill(lake, planted())
    params = {"als": {"n_factors": 8}} if model == "als" else {}
    report = run(Request(models=(model,), params=params), settings, home, lake)
    metrics = next(e.metrics for e in report.evaluations if e.name == model)
    # Users love their own third and nothing else, which item vectors know and biases do not.
    assert metrics["predicted_mae"] <= metrics["predicted_rmse"]
    assert (metrics["predicted_rmse"] < 0.8 * report.bias_rmse) is (model == "als")
    assert metrics["predicted_rmse"] < 1.1 * report.bias_rmse
    with open_bundle(home.bundles / report.bundle, home.run) as bundle:
        own, other = (np.array([bundle.item_index(f"i{i:02}") for i in some], dtype=np.int32)
                      for some in (range(0, 60, GROUPS), range(1, 60, GROUPS)))  # fmt: skip
        rated = np.concatenate([own[:5], other[:5]])
        loved = np.repeat(np.array([5, 1], dtype=np.float32), 5)
        predicted = [bundle.ratings.ratings(rated, loved, rest[5:]).mean() for rest in (own, other)]
        assert (predicted[0] > predicted[1] + 1) == (model == "als")
        assert (bundle.ratings.low, bundle.ratings.high) == (1.0, 5.0)


def test_where_nobody_rates_nothing_predicts_ratings(settings, home, lake):
    watched = planted().select("user", "item", "time", pl.lit(3).cast(pl.Int32).alias("minute"))
    fill(lake, watched)
    report = run(Request(models=("popularity",), accept_data=True), settings, home, lake)
    assert "predicted_rmse" not in report.evaluations[0].metrics
    with open_bundle(home.bundles / report.bundle, home.run) as bundle:
        assert bundle.ratings is None


def test_a_known_user_without_history_gets_what_is_popular_in_the_segment(settings, home, lake):
    fill(lake, planted())
    known = {"user": ["new"], "age": [30], "occupation": [None], "gender": ["F"], "extra": [None]}
    schema = {name: dtype for name, dtype in USERS.columns.items() if name not in USERS.filled}
    lake.upsert("users", pl.DataFrame(known, schema=schema))
    report = run(Request(models=("popularity",)), settings, home, lake)
    with open_bundle(home.bundles / report.bundle, home.run) as bundle:
        entry = bundle.user("new")
        assert entry.top.size == entry.seen.size == 0
        assert bundle.manifest.segments[entry.segment] == report.snapshot.segments[entry.segment] != "unknown"


def test_a_run_whose_data_is_gone_is_not_repeated(settings, home, lake):
    fill(lake, planted())
    with pytest.raises(Corrupt, match="the run to repeat had"):
        run(Request(models=("als",), expect_hash="0" * 64), settings, home, lake)


def test_a_model_no_better_than_popularity_is_refused_and_nothing_is_published(settings, home, lake):
    table = planted()
    shuffled = table.with_columns(table["item"].shuffle(seed=3)).unique(["user", "item"], maintain_order=True)
    fill(lake, shuffled)
    report = run(Request(models=("als",), params={"als": {"n_factors": 8}}), settings, home, lake)
    assert report.verdicts["als"].ranking == "refused"
    assert report.verdicts["als"].evidence["difference_low"] <= 0
    with pytest.raises(GateRefused, match="als: nDCG@10"):
        report.raise_if_refused()
    assert not home.bundles.exists() or not list(home.bundles.iterdir())


def test_popularity_is_published_as_the_baseline_where_it_is_asked_for(settings, home, lake):
    fill(lake, planted())
    report = run(Request(models=("popularity",)), settings, home, lake)
    assert read_manifest(home.bundles / report.bundle).gate.evidence["verdict"] == "baseline"


def test_untimed_data_is_split_at_random_and_refuses_a_split_by_time(settings, home, lake):
    fill(lake, planted(timed=False))
    report = run(Request(models=("popularity",)), settings, home, lake)
    assert not report.snapshot.timed
    by_time = settings.model_copy(update={"training": settings.training.model_copy(update={"split": "time"})})
    with pytest.raises(Unsuitable, match="times"):
        run(Request(models=("popularity",)), by_time, home, lake)


def test_a_candidate_that_the_data_does_not_suit_is_passed_over_where_asked(settings, home, lake):
    fill(lake, planted())
    wanted = {"als": {"positive_rating": 100}, "svd": {"n_factors": 8}}
    report = run(
        Request(models=("als", "svd", "popularity"), params=wanted, skip_unsuitable=True), settings, home, lake
    )
    assert list(report.unsuitable) == ["als"]
    assert "positives" in read_manifest(home.bundles / report.bundle).candidates["als"]["unsuitable"]
    with pytest.raises(Unsuitable, match="positives"):
        run(Request(models=("als", "svd"), params=wanted), settings, home, lake)


def test_an_unknown_model_is_refused_before_the_long_work(settings, home, lake):
    def no_progress(*_):
        pytest.fail("the long work had begun")

    with pytest.raises(ConfigurationError, match="there is no model 'magic'"):
        run(Request(models=("magic",)), settings, home, lake, no_progress)


def _hold(path, held, release):
    with Home(path).lock("train"):
        held.set()
        release.wait(60)


def test_the_second_of_two_trainings_says_who_holds_the_lock(settings, home, lake):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(home.path, held, release))
    other.start()
    assert held.wait(60)
    try:
        with pytest.raises(Locked, match=str(other.pid)):
            run(Request(models=("als",)), settings, home, lake)
    finally:
        release.set()
        other.join()


def test_a_killed_run_leaves_no_bundle_and_no_lock(settings, home, lake):
    fill(lake, planted())

    class Killed(BaseException):
        pass

    def die(what, done, total):
        if what == "everyone's answers":
            raise Killed

    with pytest.raises(Killed):
        run(Request(models=("als",), params={"als": {"n_factors": 8}}), settings, home, lake, die)
    report = run(Request(models=("als",), params={"als": {"n_factors": 8}}), settings, home, lake)
    assert [path.name for path in home.bundles.iterdir()] == [report.bundle]


def test_segments_have_popularity_of_their_own():
    from matinee.dataset.interactions import Interactions
    from matinee.training.answers import popularity_orders

    user = np.array([0, 1, 2, 3, 3], dtype=np.int32)
    item = np.array([0, 0, 1, 1, 2], dtype=np.int32)
    rating = np.array([5, 5, 5, 5, 1], dtype=np.float32)
    data = Interactions(4, 4, user, item, rating, np.full(5, np.nan, dtype=np.float32))
    overall, by_segment = popularity_orders(data, np.array([0, 0, 1, -1], dtype=np.int16), 2, 4.0)
    assert overall.tolist() == [0, 1, 2, 3]  # two each; the 1-star rating counts for nothing
    assert by_segment.tolist() == [[0, 1, 2, 3], [1, 0, 2, 3]]


def test_what_is_liked_of_late_counts_half_after_each_week():
    from matinee.core.clock import DAY
    from matinee.dataset.interactions import Interactions
    from matinee.training.answers import TRENDING_DAYS, trending_order

    week = round(TRENDING_DAYS * DAY)
    item = np.array([0, 0, 0, 1, 1, 2, 3], dtype=np.int32)
    user = np.arange(7, dtype=np.int32)
    rating = np.array([5, 5, 5, 5, 5, 5, 1], dtype=np.float32)
    weeks_ago = np.array([2, 2, 2, 1, 1, 0, 0])
    times = (100 - weeks_ago) * week
    data = Interactions(7, 5, user, item, rating, np.full(7, np.nan, dtype=np.float32), times)
    # Item 0: 3/4; item 1: 2/2; item 2: 1, and liked by fewer ever; 3 was met and not liked, 4 never met.
    assert trending_order(data, 4.0).tolist() == [1, 2, 0, 3, 4]
    assert trending_order(dataclasses.replace(data, time_us=None), 4.0) is None
