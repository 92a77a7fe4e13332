"""Supervisor: the configuration of what one machine runs, and talking to one that runs."""

import http.client
import math
import shlex
import sys
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from matinee.core.errors import ConfigurationError, StoreUnavailable
from matinee.core.home import Home
from matinee.core.settings import Settings
from matinee.operation.haproxy import STOP_SECONDS
from matinee.operation.layout import Server, World, socket_in
from matinee.operation.templates import render

SERVER_STOP_SECONDS = 20
"""What a server may take beyond its drain to write its telemetry and end, before it is killed."""
INGEST_STOP_SECONDS = 60
"""What ingest may take to commit what it has read, before it is killed (and reads it again)."""
METADATA_STOP_SECONDS = 60
"""What the metadata client may take to end its requests and write what it has; it keeps what it cannot write."""
SCHEDULE_STOP_SECONDS = 20
"""What a run of training may take to end, before it is killed; nothing of it is left."""
WORLD_STOP_SECONDS = 60
"""What a world may take to be kept."""
PROGRAM = [sys.executable, "-m", "supervisor.supervisord"]
_BEGUN = {"RUNNING", "STARTING", "BACKOFF"}


@dataclass(frozen=True, slots=True)
class Program:
    """One program under the supervisor."""

    name: str
    command: str
    priority: int
    stop_signal: str
    stop_seconds: int


@dataclass(frozen=True, slots=True)
class Process:
    """What the supervisor knows of one process."""

    name: str
    state: str
    """Supervisor's word: `RUNNING`, `STARTING`, `BACKOFF`, `STOPPING`, …"""
    pid: int
    """0 where it does not run."""
    seconds: int
    """Since it was started."""


def configuration(
    settings: Settings, home: Home, servers: tuple[Server, ...], *, haproxy: list[str], world: World | None = None
) -> str:
    """The text of `supervisord.conf`: ingest, the schedule, the servers, the balancer, and what else is wanted.

    Args:
        settings: sizes of log files; whether metadata is asked for.
        home: where logs go, and what the programs work on.
        servers: one program each.
        haproxy: the balancer's command.
        world: added with its viewers.

    Raises:
        ConfigurationError: a path cannot be written in this file.
    """
    stop_seconds = SERVER_STOP_SECONDS + math.ceil(settings.serving.drain_seconds)
    matinee = [sys.executable, "-m", "matinee"]
    of_home = ["--home", str(home.path)]
    when = settings.schedule.train if world is None else settings.simulation.train
    programs = [_program("ingest", [*matinee, "ingest", *of_home], 100, "TERM", INGEST_STOP_SECONDS)]
    if when:
        words = [*matinee, "schedule", "--train", when, *of_home]
        programs.append(_program("schedule", words, 150, "TERM", SCHEDULE_STOP_SECONDS))
    metadata = settings.metadata
    given = {} if world is None or metadata.item_url or metadata.user_url else world.apis
    if given or metadata.item_url or metadata.user_url:
        words = ["env", *(f"{name}={value}" for name, value in given.items())] if given else []
        asking = [*words, *matinee, "metadata", "run", *of_home]
        programs.append(_program("metadata", asking, 150, "TERM", METADATA_STOP_SECONDS))
    for server in servers:
        words = ["serve", "--host", server.host, "--port", str(server.port), "--name", server.name, *of_home]
        programs.append(_program(server.name, [*matinee, *words], 200, "TERM", stop_seconds))
    programs.append(_program("haproxy", haproxy, 300, "USR1", STOP_SECONDS + 5))
    if world is not None:
        programs.append(_program("world", _living(settings, home, world), 400, "TERM", WORLD_STOP_SECONDS))
    return render(
        "supervisord.conf.j2",
        run=_plain(home.run),
        logs=_plain(home.logs),
        folder=_plain(Path.cwd()),
        socket=_plain(socket_in(home, "supervisor")),
        file_bytes=settings.logging.file_megabytes * 1_000_000,
        files=settings.logging.files,
        programs=programs,
        servers=[server.name for server in servers],
    )


def _living(settings: Settings, home: Home, world: World) -> list[str]:
    """The command of a world without end, that is kept in the home and writes into its event log."""
    of = settings.simulation
    options = {
        "viewers": of.viewers, "items": world.movies, "seed": of.seed, "past": of.past_ratings, "dirt": of.dirt,
        "pace": of.minutes_a_second, "days": 0, "apis": world.apis_port,
        "lines": home.resolve(settings.log.url), "keep": home.data / "world.npz",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "matinee", "simulate", world.url, *words]


def _program(name: str, words: list[str], priority: int, stop_signal: str, stop_seconds: int) -> Program:
    return Program(name, _plain(shlex.join(tied(words))), priority, stop_signal, stop_seconds)


def tied(words: list[str]) -> list[str]:
    """The command with which a program ends when its parent does; see `operation/tied.py`."""
    return [sys.executable, "-m", "matinee.operation.tied", *words]


def _plain(text: object) -> str:
    """A text that means itself in Supervisor's configuration.

    Raises:
        ConfigurationError: it cannot: `%` is filled in there, `;` and `#` begin comments.
    """
    if set(str(text)) & set("%;#\n\r"):
        raise ConfigurationError(
            f"{text} has a sign that a supervisor's configuration cannot hold: one of % ; #",
            remedy="Choose another home, with --home or MATINEE_HOME, and a working folder without these signs.",
        )
    return str(text)


class Control:
    """A running supervisor, over its Unix socket.

    Args:
        path: the socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def processes(self) -> list[Process]:
        """All processes, by name."""
        rows = self._call("getAllProcessInfo")
        return [
            Process(
                row["name"], row["statename"], row["pid"], max(0, row["now"] - row["start"]) if row["pid"] else 0
            )
            for row in sorted(rows, key=lambda row: str(row["name"]))
        ]

    def restart_server(self, name: str) -> None:
        """End a server as gently as it allows, and start it again; returns when it runs."""
        if any(process.name == name and process.state in _BEGUN for process in self.processes()):
            self._call("stopProcess", f"servers:{name}", True)
        self._call("startProcess", f"servers:{name}", True)

    def _call(self, method: str, *arguments: object) -> Any:
        transport = SupervisorTransport(serverurl=f"unix://{self._path}")
        try:
            proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
            return getattr(proxy.supervisor, method)(*arguments)
        except (OSError, http.client.HTTPException) as error:
            raise StoreUnavailable(
                f"nothing is up in this home: {self._path} does not answer", remedy="Start it with `matinee up`."
            ) from error
        except xmlrpc.client.Fault as error:
            raise StoreUnavailable(
                f"the supervisor refused {method}{arguments}: {error.faultString}",
                remedy="`matinee up status` says what runs; see logs/supervisord.log.",
            ) from error
        finally:
            transport.close()
