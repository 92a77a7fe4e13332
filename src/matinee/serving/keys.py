"""Who may ask what: API keys, checked in memory, reloaded while the service runs.

    guard = Guard(home.data / KEYS, clock, everywhere=settings.serving.require_key_everywhere)
    guard.start()                                    # and .stop(): looks for changed keys twice a second
    key: Annotated[ApiKey, Depends(guard.require(Scope.WRITE))]      # a route of the API
    if (refused := guard.refusal(scope)): ...        # the plain endpoints, before they answer

The API and its documentation always want a key. The plain `/recommend/<user>` and the health endpoints want one
(scope read) only where `everywhere` is set, and `/metrics` always; except that health and metrics are open to
whoever asks from this machine itself, which is how a balancer and a Prometheus beside the server ask. A request
that a proxy passed on says so (`X-Forwarded-For`, `Forwarded`) and is not from this machine, whatever its
connection says.
"""

import binascii
import hmac
from base64 import b64decode
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope as AsgiScope

from matinee.core.clock import Clock
from matinee.core.errors import MatineeError
from matinee.core.followed import Followed
from matinee.core.logging import get_logger
from matinee.serving.background import Background
from matinee.serving.key_file import TOKEN, ApiKey, Scope, hash_token, read_keys
from matinee.serving.metrics import Family, counter, gauge, labelled_counter

LOOK_SECONDS = 0.25
"""Between two looks at the file: a revoked key is refused within a second."""
_HEALTH = frozenset({"/healthz", "/readyz"})
_METRICS = "/metrics"
_PASSED_ON = frozenset({b"x-forwarded-for", b"forwarded"})
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="matinee"'}
_PROMPT = {"WWW-Authenticate": 'Basic realm="matinee", charset="UTF-8"'}
"""Makes a browser ask for a name and a password."""
_KEY = "matinee.key"
"""Where an ASGI scope holds the key that the request was let in with."""
_REMEDY = (
    "Send `Authorization: Bearer <key>` or `X-Api-Key: <key>`; an operator makes one with `matinee keys create`."
)
_IN_A_BROWSER = "In a browser, give any name, and the key as the password."
_log = get_logger(__name__)


class Refusal(NamedTuple):
    """Why a request is not let in.

    Attributes:
        status: 401 without a good key, 403 where its scope does not suffice, 503 where the keys cannot be read.
        detail: a sentence for the client. It never holds what the client sent.
        headers: that belong to the status.
    """

    status: int
    detail: str
    headers: dict[str, str]


_Checked = tuple[str, ApiKey | Refusal]
"""The reason of a refusal, empty where there is none."""


class Guard:
    """Knows the keys, and says whether a request has one that suffices.

    `look` reads the file where it changed. One that cannot be read leaves the keys before in place, is logged and
    counted. One that is gone means that there are no keys.

    Args:
        path: the file of keys.
        clock: says when a key or a secret has ended.
        everywhere: whether the plain recommendation and health endpoints want a key too.
    """

    def __init__(self, path: Path, clock: Clock, *, everywhere: bool = False) -> None:
        self.everywhere = everywhere
        self.refused: Counter[str] = Counter()
        """Requests refused, by reason: `missing`, `unknown`, `expired`, `scope`, `unreadable`."""
        self.reloads_failed = 0
        self._file = Followed(path)
        self._clock = clock
        self._keys: dict[str, ApiKey] | None = None
        self._background = Background("keys", self.look, LOOK_SECONDS)
        self.look()

    def start(self) -> None:
        """Follow the file. Once only."""
        self._background.start()

    def stop(self) -> None:
        """Follow it no more."""
        self._background.stop(1.0)

    def look(self) -> None:
        """Read the file if it changed. Nothing that it holds raises."""
        if not self._file.has_changed():
            return
        try:
            keys = read_keys(self._file.path)
        except (MatineeError, OSError) as error:
            if isinstance(error, OSError):
                self._file.forget()
            self.reloads_failed += 1
            _log.error("keys_not_read", error=str(error), kept=len(self._keys or ()))
            return
        self._keys = {key.id: key for key in keys}
        _log.info("keys_read", keys=len(keys))

    def require(self, needed: Scope) -> Callable[..., Awaitable[ApiKey]]:
        """A dependency of FastAPI: the request's key, whose scope suffices; `HTTPException` where there is none."""
        from fastapi import Security  # noqa: PLC0415 - only the API needs it, and it is slow to import
        from fastapi.security import APIKeyHeader, HTTPBearer  # noqa: PLC0415

        # These two only describe the headers in the OpenAPI document; what they say is looked at here.
        bearer = Security(HTTPBearer(auto_error=False, scheme_name="bearer", description=_REMEDY))
        header = Security(APIKeyHeader(name="X-Api-Key", auto_error=False, scheme_name="header"))

        async def required(request: Request, _bearer: object = bearer, _header: object = header) -> ApiKey:
            found = self.admit(request.scope, needed)
            if isinstance(found, Refusal):
                raise HTTPException(found.status, found.detail, found.headers)
            return found

        return required

    def refusal(self, scope: AsgiScope) -> Refusal | None:
        """Why a plain endpoint must not answer this request; nothing where it may."""
        path = scope["path"]
        if path != _METRICS and not self.everywhere:
            return None
        if (path == _METRICS or path in _HEALTH) and _is_from_here(scope):
            return None
        found = self.check(scope["headers"], Scope.READ)
        return found if isinstance(found, Refusal) else None

    def admit(self, scope: AsgiScope, needed: Scope) -> ApiKey | Refusal:
        """As `check`, but the key itself is looked at once for each request, however often this is asked."""
        key = scope.get(_KEY)
        found = self.check(scope["headers"], needed) if key is None else self._told(self._within(key, needed))
        if not isinstance(found, Refusal):
            scope[_KEY] = found
        return found

    def admit_page(self, scope: AsgiScope) -> ApiKey | Refusal:
        """As `admit` with scope read, for a page: a browser sends no key, but a password that it asked for."""
        found = self.check([*scope["headers"], *_password(scope["headers"])], Scope.READ)
        if isinstance(found, Refusal) and found.status == 401:
            return Refusal(401, f"{found.detail} {_IN_A_BROWSER}", _PROMPT)
        return found

    def check(self, headers: Iterable[tuple[bytes, bytes]], needed: Scope) -> ApiKey | Refusal:
        """The key that the headers carry, if its scope suffices."""
        return self._told(self._check(headers, needed))

    def _told(self, checked: _Checked) -> ApiKey | Refusal:
        reason, answer = checked
        if reason:
            self.refused[reason] += 1
        return answer

    def families(self) -> list[Family]:
        """What `/metrics` shows of the keys."""
        return [
            self._refused,
            lambda: counter("matinee_keys_reload_failed", "Key files that could not be read.", self.reloads_failed),
            lambda: gauge("matinee_keys", "API keys that are neither revoked nor expired.", self._valid()),
        ]

    def _check(self, headers: Iterable[tuple[bytes, bytes]], needed: Scope) -> _Checked:
        token = _token(headers)
        if token is None:
            return "missing", Refusal(401, f"There is no API key in this request. {_REMEDY}", _CHALLENGE)
        if self._keys is None:
            detail = "The API keys cannot be read on this server; its log says why."
            return "unreadable", Refusal(503, detail, {"Retry-After": "1"})
        match = TOKEN.fullmatch(token)
        key = self._keys.get(match[1]) if match else None
        now_us = self._clock.now_us()
        if key is None or not _matches(key, token, now_us):
            detail = f"This API key is not known here, or was revoked or replaced. {_REMEDY}"
            return "unknown", Refusal(401, detail, _CHALLENGE)
        if not key.is_valid(now_us):
            detail = f"The API key {key.id} has expired. {_REMEDY}"
            return "expired", Refusal(401, detail, _CHALLENGE)
        return self._within(key, needed)

    def _within(self, key: ApiKey, needed: Scope) -> _Checked:
        if not key.scope.allows(needed):
            detail = f"The API key {key.id} has scope {key.scope}; this needs {needed}."
            return "scope", Refusal(403, detail, {})
        return "", key

    def _refused(self) -> Metric:
        counts = [((reason,), float(n)) for reason, n in list(self.refused.items())]
        return labelled_counter(
            "matinee_keys_refused", "Requests without a key that suffices.", ("reason",), counts
        )

    def _valid(self) -> float:
        now_us = self._clock.now_us()
        return float(sum(key.is_valid(now_us) for key in (self._keys or {}).values()))


def _token(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key in the headers: of `Authorization` if it is of the kind Bearer, else of `X-Api-Key`."""
    given: str | None = None
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip().decode("latin-1")
        if name == b"x-api-key":
            given = value.strip().decode("latin-1")
    return given


def _password(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The password of HTTP's Basic authentication (RFC 7617), as the header that carries a key."""
    for name, value in headers:
        if name == b"authorization" and value[:6].lower() == b"basic ":
            try:
                return [(b"x-api-key", b64decode(value[6:].strip(), validate=True).partition(b":")[2])]
            except binascii.Error:
                return []
    return []


def _matches(key: ApiKey, token: str, now_us: int) -> bool:
    """Whether the token is one of the key's, in time that tells nothing of how much of it is right."""
    found = hash_token(token)
    good = [
        hmac.compare_digest(secret.sha256, found)
        for secret in key.secrets
        if secret.until_us is None or now_us < secret.until_us
    ]
    return any(good)


def _is_from_here(scope: AsgiScope) -> bool:
    if any(name in _PASSED_ON for name, _ in scope["headers"]):
        return False
    client = scope.get("client")
    if client is None:  # a socket of the file system
        return True
    try:
        address = ip_address(client[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
