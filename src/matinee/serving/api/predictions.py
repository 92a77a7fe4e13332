"""How much users would like items, as the model predicts it."""

import asyncio
from typing import Literal, NamedTuple

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.requests import Request

from matinee.bundle.open import Bundle
from matinee.bundle.users import UserEntry
from matinee.serving.api.asked import Asked, asked_of
from matinee.serving.api.history import read_entry, tried
from matinee.serving.api.models import Prediction, PredictionRequest, Predictions
from matinee.serving.api.responses import problems
from matinee.serving.request import Question
from matinee.serving.view import View

router = APIRouter(tags=["recommendations"])


class _Known(NamedTuple):
    """What a prediction stands on: items with their weights as signs of liking."""

    based_on: Literal["history", "seen", "nothing"]
    item_index: NDArray[np.int32]
    weight: NDArray[np.float32]


@router.post("/v1/predictions", summary="How much users would like items", responses=problems(415))
async def predict(request: Request, wanted: PredictionRequest) -> Predictions:
    """The model's prediction for every given user and item; `kind` says what the numbers are.

    A model that folds users in scores every item from what the user did until now. Any other knows only the list
    of best items that it made for each user, and says nothing (`null`) of what is not on it. What the catalogue
    does not have gets `null` and is listed. Filters and rules play no part here.
    """
    asked = asked_of(request)
    index: dict[str, NDArray[np.int32]] = {}
    predictions = []
    for user in wanted.users:
        bundle = asked.bundle(user)
        if bundle.version not in index:
            index[bundle.version] = _indices(bundle, wanted.items)
        predictions.append(_predicted(asked, bundle, user, index[bundle.version]))
        await asyncio.sleep(0)  # others are answered in between
    found = np.stack(list(index.values())).max(axis=0)
    asked.model_version = next(iter(index)) if len(index) == 1 else "mixed"
    return Predictions(
        **asked.said(),
        items=wanted.items,
        predictions=predictions,
        unknown_items=[item for item, known in zip(wanted.items, found.tolist(), strict=True) if known < 0],
    )


def _predicted(asked: Asked, bundle: Bundle, user: str, index: NDArray[np.int32]) -> Prediction:
    fold_in = bundle.fold_in
    if fold_in is None:
        kind: Literal["rating", "score"] = (
            "score" if bundle.manifest.metrics.get("all", {}).get("rmse") is None else "rating"
        )
        values = _from_top(read_entry(asked, bundle, user), index)
        return Prediction(user=user, model_version=bundle.version, kind=kind, based_on="top", values=values)
    known = _known(asked, bundle, user)
    scores = fold_in.item_factors[index] @ fold_in.factors(known.item_index, known.weight)
    known_to_model = fold_in.speaks(index, np.ones_like(index, dtype=np.float32))
    values = [
        score if known else None for score, known in zip(scores.tolist(), known_to_model.tolist(), strict=True)
    ]
    return Prediction(user=user, model_version=bundle.version, kind="score", based_on=known.based_on, values=values)


def _known(asked: Asked, bundle: Bundle, user: str) -> _Known:
    """What the user did lately if there is a sign of liking in it; else what the bundle says was met."""
    entry = read_entry(asked, bundle, user)
    liked = tried(asked, "history", _liked, asked, bundle, user)
    if liked is not None and bundle.fold_in is not None and bundle.fold_in.speaks(*liked).any():
        return _Known("history", *liked)
    if entry is None or not entry.seen.size:
        return _Known("nothing", np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32))
    return _Known("seen", entry.seen, np.ones(len(entry.seen), dtype=np.float32))


def _liked(asked: Asked, bundle: Bundle, user: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Items that the user met lately, and their weights as signs of liking."""
    everything = np.ones(len(bundle.items), dtype=np.bool_)
    lately = None if user in asked.service.erased else asked.service.history.glance(user)
    return View(Question(user), bundle, None, lately, everything).liked


def _from_top(entry: UserEntry | None, index: NDArray[np.int32]) -> list[float | None]:
    """The bundle's scores of those items that are on the user's list."""
    if entry is None:
        return [None] * len(index)
    listed = dict(zip(entry.top.tolist(), entry.scores.tolist(), strict=True))
    return [listed.get(i) for i in index.tolist()]


def _indices(bundle: Bundle, items: list[str]) -> NDArray[np.int32]:
    """int32, shape (n,); -1 where the bundle does not have the item."""
    found = [bundle.item_index(item) for item in items]
    return np.array([-1 if i is None else i for i in found], dtype=np.int32)
