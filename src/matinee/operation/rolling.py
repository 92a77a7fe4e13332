"""A rolling restart: one server at a time, so that no request meets one that is going."""

from collections.abc import Callable

from matinee.core.clock import Clock
from matinee.core.errors import StoreUnavailable
from matinee.operation.haproxy import Administration, Entry
from matinee.operation.supervisor import Control

PATIENCE_SECONDS = 60.0
"""How long one step may take: requests under way to end, a started server to take a full share."""
_LOOK_SECONDS = 0.1

Told = Callable[[str, str], None]
"""Called with (server, what is done with it)."""


def restart_servers(
    balancer: Administration, supervisor: Control, clock: Clock, told: Told, *, patience: float = PATIENCE_SECONDS
) -> list[str]:
    """Restart all servers, one after another; returns their names.

    Each is taken out at the balancer, ends what it has begun, is started again, and the next one's turn comes only
    when the balancer sends this one its full share. So at any moment at most one server is missing. With a single
    server there is a pause, in which the balancer answers 503.

    Args:
        balancer: the balancer's administration.
        supervisor: what restarts them.
        clock: to wait by.
        told: hears of the progress.
        patience: seconds that one step may take.

    Raises:
        StoreUnavailable: a server is down already, does not finish or does not come back; the others go on as they
            are.
    """
    names = [entry.name for entry in balancer.entries()]
    if len(names) > 1:
        for name in names:
            _wait(
                balancer, clock, name, lambda entry: entry.is_up, "take requests, before anything is done", patience
            )
    for name in names:
        told(name, "finishes what it has begun")
        balancer.drain(name)
        try:
            _wait(balancer, clock, name, lambda entry: entry.requests == 0, "finish its requests", patience)
            told(name, "restarts")
            supervisor.restart_server(name)
        finally:
            balancer.take_back(name)  # its checks decide when requests come
        _wait(balancer, clock, name, lambda entry: entry.is_up, "come back", patience)
        told(name, "is back")
    return names


def _wait(
    balancer: Administration, clock: Clock, name: str, done: Callable[[Entry], bool], what: str, patience: float
) -> None:
    """Look until a server is as it should be."""
    end = clock.monotonic() + patience
    while True:
        entry = next(entry for entry in balancer.entries() if entry.name == name)
        if done(entry):
            return
        if clock.monotonic() > end:
            raise StoreUnavailable(
                f"{name} at {entry.address} did not {what} within {patience:.0f} s: it is {entry.status} "
                f"with {entry.requests} requests under way",
                remedy=f"See logs/{name}.out and logs/{name}.jsonl; `matinee up status` shows all of them.",
            )
        clock.sleep(_LOOK_SECONDS)
