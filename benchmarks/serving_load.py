"""Load from outside the servers: peak throughput by `wrk`, latency by an open-loop generator. See `serving.py`."""

import gc
import os
import re
import select
import shutil
import socket
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 16
"""Kept alive, of `wrk` to each server."""
OPEN_CONNECTIONS = 64
"""Kept alive, of the open-loop generator; a request that finds all of them busy waits, and its time runs."""
PATIENCE_SECONDS = 10.0
"""After the last request was due, how long its answer is waited for."""

LUA = """
local paths = {}
for line in io.lines(os.getenv("PATHS")) do paths[#paths + 1] = wrk.format("GET", line) end
local number = tonumber(os.getenv("FIRST"))
request = function()
  number = number % #paths + 1
  return paths[number]
end
"""


def have_wrk() -> bool:
    """Whether `wrk` is on PATH."""
    return shutil.which("wrk") is not None


def to_last_core() -> None:
    """Keep this process off the core that the servers are on, where there are two."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def peak(ports: Sequence[int], paths: Path, seconds: int) -> list[tuple[float, int]]:
    """(requests a second, requests) of one `wrk` for each server, all at once, each through all of the paths.

    Fails where an answer was not 2xx.
    """
    script = paths.with_suffix(".lua")
    script.write_text(LUA)
    running = []
    for number, port in enumerate(ports):
        command = [
            "wrk",
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{seconds}s",
            "-s",
            str(script),
            f"http://127.0.0.1:{port}",
        ]
        env = os.environ | {"PATHS": str(paths), "FIRST": str(997 * number)}
        running.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, preexec_fn=to_last_core)  # noqa: PLW1509 - no threads here
        )
    found = []
    for process in running:
        text, _ = process.communicate()
        match = re.search(r"(\d+) requests in.*Requests/sec:\s+([\d.]+)", text, re.DOTALL)
        if process.returncode or match is None or "Non-2xx" in text or "Socket errors" in text:
            raise SystemExit(f"wrk failed:\n{text}")
        found.append((float(match[2]), int(match[1])))
    return found


@dataclass(frozen=True, slots=True)
class Latencies:
    """What an open loop measured, in seconds."""

    latencies: list[float]
    """From when each request was due until its answer was whole."""
    lags: list[float]
    """From when each request was due until the generator came to it: its own share of the latencies."""
    failed: int
    """Requests answered with anything but 200, or not at all."""
    numbers: list[int]
    """Which request each of the latencies is of, by its place in the order in which they were due."""
    began: float
    """When the first request was due, in seconds since 1970."""


class _Connection:
    """One kept-alive connection with at most one request on its way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = 0
        self.due = 0.0
        self.got = b""

    def send(self, request: bytes, number: int, due: float) -> None:
        self.number = number
        self.due = due
        self.socket.sendall(request)

    def receive(self) -> bool | None:
        """Whether the answer was a 200; nothing while it is not whole."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise SystemExit("a server closed a connection")
        self.got += data
        end = self.got.find(b"\r\n\r\n")
        if end < 0:
            return None
        at = self.got.index(b"content-length: ") + 16
        if len(self.got) < end + 4 + int(self.got[at : self.got.index(b"\r", at)]):
            return None
        good = self.got.startswith(b"HTTP/1.1 200")
        self.got = b""
        return good


def open_loop(port: int, paths: Sequence[str], rate: float, seconds: float) -> Latencies:
    """Send `rate` requests a second for so many seconds, whatever comes back, going round the paths.

    Each is timed from when it was due, so that a stall is felt by everyone who came during it (no coordinated
    omission). The loop never sleeps: a timer would add its own lateness.
    """
    requests = [f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths]
    connections = [_Connection(port) for _ in range(OPEN_CONNECTIONS)]
    poller = select.epoll()
    by_number = {connection.socket.fileno(): connection for connection in connections}
    for number in by_number:
        poller.register(number, select.EPOLLIN)
    gc.collect()
    gc.disable()  # the generator's own pauses would be taken for the server's
    try:
        return _run(poller, by_number, deque(connections), requests, rate, int(rate * seconds))
    finally:
        gc.enable()
        poller.close()
        for connection in connections:
            connection.socket.close()


def _run(
    poller: select.epoll, by_number: dict[int, _Connection], free: deque[_Connection], requests: list[bytes],
    rate: float, n: int,
) -> Latencies:  # fmt: skip
    clock = time.perf_counter
    latencies: list[float] = []
    lags: list[float] = []
    numbers: list[int] = []
    waiting: deque[tuple[bytes, int, float]] = deque()
    refused = due_so_far = 0
    start = clock() + 0.02
    began = time.time() + 0.02
    give_up_at = start + n / rate + PATIENCE_SECONDS
    while len(latencies) < n and (now := clock()) < give_up_at:
        while due_so_far < n and (due := start + due_so_far / rate) <= now:
            waiting.append((requests[due_so_far % len(requests)], due_so_far, due))
            lags.append(now - due)
            due_so_far += 1
        while waiting and free:
            free.popleft().send(*waiting.popleft())
        for number, _ in poller.poll(0):
            connection = by_number[number]
            good = connection.receive()
            if good is not None:
                latencies.append(clock() - connection.due)
                numbers.append(connection.number)
                refused += not good
                free.append(connection)
    return Latencies(latencies, lags, refused + n - len(latencies), numbers, began)
