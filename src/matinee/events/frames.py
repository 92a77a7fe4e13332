"""Reading in batches: records of a log, or rows of a table, to the frame of `READ_SCHEMA`."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from matinee.core.errors import InvalidInput
from matinee.events.lines import read_line
from matinee.events.rows import to_frame
from matinee.events.schema import READ_SCHEMA
from matinee.events.tables import read_columns
from matinee.events.vectorised import read_answers, read_requests, unwrap_batch

__all__ = ["read_columns", "read_records"]


def read_records(values: list[bytes], appended_us: NDArray[np.int64], *, timezone: str = "UTC") -> pl.DataFrame:
    """Read a batch of records. Never raises for what a record may contain.

    What the fast paths do not recognise goes one by one through `lines.read_line`, with which they agree.

    Args:
        values: the records.
        appended_us: when the log took each, UTC microseconds; shape [len(values)].
        timezone: IANA name of the zone of a line's local time.

    Returns:
        The schema `READ_SCHEMA`, one row per record in order.

    Raises:
        ConfigurationError: there is no such time zone.
        InvalidInput: the arguments differ in length.
    """
    if len(values) != len(appended_us):
        raise InvalidInput(f"{len(values)} records, but {len(appended_us)} times at which they were appended")
    if not values:
        return pl.DataFrame(schema=READ_SCHEMA)
    left = unwrap_batch(pl.Series(values, dtype=pl.Binary), pl.Series(appended_us, dtype=pl.Int64))
    open_rows = np.ones(len(values), dtype=np.bool_)
    indices, frames = [], []
    for read in (read_requests, read_answers):
        index, rows = read(left, timezone)
        taken = index.to_numpy()
        open_rows[taken] = False
        left = left.filter(open_rows[left["index"].to_numpy()])
        indices.append(taken)
        frames.append(rows)
    rest = np.flatnonzero(open_rows)
    readings = [read_line(values[at], appended_us=int(appended_us[at]), timezone=timezone) for at in rest]
    order = np.argsort(np.concatenate([*indices, rest]), kind="stable")
    return pl.concat([*frames, to_frame(readings)], rechunk=True)[order]  # one chunk: gathering is faster
