"""Keeping the lake bounded: retention, compaction, and removing what no version that is kept needs.

Delta's vacuum and log clean-up go by the machine's own clock and the files' times; only the retention of rows
asks the lake's clock.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from deltalake import DeltaTable

from matinee.core.clock import DAY
from matinee.core.errors import InvalidInput
from matinee.lake.lake import Lake
from matinee.lake.schemas import TABLES, TableSchema
from matinee.lake.storage import NO_HOOKS, ZSTD, checkpoint, exactly_here, store_errors

FULL_BYTES = 100_000_000
"""A file so large is not joined any more."""


@dataclass(frozen=True, slots=True)
class Maintained:
    """What was done to one table."""

    table: str
    rows_deleted: int
    """Rows of days beyond the retention."""
    files_joined: int
    """Small files that compaction replaced."""
    files_written: int
    """Files that it replaced them by."""
    files_removed: int
    """Files that no kept version needs, now gone from the disk."""
    log_entries_removed: int
    unreadable: tuple[int, ...] = ()
    """Versions that were to be protected, and cannot be read any more. Something else removed them."""


def maintain(
    lake: Lake,
    *,
    retention_days: int | None,
    keep_versions_days: int,
    protect: Iterable[Mapping[str, int]] = (),
    compacts: bool = True,
) -> list[Maintained]:
    """Do all that is due to every table. May run beside a writer; each step gives way to it and tries again.

    Files that nothing needs go first, before anything is written: what a round replaces goes in a later one, when
    it is old enough.

    Args:
        lake: the lake. While a step changes a table, other changes through the same object wait; a writer that
            must not wait has a `Lake` of its own.
        retention_days: whole days (of UTC, by event time) older than this are deleted; none if not given.
            Untimed rows stay.
        keep_versions_days: days for which every version stays readable.
        protect: by table, versions that stay readable for as long as they are named here: those behind kept
            bundles.
        compacts: whether to join small files, which takes room until the old ones go.

    Raises:
        StoreUnavailable: the store failed, or other writers were always quicker.
        OutOfRoom: the disk is full.
    """
    if keep_versions_days < 1 or (retention_days is not None and retention_days < 1):
        raise InvalidInput(
            f"retention of {retention_days} days and versions for {keep_versions_days} days: expected at least 1",
            remedy="Vacuum within a day could remove files that a running writer or reader needs.",
        )
    protected = [dict(versions) for versions in protect]
    return [
        _maintain_table(
            lake,
            schema,
            retention_days,
            keep_versions_days,
            sorted({versions[schema.name] for versions in protected if schema.name in versions}),
            compacts=compacts,
        )
        for schema in TABLES.values()
    ]


def _maintain_table(
    lake: Lake,
    schema: TableSchema,
    retention_days: int | None,
    keep_versions_days: int,
    protect: list[int],
    *,
    compacts: bool,
) -> Maintained:
    name = schema.name
    kept = [version for version in protect if _is_readable(lake, name, version)]
    removed = remove_files(lake, name, keep_versions_days, kept)
    deleted = 0 if retention_days is None else delete_old_days(lake, schema, retention_days)
    joined, written = compact(lake, name) if compacts else (0, 0)
    entries = clean_log(lake, name, keep_versions_days, kept)
    lost = tuple(version for version in protect if version not in kept)
    return Maintained(name, deleted, joined, written, removed, entries, lost)


def _is_readable(lake: Lake, name: str, version: int) -> bool:
    try:
        lake.table(name, version)
    except InvalidInput:
        return False
    return True


def delete_old_days(lake: Lake, schema: TableSchema, days: int) -> int:
    """Delete the partitions of days before the last `days`, and return how many rows went."""
    if schema.partition_by is None:
        return 0
    today = datetime.fromtimestamp(lake.clock.now_us() / 1_000_000, UTC).date()
    before = today - timedelta(days=days)
    predicate = f"{schema.partition_by} < '{before.isoformat()}'"

    def attempt(table: DeltaTable) -> int:
        done = table.delete(predicate, commit_properties=exactly_here(), post_commithook_properties=NO_HOOKS)
        return int(done["num_deleted_rows"] or 0)

    return lake.transact(schema.name, attempt)


def compact(lake: Lake, name: str) -> tuple[int, int]:
    """Join small files of each partition, as `joined_below` says; returns how many were replaced by how many.

    Rows and offsets stay as they are, so that appends that come meanwhile are no conflict, and Delta's own
    tries are safe here.
    """
    joined = written = 0

    def attempt(table: DeltaTable) -> None:
        nonlocal joined, written
        for filters, size in _due(table, TABLES[name].partition_by):
            done = table.optimize.compact(
                filters, target_size=size, writer_properties=ZSTD, post_commithook_properties=NO_HOOKS
            )
            joined, written = joined + done["numFilesRemoved"], written + done["numFilesAdded"]

    lake.transact(name, attempt)
    return joined, written


def joined_below(files: Iterable[tuple[int, int]]) -> int | None:
    """The size below which a partition's files are to be joined; nothing where none are.

    Files are joined with the largest to which all smaller ones together add at least as many rows as it has; what
    is larger stays. So the file that a row is in at least doubles whenever the row is written again: of a partition
    that grew by n equal files, that is log2(n) times at most, and about log2(n) files are left (the tiers of a
    log-structured merge tree; O'Neil et al. 1996). To join all files each time would write the first row n times.
    Where the smaller files have fewer rows and yet more bytes than the next (Parquet's own), that one is joined
    too, which writes at most twice the smaller ones' bytes.

    Args:
        files: bytes and rows of each.
    """
    ordered = sorted(files, reverse=True)
    rows_left, bytes_left = sum(rows for _, rows in ordered), sum(size for size, _ in ordered)
    limit = below = FULL_BYTES
    for size, rows in ordered:
        if bytes_left <= limit:  # else Delta would not join all of them to one: most of these bytes are overhead
            below = limit
        rows_left -= rows
        if size < limit and rows_left >= max(rows, 1):
            return below
        bytes_left -= size
        limit = min(limit, size)
    return None


def _due(table: DeltaTable, column: str | None) -> Iterator[tuple[list[tuple[str, str, Any]] | None, int]]:
    """Which partitions have files to join, as Delta's filters, and below which size."""
    files = pl.DataFrame(table.get_add_actions(flatten=True))
    if column is None:
        if (size := joined_below(files.select("size_bytes", "num_records").iter_rows())) is not None:
            yield None, size
        return
    whole: list[str] = []
    for (value,), of in files.group_by(f"partition.{column}"):
        size = joined_below(of.select("size_bytes", "num_records").iter_rows())
        if size == FULL_BYTES and value is not None:
            whole.append(str(value))
        elif size is not None:
            yield [(column, "=", "" if value is None else str(value))], size  # "" is what Delta calls null there
    if whole:  # perhaps thousands, after an import: in one commit
        yield [(column, "in", whole)], FULL_BYTES


def remove_files(lake: Lake, name: str, keep_days: int, keep_versions: list[int]) -> int:
    """Delete data files that neither a version of the last `keep_days` days nor one of `keep_versions` needs.

    This also removes what writers left that lost a conflict or died before their commit.
    """

    def attempt(table: DeltaTable) -> int:
        _configure(table, {"delta.deletedFileRetentionDuration": f"interval {keep_days} days"})
        table.update_incremental()

        def vacuum(*, dry_run: bool) -> list[str]:
            return table.vacuum(
                retention_hours=24 * keep_days,
                dry_run=dry_run,
                full=True,
                keep_versions=keep_versions or None,
                commit_properties=exactly_here(),
                post_commithook_properties=NO_HOOKS,
            )

        return len(vacuum(dry_run=False)) if vacuum(dry_run=True) else 0

    return lake.transact(name, attempt)


def clean_log(lake: Lake, name: str, keep_days: int, keep_versions: list[int]) -> int:
    """Write a checkpoint, and delete log entries that no kept version needs; returns how many went.

    Delta removes only what lies before the last checkpoint that is older than the log's retention, so that every
    version within it can still be read; the retention reaches back to the oldest version that is kept.
    """
    log = lake.folder / name / "_delta_log"
    days = keep_days
    for version in keep_versions:
        entry = log / f"{version:020}.json"
        if not entry.exists():
            return 0
        age_us = lake.clock.now_us() - entry.stat().st_mtime_ns // 1_000
        days = max(days, age_us // DAY + 2)
    lake.transact(name, _configuring({"delta.logRetentionDuration": f"interval {days} days"}))
    table = lake.table(name)
    checkpoint(table, lake.folder, name)
    before = sum(1 for _ in log.iterdir())
    with store_errors(f"cleaning the log of table {name}"):
        table.cleanup_metadata()
    return before - sum(1 for _ in log.iterdir())


def _configuring(properties: dict[str, str]) -> Callable[[DeltaTable], None]:
    def attempt(table: DeltaTable) -> None:
        _configure(table, properties)

    return attempt


def _configure(table: DeltaTable, properties: dict[str, str]) -> None:
    found = table.metadata().configuration
    if any(found.get(key) != value for key, value in properties.items()):
        table.alter.set_table_properties(properties, commit_properties=exactly_here())
