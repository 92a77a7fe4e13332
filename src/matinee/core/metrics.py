"""A `/metrics` endpoint on loopback for processes that have no HTTP service of their own."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

from matinee.core.errors import ConfigurationError


@contextmanager
def exposed(collector: Collector, port: int, *, setting: str) -> Iterator[None]:
    """Serve what a collector collects on a loopback port while the block lasts; 0: do not.

    Args:
        collector: asked at each request, in a thread of its own.
        port: to listen on.
        setting: that names the port, for the message.

    Raises:
        ConfigurationError: somebody listens there.
    """
    if not port:
        yield
        return
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, "127.0.0.1", registry)
    except OSError as error:
        raise ConfigurationError(
            f"{setting}: 127.0.0.1:{port} cannot be listened on: {error.strerror}",
            remedy=f"Stop what listens there, or set {setting}.",
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
