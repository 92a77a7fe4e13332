"""Asking a metadata API: at a steady pace, each answer within a time limit, and not at all while it is away."""

import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from math import inf
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from anyio import fail_after
from anyio.from_thread import BlockingPortal, start_blocking_portal

from matinee import __version__
from matinee.core.breaker import Breaker, State
from matinee.core.clock import SECOND, Clock
from matinee.core.errors import StoreUnavailable
from matinee.core.settings import MetadataSettings
from matinee.ingest.metadata_reading import Kind, Reading, Reason, Unreadable, read_answer

PAUSES = (1.0, 300.0)
"""Seconds for which an API that failed too often is left alone: the first time, and at most."""
BUSY_SECONDS = 1.0
"""The pause after 429 where the API does not say how long it is to be."""
LONGEST_PAUSE_SECONDS = 3_600.0
"""However long it asks for."""
LARGEST_ANSWER = 1_000_000
"""Bytes."""
_PLAIN_IN_PATH = "!$&'()*+,;:@=~"
_STEP_SECONDS = 0.1


class Failure(StrEnum):
    """Why no answer came."""

    CONNECTION = "connection"
    """Refused, reset, or closed in the middle."""
    TIMEOUT = "timeout"
    """Silence, or an answer too slow, whatever part of it."""
    TOO_LARGE = "too_large"
    ENCODING = "encoding"
    """Compressed, and damaged."""
    BUSY = "too_many_requests"
    """Status 429."""
    SERVER = "http_5xx"
    REFUSED = "http_4xx"
    """Another status of the client's, 404 without a JSON message among them."""
    ODD_STATUS = "http_other"
    """A redirect, say: none is followed."""


class NoAnswer(StoreUnavailable):
    """The API did not answer, or not with what can be read."""

    def __init__(self, url: str, why: Failure | Reason, detail: str) -> None:
        super().__init__(
            f"{url}: {why}: {detail}", remedy="It is asked again by itself; docs/metadata.md tells why."
        )
        self.why = why


class Pace:
    """Evenly spaced turns, for any number of threads.

    Args:
        per_second: turns.
        clock: to wait by.
        stopping: set by whoever wants waiting to end.
    """

    def __init__(self, per_second: float, clock: Clock, stopping: threading.Event) -> None:
        self._gap = 1 / per_second
        self._clock = clock
        self._stopping = stopping
        self._next = -inf
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Wait for a turn; false where it is not to be taken, since an end was asked for."""
        with self._lock:
            turn = max(self._next, self._clock.monotonic())
            self._next = turn + self._gap
        while not self._stopping.is_set() and (left := turn - self._clock.monotonic()) > 0:
            self._clock.sleep(min(left, _STEP_SECONDS))
        return not self._stopping.is_set()


@dataclass(frozen=True, slots=True)
class Http:
    """What the APIs are asked with.

    Attributes:
        client: keeps connections.
        portal: runs what the client does in an event loop, on behalf of any thread. There a request can be ended
            whatever it waits for; the time limit of a socket begins again with each byte.
    """

    client: httpx.AsyncClient
    portal: BlockingPortal


class Api:
    """One of the two APIs. Any thread may ask.

    Args:
        kind: what it describes.
        url: with `{id}` in it.
        http: asks.
        timeout_seconds: for a whole request, from looking for the host to the last byte of the body.
        pace: shared with the other API.
        clock: times pauses.
    """

    def __init__(
        self, kind: Kind, url: str, http: Http, *, timeout_seconds: float, pace: Pace, clock: Clock
    ) -> None:
        self.kind = kind
        self.name = shown(url)
        self._url = url
        self._http = http
        self._timeout = timeout_seconds
        self._pace = pace
        self._clock = clock
        self._breaker = Breaker(f"metadata_{kind}", clock, pauses=PAUSES)
        self._paused_until = -inf
        self._failing_since: float | None = None

    @property
    def is_away(self) -> bool:
        """Whether it failed so often that it is left alone just now."""
        return self._breaker.state is State.OPEN

    @property
    def may_be_asked(self) -> bool:
        """Whether it is neither away nor asked for a pause."""
        return not self.is_away and self._clock.monotonic() >= self._paused_until

    @property
    def failing_seconds(self) -> float:
        """For how long nothing but failures has come; 0 while all is well."""
        since = self._failing_since
        return 0.0 if since is None else self._clock.monotonic() - since

    def ask(self, key: str) -> Reading | None:
        """What it says of an id; nothing where it was not asked, since it is away or an end was asked for.

        Raises:
            NoAnswer: it did not answer; the reason tells whether that is the id's fault.
        """
        if not (self.may_be_asked and self._pace.take() and self.may_be_asked):
            return None
        called: list[None] = []

        def body() -> Reading:
            called.append(None)
            return self._ask(key)

        try:
            found = self._breaker.call(body, slow_seconds=inf)
        except StoreUnavailable:
            if not called:
                return None  # half open, and another thread tries
            if self._failing_since is None:
                self._failing_since = self._clock.monotonic()
            raise
        self._failing_since = None
        return found

    def _ask(self, key: str) -> Reading:
        try:
            url = self._url.replace("{id}", quote(key, safe=_PLAIN_IN_PATH))
            status, headers, body = self._http.portal.call(self._fetch, url)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise NoAnswer(self.name, Failure.TIMEOUT, f"no whole answer in {self._timeout:g} s") from error
        except httpx.DecodingError as error:
            raise NoAnswer(self.name, Failure.ENCODING, str(error)) from error
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError) as error:
            raise NoAnswer(self.name, Failure.CONNECTION, f"{type(error).__name__}: {error}") from error
        if status in {429, 503}:
            self._pause(headers.get("retry-after", ""), at_least=BUSY_SECONDS if status == 429 else 0.0)
        if not (200 <= status < 300 or status == 404):
            raise NoAnswer(self.name, _of_status(status), f"status {status}")
        return self._read(key, status, body)

    def _read(self, key: str, status: int, body: bytes) -> Reading:
        """A page for people stands for a service that is away; broken JSON may be of this one id."""
        reading = read_answer(self.kind, key, body)
        if isinstance(reading, Unreadable):
            if status == 404:
                raise NoAnswer(self.name, Failure.REFUSED, "status 404 without a message that the id was not found")
            if reading.reason is Reason.HTML:
                raise NoAnswer(self.name, Reason.HTML, f"status {status} with an HTML page")
        return reading

    async def _fetch(self, url: str) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and body of an answer that came whole within the time limit."""
        body = bytearray()
        async with (
            _cut_off_after(self._timeout) as extensions,
            self._http.client.stream("GET", url, extensions=extensions) as response,
        ):
            async for part in response.aiter_bytes():
                body += part
                if len(body) > LARGEST_ANSWER:
                    raise NoAnswer(self.name, Failure.TOO_LARGE, f"more than {LARGEST_ANSWER:,} bytes")
        return response.status_code, response.headers, bytes(body)

    def _pause(self, asked_for: str, *, at_least: float) -> None:
        seconds = min(max(_retry_after(asked_for, self._clock.now_us), at_least), LONGEST_PAUSE_SECONDS)
        self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)


@contextmanager
def http_client(connections: int, transport: httpx.AsyncBaseTransport | None = None) -> Iterator[Http]:
    """What the APIs are asked with. Redirects are not followed.

    Args:
        connections: at once.
        transport: instead of sockets.
    """
    # It would write a line for each request, with the URL: ids of users, and perhaps a key.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    client = httpx.AsyncClient(
        timeout=None,  # noqa: S113 - `Api` limits the whole of a request
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        headers={
            "User-Agent": f"matinee/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        },
        transport=transport,
    )
    with start_blocking_portal(name="metadata_http") as portal, portal.wrap_async_context_manager(client):
        yield Http(client, portal)


@asynccontextmanager
async def _cut_off_after(seconds: float) -> AsyncIterator[dict[str, Any]]:
    """Ends a request that takes longer, with `TimeoutError`; yields what the request is to be made with."""
    opened = []

    async def note(event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            opened.append(info["return_value"])

    try:
        with fail_after(seconds):
            yield {"trace": note}
    except TimeoutError:
        for stream in opened:  # httpcore would leave it open where it was cut off in a TLS handshake
            await stream.aclose()
        raise


def ask_once(settings: MetadataSettings, clock: Clock, kind: Kind, key: str) -> Reading:
    """What an API says of one id.

    Raises:
        NoAnswer: it did not answer, or not with what can be read.
    """
    url = settings.item_url if kind == "item" else settings.user_url
    pace = Pace(settings.requests_per_second, clock, threading.Event())
    with http_client(1) as http:
        api = Api(kind, url, http, timeout_seconds=settings.timeout_seconds, pace=pace, clock=clock)
        reading = api.ask(key)
    assert reading is not None, "a first request is never held back"
    return reading


def shown(url: str) -> str:
    """A URL as people and logs may see it: without a password or a query, which may hold a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _of_status(status: int) -> Failure:
    if status == 429:
        return Failure.BUSY
    if 500 <= status < 600:
        return Failure.SERVER
    return Failure.REFUSED if 400 <= status < 500 else Failure.ODD_STATUS


def _retry_after(text: str, now_us: Callable[[], int]) -> float:
    """Seconds that a `Retry-After` asks for, be it a number or a date; 0 where it says nothing that can be read."""
    try:
        return max(0.0, min(int(text), LONGEST_PAUSE_SECONDS))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_us() / SECOND)
    except (ValueError, TypeError, OverflowError):
        return 0.0
