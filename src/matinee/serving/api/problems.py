"""What is answered where something is wrong: one form, RFC 9457 problem details, for every status from 400.

`application/problem+json` with the members `type`, `title`, `status` and `detail` of the RFC, and of our own
`remedy` (what to do about it), `request_id`, and `errors` (each single mistake, with its place).
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from matinee.core.errors import InvalidInput, StoreUnavailable

PROBLEM_JSON = "application/problem+json"
KIND = "urn:matinee:problem:"
"""The beginning of every `type` that says more than the status does."""
REQUEST_ID = "matinee.request_id"
"""Where the ASGI scope holds the answer's id."""
JSON_REMEDY = "Send one JSON object, with Content-Type: application/json."
MAX_SHOWN = 20
"""Single mistakes listed in one answer."""


class Mistake(BaseModel):
    """One mistake in a request."""

    where: str = Field(description="Its place: `query.n`, `path.user`, `body.users`, `body.events[3].time`.")
    message: str = Field(description="What is wrong there.")


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:matinee:problem:invalid-request",
                "title": "The request is not what this operation takes",
                "status": 422,
                "detail": "query.n: Input should be less than or equal to 100",
                "remedy": "Mend what `errors` lists; /docs says what this operation takes.",
                "request_id": "0192f0c1a2b34e5f60718293a4b5c6d7",
                "errors": [{"where": "query.n", "message": "Input should be less than or equal to 100"}],
            }
        }
    )

    type: str = Field(
        description="A URI that names the kind of problem; `about:blank` where the status says it all."
    )
    title: str = Field(description="The kind of problem in words; the same each time.")
    status: int = Field(description="The HTTP status.", ge=400, le=599)
    detail: str = Field(description="What was wrong this time.")
    remedy: str = Field(description="What to do about it; empty where nothing can be done.")
    request_id: str = Field(description="The id of this answer, for whoever looks into it.")
    errors: list[Mistake] = Field(
        description="Every single mistake, with its place; empty where there is just one."
    )


class Refused(Exception):
    """Ends a request with a problem.

    Args:
        status: the HTTP status, 400 or above.
        kind: the last part of the problem's `type`; none for `about:blank`, where the title is the status's own.
        title: the kind of problem in words.
        detail: what was wrong this time.
        remedy: what to do about it.
        errors: single mistakes.
        headers: more headers.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str = "",
        title: str = "",
        remedy: str = "",
        errors: Sequence[Mistake] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title or HTTPStatus(status).phrase
        self.remedy = remedy
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def problem(self, request_id: str) -> Problem:
        """What is answered."""
        return Problem(
            type=KIND + self.kind if self.kind else "about:blank",
            title=self.title,
            status=self.status,
            detail=str(self),
            remedy=self.remedy,
            request_id=request_id,
            errors=list(self.errors[:MAX_SHOWN]),
        )

    def response(self, request_id: str) -> Response:
        """The same as a response."""
        # ASCII: what was sent is shown, and may hold halves of characters that UTF-8 cannot write.
        body = json.dumps(self.problem(request_id).model_dump(), separators=(",", ":"))
        headers = {"cache-control": "no-store"} | self.headers
        return Response(body, self.status, headers, media_type=PROBLEM_JSON)


def handle_problems(app: FastAPI) -> None:
    """Make every error that leaves an operation, a router or FastAPI itself a problem."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(InvalidInput, _invalid_input)
    app.add_exception_handler(StoreUnavailable, _unavailable)
    app.add_exception_handler(Exception, _puzzled)


def puzzled() -> Refused:
    """What is answered to an error that nobody foresaw: nothing of it is shown."""
    return Refused(500, "Something went wrong here; it was logged under this answer's request id.")


def _request_id(request: Request) -> str:
    return str(request.scope[REQUEST_ID])


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.response(_request_id(request))


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    request_id = _request_id(request)
    found = error.errors()
    for one in found:
        if one["type"] == "json_invalid":
            return _invalid_json(one, error.body).response(request_id)
        if one["loc"] == ("body",) and isinstance(error.body, bytes):  # FastAPI left it unread
            return _not_called_json(request).response(request_id)
    mistakes = [Mistake(where=_place(one["loc"]), message=_message(one)) for one in found]
    first = mistakes[0]
    more = f"; and {len(mistakes) - 1} more" if len(mistakes) > 1 else ""
    return Refused(
        422,
        f"{first.where}: {first.message}{more}",
        kind="invalid-request",
        title="The request is not what this operation takes",
        remedy="Mend what `errors` lists; /docs says what this operation takes.",
        errors=mistakes,
    ).response(request_id)


def _invalid_json(error: Mapping[str, Any], text: object) -> Refused:
    at = error["loc"][-1] if isinstance(error["loc"][-1], int) else 0
    before = text[:at] if isinstance(text, str) else ""
    line, column = before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1
    return Refused(
        400,
        f"The body is no JSON: {error.get('ctx', {}).get('error', error['msg'])} at line {line}, column {column}",
        kind="invalid-json",
        title="The body is no JSON",
        remedy=JSON_REMEDY,
    )


def _not_called_json(request: Request) -> Refused:
    kind = request.headers.get("content-type", "")[:100]
    return Refused(
        415,
        f"The body is {kind}, not application/json." if kind else "The body has no Content-Type.",
        remedy=JSON_REMEDY,
    )


def _message(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such parameter" if error["loc"][0] == "query" else "there is no such field"
    if error["type"] == "string_pattern_mismatch":
        return "an id is 1 to 200 printable ASCII characters without spaces, commas, slashes or double quotes"
    return str(error["msg"])


def _place(place: Sequence[int | str]) -> str:
    """`("body", "events", 3, "time")` as `body.events[3].time`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")[:200]


_SAID = {
    400: (
        "The body cannot be read: it is no UTF-8, is nested too deeply, or holds a number of too many digits.",
        JSON_REMEDY,
    ),
    401: ("", "Send a key that holds; an operator makes one with `matinee keys create NAME --scope read`."),
    403: ("", "Ask with a key of the scope that this takes; `matinee keys create` makes one."),
    404: ("There is nothing at this path.", "/docs lists what there is."),
    405: ("This path does not answer that method.", "The header Allow names those that it answers; so does /docs."),
    408: ("", "Send the whole request sooner."),
    413: ("", "Send less at once, in several requests."),
}


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail, remedy = _SAID.get(error.status_code, ("", ""))
    # Of a body that cannot be read FastAPI says only that; of others who raised it may say more than the status.
    if error.status_code != HTTPStatus.BAD_REQUEST and error.detail != HTTPStatus(error.status_code).phrase:
        detail = str(error.detail)
    refused = Refused(error.status_code, detail or str(error.detail), remedy=remedy, headers=error.headers)
    return refused.response(_request_id(request))


async def _invalid_input(request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidInput)
    return Refused(
        422,
        str(error),
        kind="invalid-request",
        title="The request is not what this operation takes",
        remedy=error.remedy,
    ).response(_request_id(request))


async def _unavailable(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreUnavailable)
    return Refused(
        503, str(error), kind="unavailable", title="Not now", remedy=error.remedy, headers={"retry-after": "1"}
    ).response(_request_id(request))


async def _puzzled(request: Request, _: Exception) -> Response:
    return puzzled().response(_request_id(request))
