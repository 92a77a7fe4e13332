"""What popularity showed is neither to be found nor in anybody's list when models are judged."""

import numpy as np
import polars as pl
import pytest
from planted_lake import fill, planted

from matinee.core.clock import SystemClock
from matinee.dataset.interactions import Interactions
from matinee.dataset.snapshot import take_snapshot
from matinee.dataset.splits import split
from matinee.evaluation.ranking import evaluate_ranking
from matinee.events.offsets import Source
from matinee.lake.schemas import SERVED
from matinee.models.registry import make
from matinee.training.exposure import Shown, shown_by_popularity
from matinee.training.run import Request, train

PERSONAL, POPULAR = "20260101T000000Z-als-0a0a0a0a", "20260101T000000Z-popularity-0b0b0b0b"


def serve(lake, rows):
    """Lists that were served: (user, items, step, version) each."""
    columns = {name: [None] * len(rows) for name in SERVED.columns if name not in SERVED.filled} | {
        "time": [1_600_000_000_000_000] * len(rows),
        "request_id": [f"r{number}" for number in range(len(rows))],
        "position": list(range(len(rows))),
        **{name: [row[at] for row in rows] for at, name in enumerate(("user", "items", "step", "model_version"))},
    }
    schema = {name: dtype for name, dtype in SERVED.columns.items() if name in columns}
    lake.commit(Source("served", 0), {"served": pl.DataFrame(columns, schema=schema)}, start=0, end=len(rows))


def named(snapshot, shown):
    users, items = snapshot.users.ids_at(shown.user_index), snapshot.items.ids_at(shown.item_index)
    return list(zip(users, items, strict=True))


def test_lists_of_popularity_and_those_fallen_back_to_are_found_and_no_others(lake):
    fill(lake, planted())
    serve(lake, [
        ("u003", ["i01", "i07"], "popular", PERSONAL),
        ("u003", ["i07", "i02"], "popular_in_segment", PERSONAL),
        ("u001", ["i05"], "personal", POPULAR),
        ("u001", ["i06"], "folded_in", PERSONAL),
        ("u002", ["i09"], "personal", PERSONAL),
        ("stranger", ["i01"], "popular", PERSONAL),
        ("u004", ["gone"], "popular", PERSONAL),
        ("u004", [], "popular", PERSONAL),
    ])  # fmt: skip
    snapshot = take_snapshot(lake)
    before = shown_by_popularity(lake, snapshot)
    assert len(before) == 0  # the snapshot does not say which version of what was served
    snapshot.lake_versions["served"] = lake.versions()["served"]
    shown = shown_by_popularity(lake, snapshot)
    assert named(snapshot, shown) == [("u001", "i05"), ("u003", "i01"), ("u003", "i02"), ("u003", "i07")]


def interactions(pairs):
    users, items = (np.array(column, dtype=np.int32) for column in zip(*pairs, strict=True))
    rating = np.full(len(pairs), 5, dtype=np.float32)
    return Interactions(3, 4, users, items, rating, np.full(len(pairs), np.nan, dtype=np.float32))


def pairs_of(table):
    return list(zip(table.user_index.tolist(), table.item_index.tolist(), strict=True))


def test_pairs_are_left_out_and_added_once():
    shown = Shown(np.array([0, 1, 2], dtype=np.int32), np.array([1, 1, 3], dtype=np.int32))
    table = interactions([(0, 0), (0, 1), (1, 3), (2, 3)])
    assert pairs_of(shown.left_out(table)) == [(0, 0), (1, 3)]
    added = shown.added(table)
    assert pairs_of(added) == [*pairs_of(table), (1, 1)]
    assert np.isnan(added.rating[-1])
    nothing = Shown(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32))
    assert pairs_of(nothing.left_out(table)) == pairs_of(nothing.added(table)) == pairs_of(table)


@pytest.mark.parametrize("items", [30, 60])
def test_a_run_judges_by_what_was_not_shown_and_by_everything_where_nothing_else_is_left(
    settings, home, lake, items
):
    fill(lake, planted())
    all_shown = [f"i{item:02}" for item in range(items)]
    serve(lake, [(f"u{user:03}", all_shown, "popular", PERSONAL) for user in range(120)])
    run = train(
        Request(models=("popularity",)), settings=settings, home=home, lake=lake, clock=SystemClock(),
        progress=lambda *_: None,
    )  # fmt: skip
    options, snapshot = settings.training, run.snapshot
    learnt, held_out = split(snapshot.interactions, "last", options.test_fraction, seed=options.seed)
    met, to_find = learnt, held_out
    if items < 60:
        grid = np.indices((120, items)).reshape(2, -1).astype(np.int32)
        met = Shown(grid[0], grid[1]).added(learnt)
        to_find = held_out.take(held_out.item_index >= items)
    model = make("popularity", {}).fit(learnt, seed=options.seed, threads=1)
    expected = evaluate_ranking(model, met, to_find, k=10, positive_rating=options.positive_rating)
    (found,) = (one for one in run.evaluations if one.name == "popularity")
    assert found.metrics["ndcg"] == expected.means["ndcg"]
    assert run.snapshot.lake_versions["served"] == lake.versions()["served"]
