"""The record of one user against a naive model, in any order, and packed."""

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.core.errors import Corrupt, FormatTooNew
from matinee.events.offsets import Source
from matinee.history.minutes import MAX_RUNS, add_minute, count_minutes
from matinee.history.record import MAX_ITEMS, RECORD_FORMAT, Entry, UserHistory, fold, glance, unpack

# By number; their order as sources is another one.
SOURCES = [Source("b", 1), Source("a", 0), Source("b", 0)]
HOUR = 3_600_000_000

actions = st.tuples(
    st.integers(0, 2),  # source
    st.sampled_from(["alien+1979", "amlie+2001", "brazil+1985", "alien", "al"]),
    st.sampled_from([0, 1, 999_999, 1_000_000, 5_000_001]),  # few times, so that they tie
    st.one_of(
        st.tuples(st.integers(0, 1_439), st.none()),
        st.tuples(st.none(), st.sampled_from([0.5, 1.0, 3.5, 5.0, 3.7])),
        st.tuples(st.none(), st.none()),
    ),
)


def with_positions(drawn):
    """Give every action a position of its own: (source, position, item, time, minute, rating)."""
    return [(source, at, item, time_us, *what) for at, (source, item, time_us, what) in enumerate(drawn)]


def naive(rows) -> UserHistory:
    """What the docstrings say, said plainly."""
    entries = []
    for item in {row[2] for row in rows}:
        own = [row for row in rows if row[2] == item]
        rated = [(time_us, SOURCES[s], position, rating) for s, position, _, time_us, _, rating in own if rating]
        entries.append(
            Entry(
                item,
                max(row[3] for row in own),
                len({row[4] for row in own if row[4] is not None}),
                max(rated)[3] if rated else None,
            )
        )
    entries.sort(key=lambda entry: (-entry.last_us, entry.item))
    offsets = {SOURCES[s]: max(row[1] for row in rows if row[0] == s) for s in {row[0] for row in rows}}
    return UserHistory(tuple(entries[:MAX_ITEMS]), offsets)


def folded(rows, *, together: bool) -> UserHistory:
    packed = None
    if together:
        for source in range(len(SOURCES)):
            packed = fold(packed, source, [("17", *row[1:]) for row in rows if row[0] == source], SOURCES)
    else:
        for source, *action in rows:
            packed = fold(packed, source, [("17", *action)], SOURCES)
    return unpack(packed, SOURCES)


@given(st.lists(actions, min_size=1, max_size=40), st.randoms(use_true_random=False), st.booleans())
def test_any_order_gives_what_the_naive_model_gives(drawn, random, together):
    rows = with_positions(drawn)
    expected = naive(rows)
    random.shuffle(rows)
    assert folded(rows, together=together) == expected


@given(st.lists(actions, min_size=1, max_size=40))
def test_a_glance_sees_the_items_and_the_offsets_and_changes_with_everything_done(drawn):
    packed, stamps = None, set()
    for source, *action in with_positions(drawn):
        packed = fold(packed, source, [("17", *action)], SOURCES)
        seen, whole = glance(packed, SOURCES), unpack(packed, SOURCES)
        assert sorted(seen.items) == sorted(entry.item for entry in whole.entries)
        assert (seen.offsets, seen.open()) == (whole.offsets, whole)
        stamps.add(seen.stamp())
    assert len(stamps) == len(drawn)


@settings(max_examples=15)
@given(st.randoms(use_true_random=False))
def test_beyond_the_limit_the_latest_items_are_kept_whatever_the_order(random):
    rows = [
        (n % 3, n, f"movie+{random.randrange(MAX_ITEMS + 60)}", random.randrange(8), None, None) for n in range(600)
    ]
    expected = naive(rows)
    random.shuffle(rows)
    assert folded(rows, together=False) == expected


def test_an_item_that_was_dropped_comes_back_as_new():
    early = [(0, n, f"movie+{n:03}", n, 5, 4.0) for n in range(MAX_ITEMS + 1)]
    back = [(0, 900, "movie+000", 999, 6, None)]
    entries = folded(early + back, together=False).entries
    assert entries[0] == Entry("movie+000", 999, 1, None)
    assert len(entries) == MAX_ITEMS
    assert "movie+001" not in {entry.item for entry in entries}


def test_the_later_rating_wins_and_the_offset_breaks_ties():
    def rating(*rows):
        return folded([(0, position, "alien", time_us, None, r) for position, time_us, r in rows], together=False)

    assert rating((1, 20, 4.0), (2, 10, 1.0)).entries[0].rating == 4.0
    assert rating((1, 20, 4.0), (2, 20, 1.0)).entries[0].rating == 1.0
    assert rating((2, 20, 1.0), (1, 20, 4.0)).entries[0].rating == 1.0


def test_a_rating_keeps_its_time_when_the_item_is_watched_later():
    rows = [
        (0, 1, "alien", 10, None, 4.0),
        (0, 2, "alien", 50, 3, None),
        (0, 3, "alien", 20, None, 2.0),
        (0, 4, "alien", 15, None, 5.0),
    ]
    assert folded(rows, together=False).entries == (Entry("alien", 50, 1, 2.0),)


def test_an_item_whose_name_is_inside_another_is_not_mixed_up():
    rows = [(0, n, item, n, n, None) for n, item in enumerate(["alien+1979", "alien", "x", "alien+1979", "alien"])]
    assert {e.item: e.minutes_seen for e in folded(rows, together=False).entries} == {
        "alien+1979": 2,
        "alien": 2,
        "x": 1,
    }


@given(st.lists(st.integers(0, 1_439) | st.integers(0, 200).map(lambda n: n * 2), max_size=400))
def test_minutes_are_the_set_of_minutes(drawn):
    minutes = []
    for at, minute in enumerate(drawn, 1):
        minutes = add_minute(minutes, minute)
        assert count_minutes(minutes) == len(set(drawn[:at]))


def test_minutes_stay_small_however_one_watches():
    for order in (range(90), reversed(range(90)), [*range(0, 90, 3), *range(2, 90, 3), *range(1, 90, 3)]):
        whole: list[int] | bytes = []
        for minute in order:
            whole = add_minute(whole, minute)
        assert whole == [0, 89]
    scattered: list[int] | bytes = []
    for minute in range(0, 1_440, 2):
        scattered = add_minute(scattered, minute)
        assert len(scattered) <= max(2 * MAX_RUNS, 180)
    assert isinstance(scattered, bytes)
    assert count_minutes(scattered) == 720


def test_a_user_with_ten_items_takes_less_than_400_bytes():
    packed = None
    for n in range(10):
        item = f"the+longer+title+of+{1970 + n}"  # 24 characters, the mean of a real stream's ids
        start = 1_700_000_000_000_000 + n * 24 * HOUR
        watched = [("17", 10_000_000 + n, item, start + m * 60_000_000, m, None) for m in range(95)]
        rated = [("17", 10_000_100 + n, item, start + 2 * HOUR, None, 4.0)] if n % 5 == 0 else []
        packed = fold(packed, 0, watched + rated, SOURCES)
    assert len(unpack(packed, SOURCES).entries) == 10
    assert len(packed) < 400


def test_fold_leaves_its_input_alone():
    packed = fold(None, 0, [("17", 1, "alien", 5, 3, 4.0)], SOURCES)
    before = bytes(packed)
    first = fold(packed, 0, [("17", 2, "alien", 6, 4, 2.0)], SOURCES)
    assert packed == before
    assert fold(packed, 0, [("17", 2, "alien", 6, 4, 2.0)], SOURCES) == first


@given(st.binary(max_size=60))
def test_bytes_that_are_no_record_are_refused(noise):
    for use in (
        lambda: unpack(noise, SOURCES),
        lambda: glance(noise, SOURCES),
        lambda: fold(noise, 0, [("17", 1, "alien", 5, 3, 4.0)], SOURCES),
    ):
        with contextlib.suppress(Corrupt, FormatTooNew):
            use()


def test_half_a_record_is_corrupt():
    packed = fold(None, 0, [("17", 1, "alien", 5, 3, 4.0)], SOURCES)
    with pytest.raises(Corrupt):
        unpack(packed[:-3], SOURCES)
    with pytest.raises(Corrupt):
        glance(packed[:-3], SOURCES)
    with pytest.raises(Corrupt):
        fold(packed[:-3], 0, [("17", 2, "alien", 5, 3, 4.0)], SOURCES)
    with pytest.raises(Corrupt, match="source"):
        unpack(packed, [])


@pytest.mark.parametrize("rest", [([], []), ("of", "another", "shape")])
def test_a_newer_record_is_refused(rest):
    newer = msgspec.msgpack.encode((RECORD_FORMAT + 1, *rest))
    with pytest.raises(FormatTooNew):
        unpack(newer, SOURCES)
    with pytest.raises(FormatTooNew):
        fold(newer, 0, [("17", 1, "alien", 5, 3, 4.0)], SOURCES)
