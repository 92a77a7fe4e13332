"""Posting events: what users watched and rated, durable in the log before it is answered."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from pydantic import BaseModel, Field
from starlette.requests import Request

from matinee.core.errors import RetryableError
from matinee.core.ids import ID_PATTERN
from matinee.events.envelope import KEY_PRODUCER, wrap_event
from matinee.serving.api.asked import asked_of
from matinee.serving.api.models import NoParameters
from matinee.serving.api.problems import Mistake, Refused
from matinee.serving.api.responses import problems
from matinee.serving.key_file import ApiKey, Scope
from matinee.serving.keys import Guard
from matinee.serving.posted import MAX_KEY_LENGTH, Post, Unacceptable, read_post, schema

RETRY_SECONDS = 2
"""What `Retry-After` says where the log does not take a post."""
_JSON_REMEDY = "Send one event or a list of them as JSON, with Content-Type: application/json."
_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": schema(),
            "examples": {
                "one": {
                    "value": {"kind": "watch", "user": "u001", "item": "dark+city+1998", "minute": 12, "id": "8f2b"}
                },
                "several": {
                    "value": [
                        {"kind": "rating", "user": "u001", "item": "dark+city+1998", "rating": 4.5},
                        {"kind": "watch", "user": "u002", "item": "dark+city+1998", "minute": 0,
                         "time": "2024-05-01T20:15:00Z"},
                    ]
                },
            },
        }
    },
}  # fmt: skip
_IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=rf"^{ID_PATTERN.replace('200', str(MAX_KEY_LENGTH))}$",
        description="Names this post. Its events without an id of their own get one from it, so that the post can "
        "be repeated, by you or by a balancer, without being counted twice.",
    ),
]


class Accepted(BaseModel):
    """What was taken."""

    accepted: int = Field(description="Events that are in the log, durably.")
    ids: list[str] = Field(description="Their ids, in the order of the post.")


def events_router(guard: Guard) -> APIRouter:
    """The operation, for keys of the scope `write`."""
    router = APIRouter(tags=["events"])

    @router.post(
        "/v1/events",
        summary="Tell what users did",
        status_code=202,
        responses=problems(409, 415),
        openapi_extra={"requestBody": _BODY},
    )
    async def post_events(
        request: Request,
        key: Annotated[ApiKey, Depends(guard.require(Scope.WRITE))],
        _: Annotated[NoParameters, Query()],
        idempotency_key: _IdempotencyKey = None,
    ) -> Accepted:
        """Tell what users did: one event, or up to 1,000. All of them are taken, or none.

        The answer comes when they are durable. Where none comes, or 503, post the same again with the same ids:
        what was taken before is dropped, for 24 hours. They count in recommendations within a second. What
        somebody did who asked to be erased is answered the same and not kept.
        """
        asked = asked_of(request)
        now_us = asked.arrival.time_us
        post = await _read(request, now_us, idempotency_key)
        producer = KEY_PRODUCER + key.id
        records = [
            wrap_event(event, received_us=now_us, event_id=event_id, producer=producer)
            for event, event_id in zip(post.events, post.ids, strict=True)
            if not asked.service.erased.names(event.user)
        ]  # with nothing left it takes its turn all the same: the answer tells nobody who was erased
        try:
            await asked.service.events.append(producer, records)
        except RetryableError as error:
            raise Refused(
                503, f"Nothing was taken: {error}.", kind="unavailable", title="Not now", remedy=error.remedy,
                headers={"retry-after": str(RETRY_SECONDS)},
            ) from error  # fmt: skip
        return Accepted(accepted=len(post.ids), ids=post.ids)

    return router


async def _read(request: Request, now_us: int, idempotency_key: str | None) -> Post:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise Refused(
            415,
            f"The body is said to be {content_type[:60]!r}.",
            remedy="Send JSON, with Content-Type: application/json.",
        )
    try:
        return read_post(await request.body(), now_us, idempotency_key=idempotency_key)
    except Unacceptable as error:
        raise _refusal(error) from error


def _refusal(error: Unacceptable) -> Refused:
    if not error.is_json:
        return Refused(400, str(error), kind="invalid-json", title="The body is no JSON", remedy=_JSON_REMEDY)
    mistakes = [Mistake(where=fault.where, message=fault.message) for fault in error.faults]
    if all(fault.is_early for fault in error.faults):
        return Refused(
            409, str(error), kind="future-time", title="The events lie ahead of this server's clock",
            remedy="Set the sender's clock right, or send them when their time has come.", errors=mistakes,
        )  # fmt: skip
    return Refused(
        422, str(error), kind="invalid-events", title="Not all events are what the stream takes; none was taken",
        remedy="Mend what `errors` lists and post all again.", errors=mistakes,
    )  # fmt: skip
