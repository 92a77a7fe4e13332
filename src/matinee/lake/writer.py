"""Changing a table against exactly the snapshot that was loaded."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from matinee.core.clock import Clock
from matinee.core.errors import StoreUnavailable
from matinee.lake.schemas import table_schema
from matinee.lake.storage import checkpoint, force_to_disk, open_table, store_errors

CHECKPOINT_EVERY = 100
"""Versions of a table after which a checkpoint is written, so that opening it reads few log entries."""
MAX_TRIES = 30
"""Conflicts in a row after which a writer gives up. One owner writes; conflicts come from maintenance or from
an owner that is about to be fenced, and are few."""

Result = TypeVar("Result")


class TableWriter:
    """The handles of whoever writes to a lake. One change at a time; others may read meanwhile.

    Args:
        folder: the lake's.
        clock: waits between tries.
        on_loaded: called with a table's name between loading it and committing to it.
    """

    def __init__(self, folder: Path, clock: Clock, on_loaded: Callable[[str], None]) -> None:
        self._folder = folder
        self._clock = clock
        self._on_loaded = on_loaded
        self._handles: dict[str, DeltaTable] = {}
        self._on_disk: dict[str, int] = {}
        self._checkpointed: dict[str, int] = {}
        self._lock = threading.Lock()

    def transact(self, name: str, attempt: Callable[[DeltaTable], Result]) -> Result:
        """Load the table and try; on a conflict load and try again. On return the table is on the disk.

        Args:
            name: the table.
            attempt: changes the table it is given, or not, and gives the result. It must decide everything
                from that table, and raise `CommitFailedError` where it has changed meanwhile.

        Raises:
            StoreUnavailable: the store failed, or other writers were always quicker.
            OutOfRoom: the disk is full.
        """
        with self._lock, store_errors(f"changing table {name}"):
            for tries in range(MAX_TRIES):
                table = self._load(name)
                self._on_loaded(name)
                try:
                    result = attempt(table)
                except CommitFailedError:
                    self._clock.sleep(random.uniform(0, 0.01 * (tries + 1)))  # noqa: S311 - spreads the writers
                    continue
                self._checkpoint_when_due(self._load(name), name)
                return result
        raise StoreUnavailable(
            f"lake, table {name}: other writers were quicker {MAX_TRIES} times in a row",
            remedy="See who else writes to this lake: one owner should.",
        )

    def _load(self, name: str) -> DeltaTable:
        """The table at its newest version, with all that led to it on the disk.

        Another owner may have died between a commit and forcing it to the disk, and what we tell of an offset
        lets the log be trimmed.
        """
        table = self._handles.get(name)
        if table is None:
            table = self._handles[name] = open_table(self._folder, table_schema(name))
            self._on_disk[name] = table.version() - MAX_TRIES
            self._checkpointed[name] = table.version() // CHECKPOINT_EVERY
        else:
            table.update_incremental()
        for version in range(max(0, self._on_disk[name] + 1), table.version() + 1):
            force_to_disk(self._folder, name, version)
        self._on_disk[name] = table.version()
        return table

    def _checkpoint_when_due(self, table: DeltaTable, name: str) -> None:
        due = table.version() // CHECKPOINT_EVERY
        if due > self._checkpointed[name]:
            checkpoint(table, self._folder, name)
            self._checkpointed[name] = due
