"""The duplicate window: what it decides, and that cuts and restarts do not change it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from window_model import observe, one_by_one, pieces

from matinee.core.clock import MINUTE, SECOND
from matinee.ingest.duplicates import WINDOW_US, DuplicateWindow

Record = tuple[bytes, int | None]
"""Key and event time; no time where the record takes no part."""

records_of_few_keys = st.lists(
    st.tuples(
        st.sampled_from([bytes([k]) * 16 for k in range(6)]),
        st.none() | st.integers(0, 50).map(lambda n: n * MINUTE) | st.integers(0, 1_200 * SECOND),
    ),
    max_size=40,
)
cuts_at = st.lists(st.integers(0, 40), max_size=6)


@given(records_of_few_keys)
def test_it_decides_as_the_rules_say(records):
    assert observe(DuplicateWindow(), records) == one_by_one(records, WINDOW_US)


@given(records_of_few_keys, cuts_at)
def test_how_the_sequence_is_cut_changes_nothing(records, cuts):
    window = DuplicateWindow()
    assert [a for piece in pieces(records, cuts) for a in observe(window, piece)] == one_by_one(records, WINDOW_US)


@given(records_of_few_keys, cuts_at)
def test_a_window_rebuilt_from_what_was_kept_goes_on_alike(records, cuts):
    window, answers, kept = DuplicateWindow(), [], []
    for piece in pieces(records, cuts):
        found = observe(window, piece)
        kept += [r for r, again in zip(piece, found, strict=True) if not again and r[1] is not None]
        answers += found
        latest = max((time for _, time in kept), default=0)
        window = DuplicateWindow((key, time) for key, time in kept if time >= latest - WINDOW_US)
    assert answers == one_by_one(records, WINDOW_US)


def test_ten_minutes_to_the_microsecond():
    key, other = b"a" * 16, b"b" * 16
    assert observe(DuplicateWindow(), [(key, 0), (other, WINDOW_US), (key, 0)])[2]
    assert not observe(DuplicateWindow(), [(key, 0), (other, WINDOW_US + 1), (key, 0)])[2]


def test_untimed_records_are_never_duplicates():
    assert observe(DuplicateWindow(), [(b"a" * 16, None)] * 3) == [False] * 3


def test_memory_is_bounded_by_the_window():
    window = DuplicateWindow()
    for start in range(0, 3_000, 100):  # a batch a minute, each of 10,000 keys
        times = np.full(10_000, start * MINUTE // 100, dtype=np.int64)
        keys = [n.to_bytes(16, "big") for n in range(start * 100, start * 100 + 10_000)]
        assert not window.observe(keys, times, np.ones(10_000, dtype=np.bool_)).any()
        assert len(window) <= 2 * 11 * 10_000 + 65_536 + 10_000
