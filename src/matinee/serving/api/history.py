"""What a user did."""

from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query
from starlette.requests import Request

from matinee.bundle.open import Bundle
from matinee.bundle.users import UserEntry
from matinee.core.breaker import CircuitOpen
from matinee.core.errors import MatineeError
from matinee.core.logging import get_logger
from matinee.history.record import Entry
from matinee.serving.api.asked import Asked, asked_of
from matinee.serving.api.models import HistoryAnswer, HistoryQuery, Met, User
from matinee.serving.api.naming import moment, title_of
from matinee.serving.api.responses import problems

_log = get_logger(__name__)
_Found = TypeVar("_Found")

router = APIRouter(tags=["users"])


@router.get("/v1/users/{user}/history", summary="What a user did", responses=problems())
async def read_history(request: Request, user: User, wanted: Annotated[HistoryQuery, Query()]) -> HistoryAnswer:
    """What a user met: the latest items with time, minutes and rating, newest first; then what came before them.

    Live are the user's latest 200 items, within a fraction of a second of the event. Of what came before, only that
    it was met is known here. A user of whom nothing is known has an empty history: that is no error.
    """
    asked = asked_of(request)
    bundle = asked.bundle(user)
    lately = _lately(asked, user)
    met = [_met(bundle, entry) for entry in lately or ()]
    known = {entry.item for entry in lately or ()}
    entry = read_entry(asked, bundle, user)
    seen = () if entry is None else [bundle.items[i] for i in sorted(entry.seen.tolist())]
    before = [item for item in seen if item not in known]
    wanted_before = before[: max(0, wanted.n - len(met))]
    return HistoryAnswer(
        **asked.said(),
        user=user,
        live=lately is not None,
        total=len(met) + len(before),
        items=[
            *met[: wanted.n],
            *(Met(item=item, title=title_of(bundle, item), last=None, minutes=None, rating=None)
              for item in wanted_before),
        ],
    )  # fmt: skip


def _lately(asked: Asked, user: str) -> tuple[Entry, ...] | None:
    """The live history; nothing while it cannot be read, or nobody can say whose may be."""
    history, erased = asked.service.history, asked.service.erased
    if not (history.is_open and erased.is_known):
        return None
    if user in erased:
        return ()
    return tried(asked, "history", lambda: () if (found := history.get(user)) is None else found.entries)


def read_entry(asked: Asked, bundle: Bundle, user: str) -> UserEntry | None:
    """What the bundle knows of the user; nothing of one who is erased, and nothing where that is broken."""
    if user in asked.service.erased:
        return None
    return tried(asked, "bundle_user", asked.service.recommender.users_breaker.call, bundle.user, user)


def tried(asked: Asked, store: str, read: Callable[..., _Found | None], *given: object) -> _Found | None:
    """What `read` returns; nothing where it fails. A store that is left alone was told of when that began."""
    try:
        return read(*given)
    except CircuitOpen:
        return None
    except (MatineeError, OSError) as error:
        _log.warning("store_not_read", store=store, request_id=asked.request_id, error=str(error))
        return None


def _met(bundle: Bundle, entry: Entry) -> Met:
    return Met(
        item=entry.item,
        title=title_of(bundle, entry.item),
        last=moment(entry.last_us) if entry.last_us else None,
        minutes=entry.minutes_seen,
        rating=entry.rating,
    )
