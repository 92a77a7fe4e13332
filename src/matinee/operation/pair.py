"""Two balancers behind one address: every file that the two machines need, from the same templates."""

from pathlib import Path

from matinee.core.errors import InvalidInput
from matinee.core.settings import UpSettings
from matinee.operation import haproxy
from matinee.operation.layout import BODY_BYTES, Balancer, Pair, Server
from matinee.operation.templates import render

PRIORITIES = (110, 100)
CHECK = Path("/etc/keepalived/check-balancer")


def parse_server(text: str) -> Server:
    """A server from `name=host:port`.

    Raises:
        InvalidInput: it is not of that form.
    """
    name, _, where = text.partition("=")
    host, _, port = where.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (name.isidentifier() and host and port.isdecimal() and 0 < int(port) < 65_536):
        raise InvalidInput(
            f"{text!r} is not a server", remedy="Write name=host:port, as in server1=192.0.2.21:8082."
        )
    return Server(name, host, int(port))


def shared_balancer(up: UpSettings, servers: tuple[Server, ...], *, body_bytes: int = BODY_BYTES) -> Balancer:
    """The balancer that runs on both machines, where Debian's package of HAProxy expects things."""
    return Balancer(
        host="*",  # the shared address is on one of the machines at a time
        port=up.port,
        servers=servers,
        stats_port=up.stats_port or 8_404,
        socket=Path("/run/haproxy/admin.sock"),
        connections=up.connections,
        client_requests_per_second=up.client_requests_per_second,
        tls_certificate=up.tls_certificate,
        user="haproxy",
        body_bytes=body_bytes,
    )


def keepalived(pair: Pair, own: str, *, check: Path = CHECK, user: str = "nobody") -> str:
    """The text of `keepalived.conf` on the machine that has the address `own`.

    Args:
        pair: the two machines.
        own: one of the pair's addresses.
        check: where the script is that looks at the balancer; keepalived wants it writable by root alone.
        user: whom the script runs as.
    """
    place = pair.balancers.index(own)
    return render(
        "keepalived.conf.j2",
        pair=pair,
        own=own,
        peer=pair.balancers[1 - place],
        priority=PRIORITIES[place],
        check=check,
        user=user,
    )


def check_script(stats_port: int) -> str:
    """The text of the script that says whether the balancer of its machine can be sent to."""
    return render("check-balancer.j2", stats_port=stats_port)


def files(pair: Pair, balancer: Balancer) -> dict[str, str]:
    """Path → text of everything: one balancer's configuration for both machines, and what differs by machine."""
    return {
        "haproxy.cfg": haproxy.configuration(balancer),
        "check-balancer": check_script(balancer.stats_port),
        "keepalived-first.conf": keepalived(pair, pair.balancers[0]),
        "keepalived-second.conf": keepalived(pair, pair.balancers[1]),
    }
