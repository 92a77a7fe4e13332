"""How much users would like items, as the model predicts it."""

import asyncio
from typing import Literal

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.requests import Request

from matinee.bundle.open import Bundle
from matinee.bundle.users import UserEntry
from matinee.history.record import Glance
from matinee.models.fold_in import FoldIn
from matinee.serving.api.asked import Asked, asked_of
from matinee.serving.api.history import read_entry, tried
from matinee.serving.api.models import Prediction, PredictionRequest, Predictions
from matinee.serving.api.responses import problems
from matinee.serving.request import Question
from matinee.serving.view import View

router = APIRouter(tags=["recommendations"])

_DIGITS = 5
"""Behind the point; there is no more in a float32."""
_BasedOn = Literal["history", "seen", "nothing", "top"]
_Predicted = tuple[_BasedOn, list[float | None]]


@router.post("/v1/predictions", summary="How much users would like items", responses=problems(415))
async def predict(request: Request, wanted: PredictionRequest) -> Predictions:
    """The model's prediction for every given user and item; `kind` says what the numbers are.

    Ratings are predicted of every item, from the user's own ratings until now. So are scores by a model that folds
    users in; any other knows only the list of best items that it made for each user, and says nothing (`null`) of
    what is not on it. What the catalogue does not have gets `null` and is listed; what nobody has met gets `null`.
    Filters and rules play no part here.
    """
    asked = asked_of(request)
    index: dict[str, NDArray[np.int32]] = {}
    predictions = []
    for user in wanted.users:
        bundle = asked.bundle(user)
        if bundle.version not in index:
            index[bundle.version] = _indices(bundle, wanted.items)
        kind = wanted.kind or ("score" if bundle.ratings is None else "rating")
        based_on, values = _PREDICT[kind](asked, bundle, user, index[bundle.version])
        predictions.append(
            Prediction(user=user, model_version=bundle.version, kind=kind, based_on=based_on, values=values)
        )
        await asyncio.sleep(0)  # others are answered in between
    found = np.stack(list(index.values())).max(axis=0)
    asked.model_version = next(iter(index)) if len(index) == 1 else "mixed"
    return Predictions(
        **asked.said(),
        items=wanted.items,
        predictions=predictions,
        unknown_items=[item for item, known in zip(wanted.items, found.tolist(), strict=True) if known < 0],
    )


def _ratings(asked: Asked, bundle: Bundle, user: str, index: NDArray[np.int32]) -> _Predicted:
    """The ratings that a user would give. Nothing where there are no ratings to learn from."""
    fold_in = bundle.ratings
    if fold_in is None:
        return "nothing", [None] * len(index)
    rated, rating = tried(asked, "history", _rated, asked, bundle, user) or _NOTHING
    there = np.maximum(index, 0)
    values = fold_in.ratings(rated, rating, there)
    return "history" if rated.size else "nothing", _said(values, (index >= 0) & fold_in.knows(there))


def _scores(asked: Asked, bundle: Bundle, user: str, index: NDArray[np.int32]) -> _Predicted:
    """What the model orders its recommendations by."""
    fold_in = bundle.fold_in
    if fold_in is None:
        return "top", _from_top(read_entry(asked, bundle, user), index)
    based_on, items, weight = _known(asked, bundle, fold_in, user)
    values = fold_in.item_factors[index] @ fold_in.factors(items, weight)
    return based_on, _said(values, fold_in.speaks(index, np.ones_like(values)))


_PREDICT = {"rating": _ratings, "score": _scores}
_NOTHING = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)


def _said(values: NDArray[np.float32], known: NDArray[np.bool_]) -> list[float | None]:
    said = values.astype(np.float64).round(_DIGITS).tolist()
    return [value if is_known else None for value, is_known in zip(said, known.tolist(), strict=True)]


def _known(
    asked: Asked, bundle: Bundle, fold_in: FoldIn, user: str
) -> tuple[_BasedOn, NDArray[np.int32], NDArray[np.float32]]:
    """What a score stands on, as items and weights.

    What the user did lately if there is a sign of liking in it; else what the bundle says was met.
    """
    entry = read_entry(asked, bundle, user)
    liked = tried(asked, "history", _liked, asked, bundle, user)
    if liked is not None and fold_in.speaks(*liked).any():
        return "history", *liked
    seen = _NOTHING[0] if entry is None else entry.seen
    each_the_same = np.ones(len(seen), dtype=np.float32)
    known = fold_in.speaks(seen, each_the_same).any()
    return "seen" if known else "nothing", seen, each_the_same


def _liked(asked: Asked, bundle: Bundle, user: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Items that the user met lately, and their weights as signs of liking."""
    everything = np.ones(len(bundle.items), dtype=np.bool_)
    return View(Question(user), bundle, None, _glance(asked, user), everything).liked


def _rated(asked: Asked, bundle: Bundle, user: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Items that the user rated lately, and the ratings."""
    lately = _glance(asked, user)
    found = {
        index: entry.rating
        for entry in (lately.open().entries if lately else ())
        if entry.rating is not None and (index := bundle.item_index(entry.item)) is not None
    }
    return np.array(list(found), dtype=np.int32), np.array(list(found.values()), dtype=np.float32)


def _glance(asked: Asked, user: str) -> Glance | None:
    return None if user in asked.service.erased else asked.service.history.glance(user)


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
