"""The API as an ASGI application: routes, documentation, problems; and the same made when first needed."""

from typing import Any

from fastapi import Depends, FastAPI
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from matinee import __version__
from matinee.core.logging import get_logger
from matinee.serving.api import history, items, predictions, recommendations, trending
from matinee.serving.api.asked import Asked
from matinee.serving.api.documentation import add_documentation
from matinee.serving.api.events import events_router
from matinee.serving.api.problems import Mistake, Problem, Refused, handle_problems, puzzled
from matinee.serving.api.responses import HEADERS
from matinee.serving.headers import secured
from matinee.serving.key_file import Scope as KeyScope
from matinee.serving.keys import Guard, Refusal
from matinee.serving.service import Service

_log = get_logger(__name__)
_MANY = frozenset({"exclude", "genre", "not_genre"})
"""Parameters that may be repeated."""
_ABOUT = """\
What to show whom, what is like what, and what people did.

- Every answer says where it comes from, in its body and in the headers `X-Request-Id`, `X-Model-Version` and
  `X-Matinee-Step`.
- Every error is `application/problem+json` (RFC 9457): what was wrong, where, and what to do about it.
- A user of whom nothing is known is no error: the answer is what is popular.
- Every operation, and this page, wants an API key; `matinee keys create` makes one.
"""
_TAGS = [
    {"name": "recommendations", "description": "What to show whom."},
    {"name": "items", "description": "What is there, what is like what, and what is popular."},
    {"name": "users", "description": "What people did."},
    {"name": "events", "description": "What people do now."},
]


def create_api(service: Service, guard: Guard) -> FastAPI:
    """The API: everything under `/v1`, the page `/docs`, and `/openapi.json`.

    It is given the whole path, puts the common headers on its answers, counts them and raises nothing: it is called
    as it stands, without anything around it that does the same.

    Args:
        service: what answers.
        guard: says whose request is let in.
    """
    api = Api(service)
    handle_problems(api)
    reading = [Depends(guard.require(KeyScope.READ)), Depends(_refuse_repeated)]
    for part in (recommendations, items, history, predictions, trending):
        api.include_router(part.router, dependencies=reading)
    api.include_router(events_router(guard), dependencies=[Depends(_refuse_repeated)])
    add_documentation(api)
    return api


class Api(FastAPI):
    """FastAPI, with what each request says of itself around it.

    Args:
        service: what answers.
    """

    def __init__(self, service: Service) -> None:
        super().__init__(
            title="matinee",
            summary="Recommendations from an event stream.",
            description=_ABOUT,
            version=__version__,
            openapi_tags=_TAGS,
            license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            generate_unique_id_function=lambda route: route.name,
        )
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Nothing is ever raised to the server: it would log, and say, too much."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        asked = Asked(self._service)
        asked.attach(scope)
        answering = asked.answering(secured(scope, send))
        sending = answering.send
        try:
            if too_much := self._service.limits.refusal(scope):
                refused = Refused(too_much.status, too_much.detail, headers={"connection": "close"})
                await refused.response(asked.request_id)(scope, receive, sending)
                return
            if unknown := self._unknown(scope):  # before a body is read, which FastAPI does before any dependency
                await unknown.response(asked.request_id)(scope, receive, sending)
                return
            await super().__call__(scope, self._service.limits.receiving(receive), sending)
        except Exception:  # noqa: BLE001 - no error is shown as a traceback
            route = getattr(scope.get("route"), "path", "")  # not the path, which may name a user
            _log.exception("api_failed", request_id=asked.request_id, route=route)
            if not answering.has_begun:
                await puzzled().response(asked.request_id)(scope, receive, sending)

    def _unknown(self, scope: Scope) -> Refused | None:
        """Why a request is not let in at all; each operation looks at the key's scope besides."""
        guard = self._service.guard
        is_operation = scope["path"].startswith("/v1")
        found = guard.admit(scope, KeyScope.READ) if is_operation else guard.admit_page(scope)
        return Refused(found.status, found.detail, headers=found.headers) if isinstance(found, Refusal) else None

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document: FastAPI's, with the schema of problems and the headers of all answers."""
        if self.openapi_schema is None:
            document = super().openapi()
            template = "#/components/schemas/{model}"
            schema = Problem.model_json_schema(ref_template=template)
            document["components"]["schemas"] |= {**schema.pop("$defs"), Problem.__name__: schema}
            for path in document["paths"].values():
                for operation in path.values():
                    for response in operation["responses"].values():
                        response["headers"] = response.get("headers", {}) | HEADERS
            self.openapi_schema = document
        return self.openapi_schema


async def _refuse_repeated(request: Request) -> None:
    """Refuse a parameter that is given twice and of which only one value would count."""
    names = [name for name, _ in request.query_params.multi_items()]
    twice = sorted({name for name in names if names.count(name) > 1} - _MANY)
    if twice:
        raise Refused(
            422,
            f"query.{twice[0][:40]}: it is given more than once",
            kind="invalid-request",
            title="The request is not what this operation takes",
            remedy="Give it once. " + f"Only {', '.join(sorted(_MANY))} may be repeated.",
            errors=[Mistake(where=f"query.{name[:40]}", message="it is given more than once") for name in twice],
        )
