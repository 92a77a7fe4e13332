"""What the generated files are made from: servers, the balancer before them, and a pair of balancers."""

import os
import resource
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from pathlib import Path

from matinee.core.errors import ConfigurationError, InvalidInput
from matinee.core.home import Home
from matinee.core.settings import ServingSettings, SimulationSettings, UpSettings

SERVER_CONNECTIONS = 384
"""Requests that the balancer lets one server have at once; further ones wait at the balancer.

As many as a server answers while a check of its health waits, whatever is asked, and enough for it to see that it
is behind: it sheds what takes more than `serving.shed_late_ms` for all of them together.
"""
CROWD = 16
"""Requests under way for each server from which on one that is late is taken to be busy, not lost."""
BODY_BYTES = ServingSettings().max_body_bytes
_OTHER_FILES = 256
_LONGEST_SOCKET = 90
"""A socket's path may have 107 bytes, and HAProxy appends its process id and a suffix while it makes it."""


@dataclass(frozen=True, slots=True)
class Server:
    """One process that answers, and one entry of the balancer."""

    name: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        return address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Balancer:
    """One HAProxy.

    Args:
        host: address it listens on; `*` for all.
        port: port it listens on.
        servers: what it sends requests to.
        stats_port: loopback port of statistics, metrics and `/alive`.
        socket: the Unix socket of its administration.
        connections: clients' connections open at once.
        client_requests_per_second: of one address, over ten seconds; 0: no limit.
        tls_certificate: certificate chain and key in one PEM file; plain HTTP without.
        user: the system user and group to change to after binding; empty: none.
        body_bytes: of a request that says how long its body is; a longer one is refused unread.
    """

    host: str
    port: int
    servers: tuple[Server, ...]
    stats_port: int
    socket: Path
    connections: int
    client_requests_per_second: int
    tls_certificate: Path | None = None
    user: str = ""
    body_bytes: int = BODY_BYTES

    @property
    def address(self) -> str:
        """`host:port`."""
        return address(self.host, self.port)

    @property
    def url(self) -> str:
        """Where people on this machine ask."""
        host = "127.0.0.1" if self.host == "*" else self.host
        return f"{'https' if self.tls_certificate else 'http'}://{address(host, self.port)}"


@dataclass(frozen=True, slots=True)
class World:
    """A simulated streaming service before the balancer.

    Args:
        url: whom its viewers ask.
        movies: in its catalogue.
        apis_port: loopback port of its two APIs that describe movies and viewers.
    """

    url: str
    movies: int
    apis_port: int

    @property
    def apis(self) -> dict[str, str]:
        """Environment variables that tell `matinee metadata` of its APIs."""
        base = f"http://127.0.0.1:{self.apis_port}"
        return {
            "MATINEE_METADATA__ITEM_URL": f"{base}/movie/{{id}}",
            "MATINEE_METADATA__USER_URL": f"{base}/user/{{id}}",
        }


@dataclass(frozen=True, slots=True)
class Pair:
    """Two machines with a balancer each, and the address that one of them holds at a time.

    Args:
        balancers: the addresses of the two machines, the preferred one first.
        virtual: the shared address with its network's length, `192.0.2.10/24`.
        interface: the network interface that holds it, the same name on both.
        router_id: 1 to 255, unique among the VRRP routers of the network.
    """

    balancers: tuple[str, str]
    virtual: str
    interface: str
    router_id: int = 51

    def __post_init__(self) -> None:
        try:
            one, other = (ip_address(host) for host in self.balancers)
            shared = ip_interface(self.virtual)
        except ValueError as error:
            raise InvalidInput(
                f"a pair of balancers: {error}",
                remedy="Give addresses such as 192.0.2.11, and 192.0.2.10/24 to share.",
            ) from error
        if len({one, other, shared.ip}) < 3 or len({one.version, other.version, shared.version}) > 1:
            raise InvalidInput(
                f"a pair of balancers: {one}, {other} and {shared} are not three addresses of one kind",
                remedy="Each balancer has an address of its own, and the shared one is a third.",
            )
        if not 1 <= self.router_id <= 255:
            raise InvalidInput(f"a VRRP router id is 1 to 255, not {self.router_id}", remedy="Choose a free one.")


def address(host: str, port: int) -> str:
    """`host:port`, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def servers_of(up: UpSettings) -> tuple[Server, ...]:
    """The servers of one machine, on loopback, on ports in a row; free ones where the first port is 0."""
    ports = free_ports(up.replicas) if up.server_port == 0 else range(up.server_port, up.server_port + up.replicas)
    return tuple(Server(f"server{number}", "127.0.0.1", port) for number, port in enumerate(ports, 1))


def balancer_of(
    up: UpSettings, home: Home, servers: tuple[Server, ...], *, body_bytes: int = BODY_BYTES
) -> Balancer:
    """The balancer of one machine.

    Raises:
        ConfigurationError: the certificate is missing, or the home's path is too long for a socket.
    """
    if up.tls_certificate is not None and not os.access(up.tls_certificate, os.R_OK):
        raise ConfigurationError(
            f"up.tls_certificate: {up.tls_certificate} cannot be read",
            remedy="Name a PEM file with the certificate, its chain and the key.",
        )
    return Balancer(
        host=up.host,
        port=up.port,
        servers=servers,
        stats_port=up.stats_port or free_ports(1)[0],
        socket=socket_in(home, "haproxy"),
        connections=_affordable(up.connections, len(servers)),
        client_requests_per_second=up.client_requests_per_second,
        tls_certificate=up.tls_certificate.absolute() if up.tls_certificate else None,
        body_bytes=body_bytes,
    )


def world_of(simulation: SimulationSettings, url: str) -> World | None:
    """The world that asks at a URL, if the settings want one."""
    if not simulation.viewers:
        return None
    movies = simulation.movies or min(27_000, max(300, simulation.viewers * 27 // 1_000))
    return World(url, movies, simulation.apis_port or free_ports(1)[0])


def socket_in(home: Home, name: str) -> Path:
    """The path of a Unix socket in the home.

    Raises:
        ConfigurationError: it is longer than the system allows.
    """
    path = home.run / f"{name}.sock"
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise ConfigurationError(
            f"{path} is too long for a Unix socket: {len(os.fsencode(path))} bytes, at most {_LONGEST_SOCKET}",
            remedy="Choose a home with a shorter path, with --home or MATINEE_HOME.",
        )
    return path


def free_ports(count: int) -> list[int]:
    """So many different loopback ports that nobody listens on now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _affordable(connections: int, servers: int) -> int:
    """As many clients as the limit of open files leaves: one file each, beside the connections to servers."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return connections
    return max(64, min(connections, hard - servers * SERVER_CONNECTIONS - _OTHER_FILES))
