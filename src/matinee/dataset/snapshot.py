"""A version of the lake as `Interactions`: the same version gives the same bytes."""

import hashlib
import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from matinee.core.ids import ID_PATTERN
from matinee.dataset.attributes import Attributes, attributes_of
from matinee.dataset.interactions import Interactions
from matinee.dataset.meaning import pairs_of
from matinee.dataset.profile import Profile, profile_of
from matinee.dataset.segments import OLDEST, SEGMENTS, UNKNOWN, segment_of
from matinee.dataset.vocabulary import Vocabulary
from matinee.events.offsets import Source
from matinee.lake.lake import Lake

DEFAULT_MINUTES = 100.0
"""The length of an item in minutes where the catalogue knows of no item how long it is."""

NO_AGE = -1

_READ = ("events", "watch_days", "items", "users", "batches")


@dataclass(frozen=True, slots=True)
class ExtraUsers:
    """Users of whom nothing is known but who they are.

    Attributes:
        ids: m user ids, ascending.
        segment: int16, shape (m,).
        age: int16, shape (m,); years, -1 where not known.
    """

    ids: tuple[str, ...]
    segment: NDArray[np.int16]
    age: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What models are trained on, and where it came from.

    Attributes:
        interactions: one row per pair of user and item, in the order of user index, then item index.
        users: ids of the users with interactions, ascending.
        items: ids of the items with interactions, ascending.
        extra_items: ids of the catalogue's other items, which nobody met yet, ascending.
        lake_versions: version of every lake table that was read; the same give the same snapshot.
        offsets: of each source, the position below which the snapshot has everything.
        time_range: first and last event in UTC microseconds; None where nothing has a time.
        row_counts: `events` read, `interactions`, and of these `rated` and `watched`.
        content_hash: SHA-256 over all that goes into a bundle: interactions, vocabularies, lengths, segments, ages
            and the attributes of items.
        earlier_hashes: what earlier versions of the program say of the same lake: SHA-256 without extra items, and
            over interactions, vocabularies, lengths and segments alone, as bundles of format 1 have it.
        item_minutes: float32, shape (n_items + n_extra,); the length in minutes of each item, then of each extra
            one; the catalogue's median where it is not known.
        segments: names of the segments.
        user_segment: int16, shape (n_users,); each user's segment.
        user_age: int16, shape (n_users,); years, -1 where not known.
        extra_users: known users who have no interactions yet and whose segment is not `unknown`.
        attributes: what the catalogue says of each item, then of each extra one.
        profile: the counts that the checks before training look at.
    """

    interactions: Interactions
    users: Vocabulary
    items: Vocabulary
    extra_items: tuple[str, ...]
    lake_versions: dict[str, int]
    offsets: dict[Source, int]
    time_range: tuple[int, int] | None
    row_counts: dict[str, int]
    content_hash: str
    earlier_hashes: tuple[str, ...]
    item_minutes: NDArray[np.float32]
    segments: list[str]
    user_segment: NDArray[np.int16]
    user_age: NDArray[np.int16]
    extra_users: ExtraUsers
    attributes: Attributes
    profile: Profile

    @property
    def timed(self) -> bool:
        """Whether every interaction has a time."""
        return self.interactions.timed


@dataclass(frozen=True, slots=True)
class Tables:
    """The lake's tables that a snapshot is made of, as lazy frames of one version each."""

    events: pl.LazyFrame
    watch_days: pl.LazyFrame
    items: pl.LazyFrame
    users: pl.LazyFrame
    batches: pl.LazyFrame


def take_snapshot(
    lake: Lake, versions: Mapping[str, int] | None = None, *, without: Container[str] | None = None
) -> Snapshot:
    """The interactions that a version of the lake holds.

    Of a user's ratings of an item the latest counts, by event time, then by offset; a rating without a time
    comes before any with one. Watching is the distinct minutes seen over the item's length, at most 1. So a
    record that came twice, through two partitions or two files, changes nothing.

    Args:
        lake: where to read.
        versions: version of each table to read; the current one of each table that is not named.
        without: users to leave out, because they are to be erased; the lake may still hold them.

    Raises:
        StoreUnavailable: the lake does not answer.
    """
    pinned = {**lake.versions(), **(versions or {})}
    tables = Tables(**{name: lake.read(name, version=pinned.get(name)).lazy() for name in _READ})
    if without is not None:
        tables = _without(tables, without)
    return snapshot_of(
        tables,
        lake_versions={name: pinned[name] for name in _READ if name in pinned},
        offsets=dict(lake.committed_ends("events", version=pinned.get("events"))),
    )


def snapshot_of(tables: Tables, *, lake_versions: dict[str, int], offsets: dict[Source, int]) -> Snapshot:
    """The snapshot of given tables; see `take_snapshot`."""
    pairs = pairs_of(tables.events, tables.watch_days)
    extra_items = _others(tables.items, pairs.items)
    catalogue = [*pairs.items, *extra_items]
    minutes = _lengths(tables.items, catalogue)
    interactions = Interactions(
        n_users=len(pairs.users),
        n_items=len(pairs.items),
        user_index=pairs.user_index,
        item_index=pairs.item_index,
        rating=pairs.rating,
        watched=np.minimum(pairs.minutes_seen / minutes[pairs.item_index], np.float32(1)),
        time_us=pairs.time_us,
    )
    user_segment, user_age, extra_users = _people(tables.users, pairs.users)
    attributes = attributes_of(tables.items, catalogue)
    profile = profile_of(tables.events, tables.watch_days, tables.items, tables.batches, interactions, pairs.items)
    vocabularies = Vocabulary(pairs.users), Vocabulary(pairs.items)
    learnt = _learnt_hash(interactions, *vocabularies, minutes[: len(pairs.items)], user_segment)
    earlier = [learnt]
    if extra_items:
        of_met = attributes_of(tables.items, pairs.items)
        earlier.append(_content_hash(learnt, user_age, extra_users, of_met))
    return Snapshot(
        interactions=interactions,
        users=vocabularies[0],
        items=vocabularies[1],
        extra_items=extra_items,
        lake_versions=lake_versions,
        offsets=offsets,
        time_range=profile.time_range_us,
        row_counts={
            "events": profile.events,
            "interactions": len(interactions),
            "rated": int(np.count_nonzero(~np.isnan(interactions.rating))),
            "watched": int(np.count_nonzero(~np.isnan(interactions.watched))),
        },
        content_hash=_content_hash(learnt, user_age, extra_users, attributes, extra_items),
        earlier_hashes=tuple(earlier),
        item_minutes=minutes,
        segments=list(SEGMENTS),
        user_segment=user_segment,
        user_age=user_age,
        extra_users=extra_users,
        attributes=attributes,
        profile=profile,
    )


def _without(tables: Tables, users: Container[str]) -> Tables:
    """The same tables without some users."""
    of_users = {"events": tables.events, "watch_days": tables.watch_days, "users": tables.users}
    known = pl.concat([table.select("user") for table in of_users.values()]).unique().drop_nulls()
    gone = [user for user in known.collect(engine="streaming")["user"] if user in users]
    if not gone:
        return tables
    stays = pl.col("user").is_in(gone).fill_null(value=False).not_()
    return replace(tables, **{name: table.filter(stays) for name, table in of_users.items()})


def _others(catalogue: pl.LazyFrame, items: list[str]) -> tuple[str, ...]:
    """The catalogue's items that are none of these, ascending; but for what can be no id, which nobody can meet."""
    valid = pl.col("item").str.contains(f"^(?:{ID_PATTERN})$")
    every = catalogue.filter(valid).select(pl.col("item").unique()).collect()["item"]
    return tuple(every.filter(~every.is_in(pl.Series(items, dtype=pl.String).implode())).sort())


def _lengths(catalogue: pl.LazyFrame, items: list[str]) -> NDArray[np.float32]:
    """Minutes of each item, float32 (n_items,); where it is not known the median of the catalogue."""
    known = (
        catalogue.filter(pl.col("minutes") > 0)
        .select("item", pl.col("minutes").cast(pl.Float32))
        .unique("item", keep="any")
        .collect()
    )
    median = known["minutes"].median()
    rows = pl.DataFrame({"item": items}, schema={"item": pl.String}).join(
        known, on="item", how="left", maintain_order="left"
    )
    filled = rows["minutes"].fill_null(DEFAULT_MINUTES if median is None else median)
    return np.ascontiguousarray(filled.to_numpy(), dtype=np.float32)


def _people(table: pl.LazyFrame, users: list[str]) -> tuple[NDArray[np.int16], NDArray[np.int16], ExtraUsers]:
    """Segment and age of each user, int16 (n_users,), and those known otherwise."""
    unknown = SEGMENTS.index(UNKNOWN)
    age = pl.when(pl.col("age").is_between(1, OLDEST)).then("age").cast(pl.Int16)
    known = table.select("user", segment_of(), age.alias("age")).unique("user", keep="any").collect()
    here = pl.DataFrame({"user": users}, schema={"user": pl.String})
    others = known.join(here, on="user", how="anti").filter(pl.col("segment") != unknown).sort("user")
    own, extra = (
        [_int16(rows["segment"].fill_null(unknown)), _int16(rows["age"].fill_null(NO_AGE))]
        for rows in (here.join(known, on="user", how="left", maintain_order="left"), others)
    )
    return own[0], own[1], ExtraUsers(tuple(others["user"]), *extra)


def _int16(column: pl.Series) -> NDArray[np.int16]:
    return np.ascontiguousarray(column.to_numpy(), dtype=np.int16)


def _learnt_hash(
    interactions: Interactions,
    users: Vocabulary,
    items: Vocabulary,
    minutes: NDArray[np.float32],
    user_segment: NDArray[np.int16],
) -> str:
    digest = hashlib.sha256(b"matinee snapshot 1\n")
    for name, ids in (("users", users.ids), ("items", items.ids), ("segments", SEGMENTS)):
        digest.update(f"{name} {len(ids)}\n".encode())
        digest.update("\n".join(ids).encode())
    arrays = {
        "user_index": interactions.user_index,
        "item_index": interactions.item_index,
        "rating": interactions.rating,
        "watched": interactions.watched,
        "time_us": interactions.time_us,
        "item_minutes": minutes,
        "user_segment": user_segment,
    }
    _add(digest, arrays)
    return digest.hexdigest()


def _content_hash(
    learnt: str,
    user_age: NDArray[np.int16],
    extra: ExtraUsers,
    attributes: Attributes,
    extra_items: tuple[str, ...] = (),
) -> str:
    texts = {"extra users": extra.ids, "titles": attributes.titles, "genres": attributes.genres}
    if extra_items:
        texts["extra items"] = extra_items
    digest = hashlib.sha256(f"matinee snapshot 2\n{learnt}\n{json.dumps(texts)}".encode())
    people = {"user_age": user_age, "extra_segment": extra.segment, "extra_age": extra.age}
    _add(digest, {**people, **attributes.arrays()})
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", arrays: Mapping[str, NDArray[Any] | None]) -> None:
    for name, array in arrays.items():
        if array is not None:
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            digest.update(f"\n{name} {little.dtype.str} {little.size}\n".encode())
            digest.update(little.data)
