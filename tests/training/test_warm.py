"""Warm starts: what is kept of a published model, and how a run begins from it."""

from contextlib import suppress

import numpy as np
import pytest
from planted_lake import fill, planted

from matinee.bundle.manifest import read_manifest
from matinee.core.clock import DAY, ManualClock
from matinee.core.errors import Corrupt, DataUnavailable, FormatTooNew
from matinee.dataset.vocabulary import Vocabulary
from matinee.models.registry import make
from matinee.training import warm
from matinee.training.run import Request, repeat_of, train

ALS = {"n_factors": 8, "n_epochs": 8}
WANTED = Request(models=("als",), params={"als": ALS})


@pytest.fixture
def users():
    return Vocabulary([f"u{n}" for n in range(12)])


@pytest.fixture
def items():
    return Vocabulary([f"i{n}" for n in range(8)])


@pytest.fixture
def model(users, items, ratings):
    return make("svd", {"n_factors": 4}).fit(ratings, seed=1)


@pytest.fixture
def ratings(users, items):
    from matinee.dataset.interactions import Interactions

    pairs = np.flatnonzero(np.random.default_rng(0).random(len(users) * len(items)) < 0.6)
    u, i = (index.astype(np.int32) for index in np.divmod(pairs, len(items)))
    rating = np.random.default_rng(1).integers(1, 6, pairs.size).astype(np.float32)
    return Interactions(len(users), len(items), u, i, rating, np.full_like(rating, np.nan))


def version(day, model="svd"):
    return f"202601{day:02}T000000Z-{model}-0000abcd"


def file_of(home, day, model="svd"):
    return home.data / "warm" / f"{version(day, model)}.npz"


def test_what_is_kept_comes_back(home, model, users, items):
    content = warm.keep(home, version(1), model, {"n_factors": 4}, users, items)
    for found in (warm.latest(home, "svd", {"n_factors": 4}), warm.named(home, version(1), content)):
        assert (found.version, found.content, found.users, found.items) == (version(1), content, users, items)
        assert found.state.keys() == model.state().keys()
        for name, array in model.state().items():
            np.testing.assert_array_equal(found.state[name], array)
            assert found.state[name].dtype == array.dtype
    assert [path.name for path in file_of(home, 1).parent.iterdir()] == [file_of(home, 1).name]


def test_the_newest_of_the_same_model_and_hyperparameters_is_taken(home, model, users, items):
    for day, params in ((1, {"n_factors": 4}), (2, {"n_factors": 4}), (3, {"n_factors": 5})):
        warm.keep(home, version(day), model, params, users, items)
    assert warm.latest(home, "svd", {"n_factors": 4}).version == version(2)
    assert warm.latest(home, "svdpp", {"n_factors": 4}) is None
    assert warm.latest(home, "svd", {}) is None


def test_ids_lead_to_their_new_places(home, model, users, items):
    warm.keep(home, version(1), model, {}, users, items)
    start = warm.latest(home, "svd", {}).start_for(Vocabulary(["new", "u11", "u0"]), Vocabulary(["i7", "none"]))
    assert (start.user_row.tolist(), start.item_row.tolist()) == ([-1, 11, 0], [7, -1])


def test_a_model_that_begins_anew_keeps_nothing(home, ratings, users, items):
    slope = make("slope_one").fit(ratings)
    assert warm.keep(home, version(1), slope, {}, users, items) is None
    assert not (home.data / "warm").exists()


def test_no_damaged_byte_passes_for_what_was_written(home, model, users, items):
    """Either it is noticed, or nothing that counts has changed (some bytes of an archive are never read)."""
    content = warm.keep(home, version(1), model, {}, users, items)
    whole = file_of(home, 1).read_bytes()
    for at in range(0, len(whole), 37):
        raw = bytearray(whole)
        raw[at] ^= 0xFF
        file_of(home, 1).write_bytes(raw)
        with suppress(Corrupt):
            found = warm.named(home, version(1), content)
            np.testing.assert_equal(found.state, model.state())
            assert (found.users, found.items) == (users, items)


def test_what_is_damaged_is_passed_over_and_not_repeated_from(home, model, users, items):
    content = warm.keep(home, version(1), model, {}, users, items)
    warm.keep(home, version(2), model, {}, users, items)
    raw = file_of(home, 2).read_bytes()
    damaged = raw.replace(model.state()["user_factors"].tobytes(), bytes(model.state()["user_factors"].nbytes))
    assert damaged != raw
    file_of(home, 2).write_bytes(damaged)
    assert warm.latest(home, "svd", {}).version == version(1)
    with pytest.raises(Corrupt):
        warm.named(home, version(2), content)


def test_a_file_cut_short_is_passed_over(home, model, users, items):
    warm.keep(home, version(1), model, {}, users, items)
    raw = file_of(home, 1).read_bytes()
    for size in (0, 10, len(raw) // 2):
        file_of(home, 1).write_bytes(raw[:size])
        assert warm.latest(home, "svd", {}) is None


def test_a_newer_format_is_refused(home, model, users, items, monkeypatch):
    monkeypatch.setattr(warm, "FORMAT", 2)
    content = warm.keep(home, version(1), model, {}, users, items)
    monkeypatch.undo()
    assert warm.latest(home, "svd", {}) is None
    with pytest.raises(FormatTooNew):
        warm.named(home, version(1), content)


def test_what_was_swapped_for_another_is_not_repeated_from(home, model, users, items):
    warm.keep(home, version(1), model, {}, users, items)
    with pytest.raises(Corrupt, match="began from"):
        warm.named(home, version(1), "0" * 64)


def test_the_newest_of_each_model_stays(home, model, users, items):
    for day in (1, 2, 3):
        warm.keep(home, version(day), model, {}, users, items)
    broken = file_of(home, 4)
    broken.write_bytes(b"")
    assert warm.prune(home) == [version(4), version(2), version(1)]
    assert warm.latest(home, "svd", {}).version == version(3)


def test_a_warm_fit_has_fewer_epochs_and_at_least_one():
    assert warm.warm_params("als", {"n_factors": 3}) == {"n_factors": 3, "n_epochs": 3}
    assert warm.warm_params("svd", {"n_epochs": 41})["n_epochs"] == 3
    assert warm.warm_params("als", {"n_epochs": 1})["n_epochs"] == 1


@pytest.fixture
def publish(settings, home, lake):
    """A run, its bundle taken as published."""

    def run(request, day):
        report = train(
            request, settings=settings, home=home, lake=lake, clock=ManualClock(day * DAY), progress=lambda *_: None
        )
        fitted, snapshot = report.fitted, report.snapshot
        warm.keep(home, report.bundle, fitted.model, fitted.params, snapshot.users, snapshot.items)
        warm.prune(home)
        return report, read_manifest(home.bundles / report.bundle)

    return run


def test_a_run_begins_from_the_last_and_its_manifest_says_so(publish, lake):
    fill(lake, planted())
    first, cold = publish(WANTED, 1)
    assert cold.warm_start is None
    fill(lake, planted(1), generation="later")
    second, manifest = publish(WANTED, 2)
    assert (manifest.warm_start["version"], manifest.warm_start["epochs"]) == (first.bundle, 2)
    assert manifest.params["n_epochs"] == 8
    assert manifest.metrics == read_manifest_of_a_cold_run(publish).metrics  # evaluation never begins warm
    expected = make("als", second.fitted.params | {"n_epochs": 2})
    start = warm.Earlier(
        first.bundle, "", first.fitted.model.state(), first.snapshot.users, first.snapshot.items
    ).start_for(second.snapshot.users, second.snapshot.items)
    expected.fit(second.snapshot.interactions, seed=0, threads=1, start=start)
    np.testing.assert_array_equal(second.fitted.model.state()["item_factors"], expected.state()["item_factors"])


def read_manifest_of_a_cold_run(publish):
    _, manifest = publish(Request(models=("als",), params={"als": ALS}, warm=False), 3)
    assert manifest.warm_start is None
    return manifest


def test_a_warm_run_is_repeated_from_its_manifest(publish, lake, home):
    fill(lake, planted())
    publish(WANTED, 1)
    fill(lake, planted(1), generation="later")
    _, manifest = publish(WANTED, 2)
    publish(WANTED, 3)
    _, again = publish(repeat_of(manifest), 4)
    assert again.files == manifest.files
    assert again.warm_start == manifest.warm_start
    (home.data / "warm" / f"{manifest.warm_start['version']}.npz").unlink()
    with pytest.raises(DataUnavailable, match="is gone"):
        publish(repeat_of(manifest), 5)


def test_other_hyperparameters_begin_from_noise(publish, lake):
    fill(lake, planted())
    publish(WANTED, 1)
    _, manifest = publish(Request(models=("als",), params={"als": ALS | {"n_factors": 6}}), 2)
    assert manifest.warm_start is None


@pytest.mark.parametrize(("asked", "goes_on"), [(None, False), (True, True)])
def test_what_does_not_converge_goes_on_only_where_that_is_asked_for(publish, lake, asked, goes_on):
    fill(lake, planted())
    wanted = Request(models=("bpr",), params={"bpr": {"n_factors": 8}}, warm=asked)
    first, _ = publish(wanted, 1)
    _, manifest = publish(wanted, 2)
    assert (manifest.warm_start is not None) == goes_on
    if goes_on:
        assert (manifest.warm_start["version"], manifest.warm_start["epochs"]) == (first.bundle, 3)
