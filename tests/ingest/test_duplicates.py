"""The duplicate window: what it decides, and that cuts and restarts do not change it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from window_model import observe, one_by_one, pieces

from matinee.core.clock import MINUTE, SECOND
from matinee.ingest import duplicates
from matinee.ingest.duplicates import WINDOW_US, DuplicateWindow

Record = tuple[bytes, int | None]
"""Key and event time; no time where the record takes no part."""

# Halves that collide, and bytes of zero: what the arrays must tell apart.
KEYS = [bytes([k]) * 16 for k in range(4)] + [bytes(8) + bytes([k]) * 8 for k in range(1, 3)]
records_of_few_keys = st.lists(
    st.tuples(
        st.sampled_from(KEYS),
        st.none() | st.integers(0, 50).map(lambda n: n * MINUTE) | st.integers(0, 1_200 * SECOND),
    ),
    max_size=40,
)
cuts_at = st.lists(st.integers(0, 40), max_size=6)


MIX = duplicates._MIX


@pytest.fixture(params=[0, 3, 65_536], ids=["arrays", "both", "dictionary"], autouse=True)
def young(request, monkeypatch):
    """Where keys are: from the first batch on in arrays, or soon, or never."""
    monkeypatch.setattr(duplicates, "_YOUNG", request.param)
    monkeypatch.setattr(duplicates, "_MIX", np.uint64(0))  # so that halves collide


def test_it_decides_as_the_rules_say():
    @given(records_of_few_keys)
    def check(records):
        assert observe(DuplicateWindow(), records) == one_by_one(records, WINDOW_US)

    check()


def test_how_the_sequence_is_cut_changes_nothing():
    @given(records_of_few_keys, cuts_at)
    def check(records, cuts):
        window = DuplicateWindow()
        answers = [a for piece in pieces(records, cuts) for a in observe(window, piece)]
        assert answers == one_by_one(records, WINDOW_US)

    check()


def test_a_window_rebuilt_from_what_was_kept_goes_on_alike():
    @given(records_of_few_keys, cuts_at)
    def check(records, cuts):
        window, answers, kept = DuplicateWindow(), [], []
        for piece in pieces(records, cuts):
            found = observe(window, piece)
            kept += [r for r, again in zip(piece, found, strict=True) if not again and r[1] is not None]
            answers += found
            latest = max((time for _, time in kept), default=0)
            window = DuplicateWindow()
            recent = [(key, time) for key, time in kept if time >= latest - WINDOW_US]
            window.remember([key for key, _ in recent], np.array([time for _, time in recent], dtype=np.int64))
        assert answers == one_by_one(records, WINDOW_US)

    check()


def test_ten_minutes_to_the_microsecond():
    key, other = b"a" * 16, b"b" * 16
    assert observe(DuplicateWindow(), [(key, 0), (other, WINDOW_US), (key, 0)])[2]
    assert not observe(DuplicateWindow(), [(key, 0), (other, WINDOW_US + 1), (key, 0)])[2]


def test_untimed_records_are_never_duplicates():
    assert observe(DuplicateWindow(), [(b"a" * 16, None)] * 3) == [False] * 3


@pytest.mark.parametrize("young", [1_000], indirect=True)
def test_memory_is_bounded_by_the_window_and_small_for_each_key(monkeypatch):
    monkeypatch.setattr(duplicates, "_MIX", MIX)  # else all these halves collide
    monkeypatch.setattr(duplicates, "_LONGEST", 4_096)
    window = DuplicateWindow()
    for minute in range(50):
        keys = [n.to_bytes(16, "big") for n in range(minute * 1_000, (minute + 1) * 1_000)]
        times = np.full(1_000, minute * MINUTE, dtype=np.int64)
        assert not window.observe(keys, times, np.ones(1_000, dtype=np.bool_)).any()
        # Eleven minutes of 1,000 keys; an array that is not quite old holds at most twice the longest more.
        assert len(window) <= 11 * 1_000 + 2_000 + 2 * 4_096
        assert window.nbytes <= 24 * len(window)
    lately = [n.to_bytes(16, "big") for n in range(39_000, 50_000)]
    assert window.observe(lately, np.full(11_000, 49 * MINUTE), np.ones(11_000, dtype=np.bool_)).all()
