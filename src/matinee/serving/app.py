"""The HTTP surface: ASGI, with a short way for `/recommend/` in front of Starlette's router, and the API beside it.

Every answer of every route carries `X-Request-Id`, `X-Model-Version` and `X-Matinee-Step`; the last two say `none`
where no release is open and where nothing was recommended.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from matinee.core.clock import Clock
from matinee.core.errors import InvalidInput
from matinee.core.home import Home
from matinee.core.logging import get_logger
from matinee.core.settings import Settings
from matinee.history.base import History
from matinee.log.base import EventLog
from matinee.serving.api.mount import LazyApi, is_api
from matinee.serving.headers import SECURITY_HEADERS, Answering, common, secured
from matinee.serving.metrics import CONTENT_TYPE
from matinee.serving.request import PREFIX, has_body, new_request_id, read_question
from matinee.serving.service import Arrival, Service

_CLOSE = (b"connection", b"close")
_TEXT = b"text/plain; charset=utf-8"
_PUZZLED = "Something went wrong here; it was logged under this answer's X-Request-Id.\n"
_log = get_logger(__name__)
_Headers = list[tuple[bytes, bytes]]


def create_app(
    settings: Settings,
    home: Home,
    clock: Clock,
    *,
    open_event_log: Callable[[], EventLog] | None = None,
    open_live_history: Callable[[], History] | None = None,
) -> "RecommenderApp":
    """The application: `/recommend/{user}`, `/healthz`, `/readyz`, `/metrics`, and the API: `/v1/…`, `/docs`.

    `GET /recommend/{user}?n=20` answers `text/plain`: up to n (1 to 100) item ids, best first, joined by commas, on
    one line that no newline ends; an empty line where the user has seen everything. Background work starts and
    stops with the ASGI lifespan.

    Args:
        settings: queue, deadline, intervals and the URLs of log and history.
        home: where the bundles and the release are.
        clock: the clock of everything.
        open_event_log: opens the log for telemetry, instead of by the settings' URL.
        open_live_history: opens the history read-only, likewise.
    """
    service = Service(settings, home, clock, open_event_log=open_event_log, open_live_history=open_live_history)
    return RecommenderApp(service)


class RecommenderApp(Starlette):
    """Starlette, with recommendations answered before its router and the common headers put on after it.

    Args:
        service: what answers.
    """

    def __init__(self, service: Service) -> None:
        super().__init__(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
            ],
            exception_handlers={HTTPException: _refused_by_router, Exception: _puzzled},
            lifespan=self._lifespan,
        )
        self.service = service
        self._api = LazyApi(service, service.guard)
        self._api_tried = False

    def drain(self) -> None:
        """Say that the end is near: `/readyz` refuses, and connections are closed with their next answer."""
        self.service.draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Nothing is ever raised to the server: it would log, and say, too much."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        service, path = self.service, scope["path"]
        is_question = path.startswith(PREFIX)
        if not is_question and is_api(path):  # which puts the common headers on by itself
            await self._api(scope, receive, self._closing(send))
            return
        time_us = service.clock.now_us()
        arrival = Arrival(new_request_id(time_us), time_us, service.clock.monotonic())
        if refused := service.guard.refusal(scope):
            headers = [(name.lower().encode(), value.encode()) for name, value in refused.headers.items()]
            await self._respond(send, arrival, refused.status, f"{refused.detail}\n", headers)
        elif too_much := service.limits.refusal(scope):
            await self._respond(send, arrival, too_much.status, f"{too_much.detail}\n", [_CLOSE])
        elif is_question:
            await self._recommend(scope, send, arrival)
        else:
            await self._route(scope, receive, send, arrival)

    async def _route(self, scope: Scope, receive: Receive, send: Send, arrival: Arrival) -> None:
        service = self.service
        answering = Answering(
            self._closing(send),
            service.counters.responses,
            lambda: (arrival.request_id, service.model_version, "none"),
        )
        try:
            await super().__call__(scope, receive, secured(scope, answering.send))
        except Exception:  # noqa: BLE001 - no error is shown as a traceback
            _log.exception("request_failed", request_id=arrival.request_id, path=scope["path"])
            if not answering.has_begun:
                await self._respond(send, arrival, 500, _PUZZLED)

    async def _recommend(self, scope: Scope, send: Send, arrival: Arrival) -> None:
        method = scope["method"]
        if method not in {"GET", "HEAD"}:
            await self._respond(
                send, arrival, 405, "Only GET is answered here.\n", [(b"allow", b"GET, HEAD"), _CLOSE]
            )
            return
        if has_body(scope["headers"]):
            await self._respond(send, arrival, 400, "A GET has no body here; nothing of it was read.\n", [_CLOSE])
            return
        try:
            question = read_question(scope["path"], scope["query_string"])
            chosen = self.service.recommend(question, arrival, record=method == "GET")
        except InvalidInput as error:
            await self._respond(send, arrival, 400, f"{error}. {error.remedy}\n")
            return
        except Exception:  # noqa: BLE001 - same
            _log.exception("recommend_failed", request_id=arrival.request_id)  # the path names the user
            await self._respond(send, arrival, 500, _PUZZLED)
            return
        if chosen is None:
            why = f"There is nothing to recommend from yet: {self.service.releases.why_not}.\n"
            await self._respond(send, arrival, 503, why, [(b"retry-after", b"1")])
            return
        body = ",".join(chosen.items).encode()
        self.service.counters.responses[200] += 1
        headers = [
            (b"x-request-id", arrival.request_id.encode()),
            (b"content-length", b"%d" % len(body)),
            *_headers_of(chosen.model_version, chosen.step),
        ]
        if self.service.draining:
            headers.append(_CLOSE)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body if method == "GET" else b""})

    async def _respond(
        self, send: Send, arrival: Arrival, status: int, text: str, more: _Headers | None = None
    ) -> None:
        body = text.encode("utf-8", "backslashreplace")
        self.service.counters.responses[status] += 1
        headers = common(arrival.request_id, self.service.model_version, "none")
        headers += [(b"content-type", _TEXT), (b"content-length", b"%d" % len(body)), *SECURITY_HEADERS]
        headers += more or ()
        if self.service.draining and _CLOSE not in headers:
            headers.append(_CLOSE)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _closing(self, send: Send) -> Send:
        """`send` that, before the end, asks those who keep their connection to make another, elsewhere."""
        if not self.service.draining:
            return send

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"connection"]
                message = {**message, "headers": [*kept, _CLOSE]}
            await send(message)

        return sent

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def _readyz(self, _: Request) -> Response:
        releases = self.service.releases
        release, why_not = releases.current, self.service.why_not_ready
        if not self._api_tried:
            why_not = why_not or "the API is not there yet"
        if why_not or release is None:
            return PlainTextResponse(f"not ready: {why_not}\n", 503, {"retry-after": "1"})
        no_api = "" if self._api.is_made else "the API could not be started; the log says why"
        told = [", ".join(sorted(release.bundles)), releases.why_not, self.service.erased.why_not, no_api]
        return PlainTextResponse(f"ready: {'; '.join(filter(None, told))}\n")

    async def _metrics(self, _: Request) -> Response:
        # In a thread: reading the process's figures from /proc can take milliseconds.
        page = await run_in_threadpool(self.service.exposition.render)
        return Response(page, headers={"content-type": CONTENT_TYPE})

    async def _prepare_api(self) -> None:
        """Before readiness: what the API imports would later take the interpreter from answers for a while."""
        try:
            await run_in_threadpool(self._api.prepare)
        except Exception:  # noqa: BLE001 - the plain endpoints do without, and a request for it tries again
            _log.exception("api_not_prepared")
        self._api_tried = True

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        service = self.service
        service.start()
        tasks = [asyncio.create_task(service.load.watch(service.clock)), asyncio.create_task(self._prepare_api())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await run_in_threadpool(service.stop)


@lru_cache(maxsize=64)  # steps times versions that are served at once
def _headers_of(model_version: str, step: str) -> tuple[tuple[bytes, bytes], ...]:
    """What is the same in all answers by a step of a version."""
    version, taken = (b"x-model-version", model_version.encode()), (b"x-matinee-step", step.encode())
    return (version, taken, (b"content-type", _TEXT), *SECURITY_HEADERS)


async def _refused_by_router(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    texts = {404: "There is nothing here; ask for /recommend/<user>.\n", 405: "Only GET is answered here.\n"}
    return PlainTextResponse(texts.get(status, f"The request was refused with status {status}.\n"), status, headers)


async def _puzzled(_: Request, __: Exception) -> Response:
    return PlainTextResponse(_PUZZLED, 500)
