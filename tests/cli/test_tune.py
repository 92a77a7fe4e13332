"""`matinee tune`, on a small table of made-up ratings."""

import numpy as np
import pytest


@pytest.fixture
def ratings(tmp_path):
    """Ratings that are a user's bias and an item's."""
    rng = np.random.default_rng(0)
    users, items = 30, 25
    pairs = np.flatnonzero(rng.random(users * items) < 0.7)
    user, item = np.divmod(pairs, items)
    rating = 3 + rng.uniform(-1, 1, users)[user] + rng.uniform(-1, 1, items)[item]
    halves = np.clip(np.round(rating * 2) / 2, 0.5, 5)
    rows = [f"u{u},i{i},{r}" for u, i, r in zip(user, item, halves, strict=True)]
    path = tmp_path / "small.csv"
    path.write_text("\n".join(["user,item,rating", *rows]) + "\n")
    return path


def test_a_search_keeps_its_best_set_by_name_and_training_finds_it(matinee, ratings, tmp_path):
    words = ("tune", "baseline_only", ratings, "--grid", "reg_u=1,200", "--grid", "reg_i=1,200", "--jobs", 1)
    found = matinee.json(*words, "--no-prune", "--out", tmp_path / "pictures")
    assert found["name"] == "baseline_only@small"
    assert found["best"] == {"reg_u": 1, "reg_i": 1}
    assert found["counts"] == {"complete": 4, "pruned": 0, "fail": 0}
    assert found["gain"]["high"] < 0 < found["before"]["rmse"] - found["after"]["rmse"]
    assert {name for name, group in found["after"]["subgroups"]["activity"].items() if group["rmse"]} >= {"heavy"}
    assert {path.rpartition(".")[2] for path in found["written"]} == {"png", "svg"}
    again = matinee(*words, "--no-prune")
    assert "baseline_only@small" in again.stdout
    assert "activity: heavy" in again.stdout
    refused = matinee.json("train", "-m", "baseline_only@small", status=1)
    assert refused["kind"] == "QualityRefused"  # the name was found; the home holds no data to train on
    unknown = matinee.json("train", "-m", "baseline_only@large", status=1)
    assert "baseline_only@small" in unknown["error"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("tune", "magic", "x.csv"), "no model 'magic'"),
        (("tune", "popularity", "x.csv"), "no default space"),
        (("tune", "svd", "x.csv", "--grid", "k=1,2"), "no hyperparameter 'k'"),
        (("tune", "svd", "x.csv", "--grid", "n_factors=1", "--space", "n_factors=1..2"), "two ways"),
        (("tune", "svd@movielens-1m", "x.csv"), "is a tuned set"),
        (("tune", "svd", "movielens-1m"), "it ships"),
        (("tune", "svd", "x.csv"), "neither a file nor a data set"),
    ],
)
def test_an_error_says_what_and_what_to_do(matinee, words, told):
    document = matinee.json(*words, status=1)
    assert told in document["error"]
    assert document["remedy"]
