"""`matinee train`: what a fit begins from."""

import pytest


@pytest.fixture
def liked(tmp_path):
    """Users of three groups like what their own group likes; each has met most of it, and a little of the rest."""
    rows = []
    for user in range(60):
        own = [item for item in range(45) if item % 3 == user % 3 and (item // 3 + user) % 4]
        others = [item for item in range(45) if item % 3 != user % 3 and (item + user) % 9 == 0]
        rows += [f"u{user},i{item},{5 if item in own else 1}" for item in own + others]
    path = tmp_path / "liked.csv"
    path.write_text("user,item,rating\n" + "\n".join(rows) + "\n")
    return path


def test_the_next_fit_goes_on_from_the_last_that_was_released_unless_it_is_to_begin_cold(matinee, liked):
    matinee.json("import", liked)
    words = ("train", "-m", "als", "-p", "n_factors=4")
    first = matinee.json(*words)
    assert first["warm_start"] is None
    kept = [path.stem for path in (matinee.home / "data" / "warm").iterdir()]
    assert kept == [first["bundle"]]
    second = matinee.json(*words, "--no-publish")
    assert second["warm_start"]["version"] == first["bundle"]
    assert [path.stem for path in (matinee.home / "data" / "warm").iterdir()] == kept
    assert matinee.json(*words, "--cold", "--no-publish")["warm_start"] is None
    again = matinee.json("train", "--repeat", second["bundle"], "--no-publish")
    assert again["warm_start"] == second["warm_start"]
    refused = matinee.json("train", "--repeat", second["bundle"], "--cold", status=1)
    assert "--cold" in refused["remedy"]


def test_of_the_bundles_the_newest_stay_and_what_is_released(matinee, liked):
    matinee.environment["MATINEE_TRAINING__KEEP_BUNDLES"] = "2"
    bundles = matinee.home / "data" / "bundles"
    idle = [f"290{year}0101T000000Z-als-00000000" for year in range(4)]  # newer than what is trained now
    for version in idle:
        (bundles / version).mkdir(parents=True)
    matinee.json("import", liked)
    released = matinee.json("train", "-m", "als", "-p", "n_factors=4")["bundle"]
    assert sorted(path.name for path in bundles.iterdir()) == [released, *idle[-2:]]
