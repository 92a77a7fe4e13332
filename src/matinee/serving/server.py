"""`serve`: one Granian worker in this process, from start to a graceful end."""

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from ipaddress import ip_address

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server

from matinee.core.clock import Clock, SystemClock
from matinee.core.errors import ConfigurationError, StoreUnavailable
from matinee.core.home import Home
from matinee.core.logging import get_logger
from matinee.core.settings import Settings

BACKLOG = 1_024
MAX_CONNECTIONS = 4_096
"""Connections served at once; further ones wait in the backlog."""
SWITCH_SECONDS = 0.000_5
"""How long a background thread may keep the interpreter from the event loop: a tenth of Python's default."""

_log = get_logger(__name__)
_QUIET = {"version": 1, "incremental": True, "formatters": {}, "handlers": {}, "loggers": {}}


def serve(settings: Settings, home: Home, *, clock: Clock | None = None) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish what was begun, write telemetry, and return.

    The program's log is where `core/logging.py` was told to send it. Requests are not logged one by one: the event
    log holds every answer.

    Args:
        settings: `serving.host` and `serving.port` are where it listens; port 0 takes a free one and logs it.
        home: the home to serve from.
        clock: the machine's where none is given.

    Raises:
        ConfigurationError: the address cannot be listened on; the message says why.
        StoreUnavailable: the server stopped without being told to.
    """
    # Before NumPy is imported: an answer is small, and a unit has one core.
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from matinee.serving.app import create_app  # noqa: PLC0415
    from matinee.serving.limits import granian_settings  # noqa: PLC0415

    port = require_free(settings.serving.host, settings.serving.port)
    _allow_connections()
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        app = create_app(settings, home, clock or SystemClock())
        app.service.crashes.start()
        gc.collect()
        gc.freeze()  # what start-up made stays for good: no collection need walk through it again
        uvloop.run(
            run_app(
                app,
                settings.serving.host,
                port,
                http1=granian_settings(settings.serving),
                drain=app.drain,
                drain_seconds=settings.serving.drain_seconds,
            )
        )
        app.service.crashes.stop()
    finally:
        sys.setswitchinterval(before)


async def run_app(
    app: object,
    host: str,
    port: int,
    *,
    http1: HTTP1Settings | None = None,
    drain: Callable[[], None] = lambda: None,
    drain_seconds: float = 0,
) -> None:
    """Answer with one Granian worker in this event loop until SIGTERM or SIGINT; otherwise as `serve`.

    Args:
        app: the ASGI application.
        host: address to listen on.
        port: port to listen on.
        http1: what Granian is told of HTTP/1.
        drain: called with the first signal.
        drain_seconds: how long to go on answering after it; a second signal ends that.
    """
    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        http1_settings=http1,
        websockets=False,
        backlog=BACKLOG,
        backpressure=MAX_CONNECTIONS,
        log_access=False,
        log_level=LogLevels.error,
        log_dictconfig=dict(_QUIET, loggers={}),
    )
    told: list[str] = []
    loop = asyncio.get_running_loop()

    def stop(name: str) -> None:
        told.append(name)
        drain()
        _log.info("draining", signal=name, seconds=drain_seconds)
        loop.call_later(drain_seconds if len(told) == 1 else 0, server.stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    _log.info("listening", url=f"http://{_bracketed(host)}:{port}", pid=os.getpid())
    try:
        await server.serve()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    if not told:
        raise StoreUnavailable("the HTTP server ended by itself", remedy="Its log is logs/serve.jsonl in the home.")
    _log.info("stopped", signal=told[0])


def require_free(host: str, port: int) -> int:
    """The port if nobody listens there, or a free one for 0.

    Granian shares a port that another server has (SO_REUSEPORT), which would hide the mistake.

    Raises:
        ConfigurationError: the port is taken, or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {_bracketed(host)}:{port}: {error.strerror or error}",
            remedy="Stop what listens there, or set serving.host and serving.port (`matinee serve --port`).",
        ) from error


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ip_address(host).version == 6 else host
    except ValueError:
        return host


def _allow_connections() -> None:
    """Raise the soft limit of open files as far as the connections need and the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + 1_024
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
