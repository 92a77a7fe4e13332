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
