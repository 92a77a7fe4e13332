import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

from matinee.dataset.public import load
from matinee.dataset.snapshot import DEFAULT_MINUTES, take_snapshot
from matinee.events.offsets import Source

HOUR = 3_600_000_000
T0 = 20_000 * 24 * HOUR
LEARNT_1 = "074ee38e813a4dda575a968c6d983b134aa82dbb820b2d7a105076987d3ad298"
"""What bundles of format 1 called the content of one rating of 3 by u of x at T0."""


def rating(user, item, value, time=T0):
    return {"user": user, "item": item, "rating": value, "time": time}


def watch(user, item, minute, time=T0):
    return {"user": user, "item": item, "minute": minute, "time": time}


def cell(snapshot, user, item):
    data = snapshot.interactions
    row = (data.user_index == snapshot.users.index(user)) & (data.item_index == snapshot.items.index(item))
    (place,) = np.flatnonzero(row)
    return {"rating": data.rating[place], "watched": data.watched[place], "time": data.time_us[place]}


def test_a_lake_becomes_interactions(lake, put, describe):
    describe("items", {"item": "x", "minutes": 4.0}, {"item": "y", "minutes": 8.0}, {"item": "w", "minutes": 100.0})
    describe("users", {"user": "u", "age": 30, "gender": "F"}, {"user": "new", "age": 61, "gender": "M"},
             {"user": "nameless"})  # fmt: skip
    put(rating("u", "x", 2.0, T0), rating("u", "x", 4.5, T0 + HOUR), watch("u", "y", 95), watch("u", "y", 95))
    put(*(watch("v", "x", minute) for minute in range(6)), watch("v", "z", 0, T0 + 9), source=Source("log", 1))
    snapshot = take_snapshot(lake)
    assert snapshot.users.ids == ("u", "v")
    assert snapshot.items.ids == ("x", "y", "z")
    assert cell(snapshot, "u", "x") == {
        "rating": 4.5,
        "watched": pytest.approx(np.nan, nan_ok=True),
        "time": T0 + HOUR,
    }
    assert cell(snapshot, "u", "y")["watched"] == pytest.approx(1 / 8)
    assert cell(snapshot, "v", "x")["watched"] == 1.0
    assert cell(snapshot, "v", "z")["watched"] == pytest.approx(1 / 8)  # the median of 4, 8 and 100
    assert snapshot.extra_items == ("w",)  # in the catalogue, and nobody met it
    assert snapshot.item_minutes.tolist() == [4.0, 8.0, 8.0, 100.0]
    assert [snapshot.segments[s] for s in snapshot.user_segment] == ["25-34, F", "unknown"]
    assert snapshot.user_age.tolist() == [30, -1]
    assert snapshot.extra_users.ids == ("new",)
    assert [snapshot.segments[s] for s in snapshot.extra_users.segment] == ["55+, M"]
    assert snapshot.extra_users.age.tolist() == [61]
    assert snapshot.timed
    assert snapshot.time_range == (T0, T0 + HOUR)
    assert snapshot.row_counts == {"events": 11, "interactions": 4, "rated": 1, "watched": 3}
    assert snapshot.offsets == {Source("log", 0): 4, Source("log", 1): 7}
    assert (snapshot.profile.repeated, snapshot.profile.missing, snapshot.profile.unknown_items) == (1, 0, 1)


@pytest.mark.parametrize(("age", "known"), [(1, 1), (120, 120), (0, -1), (-4, -1), (121, -1), (None, -1)])
def test_an_age_that_cannot_be_is_not_known(lake, put, describe, age, known):
    put(rating("u", "x", 3.0))
    describe("users", {"user": "u", "age": age, "gender": "F"}, {"user": "new", "age": age, "gender": "F"})
    snapshot = take_snapshot(lake)
    assert snapshot.user_age.tolist() == snapshot.extra_users.age.tolist() == [known]


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("items", {"item": "x", "minutes": 4.0, "title": "Ex"}),
        ("items", {"item": "x", "minutes": 4.0, "genres": ["Drama"]}),
        ("items", {"item": "x", "minutes": 4.0, "extra": '{"age_limit": 16}'}),
        ("users", {"user": "u", "age": 31, "gender": "F"}),  # in the same segment
        ("users", {"user": "new", "age": 62, "gender": "M"}),
        ("items", {"item": "not+met+either", "minutes": 4.0}),
        ("items", {"item": "not+met", "minutes": 4.0, "title": "Ex"}),
    ],
)
def test_the_content_includes_what_a_bundle_says_beside_what_was_learnt(lake, put, describe, table, row):
    describe("items", {"item": "x", "minutes": 4.0}, {"item": "not+met", "minutes": 4.0})
    describe("users", {"user": "u", "age": 30, "gender": "F"}, {"user": "new", "age": 61, "gender": "M"})
    put(rating("u", "x", 3.0))
    before = take_snapshot(lake)
    describe(table, row)
    after, again = take_snapshot(lake), take_snapshot(lake, before.lake_versions)
    assert again.content_hash == before.content_hash != after.content_hash
    assert after.earlier_hashes[0] == before.earlier_hashes[0]


def test_what_was_learnt_is_hashed_as_it_was_for_bundles_of_format_1(lake, put):
    put(rating("u", "x", 3.0))
    assert take_snapshot(lake).earlier_hashes == (LEARNT_1,)


def test_what_earlier_versions_said_of_a_lake_is_known_although_they_left_out_what_nobody_met(lake, put, describe):
    put(rating("u", "x", 3.0))
    describe("items", {"item": "x", "minutes": 4.0, "title": "Ex"})
    before = take_snapshot(lake)
    describe("items", {"item": "w", "minutes": 4.0, "title": "New", "genres": ["Drama"]})
    after = take_snapshot(lake)
    assert after.content_hash != before.content_hash
    assert after.earlier_hashes == (*before.earlier_hashes, before.content_hash)
    assert len(after.interactions) == 1
    assert (after.items, after.attributes.titles) == (before.items, ("Ex", "New"))


@pytest.mark.parametrize("name", ["Dark City 1998", "", "x" * 300, "amélie+2001", "a,b"])
def test_what_can_be_no_id_is_no_item_of_the_catalogue(lake, put, describe, name):
    put(rating("u", "x", 3.0))
    describe("items", {"item": name, "minutes": 4.0}, {"item": "w", "minutes": 4.0})
    assert take_snapshot(lake).extra_items == ("w",)


def test_an_empty_lake_gives_an_empty_snapshot(lake):
    snapshot = take_snapshot(lake)
    assert len(snapshot.interactions) == len(snapshot.users) == len(snapshot.items) == 0
    assert snapshot.time_range is None
    assert snapshot.offsets == {}


def test_without_any_length_the_default_stands_in(lake, put):
    put(watch("u", "x", 0))
    assert cell(take_snapshot(lake), "u", "x")["watched"] == pytest.approx(1 / DEFAULT_MINUTES)


def test_one_rating_without_a_time_makes_the_whole_untimed(lake, put):
    put(rating("u", "x", 3.0, None), rating("u", "y", 3.0))
    snapshot = take_snapshot(lake)
    assert not snapshot.timed
    assert snapshot.time_range == (T0, T0)


def test_a_version_gives_the_same_bytes_whatever_came_after(lake, put, describe):
    describe("users", {"user": "u", "age": 30, "gender": "F"})
    put(rating("u", "x", 3.0), watch("v", "y", 1))
    before = take_snapshot(lake)
    put(rating("u", "x", 5.0, T0 + 1), source=Source("file-a", 0))
    describe("users", {"user": "u", "age": 60, "gender": "F"})
    after, again = take_snapshot(lake), take_snapshot(lake, before.lake_versions)
    assert again.content_hash == before.content_hash != after.content_hash
    assert again.offsets == before.offsets == {Source("log", 0): 2}
    assert after.offsets == {Source("log", 0): 2, Source("file-a", 0): 1}
    assert again.lake_versions == before.lake_versions
    assert again.interactions.rating.tobytes() == before.interactions.rating.tobytes()


def test_neither_commits_nor_partitions_nor_compaction_change_the_content(lake, put, tmp_path, frame):
    from matinee.core.clock import ManualClock
    from matinee.lake.lake import Lake

    random = np.random.default_rng(3)
    rows = [
        rating(f"u{random.integers(9)}", f"i{random.integers(9)}", float(random.integers(1, 6)), T0 + n * HOUR)
        if random.random() < 0.5
        else watch(f"u{random.integers(9)}", f"i{random.integers(9)}", int(random.integers(90)), T0 + n * HOUR)
        for n in range(200)
    ]
    for start in range(0, 200, 20):
        put(*rows[start : start + 20])
    first = take_snapshot(lake)
    files = len(DeltaTable(lake.folder / "events").file_uris())
    DeltaTable(lake.folder / "events").optimize.compact()
    assert len(DeltaTable(lake.folder / "events").file_uris()) < files
    compacted = take_snapshot(lake)
    assert compacted.lake_versions["events"] > first.lake_versions["events"]
    assert compacted.content_hash == first.content_hash

    other = Lake(str(tmp_path / "other"), ManualClock())
    for partition in (1, 0):  # every second row through another partition, in another order
        part = frame("events", rows[partition::2][::-1])
        other.commit(Source("else", partition), {"events": part}, start=0, end=100)
    assert take_snapshot(other).content_hash == first.content_hash


@pytest.mark.parametrize("copies", [2, 3])
def test_a_record_that_came_through_several_partitions_counts_once(lake, put, copies):
    rows = [rating("u", "x", 3.0), watch("u", "y", 7), watch("v", "y", 8)]
    put(*rows)
    once = take_snapshot(lake)
    for partition in range(1, copies):
        put(*rows, source=Source("log", partition))
    again = take_snapshot(lake)
    assert again.content_hash == once.content_hash
    assert again.profile.repeated == 3 * (copies - 1)
    assert again.row_counts["events"] == 3 * copies


def test_the_profile_counts_days_and_batches(lake, put):
    day = 24 * HOUR
    put(*(rating("u", f"i{n}", 1.0 + n % 2, T0 + n * day) for n in (0, 1, 1, 3, 12, 13)),
        batch={"read": 9, "accepted": 6, "repaired": 0, "duplicate": 2, "quarantined": 1})  # fmt: skip
    profile = take_snapshot(lake).profile
    assert profile.daily_events == (1, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1)  # the last day, 13, is not over
    assert profile.recent_ratings == {"1.0": 1}
    assert profile.earlier_ratings == {"1.0": 1, "2.0": 3}
    assert (profile.batches.read, profile.batches.duplicate, profile.batches.quarantined) == (9, 2, 1)


def test_only_the_batches_of_the_newest_day_count(lake, put):
    counts = {"accepted": 0, "repaired": 0, "duplicate": 0}
    put(rating("u", "x", 3.0), batch={"read": 10, "quarantined": 10, **counts})
    lake.clock.sleep(2 * 86_400)
    put(rating("u", "y", 3.0), batch={"read": 10, "quarantined": 0, **counts})
    batches = take_snapshot(lake).profile.batches
    assert (batches.read, batches.quarantined) == (10, 0)


@pytest.mark.real_data
def test_movielens_1m_comes_out_as_it_went_in(real_data, lake, tmp_path):
    dataset = load("movielens-1m", real_data / "ml-1m", cache=tmp_path)
    n = dataset.ratings.height
    missing = {
        "minute": pl.Int32,
        "event_id": pl.String,
        "producer": pl.String,
        "repairs": pl.String,
        "raw": pl.Binary,
    }
    events = dataset.ratings.with_row_index("position").with_columns(
        pl.col("position").cast(pl.Int64),
        pl.lit("rating").alias("kind"),
        pl.lit(0, pl.Int64).cast(pl.Datetime("us", "UTC")).alias("received_at"),
        pl.col("position").cast(pl.String).cast(pl.Binary).alias("dedup_key"),
        *(pl.lit(None, dtype).alias(name) for name, dtype in missing.items()),
    )
    lake.commit(Source("file-1m", 0), {"events": events}, start=0, end=n)
    lake.upsert("items", dataset.items)
    lake.upsert("users", dataset.users)
    snapshot = take_snapshot(lake)
    data = snapshot.interactions
    assert (len(data), data.n_users, data.n_items, snapshot.timed) == (n, 6_040, 3_706, False)
    expected = dataset.ratings.select("user", "item", "rating").sort("user", "item")
    users, items = np.array(snapshot.users.ids), np.array(snapshot.items.ids)
    assert (users[data.user_index] == expected["user"].to_numpy()).all()
    assert (items[data.item_index] == expected["item"].to_numpy()).all()
    assert (data.rating == expected["rating"].to_numpy()).all()
    assert snapshot.profile.unknown_items == 0
    assert snapshot.segments[snapshot.user_segment[snapshot.users.index("1")]] == "under 18, F"
    assert snapshot.user_age[snapshot.users.index("1")] == 1  # the first year of its band
    assert set(snapshot.user_age.tolist()) == {1, 18, 25, 35, 45, 50, 56}
    known, first = snapshot.attributes, snapshot.items.index("1")
    assert (known.titles[first], known.year[first], len(known.genres)) == ("Toy Story", 1995, 18)
    assert [known.genres[g] for g in np.flatnonzero(known.genre_mask[first])] == [
        "Animation",
        "Children's",
        "Comedy",
    ]
