"""One batch of records: read, freed of duplicates, counted, and given the shapes that history and lake take.

Everything here is pure but for the windows of duplicates that a `Pipeline` carries from batch to batch, and for who
is erased.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from matinee.core.erasures import Erasures
from matinee.events.frames import read_records
from matinee.events.offsets import Source
from matinee.events.schema import Outcome
from matinee.history.base import Actions
from matinee.ingest.counts import Counts, count
from matinee.ingest.duplicates import POSTED_US, DuplicateWindow
from matinee.ingest.erased import named_in
from matinee.ingest.window import IS_POSTED
from matinee.lake.schemas import EVENTS, QUARANTINE, RECEIVED, SERVED, TableSchema
from matinee.log.base import Records

_ACTIONS = ("watch", "rating")
_KINDS_OF = ((EVENTS, _ACTIONS), (RECEIVED, ("received",)), (SERVED, ("served",)))
_ACTION_COLUMNS = ("position", "user", "item", "time", "minute", "rating")


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records of one source, classified.

    Attributes:
        source: where they are from.
        start: the position that the batch begins at.
        end: the position that it ends before.
        frame: `READ_SCHEMA` and `position`, one row in order per record that was not dropped.
        counts: the rows by class.
    """

    source: Source
    start: int
    end: int
    frame: pl.DataFrame
    counts: Counts

    def actions(self) -> Actions:
        """What users did, for history: what was accepted or repaired of watching and rating."""
        return to_actions(_kept(self.frame, _ACTIONS).select(_ACTION_COLUMNS))


class Pipeline:
    """Classifies the batches of one source, in the order of the positions.

    Args:
        source: the source.
        start: the first position that is still to come.
        window: keys kept before `start`.
        posted: ids of posted events kept before `start`.
        timezone: IANA name of the zone of a line's local time.
        erased: says whose records are to be dropped.
    """

    def __init__(
        self,
        source: Source,
        start: int,
        window: DuplicateWindow,
        posted: DuplicateWindow | None = None,
        *,
        timezone: str = "UTC",
        erased: Callable[[], Erasures] = Erasures.nobody,
    ) -> None:
        self.source = source
        self.next = start
        self._window = window
        self._posted = DuplicateWindow(POSTED_US) if posted is None else posted
        self._timezone = timezone
        self._erased = erased

    @property
    def held(self) -> dict[str, int]:
        """Keys that each of the two windows remembers, by what its time is."""
        return {"event": len(self._window), "receipt": len(self._posted)}

    def read(self, records: Records) -> Batch:
        """Classify records of the log.

        Raises:
            Corrupt: the classes do not add up to the records.
        """
        frame = read_records(records.values, records.appended_us, timezone=self._timezone)
        return self.take(frame, records.positions)

    def take(self, frame: pl.DataFrame, positions: NDArray[np.int64]) -> Batch:
        """Drop what is of erased users, find the duplicates in a frame of `READ_SCHEMA`, and count.

        Args:
            frame: one row per record in order, at least one.
            positions: int64, shape (n,), increasing, none below `next`.
        """
        start, self.next, n_read = self.next, int(positions[-1]) + 1, len(positions)
        if (erased := self._erased()) and (gone := named_in(frame, erased)).any():
            frame, positions = frame.filter(~gone), positions[~gone]
        duplicate = self._duplicates(frame)
        columns = [pl.Series("position", positions)]
        if duplicate.any():
            again = pl.lit(Outcome.DUPLICATE.value, frame.schema["outcome"])
            outcome = pl.when(pl.Series(duplicate)).then(again).otherwise("outcome")
            columns.append(frame.select(outcome.alias("outcome")).to_series())
        counts = count(frame.with_columns(columns[1:]), read=n_read, erased=n_read - frame.height)
        return Batch(self.source, start, self.next, frame.with_columns(columns), counts)

    def _duplicates(self, frame: pl.DataFrame) -> NDArray[np.bool_]:
        """bool, shape (n,): which rows repeat one that was kept."""
        keys = frame["dedup_key"].to_list()
        usable = (frame["outcome"].cast(pl.String) != Outcome.QUARANTINED.value).to_numpy()
        posted = frame.select(IS_POSTED).to_series().to_numpy()
        # An event is not believed to be later than its receipt: one clock that is ahead would move the window past
        # everything else until time has caught up.
        believed = frame.select(pl.min_horizontal("time", "received_at").to_physical()).to_series()
        timed = usable & frame["time"].is_not_null().to_numpy() & ~posted
        duplicate = self._window.observe(keys, believed.fill_null(0).to_numpy(), timed)
        if posted.any():
            received = frame["received_at"].to_physical().to_numpy()
            duplicate |= self._posted.observe(keys, received, usable & posted)
        return duplicate


def to_actions(frame: pl.DataFrame) -> Actions:
    """Rows of `position`, `user`, `item`, `time`, `minute` and `rating` as history takes them.

    Sorted before they become objects, so that what is used together lies together: half the time of grouping them.
    """
    frame = frame.sort("user", maintain_order=True)
    return Actions(
        positions=frame["position"].to_list(),
        users=frame["user"].to_list(),
        items=frame["item"].to_list(),
        times_us=frame["time"].to_physical().fill_null(0).to_list(),
        minutes=frame["minute"].to_list(),
        ratings=frame["rating"].to_list(),
    )


def lake_tables(batches: Sequence[Batch]) -> dict[str, pl.DataFrame]:
    """Consecutive batches of one source as rows of the lake's tables, with one row of `batches` that counts them.

    Tables without rows are left out; the lake commits their offset all the same.
    """
    frame = pl.concat([batch.frame for batch in batches])
    tables = {table.name: _columns(_kept(frame, kinds), table) for table, kinds in _KINDS_OF}
    quarantined = frame.filter(pl.col("outcome").cast(pl.String) == Outcome.QUARANTINED.value)
    tables[QUARANTINE.name] = _columns(quarantined, QUARANTINE)
    counts = sum((batch.counts for batch in batches), Counts())
    tables["batches"] = _count_row(counts, batches[0].start, batches[-1].end)
    return {name: rows for name, rows in tables.items() if rows.height}


def _kept(frame: pl.DataFrame, kinds: Sequence[str]) -> pl.DataFrame:
    accepted = pl.col("outcome").cast(pl.String).is_in([Outcome.ACCEPTED.value, Outcome.REPAIRED.value])
    return frame.filter(accepted & pl.col("kind").is_in(kinds))


def _columns(frame: pl.DataFrame, table: TableSchema) -> pl.DataFrame:
    return frame.select(name for name in table.columns.names() if name not in table.filled)


def _count_row(counts: Counts, start: int, end: int) -> pl.DataFrame:
    row = {
        "start": start,
        "end": end,
        "read": counts.read - counts.erased,  # the lake says nothing of those
        "accepted": counts.accepted,
        "repaired": counts.repaired,
        "duplicate": counts.duplicate,
        "quarantined": counts.quarantined,
        # At the batch's last position, so that the lake's fence lets it in exactly with the batch's last rows.
        "position": end - 1,
    }
    return pl.DataFrame(row, schema=dict.fromkeys(row, pl.Int64))
