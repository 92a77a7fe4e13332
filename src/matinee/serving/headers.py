"""Security headers: what a browser must not do with an answer.

An answer that sets one of them itself keeps its own: `/docs` has a policy that lets Swagger UI run.
"""

from starlette.types import Message, Scope, Send

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
"""On every answer: it is what it says it is, runs nothing, tells nobody where it was read, and is kept nowhere."""
_HSTS = (b"strict-transport-security", b"max-age=31536000")


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
