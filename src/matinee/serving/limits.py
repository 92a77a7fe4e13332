"""How large a request may be and how long it may take to come: nothing that a client sends is held unbounded.

Granian bounds what comes before the application is called: the time for the headers and the buffer that they are
read into (`granian_settings`). It does not bound bodies; that is done here, while they are read.
"""

import asyncio
from typing import NamedTuple

from granian.http import HTTP1Settings
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from matinee.core.settings import ServingSettings

_CLOSE = {"Connection": "close"}
"""With what is refused half-read: the rest of it is not waited for."""


class TooMuch(NamedTuple):
    """Why a request is refused before anything looks at it.

    Attributes:
        status: 413, 414 or 431.
        detail: a sentence for the client.
    """

    status: int
    detail: str


class Limits:
    """The limits of one server.

    Args:
        settings: `max_body_bytes`, `max_header_bytes`, `max_target_bytes`, `receive_seconds`.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self._body_bytes = settings.max_body_bytes
        self._header_bytes = settings.max_header_bytes
        self._target_bytes = settings.max_target_bytes
        self._seconds = settings.receive_seconds

    def refusal(self, scope: Scope) -> TooMuch | None:
        """Why a request is refused for its path, query, headers, or the length of body that it announces."""
        target = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
        if target > self._target_bytes:
            return TooMuch(414, f"Path and query have {target} bytes; up to {self._target_bytes} are taken.")
        size, announced = 0, 0
        for name, value in scope["headers"]:
            size += len(name) + len(value)
            if name == b"content-length" and value.isdigit():
                announced = int(value[:20])
        if size > self._header_bytes:
            return TooMuch(431, f"The headers have {size} bytes; up to {self._header_bytes} are taken.")
        return self._too_long(announced) if announced > self._body_bytes else None

    def receiving(self, receive: Receive) -> Receive:
        """`receive`, which ends a body that is too long, too slow or broken off with Starlette's `HTTPException`.

        The status is 413, 408 or 400. The time counts from the first call.
        """
        received = 0
        until: float | None = None
        whole = False

        async def limited() -> Message:
            nonlocal received, until, whole
            if whole:
                return await receive()  # waits for the client to leave
            now = asyncio.get_running_loop().time()
            until = now + self._seconds if until is None else until
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError as error:
                detail = f"The body did not come within {self._seconds:g} seconds."
                raise HTTPException(408, detail, _CLOSE) from error
            if message["type"] != "http.request":
                raise HTTPException(400, "The body broke off before its end.", _CLOSE)
            received += len(message.get("body", b""))
            if received > self._body_bytes:
                raise HTTPException(413, self._too_long(None).detail, _CLOSE)
            whole = not message.get("more_body", False)
            return message

        return limited

    def _too_long(self, size: int | None) -> TooMuch:
        has = "is longer" if size is None else f"has {size} bytes"
        return TooMuch(413, f"The body {has}; up to {self._body_bytes} bytes are taken.")


def granian_settings(settings: ServingSettings) -> HTTP1Settings:
    """What Granian is told: when headers must have come, and the buffer that they must fit into.

    The buffer is twice what the headers may have, so that the refusal comes from here with a reason; what does not
    fit into it Granian refuses with a bare 431. It takes no less than 8,192 bytes.
    """
    return HTTP1Settings(
        header_read_timeout=round(settings.receive_seconds * 1_000),
        max_buffer_size=max(8_192, 2 * (settings.max_header_bytes + settings.max_target_bytes)),
    )
