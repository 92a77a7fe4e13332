"""Small contents of bundles, for tests and for the programs that tests start and kill."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from matinee.bundle.contents import BundleContents, UserBlock
from matinee.bundle.manifest import CodeVersion, Gate, Provenance, SourceEnd
from matinee.models.fold_in import FoldIn
from matinee.models.rating_fold_in import RatingFoldIn


def provenance(**changes: Any) -> Provenance:
    fields: dict[str, Any] = {
        "model": "als",
        "params": {"n_factors": 2},
        "seed": 7,
        "lake_versions": {"events": 3},
        "offsets": (SourceEnd(generation="g", partition=0, end=10),),
        "time_range": (1_000, 2_000),
        "row_counts": {"events": 5},
        "content_hash": "ab" * 16,
        "code": CodeVersion(package="0.1.0"),
        "libraries": {"numpy": "2"},
        "metrics": {"all": {"ndcg@10": 0.5, "rmse": None}},
        "gate": Gate(passed=True, evidence={"low": 0.01}),
        "candidates": {"svd": {"ndcg@10": 0.1}},
    }
    return Provenance(**(fields | changes))


def fold_in_arrays(n_items: int) -> dict[str, np.ndarray]:
    factors = np.arange(2 * n_items, dtype=np.float32).reshape(n_items, 2)
    fold_in = FoldIn(
        item_factors=factors,
        gram=factors.T.astype(np.float64) @ factors,
        prior=np.ones(2, np.float32),
        alpha=40.0,
        reg=0.1,
        mean_total=1.0,
        positive_rating=4.0,
    )
    return fold_in.to_arrays()


def rating_fold_in(vectors: np.ndarray) -> RatingFoldIn:
    bias = np.linspace(-0.5, 0.5, len(vectors), dtype=np.float32)
    return RatingFoldIn.of(vectors, bias, np.ones(len(vectors), np.bool_), mean=3.5, low=1.0, high=5.0)


def user_block(ids: list[str], *, n_items: int = 6, width: int = 3, seed: int = 0, **changes: Any) -> UserBlock:
    rng = np.random.default_rng(seed)
    seen = [np.flatnonzero(rng.random(n_items) < 0.4) for _ in ids]
    fields: dict[str, Any] = {
        "ids": ids,
        "top": np.array([_some_unseen(rng, n_items, items, width) for items in seen], dtype=np.int32),
        "scores": -np.sort(-rng.random((len(ids), width), dtype=np.float32)),
        "seen_indptr": np.cumsum([0, *map(len, seen)], dtype=np.int64),
        "seen_indices": np.concatenate([*seen, np.empty(0)]).astype(np.int32),
        "segments": rng.integers(-1, 2, len(ids)).astype(np.int16),
    }
    return UserBlock(**(fields | changes))


def _some_unseen(rng: np.random.Generator, n_items: int, seen: np.ndarray, width: int) -> np.ndarray:
    chosen = rng.permutation(np.setdiff1d(np.arange(n_items), seen))[:width]
    return np.pad(chosen, (0, width - len(chosen)), constant_values=-1)


def contents(users: Iterable[UserBlock] | None = None, *, n_items: int = 6, **changes: Any) -> BundleContents:
    order = np.arange(n_items, dtype=np.int32)
    fields: dict[str, Any] = {
        "provenance": provenance(),
        "items": [f"film+{index}" for index in range(n_items)],
        "item_minutes": np.linspace(80, 120, n_items, dtype=np.float32),
        "popular": order[::-1].copy(),
        "segments": ["new", "old"],
        "popular_by_segment": np.stack([order, np.roll(order, 1)]),
        "users": [user_block([f"u{row:03d}" for row in range(40)], n_items=n_items)] if users is None else users,
        "fold_in": fold_in_arrays(n_items),
        "ratings": rating_fold_in(fold_in_arrays(n_items)["item_factors"]),
    }
    return BundleContents(**(fields | changes))
