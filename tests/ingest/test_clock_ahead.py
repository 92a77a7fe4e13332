"""A producer's clock that is ahead must not switch off the finding of duplicates."""

import numpy as np

from matinee.core.clock import HOUR, MINUTE, ManualClock
from matinee.events.offsets import Source
from matinee.ingest.duplicates import DuplicateWindow
from matinee.ingest.pipeline import Pipeline, lake_tables
from matinee.ingest.window import open_window
from matinee.lake.lake import Lake
from matinee.log.base import Records

NOON_US = 1_700_049_600_000_000  # 2023-11-15T12:00:00Z
SOURCE = Source("g", 0)
LINE = b"2023-11-15T12:00:00,7,GET /data/m/alien+1979/3.mpg"
AHEAD = b"2023-11-16T08:00:00,8,GET /data/m/alien+1979/3.mpg"


def records(start, *lines):
    positions = np.arange(start, start + len(lines), dtype=np.int64)
    return Records("g", 0, positions, np.full(len(lines), NOON_US + MINUTE), list(lines))


def test_an_event_from_tomorrow_does_not_hide_a_repeated_line(tmp_path):
    lake = Lake(str(tmp_path), ManualClock(NOON_US + HOUR))
    pipeline = Pipeline(SOURCE, 0, DuplicateWindow())
    first = pipeline.read(records(0, LINE, AHEAD, LINE))
    assert (first.counts.accepted, first.counts.duplicate) == (2, 1)

    lake.commit(SOURCE, lake_tables([first]), start=0, end=first.end)
    restarted = Pipeline(SOURCE, first.end, open_window(lake, SOURCE, first.end))
    assert restarted.read(records(3, LINE)).counts.duplicate == 1
