"""The servers that `serving.py` measures: each a Granian worker of its own, with the same options, on one core."""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from matinee.core.home import Home
from matinee.core.logging import configure_logging
from matinee.core.settings import LoggingSettings, ServingSettings, Settings
from matinee.serving.app import create_app
from matinee.serving.headers import SECURITY_HEADERS
from matinee.serving.limits import granian_settings
from matinee.serving.server import SWITCH_SECONDS, require_free, run_app
from serving_home import CLOCK, ITEMS

DIVERSITY = 0.3
SETTINGS: dict[str, dict[str, Any]] = {
    "matinee": {},
    "quiet": {},
    "reranking": {"diversity": DIVERSITY},
    "quiet_reranking": {"diversity": DIVERSITY},
    "uncached": {"fold_in_cache_megabytes": 0},
}
"""What each variant of matinee sets; the quiet ones record no answers."""
QUIET = {"matinee": "quiet", "reranking": "quiet_reranking"}
"""The same without telemetry."""
LOG_ROLE = "serve"
"""Names the file that the servers of a home log to, as `matinee serve` does."""
CONSTANTS = ("constant", "starlette")
"""The same answer, made beforehand, from a bare ASGI function, and from a Starlette route."""


def application(variant: str, home: Home) -> Any:
    """The ASGI application of a variant."""
    if variant in CONSTANTS:
        body = ",".join(ITEMS[:20]).encode()
        return constant_route(body) if variant == "starlette" else constant_function(body)
    app = create_app(Settings(home=home.path, serving=ServingSettings(**SETTINGS[variant])), home, CLOCK)
    if variant in QUIET.values():
        app.service.telemetry.offer = lambda _: None  # type: ignore[method-assign]
    return app


def constant_route(body: bytes) -> Any:
    """A Starlette application with one route that answers a constant."""
    headers = {name.decode(): value.decode() for name, value in _headers(body)}

    async def endpoint(_: Request) -> Response:
        return Response(body, headers=headers)

    return Starlette(routes=[Route("/recommend/{user}", endpoint), Route("/readyz", endpoint)])


def constant_function(body: bytes) -> Any:
    """The least that Granian can be asked to do in ASGI."""
    headers = _headers(body)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _headers(body: bytes) -> list[tuple[bytes, bytes]]:
    """What matinee sends with every answer: the constant is to be the same bytes on the wire."""
    return [
        (b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body)),
        (b"x-request-id", b"0" * 32), (b"x-model-version", b"20261126T125645Z-als-00000000"),
        (b"x-matinee-step", b"personal"), *SECURITY_HEADERS,
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """A server that is up."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time so far of all its threads, and of the processes that wrote and write its telemetry."""
        while True:
            try:
                children = Path(f"/proc/{self.pid}/task").glob("*/children")
                alive = [int(pid) for path in children for pid in path.read_text().split()]
                # Its own and that of the children that have ended; then that of those that have not.
                ticks = sum(_ticks(self.pid)) + sum(sum(_ticks(pid)[:2]) for pid in alive)
            except FileNotFoundError:  # one ended just now
                continue
            return ticks / os.sysconf("SC_CLK_TCK")

    def to_real_time(self) -> None:
        """Let its present threads go before all other programs; the writer of its telemetry stays behind.

        Fails without the privilege.
        """
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK  # what it starts later does not inherit it
            try:
                os.sched_setscheduler(int(task.name), policy, os.sched_param(1))
            except PermissionError as error:
                raise SystemExit("real-time priority takes a privilege: run as root, or without it") from error

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        return self.metrics([name])[0]

    def metrics(self, names: Sequence[str]) -> list[float]:
        """The values of several, of one page."""
        page = httpx.get(f"http://127.0.0.1:{self.port}/metrics").text
        values = dict(line.rsplit(" ", 1) for line in page.splitlines())
        return [float(values[name]) for name in names]

    def step(self, path: str) -> str:
        """The step of the fallback chain that answers a path."""
        answer = httpx.get(f"http://127.0.0.1:{self.port}{path}")
        return answer.headers["x-matinee-step"] if answer.status_code == 200 else f"status {answer.status_code}"


def _ticks(pid: int) -> list[int]:
    """Of a process, in user and system mode, its own; then the same of its children that have ended."""
    return [int(field) for field in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]]


@contextmanager
def running(variant: str, home: Home, core: int) -> Iterator[Target]:
    """A server of that variant in a process held to one core, its telemetry's writer too; ended with the block."""
    port = require_free("127.0.0.1", 0)
    main = Path(__file__).with_name("serving.py")
    options = ["--serve", variant, "--home", str(home.path), "--port", str(port), "--core", str(core)]
    process = subprocess.Popen([sys.executable, str(main), *options], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while not _is_ready(port):
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"the server {variant} did not become ready")
            time.sleep(0.1)
        target = Target(port, process.pid)
        while variant in SETTINGS and not target.metric("matinee_history_open"):
            if time.monotonic() > end:
                raise SystemExit(f"the server {variant} did not open the history")
            time.sleep(0.1)
        yield target
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def run_variant(variant: str, home: Home, port: int, core: int) -> None:
    """What a server process does; as `matinee serve`, without a drain at the end."""
    os.sched_setaffinity(0, {core})
    configure_logging(LOG_ROLE, home.logs, LoggingSettings())
    sys.setswitchinterval(SWITCH_SECONDS)
    http1 = granian_settings(ServingSettings())
    app = application(variant, home)
    gc.collect()
    gc.freeze()
    uvloop.run(run_app(app, "127.0.0.1", port, http1=http1))
