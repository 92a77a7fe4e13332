"""Items: what is known of one, and what is like it."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request

from matinee.bundle.open import Bundle
from matinee.serving.api.asked import asked_of
from matinee.serving.api.models import Item, ItemAnswer, NoParameters, Scored, SimilarItems, SimilarQuery
from matinee.serving.api.naming import moment, title_of
from matinee.serving.api.problems import Refused
from matinee.serving.api.responses import problems
from matinee.serving.similar import similar

MAX_SUGGESTED = 5

router = APIRouter(tags=["items"])


@router.get("/v1/items/{item}", summary="What is known of an item", responses=problems(404))
async def describe_item(request: Request, item: Item, _: Annotated[NoParameters, Query()]) -> ItemAnswer:
    """What is known of an item."""
    asked = asked_of(request)
    bundle = asked.bundle()
    index = index_of(bundle, item)
    about = bundle.attributes
    return ItemAnswer(
        **asked.said(),
        item=item,
        title=title_of(bundle, item),
        genres=[genre for genre, has in zip(about.genres, about.genre_mask[index].tolist(), strict=True) if has],
        year=int(about.year[index]) or None,
        minutes=float(bundle.item_minutes[index]),
        age_limit=int(about.age_limit[index]) or None,
        available_from=moment(int(about.available_from_us[index])),
        available_until=moment(int(about.available_until_us[index])),
        interactions=int(about.interactions[index]),
        rank=int((bundle.popular() == index).argmax()) + 1,
    )


@router.get("/v1/items/{item}/similar", summary="What is like an item", responses=problems(404))
async def find_similar_items(
    request: Request, item: Item, wanted: Annotated[SimilarQuery, Query()]
) -> SimilarItems:
    """The items that are liked by the same people, most like it first.

    What is blocked, not available, or not for every age is left out. A model without item factors finds none.
    """
    asked = asked_of(request)
    bundle = asked.bundle()
    index, scores = similar(bundle, index_of(bundle, item), wanted.n, asked.showable(bundle, wanted.filter()))
    found = [bundle.items[i] for i in index.tolist()]
    return SimilarItems(
        **asked.said(),
        item=item,
        items=[
            Scored(item=name, title=title_of(bundle, name), score=score)
            for name, score in zip(found, scores.tolist(), strict=True)
        ],
        unknown_genres=wanted.unknown_genres(bundle),
    )


def index_of(bundle: Bundle, item: str) -> int:
    """The index of an item.

    Raises:
        Refused: the bundle does not have it; 404, naming items that begin as it does.
    """
    index = bundle.item_index(item)
    if index is not None:
        return index
    stem = item.rpartition("+")[0] or item  # the title without the year, where it is called so
    near = [name for name in bundle.items if name.startswith(stem)][:MAX_SUGGESTED]
    raise Refused(
        404,
        f"There is no item {item!r} among the {len(bundle.items)} of {bundle.version}."
        + (f" There is {', '.join(near)}." if near else ""),
        kind="unknown-item",
        title="There is no such item",
        remedy="New items are known after the next training; /v1/trending shows what ids look like.",
    )
