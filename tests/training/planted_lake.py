"""A lake with a planted structure, so that what a run must find is known."""

import numpy as np
import polars as pl

from matinee.events.frames import read_columns
from matinee.events.offsets import Source
from matinee.lake.schemas import EVENTS

N_USERS, N_ITEMS, GROUPS = 120, 60, 3
START_US = 1_600_000_000_000_000


def planted(seed=0, *, timed=True):
    """Users of each group rate most items of their own third highly, and a few of the others low."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(N_USERS):
        group = user % GROUPS
        own = [item for item in range(N_ITEMS) if item % GROUPS == group]
        other = [item for item in range(N_ITEMS) if item % GROUPS != group]
        rows += [(f"u{user:03}", f"i{item:02}", 5.0) for item in random.permutation(own)[:14].tolist()]
        rows += [(f"u{user:03}", f"i{item:02}", 1.0) for item in random.permutation(other)[:6].tolist()]
    order = random.permutation(len(rows))
    frame = pl.DataFrame([rows[int(row)] for row in order], schema=["user", "item", "rating"], orient="row")
    times = pl.Series("time", START_US + np.arange(len(rows)) * 1_000_000).cast(pl.Datetime("us", "UTC"))
    return frame.with_columns(times if timed else pl.lit(None, pl.Datetime("us", "UTC")).alias("time"))


def fill(lake, table, generation="planted"):
    events = lake_columns(read_columns(table, received_us=START_US * 2, producer="test"))
    read = len(events)
    counts = {
        "start": 0,
        "end": read,
        "read": read,
        "accepted": read,
        "repaired": 0,
        "duplicate": 0,
        "quarantined": 0,
    }
    batch = pl.DataFrame({"position": [0], **{key: [value] for key, value in counts.items()}})
    lake.commit(Source(generation, 0), {"events": events, "batches": batch}, start=0, end=read)


def lake_columns(frame):
    columns = [name for name in EVENTS.columns if name in frame.columns]
    return frame.select(columns).with_columns(pl.Series("position", np.arange(len(frame), dtype=np.int64)))
