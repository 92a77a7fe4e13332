"""The headers that every answer carries: what it says of itself, and what a browser must not do with it.

An answer that sets a security header itself keeps its own: `/docs` has a policy that lets Swagger UI run.
"""

from collections import Counter
from collections.abc import Callable

from starlette.types import Message, Scope, Send

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
"""On every answer: it is what it says it is, runs nothing, tells nobody where it was read, and is kept nowhere."""
_HSTS = (b"strict-transport-security", b"max-age=31536000")


def common(request_id: str, model_version: str, step: str) -> list[tuple[bytes, bytes]]:
    """What every answer says of itself; version and step are `none` where there are none."""
    return [
        (b"x-request-id", request_id.encode()),
        (b"x-model-version", model_version.encode()),
        (b"x-matinee-step", step.encode()),
    ]


class Answering:
    """Counts an answer that is made by somebody else, and puts the common headers on it.

    Args:
        send: sends it.
        responses: answers by status.
        said: what `common` is to be given, asked when the answer begins.
    """

    def __init__(self, send: Send, responses: Counter[int], said: Callable[[], tuple[str, str, str]]) -> None:
        self._send = send
        self._responses = responses
        self._said = said
        self.has_begun = False
        """Whether the answer's first bytes are out."""

    async def send(self, message: Message) -> None:
        """`send`, in its place."""
        if message["type"] == "http.response.start":
            self.has_begun = True
            self._responses[message["status"]] += 1
            message = {**message, "headers": [*common(*self._said()), *message.get("headers", ())]}
        await self._send(message)


def secured(scope: Scope, send: Send) -> Send:
    """`send` that puts the security headers on an answer, and HSTS where the client came by TLS.

    TLS ends at the balancer, which says so in `X-Forwarded-Proto`. A client that says so without it deceives only
    itself.
    """
    headers = SECURITY_HEADERS
    if scope.get("scheme") == "https" or (b"x-forwarded-proto", b"https") in scope["headers"]:
        headers = (*headers, _HSTS)

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message.get("headers", ()))
            names = {name.lower() for name, _ in own}
            message = {**message, "headers": [*own, *(pair for pair in headers if pair[0] not in names)]}
        await send(message)

    return sent
