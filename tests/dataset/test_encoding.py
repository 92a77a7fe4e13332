from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.core.errors import InvalidInput
from matinee.dataset.encoding import encode

ROWS = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.integers(0, 3), st.sampled_from([1.0, 2.5, 5.0]), st.none() | st.integers(0, 2)
    )
)


def table(rows):
    columns = {"user": pl.String, "item": pl.Int64, "rating": pl.Float64, "time": pl.Int64}
    return pl.DataFrame(rows, schema=columns, orient="row")


@given(ROWS)
def test_of_each_pair_the_latest_counts(rows):
    latest = {}
    for user, item, rating, time in sorted(rows, key=lambda row: -1 if row[3] is None else row[3]):
        latest[user, str(item)] = rating, time
    encoded = encode(table(rows))
    data = encoded.interactions
    found = {
        (encoded.users.id(user), encoded.items.id(item)): rating
        for user, item, rating in zip(data.user_index, data.item_index, data.rating.tolist(), strict=True)
    }
    assert found == {pair: rating for pair, (rating, _) in latest.items()}
    assert list(encoded.users.ids) == sorted({user for user, _ in latest})
    assert (data.n_users, data.n_items) == (len(encoded.users), len(encoded.items))
    assert data.timed == (bool(latest) and all(time is not None for _, time in latest.values()))
    assert np.isnan(data.watched).all()
    keys = data.user_index * 10 + data.item_index
    assert (np.diff(keys) > 0).all()


@pytest.mark.parametrize("time", [[1], [1.0], [datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)]])
def test_times_become_microseconds(time):
    frame = pl.DataFrame({"user": ["a"], "item": ["b"], "rating": [3], "time": time})
    assert encode(frame).interactions.time_us.tolist() == [1_000_000]


def test_a_table_without_times_is_untimed():
    frame = pl.DataFrame({"user": [7], "item": [9], "rating": [3], "more": ["x"]})
    encoded = encode(frame)
    assert (encoded.users.ids, encoded.items.ids, encoded.interactions.time_us) == (("7",), ("9",), None)


@pytest.mark.parametrize("wrong", [None, float("nan"), float("inf")])
def test_a_rating_that_is_none_is_refused(wrong):
    with pytest.raises(InvalidInput, match=r"row 1 .* rating"):
        encode(table([("a", 1, 3.0, None), ("a", 2, wrong, None)]))


def test_a_row_without_its_user_is_refused():
    with pytest.raises(InvalidInput, match=r"row 0 .* user"):
        encode(table([(None, 1, 3.0, None)]))


def test_a_missing_column_is_named():
    with pytest.raises(InvalidInput, match=r"'rating'.*'user', 'item', 'time'"):
        encode(table([]).drop("rating"))


def test_texts_for_times_are_refused():
    with pytest.raises(InvalidInput, match="time"):
        encode(pl.DataFrame({"user": ["a"], "item": ["b"], "rating": [3], "time": ["noon"]}))
