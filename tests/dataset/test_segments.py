import polars as pl
import pytest

from matinee.dataset.segments import SEGMENTS, UNKNOWN, segment_of


@pytest.mark.parametrize(
    ("age", "gender", "expected"),
    [
        (1, "F", "under 18, F"),
        (17, "M", "under 18, M"),
        (18, "M", "18-24, M"),
        (24, " m ", "18-24, M"),
        (25, "female", "25-34, F"),
        (44, "F", "35-44, F"),
        (45, "F", "45-54, F"),
        (54, "F", "45-54, F"),
        (55, "F", "55+, F"),
        (120, "nonbinary", "55+, other"),
        (121, "F", "unknown, F"),
        (0, "F", "unknown, F"),
        (30, None, "25-34, unknown"),
        (30, "", "25-34, unknown"),
        (None, None, UNKNOWN),
        (-5, " ", UNKNOWN),
    ],
)
def test_users_fall_into_their_band_and_gender(age, gender, expected):
    frame = pl.DataFrame([(age, gender)], schema={"age": pl.Int32, "gender": pl.String}, orient="row")
    index = frame.select(segment_of())["segment"]
    assert index.dtype == pl.Int16
    assert SEGMENTS[index[0]] == expected


def test_segments_are_distinct_and_unknown_comes_first():
    assert SEGMENTS[0] == UNKNOWN
    assert len(set(SEGMENTS)) == len(SEGMENTS) == 28
