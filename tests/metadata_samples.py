"""A small world with its metadata APIs, and a lake of what its viewers watched."""

import polars as pl

from matinee.events.offsets import Source
from matinee.lake.schemas import EVENTS
from matinee.simulation.apis import Apis
from matinee.simulation.catalogue import make_catalogue
from matinee.simulation.options import WorldOptions
from matinee.simulation.viewers import make_viewers

WORLD = WorldOptions(start_us=0, viewers=60, movies=30)
CATALOGUE, VIEWERS = make_catalogue(WORLD), make_viewers(WORLD)
ALL_ITEMS, ALL_USERS = list(CATALOGUE.ids), [str(number) for number in range(1, 61)]
ITEMS, USERS = ALL_ITEMS[:8], ALL_USERS[:12]
SOURCE = Source("a1b2c3", 0)
NOON_US = 1_700_049_600_000_000  # 2023-11-15T12:00:00Z


def apis(manners=None, **options):
    return Apis(CATALOGUE, VIEWERS, manners, **options)


def watch(lake, pairs, source=SOURCE, time_us=NOON_US):
    """Users who watch a minute of items, at the source's next positions."""
    start = lake.resume_position(source)
    columns = {name: kind for name, kind in EVENTS.columns.items() if name not in EVENTS.filled}
    positions = range(start, start + len(pairs))
    rows = {
        "position": list(positions),
        "kind": ["watch"] * len(pairs),
        "time": [time_us] * len(pairs),
        "received_at": [time_us] * len(pairs),
        "user": [user for user, _ in pairs],
        "item": [item for _, item in pairs],
        "minute": [0] * len(pairs),
        "dedup_key": [position.to_bytes(16, "big") for position in positions],
    }
    frame = pl.DataFrame(rows).with_columns(
        pl.lit(None, columns[name]).alias(name) for name in columns if name not in rows
    )
    lake.commit(source, {"events": frame.select(list(columns)).cast(columns)}, start=start, end=start + len(pairs))


def everybody_watches(lake, users=USERS, items=ITEMS):
    watch(lake, [(user, items[number % len(items)]) for number, user in enumerate(users)])
