"""The API's place in the server: importing FastAPI takes time and memory, so it comes after the start."""

import gc
import threading
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from matinee.core.logging import get_logger

if TYPE_CHECKING:
    from matinee.serving.keys import Guard
    from matinee.serving.service import Service

_log = get_logger(__name__)


def is_api(path: str) -> bool:
    """Whether the API answers this path."""
    return path.startswith(("/v1/", "/docs/")) or path in {"/v1", "/docs", "/openapi.json"}


class LazyApi:
    """The API of `create_api`, made once: by `prepare`, or by the first request that comes before that is done.

    Args:
        service: what answers.
        guard: says whose request is let in.
    """

    def __init__(self, service: "Service", guard: "Guard") -> None:
        self._service = service
        self._guard = guard
        self._lock = threading.Lock()
        self._api: ASGIApp | None = None

    @property
    def is_made(self) -> bool:
        """Whether it is there."""
        return self._api is not None

    def prepare(self) -> ASGIApp:
        """Make the API if it is not there yet: some 0.2 seconds of processor time, in a thread. Several may."""
        with self._lock:
            api = self._api
            if api is None:
                from matinee.serving.api.app import create_api  # noqa: PLC0415 - the point of this class

                made = create_api(self._service, self._guard)
                made.openapi()  # made with the first request for it otherwise, in the event loop
                self._api = api = made
                gc.freeze()  # as the server does when it starts: what is here stays for good
                _log.info("api_ready")
            return api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the first may wait for the API to be made, without keeping others waiting."""
        api = self._api
        if api is None:
            try:
                api = await run_in_threadpool(self.prepare)
            except Exception:  # noqa: BLE001 - what is wrong with the installation is for the log
                _log.exception("api_not_made")
                api = PlainTextResponse("The API could not be started; this server's log says why.\n", 503)
        await api(scope, receive, send)
