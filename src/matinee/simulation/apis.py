"""The two metadata APIs of a streaming service, `/movie/<id>` and `/user/<id>`, as badly behaved as one likes.

    with Apis(catalogue, viewers, Manners.bad(seed=1)) as apis:   # port=0 takes a free one
        ...                                                       # apis.item_url, apis.user_url: `metadata.*_url`

It runs in threads of the process that opens it, on loopback, until the block ends. What it does to a request
depends on the seed, the path, and how often that path was asked, and not on the order in which threads run.
"""

import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote
from zlib import crc32

from matinee.core.clock import Clock, SystemClock
from matinee.core.errors import ConfigurationError
from matinee.simulation.api_answers import Document, Knowledge
from matinee.simulation.catalogue import Catalogue
from matinee.simulation.viewers import Viewers

_REMEMBERED_PATHS = 1 << 16
_JSON, _HTML = "application/json", "text/html; charset=utf-8"
_PAGE = b"<!DOCTYPE html>\n<html><head><title>%d</title></head><body><h1>Something went wrong</h1></body></html>\n"


class Fault(StrEnum):
    """What may come instead of an answer."""

    BROKEN_JSON = "broken_json"
    """Status 200, and JSON that ends in the middle."""
    MESSAGE = "message"
    """Status 200, and `{"message": …}` that tells of a failure."""
    HTML = "html"
    """Status 200, and an HTML error page."""
    TOO_MANY = "too_many"
    """Status 429, without a word of when to come again."""
    RETRY_AFTER = "retry_after"
    """Status 429 with `Retry-After`."""
    SERVER_ERROR = "server_error"
    """Status 500, 502 or 503 with an HTML page."""
    HANG = "hang"
    """Silence."""
    TRICKLE = "trickle"
    """The right answer, its body a byte at a time."""
    DRIP = "drip"
    """The right answer, a byte at a time from its first header on."""
    CLOSED = "closed"
    """The connection is closed before an answer."""
    CUT = "cut"
    """The connection is closed in the middle of the body."""


@dataclass(frozen=True, slots=True)
class Manners:
    """How badly the APIs behave.

    Attributes:
        seed: of everything that is drawn.
        unknown: the share of ids that they do not know, though the service does; always the same ones.
        odd: the share of ids of which a value is missing or of another type; always the same ones.
        faults: the share of requests that each fault befalls.
        requests_per_second: more are answered 429 with `Retry-After: 1`; 0: no limit.
        retry_after: seconds that `Fault.RETRY_AFTER` names.
        hang_seconds: how long `Fault.HANG` lasts, after which the connection is closed.
        trickle_seconds: between the bytes of `Fault.TRICKLE` and `Fault.DRIP`.

    Raises:
        ConfigurationError: a share is not one, or the shares of faults add up to more than 1.
    """

    seed: int = 0
    unknown: float = 0.0
    odd: float = 0.0
    faults: Mapping[Fault, float] = field(default_factory=dict)
    requests_per_second: float = 0.0
    retry_after: int = 1
    hang_seconds: float = 60.0
    trickle_seconds: float = 0.2

    def __post_init__(self) -> None:
        for shares in ([self.unknown, self.odd], list(self.faults.values())):
            if min(shares, default=0) < 0 or sum(shares) > 1 + 1e-9:
                raise ConfigurationError(f"the APIs' manners: {shares} are not shares of one whole")

    @classmethod
    def bad(cls, seed: int = 0) -> Self:
        """What such APIs were seen to do, on a bad day: a tenth of the requests fail, in every way."""
        return cls(seed=seed, unknown=0.01, odd=0.05, faults=dict.fromkeys(Fault, 0.1 / len(Fault)))


class Apis:
    """The two APIs, served while the block lasts.

    Args:
        catalogue: the movies.
        viewers: the viewers.
        manners: how they behave; well, unless given.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        clock: times the rate limit.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        viewers: Viewers,
        manners: Manners | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self.manners = manners or Manners()
        self.clock = clock or SystemClock()
        of = self.manners
        knowledge = Knowledge(catalogue, viewers, seed=of.seed, unknown=of.unknown, odd=of.odd)
        self.answer_of = {"movie": knowledge.movie, "user": knowledge.user}
        self.stopping = threading.Event()
        self.answers: Counter[str] = Counter()
        """How many requests came to `found`, `unknown`, `limited`, or the value of a fault."""
        self._asked = [0] * _REMEMBERED_PATHS
        self._second = (0, 0)
        self._lock = threading.Lock()
        self._server = _Server((host, port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="apis")

    @property
    def url(self) -> str:
        """Where they are, `http://host:port`."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def item_url(self) -> str:
        """What `metadata.item_url` is for them."""
        return f"{self.url}/movie/{{id}}"

    @property
    def user_url(self) -> str:
        """What `metadata.user_url` is for them."""
        return f"{self.url}/user/{{id}}"

    @property
    def requests(self) -> int:
        """How many requests came."""
        with self._lock:
            return self.answers.total()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.close_connections()
        self._server.server_close()

    def count(self, what: str) -> None:
        """Note what a request came to."""
        with self._lock:
            self.answers[what] += 1

    def is_too_often(self) -> bool:
        """Whether a request that comes now is more than this second allows."""
        limit = self.manners.requests_per_second
        if not limit:
            return False
        now = int(self.clock.monotonic())
        with self._lock:
            second, came = self._second
            self._second = (now, came + 1 if second == now else 1)
            return self._second[1] > limit

    def draw(self, path: str) -> tuple[Fault | None, random.Random]:
        """What befalls this request, if anything, and where its further draws come from."""
        place = crc32(path.encode()) % _REMEMBERED_PATHS
        with self._lock:
            self._asked[place] += 1
            times = self._asked[place]
        drawing = random.Random(f"{self.manners.seed} {path} {times}")  # noqa: S311 - no secret
        left = drawing.random()
        for fault, share in self.manners.faults.items():
            left -= share
            if left < 0:
                return fault, drawing
        return None, drawing


class _Server(ThreadingHTTPServer):
    """A thread for each connection; all of them end with the server."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], apis: Apis) -> None:
        self.apis = apis
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Wake whoever waits for a client."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves in the middle is no news."""


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out one by one
    server: _Server

    def do_GET(self) -> None:
        """Answer, or not."""
        apis = self.server.apis
        if apis.is_too_often():
            apis.count("limited")
            self._send(429, b'{"message": "Too many requests"}', retry_after=1)
            return
        fault, drawing = apis.draw(self.path)
        document = self._find()
        apis.count(fault.value if fault else "unknown" if document is None else "found")
        if fault is not None:
            self._misbehave(fault, drawing, _encoded(document or {"message": "… not found"}))
        elif document is None:
            name, _, key = self.path.lstrip("/").partition("/")
            self._send(404, _encoded({"message": f"{name} '{unquote(key)}' not found"}))
        else:
            self._send(200, _encoded(document))

    def _find(self) -> Document | None:
        name, _, key = self.path.lstrip("/").partition("/")
        find = self.server.apis.answer_of.get(name)
        return find(unquote(key)) if find else None

    def _misbehave(self, fault: Fault, drawing: random.Random, body: bytes) -> None:
        manners = self.server.apis.manners
        if fault is Fault.BROKEN_JSON:
            self._send(200, body[: drawing.randrange(1, len(body))])
        elif fault is Fault.MESSAGE:
            self._send(200, b'{"message": "Internal error, please try again"}')
        elif fault is Fault.HTML:
            self._send(200, _PAGE % 200, kind=_HTML)
        elif fault is Fault.TOO_MANY:
            self._send(429, b"")
        elif fault is Fault.RETRY_AFTER:
            self._send(429, b"", retry_after=manners.retry_after)
        elif fault is Fault.SERVER_ERROR:
            status = drawing.choice((500, 502, 503))
            self._send(status, _PAGE % status, kind=_HTML)
        else:
            self._mistreat(fault, body)

    def _mistreat(self, fault: Fault, body: bytes) -> None:
        """What is done to the connection itself, which ends with it; `Fault.CLOSED` does no more than that."""
        manners, stopping = self.server.apis.manners, self.server.apis.stopping
        self.close_connection = True
        if fault is Fault.HANG:
            stopping.wait(manners.hang_seconds)
        elif fault is Fault.TRICKLE:
            self._head(200, len(body), _JSON)
            self._drip(body)
        elif fault is Fault.DRIP:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {_JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
            self._drip(head.encode() + body)
        elif fault is Fault.CUT:
            self._head(200, len(body), _JSON)
            self.wfile.write(body[: len(body) // 2])

    def _drip(self, data: bytes) -> None:
        apis = self.server.apis
        for byte in data:
            if apis.stopping.wait(apis.manners.trickle_seconds):
                return
            self.wfile.write(bytes((byte,)))

    def _send(self, status: int, body: bytes, *, kind: str = _JSON, retry_after: int | None = None) -> None:
        self._head(status, len(body), kind, retry_after)
        self.wfile.write(body)

    def _head(self, status: int, length: int, kind: str, retry_after: int | None = None) -> None:
        self.send_response_only(status, HTTPStatus(status).phrase)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()


def _encoded(document: Document) -> bytes:
    return json.dumps(document).encode()
