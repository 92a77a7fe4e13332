from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.bundle.attributes import ItemAttributes
from matinee.serving.filters import Filter, allowed, unknown_genres

GENRES = ("Action", "Comedy", "Drama")
ITEMS = replace(
    ItemAttributes.unknown(5),
    genres=GENRES,
    genre_mask=np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 0], [0, 0, 1]], dtype=np.bool_),
    year=np.array([1980, 1990, 2000, 1995, 0], dtype=np.int16),
)


@pytest.mark.parametrize(
    ("where", "items"),
    [
        (Filter(), [0, 1, 2, 3, 4]),
        (Filter(genres_any=("Action",)), [0, 1]),
        (Filter(genres_any=("action", "DRAMA")), [0, 1, 2, 4]),
        (Filter(genres_none=("Comedy",)), [0, 3, 4]),
        (Filter(genres_any=("Action",), genres_none=("Comedy",)), [0]),
        (Filter(year_from=1990), [1, 2, 3]),
        (Filter(year_to=1990), [0, 1]),
        (Filter(year_from=1981, year_to=1999, genres_any=("Comedy",)), [1]),
        (Filter(genres_any=("Western",)), []),
        (Filter(genres_any=("Western", "Drama")), [2, 4]),
        (Filter(genres_none=("Western",)), [0, 1, 2, 3, 4]),
        (Filter(year_from=10**9), []),
        (Filter(year_to=10**9), [0, 1, 2, 3]),
        (Filter(year_from=-(10**9)), [0, 1, 2, 3]),
        (Filter(year_to=-(10**9)), []),
    ],
)
def test_all_conditions_hold(where, items):
    assert np.flatnonzero(allowed(where, ITEMS)).tolist() == items


NAMES = st.lists(st.sampled_from([*GENRES, "Western"]), max_size=3).map(tuple)
YEARS = st.none() | st.integers(1978, 2002)


@given(NAMES, NAMES, YEARS, YEARS)
def test_a_filter_is_what_it_says_of_each_item(any_of, none_of, start, end):
    found = allowed(Filter(any_of, none_of, start, end), ITEMS)
    for item in range(5):
        has = {GENRES[g] for g in np.flatnonzero(ITEMS.genre_mask[item])}
        year = int(ITEMS.year[item])
        fits = (
            (not any_of or bool(has & set(any_of)))
            and not has & set(none_of)
            and (start is None or (year > 0 and start <= year))
            and (end is None or 0 < year <= end)
        )
        assert found[item] == fits


def test_a_catalogue_without_attributes_fits_no_condition_but_that_of_having_none():
    nothing = ItemAttributes.unknown(3)
    assert not allowed(Filter(genres_any=("Drama",)), nothing).any()
    assert not allowed(Filter(year_to=2000), nothing).any()
    assert allowed(Filter(genres_none=("Drama",)), nothing).all()


def test_the_mask_is_the_callers_own():
    allowed(Filter(), ITEMS)[:] = False
    assert allowed(Filter(), ITEMS).all()


def test_genres_that_the_catalogue_does_not_have_are_told():
    assert unknown_genres(Filter(genres_any=("drama", "Westen"), genres_none=("Noir",)), ITEMS) == (
        "Westen",
        "Noir",
    )
