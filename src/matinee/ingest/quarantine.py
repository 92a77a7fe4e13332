"""What could not be read: by reason with examples, and read again once the reader has learned a form.

    quarantine ─► those that now read ─► `data/replay.json` says which ─► import ─► leave the quarantine

They come in as a source of their own, on the path of an import: duplicates are found, counts are stored, history
follows. Which ones is written down before, so that a replay that was killed is finished by the next one, with the
same records under the same name: nothing twice, nothing lost. Those that still don't read stay as they are, and so
do those that were too long: only their beginning is kept, which might read as another record.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable

from matinee.core.files import read_json, write_json
from matinee.core.home import Home
from matinee.events.frames import read_records
from matinee.events.schema import Outcome, Reason
from matinee.ingest.counts import Counts
from matinee.ingest.generations import FILE_GENERATION
from matinee.ingest.importing import Importer
from matinee.lake.lake import Lake
from matinee.lake.schemas import QUARANTINE
from matinee.lake.storage import NO_HOOKS, exactly_here, store_errors

REPLAY_FORMAT = 1
EXAMPLES = 3
EXAMPLE_BYTES = 200
STEP = 5_000
"""Records that come in under one name: one round of commits and one of deletions."""
_AT = ["generation", "partition", "position"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did.

    Attributes:
        counts: what came in, by class; `read` records left the quarantine.
        stayed: records that still cannot be read.
    """

    counts: Counts = field(default_factory=Counts)
    stayed: int = 0


def by_reason(lake: Lake, examples: int = EXAMPLES) -> list[dict[str, Any]]:
    """Of each reason, most frequent first: `reason`, `records`, `first` and `last` receipt, latest `examples`.

    Raises:
        StoreUnavailable: the store failed.
    """
    latest = pl.col("raw").sort_by("received_at", *_AT, descending=True).head(examples)
    with store_errors("reading the quarantine"):
        found = (
            lake.read(QUARANTINE.name)
            .group_by("reason")
            .agg(
                pl.len().alias("records"),
                pl.col("received_at").min().alias("first"),
                pl.col("received_at").max().alias("last"),
                latest.alias("examples"),
            )
            .sort("records", "reason", descending=[True, False])
            .collect()
        )
    return [{**row, "examples": [_shown(raw) for raw in row["examples"]]} for row in found.iter_rows(named=True)]


def replay(
    home: Home,
    lake: Lake,
    importer: Importer,
    *,
    timezone: str = "UTC",
    on_imported: Callable[[], None] = lambda: None,
) -> Replayed:
    """Take in what the quarantine holds and now reads; the rest stays. May run beside ingest.

    Args:
        home: whose replays take turns, and where it is written down which records are being taken in.
        lake: the home's.
        importer: of the same home and lake.
        timezone: of a line's local time.
        on_imported: called between taking records in and deleting them from the quarantine; for tests.

    Raises:
        Locked: another replay or import is running.
        RetryableError: a store did not answer; the next replay finishes this one.
    """
    with home.lock("replay"):
        plan = home.data / "replay.json"
        counts = _finish(plan, lake, importer, on_imported)
        readable, stayed = _sorted_out(lake, timezone)
        for step in readable.iter_slices(STEP):
            first = step.row(0, named=True)
            name = f"{FILE_GENERATION}replay-{first['generation']}-{first['partition']}-{first['position']}"
            # A record leaves the quarantine once: so the first one's offset names a step and no other.
            document = {"generation": name, "records": [list(at) for at in step.select(_AT).iter_rows()]}
            write_json(plan, {"format_version": REPLAY_FORMAT, **document})
            counts += _finish(plan, lake, importer, on_imported)
    return Replayed(counts, stayed)


def _finish(plan: Path, lake: Lake, importer: Importer, on_imported: Callable[[], None]) -> Counts:
    """Take in what is written down, delete it from the quarantine, and forget it."""
    try:
        document = read_json(plan, format_version=REPLAY_FORMAT)
    except FileNotFoundError:
        return Counts()
    wanted = pl.DataFrame(document["records"], schema={n: QUARANTINE.columns[n] for n in _AT}, orient="row")
    with store_errors("reading the quarantine"):
        rows = lake.read(QUARANTINE.name).join(wanted.lazy(), on=_AT, how="semi").sort(_AT).collect()
    counts = Counts()
    if rows.height:  # else they were deleted already, which comes after taking them in
        received = rows["received_at"].to_physical().to_numpy()
        counts = importer.records(document["generation"], rows["raw"].to_list(), received).counts
        on_imported()
        for where in places(wanted):
            lake.transact(QUARANTINE.name, deleting(where))
    plan.unlink()
    return counts


def _sorted_out(lake: Lake, timezone: str) -> tuple[pl.DataFrame, int]:
    """The offsets of the records that now read, in order, and how many do not."""
    readable, stayed = [pl.DataFrame(schema={name: QUARANTINE.columns[name] for name in _AT})], 0
    columns = [*_AT, "raw", "received_at", "reason"]
    whole = pl.col("raw").is_not_null() & pl.col("received_at").is_not_null()
    whole &= pl.col("reason").ne_missing(Reason.TOO_LONG.value)
    with store_errors("reading the quarantine"):
        batches = lake.read(QUARANTINE.name, columns=columns).collect_batches(chunk_size=STEP)
        for batch in batches:
            rows = batch.filter(whole)
            received = rows["received_at"].to_physical().to_numpy()
            read = read_records(rows["raw"].to_list(), received, timezone=timezone)
            good = read["outcome"].cast(pl.String) != Outcome.QUARANTINED.value
            readable.append(rows.filter(good).select(_AT))
            stayed += batch.height - int(good.sum())
    return pl.concat(readable).sort(_AT), stayed


def places(wanted: pl.DataFrame) -> Iterator[str]:
    """For Delta, the rows of each source, by `generation`, `partition` and `position`."""
    for (generation, partition), rows in wanted.group_by("generation", "partition", maintain_order=True):
        positions = ", ".join(map(str, rows["position"]))
        source = f"generation = '{str(generation).replace(chr(39), chr(39) * 2)}' AND \"partition\" = {partition}"
        yield f"{source} AND position IN ({positions})"


def deleting(where: str) -> Callable[[DeltaTable], None]:
    """A change of the lake that deletes rows."""

    def attempt(table: DeltaTable) -> None:
        table.delete(where, commit_properties=exactly_here(), post_commithook_properties=NO_HOOKS)

    return attempt


def _shown(raw: bytes | None) -> str:
    return "" if raw is None else raw[:EXAMPLE_BYTES].decode(errors="backslashreplace")
