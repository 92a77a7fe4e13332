"""Recommendations: for a user, for several, and for somebody of whom only a few items are known."""

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from starlette.requests import Request

from matinee.bundle.open import Bundle
from matinee.core.errors import InvalidId
from matinee.core.ids import user_id
from matinee.serving.answer import Answer, Unexplained
from matinee.serving.api.asked import Asked, asked_of, new_arrival
from matinee.serving.api.models import (
    Named,
    Options,
    RecommendationQuery,
    Recommendations,
    Recommended,
    SessionRequest,
    User,
    UserResult,
    UsersRequest,
    UsersResult,
)
from matinee.serving.api.naming import title_of
from matinee.serving.api.problems import Refused
from matinee.serving.api.responses import problems
from matinee.serving.request import Question

ENOUGH_SECONDS = 0.3
"""After so long the users of a list that are still to be answered get what costs least."""

router = APIRouter(tags=["recommendations"])


@router.get("/v1/users/{user}/recommendations", summary="What to show a user", responses=problems())
async def recommend_to_user(
    request: Request, user: User, wanted: Annotated[RecommendationQuery, Query()]
) -> Recommendations:
    """What to show a user, best first.

    A user of whom nothing is known gets what is popular: that is no error. What the user did a moment ago counts.
    The answer comes within the configured deadline; `step` says how it was made.
    """
    asked = asked_of(request)
    question = _question(wanted, user=user)
    return _shown(asked, wanted, question, *asked.answer(question), asked.request_id)


@router.post("/v1/recommendations", summary="What to show several users", responses=problems(415))
async def recommend_to_users(request: Request, wanted: UsersRequest) -> UsersResult:
    """The same for several users at once, each on its own: what fails for one does not fail for the others.

    Every user's answer has a `request_id` of its own, under which it is logged.
    """
    asked = asked_of(request)
    results = []
    for user in wanted.users:
        results.append(_one_of_several(asked, wanted, user))
        await asyncio.sleep(0)  # others are answered in between
    found = [result.recommendations for result in results if result.recommendations is not None]
    asked.step = _common([one.step for one in found])
    asked.model_version = _common([one.model_version for one in found])
    return UsersResult(**asked.said(), results=results)


@router.post("/v1/sessions/recommendations", summary="What to show somebody unknown", responses=problems(415))
async def recommend_to_session(request: Request, wanted: SessionRequest) -> Recommendations:
    """What to show somebody who is not known, from the items that the session has met.

    The session's own items are not shown. With no item that the catalogue has, the answer is what is popular.
    """
    asked = asked_of(request)
    question = _question(wanted, user=None, session=tuple(wanted.items))
    return _shown(asked, wanted, question, *asked.answer(question), asked.request_id)


def _question(
    wanted: RecommendationQuery | Options, *, user: str | None, session: tuple[str, ...] = ()
) -> Question:
    return Question(
        user=user,
        n=wanted.n,
        session=session,
        exclude=tuple(wanted.exclude),
        include_seen=wanted.include_seen,
        where=wanted.filter(),
        diversity=wanted.diversity,
        explain=wanted.explain,
    )


def _one_of_several(asked: Asked, wanted: UsersRequest, user: str) -> UserResult:
    arrival = new_arrival(asked.service)
    if arrival.monotonic - asked.arrival.monotonic > ENOUGH_SECONDS:
        arrival = msgspec.structs.replace(arrival, monotonic=asked.arrival.monotonic)  # its deadline is over
    try:
        question = _question(wanted, user=user_id(user))
        found = _shown(asked, wanted, question, *asked.answer(question, arrival), arrival.request_id)
    except InvalidId as error:
        refused = Refused(422, str(error), kind="invalid-id", title="This cannot be an id", remedy=error.remedy)
        return UserResult(user=user, recommendations=None, problem=refused.problem(arrival.request_id))
    return UserResult(user=user, recommendations=found, problem=None)


def _shown(
    asked: Asked, wanted: RecommendationQuery | Options, question: Question, answer: Answer, bundle: Bundle,
    request_id: str,
) -> Recommendations:  # fmt: skip
    return Recommendations(
        request_id=request_id,
        model_version=answer.model_version,
        step=answer.step,
        user=question.user,
        arm=answer.arm,
        items=_items(answer, bundle),
        unknown_genres=wanted.unknown_genres(bundle),
        unknown_items=[item for item in question.session if bundle.item_index(item) is None],
        unexplained=_unexplained(asked, question, answer),
    )


def _unexplained(asked: Asked, question: Question, answer: Answer) -> Unexplained | None:
    """The answer's own reason; or that no history may be read, which it takes for a user who did nothing."""
    service = asked.service
    is_away = not (service.history.is_open and service.erased.is_known)
    of_user = question.explain and question.user is not None
    return answer.unexplained or (Unexplained.HISTORY if of_user and is_away else None)


def _items(answer: Answer, bundle: Bundle) -> list[Recommended]:
    scores = answer.scores or (None,) * len(answer.items)
    reasons = answer.reasons or ((),) * len(answer.items)
    return [
        Recommended(
            item=item,
            title=title_of(bundle, item),
            score=score,
            because=[Named(item=liked, title=title_of(bundle, liked)) for liked in why],
        )
        for item, score, why in zip(answer.items, scores, reasons, strict=True)
    ]


def _common(texts: list[str]) -> str:
    """What they all are; `mixed` where they differ, `none` where there are none."""
    found = set(texts)
    return found.pop() if len(found) == 1 else "mixed" if found else "none"
