"""What is liked of late."""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray
from starlette.requests import Request

from matinee.bundle.open import Bundle
from matinee.serving.api.asked import asked_of
from matinee.serving.api.models import Group, Named, TrendingAnswer, TrendingQuery
from matinee.serving.api.naming import title_of
from matinee.serving.api.responses import problems

router = APIRouter(tags=["items"])


@router.get("/v1/trending", summary="What is liked of late", responses=problems())
async def read_trending(request: Request, wanted: Annotated[TrendingQuery, Query()]) -> TrendingAnswer:
    """What most people liked of late when the model was made: of all, or by genre, or by segment of users.

    Of all and by genre a like counts half after a week; where the data has no times, and within segments, all count
    the same.

    What is blocked, not available, not for every age, or met by nobody yet is left out.
    """
    asked = asked_of(request)
    bundle = asked.bundle()
    showable = asked.showable(bundle, wanted.filter()) & bundle.is_met
    groups = []
    for name, ordering, among in _orderings(bundle, wanted.by):
        first = ordering[(showable & among)[ordering]][: wanted.n].tolist()
        items = [bundle.items[i] for i in first]
        groups.append(Group(name=name, items=[Named(item=item, title=title_of(bundle, item)) for item in items]))
    return TrendingAnswer(**asked.said(), by=wanted.by, groups=groups, unknown_genres=wanted.unknown_genres(bundle))


def _orderings(bundle: Bundle, by: str) -> Iterator[tuple[str | None, NDArray[np.int32], NDArray[np.bool_]]]:
    """Of each group: its name, all items in their order, and which of them belong to it."""
    everything = np.ones(len(bundle.items), dtype=np.bool_)
    if by == "overall":
        yield None, bundle.trending(), everything
    elif by == "segment":
        for segment, name in enumerate(bundle.manifest.segments):
            yield name, bundle.popular(segment), everything
    else:
        for column, name in enumerate(bundle.attributes.genres):
            yield name, bundle.trending(), bundle.attributes.genre_mask[:, column]
