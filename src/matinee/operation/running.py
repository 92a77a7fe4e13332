"""`matinee up`: writes the configurations, runs a supervisor with them in the foreground, and ends it in order."""

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from matinee.core.errors import ConfigurationError, StoreUnavailable
from matinee.core.files import write_atomically
from matinee.core.home import Home
from matinee.core.settings import Settings
from matinee.core.signals import ended_by_signals
from matinee.operation import haproxy, supervisor
from matinee.operation.layout import Balancer, World, balancer_of, servers_of, socket_in, world_of
from matinee.operation.tied import PARENT
from matinee.serving.server import require_free

_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to run, and the files that say so.

    Args:
        balancer: the balancer with its servers.
        world: what is added to try things out.
        files: name → text of each generated file, as it stands in the home's `run/`.
    """

    balancer: Balancer
    world: World | None
    files: dict[str, str]


def plan(settings: Settings, home: Home) -> Plan:
    """Decide what runs; nothing is written or started.

    Raises:
        ConfigurationError: a setting cannot be met.
    """
    servers = servers_of(settings.up)
    balancer = balancer_of(settings.up, home, servers, body_bytes=settings.serving.max_body_bytes)
    world = world_of(settings.simulation, balancer.url)
    command = [haproxy.program(), "-db", "-f", str(home.run / "haproxy.cfg")]
    return Plan(
        balancer,
        world,
        {
            "haproxy.cfg": haproxy.configuration(balancer),
            "supervisord.conf": supervisor.configuration(settings, home, servers, haproxy=command, world=world),
        },
    )


def require_free_ports(plan: Plan) -> None:
    """Make sure that nobody listens where the balancer and the servers are going to.

    Raises:
        ConfigurationError: somebody does; the message says where.
    """
    balancer = plan.balancer
    wanted = [("0.0.0.0" if balancer.host == "*" else balancer.host, balancer.port, "up.port (`--port`)")]  # noqa: S104
    wanted += [("127.0.0.1", balancer.stats_port, "up.stats_port")]
    wanted += [(server.host, server.port, "up.server_port") for server in balancer.servers]
    if plan.world is not None:
        wanted.append(("127.0.0.1", plan.world.apis_port, "simulation.apis_port"))
    for host, port, setting in wanted:
        try:
            require_free(host, port)
        except ConfigurationError as error:
            raise ConfigurationError(str(error), remedy=f"Stop what listens there, or set {setting}.") from error


def write(plan: Plan, home: Home) -> None:
    """Write the files, and let HAProxy check its own.

    Raises:
        ConfigurationError: HAProxy refuses it.
    """
    for name, text in plan.files.items():
        write_atomically(home.run / name, text.encode())
    haproxy.check(home.run / "haproxy.cfg", haproxy.program())


def run(plan: Plan, home: Home, started: Callable[[], None]) -> None:
    """Run everything until SIGTERM or SIGINT; then end it: the balancer, the servers, and ingest at last.

    Args:
        plan: what to run.
        home: only one runs for each.
        started: called when all processes run and the balancer listens.

    Raises:
        Locked: everything is up already in this home.
        ConfigurationError: HAProxy refuses its configuration.
        StoreUnavailable: the supervisor ended by itself; what it ran has ended too.
    """
    with home.lock("up"), ended_by_signals() as told:
        require_free_ports(plan)
        write(plan, home)
        process = _start(home)
        try:
            control = supervisor.Control(socket_in(home, "supervisor"))
            administration = haproxy.Administration(plan.balancer.socket)
            while process.poll() is None and not told.wait(_LOOK_SECONDS):
                if _all_run(control, administration):
                    started()
                    break
            while process.poll() is None and not told.wait(_LOOK_SECONDS):
                pass
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            process.wait()  # the supervisor kills what does not end in its time
        if not told.is_set():
            raise StoreUnavailable(
                f"the supervisor ended by itself with status {process.returncode}",
                remedy="Its log is logs/supervisord.log in the home; start everything again with `matinee up`.",
            )


def _start(home: Home) -> "subprocess.Popen[bytes]":
    """Start the supervisor: in a session of its own, so that Ctrl-C reaches this process alone."""
    words = supervisor.tied([*supervisor.PROGRAM, "--configuration", str(home.run / "supervisord.conf")])
    return subprocess.Popen(  # noqa: S603 - the words are this package's own
        words, env=os.environ | {PARENT: str(os.getpid())}, stdin=subprocess.DEVNULL, start_new_session=True
    )


def _all_run(control: supervisor.Control, administration: haproxy.Administration) -> bool:
    try:
        return all(process.state == "RUNNING" for process in control.processes()) and bool(administration.entries())
    except StoreUnavailable:
        return False  # one of the two is about to listen
