import json
import sqlite3

import pytest


@pytest.fixture
def stars(tmp_path):
    """Forty users who like every second item."""
    path = tmp_path / "stars.csv"
    rows = [f"u{u},m{i},{5 if (u + i) % 2 else 1}" for u in range(40) for i in range(20) if (u * 7 + i * 3) % 5]
    path.write_text("user,item,rating\n" + "\n".join(rows))
    return path


def test_a_table_is_compared_written_and_tracked(matinee, stars, tmp_path):
    out = tmp_path / "out"
    words = ("compare", stars, "--models", "popularity", "-m", "baseline_only", "--folds", 2, "--out", out)
    document = matinee.json(*words)
    assert (document["dataset"], document["users"], document["items"]) == ("stars.csv", 40, 20)
    assert list(document["models"]) == ["popularity", "baseline_only"]
    assert document["models"]["baseline_only"]["rmse"]["mean"] > 0
    assert "rmse" not in document["models"]["popularity"]
    names = {file.name for file in out.iterdir()}
    assert names == {"comparison.md", "comparison.json", "comparison.png", "comparison.svg"}
    assert "| popularity |" in (out / "comparison.md").read_text().replace("**", "")
    assert json.loads((out / "comparison.json").read_text())["models"].keys() == document["models"].keys()
    with sqlite3.connect(matinee.home / "data" / "mlflow.sqlite") as runs:
        kept = dict(runs.execute("SELECT key, value FROM metrics WHERE key = 'ndcg_at_10'").fetchall())
        count = runs.execute("SELECT count(*) FROM runs").fetchone()
    runs.close()
    assert kept
    assert count == (2,)


def test_people_see_a_table_and_may_leave_tracking_out(matinee, stars):
    shown = matinee("compare", stars, "--models", "popularity", "--folds", 2, "--no-track")
    assert "popularity" in shown.stdout
    assert "nDCG" in shown.stdout
    assert not (matinee.home / "data" / "mlflow.sqlite").exists()


def test_what_nobody_likes_is_compared_by_ratings_and_the_threshold_can_be_lowered(matinee, tmp_path):
    path = tmp_path / "low.csv"
    rows = [f"u{u},m{i},{1 + (u + i) % 3}" for u in range(12) for i in range(12) if (u * 7 + i * 3) % 5]
    path.write_text("user,item,rating\n" + "\n".join(rows))
    words = ("compare", path, "--models", "popularity,baseline_only", "--folds", 2, "--no-track")
    shown = matinee(*words, "--out", tmp_path / "out").stdout
    assert "Lists are not judged" in shown
    assert "--positive-rating" in (tmp_path / "out" / "comparison.md").read_text()
    models = matinee.json(*words)["models"]
    assert "--positive-rating" in models["popularity"]["refused"]
    assert models["baseline_only"]["rmse"]["mean"] > 0
    lowered = matinee.json(*words, "--positive-rating", 3)["models"]
    assert all(model["ndcg@10"]["mean"] >= 0 for model in lowered.values())


def test_people_of_each_segment_are_reported_on_where_they_are_known(matinee, tmp_path):
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    pairs = [(u, i) for u in range(1, 13) for i in range(1, 13) if (u * 7 + i * 3) % 5]
    (folder / "u.data").write_text("".join(f"{u}\t{i}\t{4 + (u + i) % 2}\t880000000\n" for u, i in pairs))
    people = (f"{u}|{20 if u % 2 else 60}|{'F' if u % 3 else 'M'}|artist|00000\n" for u in range(1, 13))
    (folder / "u.user").write_text("".join(people))
    out = tmp_path / "out"
    words = ("compare", "movielens-100k", "--path", folder, "-m", "baseline_only", "--folds", 2, "--no-track")
    segments = matinee.json(*words, "--out", out)["models"]["baseline_only"]["subgroups"]["segment"]
    counts = {name: group["users"] for name, group in segments.items()}
    assert counts == {"18-24, F": 4, "18-24, M": 2, "55+, F": 4, "55+, M": 2}
    assert "nDCG@10 by segment | 18-24, F (4)" in (out / "comparison.md").read_text()


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        (("no-such-thing",), "InvalidInput", "movielens-1m"),
        (("lake",), "Unsuitable", "not one interaction"),
        (("lake", "--path", "x"), "InvalidInput", "--path"),
        (("lake", "-m", "magic"), "ConfigurationError", "magic"),
    ],
)
def test_what_cannot_be_compared_is_told(matinee, words, kind, told):
    document = matinee.json("compare", *words, status=1)
    assert document["kind"] == kind
    assert told in document["error"] + document["remedy"]
