"""The living part of the demo: a server and an ingest beside it, asked a few dozen times."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from matinee.cli.context import Context
from matinee.core.errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from matinee.cli.demo import Story

REQUESTS = 70
READY_SECONDS = 30.0
STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Running:
    """The processes of a demo that is up."""

    processes: dict[str, "subprocess.Popen[bytes]"]

    def beside(self, others: dict[str, "subprocess.Popen[bytes]"]) -> "Running":
        """These and others."""
        return Running(self.processes | others)

    def wait(self, seconds: float | None) -> None:
        """Return after so many seconds, at Ctrl-C or its like, or when a process has ended by itself."""
        end = None if seconds is None else time.monotonic() + seconds
        try:
            while end is None or time.monotonic() < end:
                ended = [verb for verb, process in self.processes.items() if process.poll() is not None]
                if ended:
                    raise StoreUnavailable(
                        f"matinee {ended[0]} ended with status {self.processes[ended[0]].returncode}",
                        remedy="Its log is in the home's folder logs/; a world's in data/world/logs/.",
                    )
                time.sleep(0.2)
        except KeyboardInterrupt:
            return


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _signals(handler: Callable[..., None] | signal.Handlers, *numbers: signal.Signals) -> Iterator[None]:
    """Let signals do something else while the block lasts."""
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextmanager
def live(context: Context, port: int, story: "Story") -> Iterator[Running]:
    """Serve and ingest in processes of their own while the block lasts; then end both, gracefully."""
    with _signals(_interrupt, signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C does, so that what was started is stopped
        yield from _live(context, port, story)


@contextmanager
def serving(context: Context, port: int) -> Iterator[None]:
    """Serve a home on loopback while the block lasts."""
    _require_free(port)
    process = start("serve", "--port", str(port), *of_home(context))
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield
    finally:
        stop({"serve": process})


def _live(context: Context, port: int, story: "Story") -> Iterator[Running]:
    base = f"http://127.0.0.1:{port}"
    _require_free(port)
    with story.step("start the service"):
        processes = {"serve": start("serve", "--port", str(port), *of_home(context))}
        try:
            wait_until_ready(base, processes["serve"])
            processes["ingest"] = start("ingest", *of_home(context))
        except BaseException:
            stop(processes)
            raise
    try:
        with story.step(f"{REQUESTS} live requests"):
            _ask(base, story)
        yield Running(processes)
    finally:
        stop(processes)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigurationError(
                f"port {port} on 127.0.0.1 is taken", remedy="Name another: `matinee demo --port 8090`."
            ) from error


def of_home(context: Context) -> tuple[str, str]:
    """The words that name a home to a verb."""
    return "--home", str(context.home.path)


def start(*verb: str, heard: bool = False) -> "subprocess.Popen[bytes]":
    """Start a verb as a process; what it prints is shown only if it is to be heard."""
    # In a group of its own, so that Ctrl-C reaches the demo alone, which then ends all in order.
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "matinee", *verb],
        stdout=None if heard else subprocess.DEVNULL,
        env=os.environ.copy(),
        start_new_session=True,
    )


def wait_until_ready(base: str, server: "subprocess.Popen[bytes]") -> None:
    """Return when a server answers.

    Raises:
        StoreUnavailable: it ended, or took longer than `READY_SECONDS`.
    """
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            if httpx.get(f"{base}/readyz", timeout=1.0, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise StoreUnavailable("the service did not become ready", remedy="Its log is logs/serve.jsonl in the home.")


def _ask(base: str, story: "Story") -> None:
    """Ask for some known users and a stranger, and keep what came and how long it took."""
    users = story.facts["users"]
    took, answers = [], {}
    with httpx.Client(base_url=base, timeout=1.0, trust_env=False) as client:
        for number in range(REQUESTS):
            user = users[number % len(users)] if number < 2 * len(users) else "a-stranger"
            started = time.perf_counter()
            response = client.get(f"/recommend/{user}").raise_for_status()
            took.append((time.perf_counter() - started) * 1e3)
            answers[user] = {
                "items": response.text.strip().split(","),
                "request_id": response.headers["X-Request-Id"],
                "model_version": response.headers["X-Model-Version"],
            }
    took.sort()
    story.facts |= {
        "answers": answers,
        "requests": REQUESTS,
        "p50_ms": took[len(took) // 2],
        "p99_ms": took[min(len(took) - 1, int(len(took) * 0.99))],
        "url": base,
    }


def stop(processes: dict[str, "subprocess.Popen[bytes]"]) -> None:
    """End processes, the first one first."""
    # A second Ctrl-C would leave behind what is just being stopped; that takes a few seconds at most.
    with _signals(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A server before ingest: what it still has to tell goes to the log, and ingest takes it in.
        for process in processes.values():
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
