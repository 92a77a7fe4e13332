"""Who is to be erased is in nothing that is made of the lake from then on, though the lake still holds them."""

import numpy as np
import polars as pl
import pytest
from planted_lake import fill, planted

from matinee.bundle.manifest import list_versions, read_manifest
from matinee.bundle.open import open_bundle
from matinee.cli.context import Context
from matinee.cli.release import erase_from_bundles
from matinee.cli.train import release
from matinee.core.clock import SystemClock
from matinee.core.erasures import ERASED, add_erasure, read_erasures
from matinee.core.errors import Corrupt, Locked
from matinee.dataset.snapshot import take_snapshot
from matinee.lake.lake import Lake
from matinee.lake.schemas import USERS
from matinee.release.plan import read_plan
from matinee.training import warm
from matinee.training.exposure import shown_by_popularity
from matinee.training.run import Request, repeat_of, train

WHO = "u007"
POPULARITY = Request(models=("popularity",))
ALS = Request(models=("als",), params={"als": {"n_factors": 8, "n_epochs": 8}})


def run(request, settings, home, lake, progress=lambda *_: None):
    return train(request, settings=settings, home=home, lake=lake, clock=SystemClock(), progress=progress)


def describe(lake, *people):
    """Let the lake know ages; all are women."""
    rows = pl.DataFrame(people, schema={"user": pl.String, "age": pl.Int32}, orient="row")
    nothing = [pl.lit(None, dtype).alias(name) for name, dtype in USERS.columns.items() if name not in rows.columns]
    frame = rows.with_columns(nothing).with_columns(gender=pl.lit("F"))
    lake.upsert(USERS.name, frame.select(name for name in USERS.columns if name not in USERS.filled))


@pytest.fixture
def filled(lake):
    fill(lake, planted())
    describe(lake, (WHO, 33), ("u008", 34), ("only-described", 20))
    return lake


@pytest.fixture
def context(home, settings):
    return Context(settings, home, SystemClock())


def test_a_snapshot_without_a_user_is_that_of_a_lake_that_never_held_it(tmp_path, filled, lake):
    other = Lake(str(tmp_path / "other"), SystemClock())
    fill(other, planted().filter(pl.col("user") != WHO))
    describe(other, ("u008", 34))
    left, never = take_snapshot(lake, without={WHO, "only-described", "stranger"}), take_snapshot(other)
    assert left.content_hash == never.content_hash
    assert left.users.ids == never.users.ids
    assert left.row_counts == never.row_counts
    assert left.extra_users.ids == never.extra_users.ids == ()
    np.testing.assert_array_equal(left.interactions.rating, never.interactions.rating)
    assert left.content_hash != take_snapshot(lake).content_hash == take_snapshot(lake, without=()).content_hash


def test_a_bundle_made_after_an_erasure_was_asked_for_does_not_hold_the_user(settings, home, filled):
    add_erasure(home, WHO, 1)
    report = run(ALS, settings, home, filled)
    with open_bundle(home.bundles / report.bundle, home.run) as bundle:
        assert bundle.user(WHO) is None
        assert bundle.user("u008") is not None
    assert WHO not in report.snapshot.users
    assert shown_by_popularity(filled, report.snapshot).user_index.size == 0
    learnt, of = report.fitted, report.snapshot
    assert warm.keep(home, report.bundle, learnt.model, learnt.params, of.users, of.items)
    assert files_with(home.data, WHO, but="lake") == []


def test_what_was_learnt_before_goes_from_bundles_warm_starts_and_what_is_noted(settings, home, filled, context):
    for _ in range(2):
        report = run(ALS, settings, home, filled)
        release(context, report)
    before = list_versions(home.bundles)
    assert len(list((home.data / "warm").iterdir())) == 2  # the second began from the first
    (home.data / "warm" / ".half.npz.abcd").write_bytes(WHO.encode())
    assert files_with(home.data, WHO, but="lake")
    add_erasure(home, WHO, 1)
    replaced = erase_from_bundles(context)
    assert sorted(replaced) == before
    assert files_with(home.data, WHO, but="lake") == []
    assert read_plan(home.data).bundles == {replaced[before[-1]]}
    assert not read_erasures(home.data / ERASED).pending("bundles")
    with open_bundle(home.bundles / replaced[before[-1]], home.run) as bundle:
        assert bundle.user(WHO) is None
        assert bundle.user("u008") is not None
    assert erase_from_bundles(context) == {}
    again = run(ALS, settings, home, filled)  # from noise: there is nothing to begin from
    assert again.fitted.warm_start is None


def test_warm_starts_without_the_user_are_kept(settings, home, filled, context):
    release(context, run(ALS, settings, home, filled))
    (kept,) = (home.data / "warm").iterdir()
    add_erasure(home, "somebody-else", 1)
    assert erase_from_bundles(context) == {}
    assert kept.exists()
    kept.write_bytes(kept.read_bytes()[:-40])  # what cannot be read may hold anybody
    assert warm.erase(home, {"somebody-else"}) == [kept.stem]


def test_an_erasure_while_a_run_is_under_way_waits_for_its_end_and_its_release_finds_the_copy(
    settings, home, filled, context
):
    refused = []

    def erasing(what, done, total):
        if not refused and what.startswith("fitting"):
            add_erasure(home, WHO, 1)
            with pytest.raises(Locked) as error:
                erase_from_bundles(context)
            refused.append(str(error.value))

    report = run(ALS, settings, home, filled, erasing)
    assert "train is already running" in refused[0]
    assert read_erasures(home.data / ERASED).pending("bundles")
    replaced = erase_from_bundles(context)  # after the run, before its bundle is released
    assert list(replaced) == [report.bundle]
    release(context, report)
    assert read_plan(home.data).bundles == {replaced[report.bundle]}
    assert files_with(home.data, WHO, but="lake") == []


def test_a_run_that_learnt_from_an_erased_user_is_not_repeated_with_other_data(settings, home, filled):
    report = run(POPULARITY, settings, home, filled)
    manifest = read_manifest(home.bundles / report.bundle)
    add_erasure(home, WHO, 1)
    with pytest.raises(Corrupt, match="the run to repeat had"):
        run(repeat_of(manifest), settings, home, filled)


def files_with(folder, text, but):
    """Files whose bytes hold the text, but for those in one folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and folder / but not in path.parents)
    return [str(path) for path in files if text.encode() in path.read_bytes()]
