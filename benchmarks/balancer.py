"""What the balancer costs: one server asked by `wrk` directly and through HAProxy, in turns.

    python benchmarks/balancer.py --rounds 5 --seconds 4 --json

HAProxy runs with the configuration that `matinee up` makes, before one `matinee serve`; 16 kept-alive connections
ask. Reported are, as the median of the turns with their spread: the microseconds of processor time that HAProxy
takes for each request, and those of the server (with its telemetry writer) directly and behind it, which what else
the machine does disturbs least; and the requests a second through the balancer as a share of those without. The
server is held to the first core, `wrk` and HAProxy to the last one.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import httpx
import psutil

from matinee.operation.haproxy import configuration, program
from matinee.operation.layout import Balancer, Server, free_ports
from serving_home import looked_up, open_home, user
from serving_load import LUA, have_wrk, to_last_core

USERS = 20_000
CONNECTIONS = 16


class Found(NamedTuple):
    """Of one run of `wrk`: requests a second, and microseconds of processor time for each request."""

    rate: float
    balancer_us: float
    server_us: float


class Running(NamedTuple):
    """Ports and processes of a server and the balancer before it."""

    direct: int
    balanced: int
    server: psutil.Process
    balancer: psutil.Process


def main() -> None:
    """Measure, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not have_wrk():
        raise SystemExit("wrk is not on PATH; it is Debian's package of that name")
    with tempfile.TemporaryDirectory(prefix="mat") as name, running(Path(name)) as both:
        paths = Path(name) / "paths"
        paths.write_text("\n".join(f"/recommend/{user(index)}?n=20" for index in looked_up(USERS)[:1_000]))
        rounds = [
            (
                measured(both, both.direct, paths, options.seconds),
                measured(both, both.balanced, paths, options.seconds),
            )
            for _ in range(options.rounds)
        ]
    report(rounds, as_json=options.json)


def report(rounds: list[tuple[Found, Found]], *, as_json: bool) -> None:
    """Print the medians and the spread of the rounds."""
    figures = {
        "balancer_microseconds": spread([balanced.balancer_us for _, balanced in rounds]),
        "server_microseconds_directly": spread([direct.server_us for direct, _ in rounds]),
        "server_microseconds_behind_it": spread([balanced.server_us for _, balanced in rounds]),
        "requests_per_second_directly": spread([direct.rate for direct, _ in rounds]),
        "share_of_them_behind_it": spread([balanced.rate / direct.rate for direct, balanced in rounds]),
    }
    if as_json:
        json.dump(figures, sys.stdout)
        return
    for name, (middle, least, most) in figures.items():
        print(f"{name}: {middle} ({least} to {most})")


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, least and most."""
    return round(median(values), 2), round(min(values), 2), round(max(values), 2)


@contextmanager
def running(folder: Path) -> Iterator[Running]:
    """One server and a balancer before it."""
    home = open_home(folder / "home", USERS)
    server, port, stats = free_ports(3)
    balancer = Balancer(
        host="127.0.0.1",
        port=port,
        servers=(Server("server1", "127.0.0.1", server),),
        stats_port=stats,
        socket=folder / "haproxy.sock",
        connections=1_000,
        client_requests_per_second=0,
    )
    file = folder / "haproxy.cfg"
    file.write_text(configuration(balancer))
    serve = [sys.executable, "-m", "matinee", "serve", "--home", str(home.path), "--port", str(server)]
    with ExitStack() as stack:
        cores = sorted(os.sched_getaffinity(0))
        serving = stack.enter_context(started(serve, folder, cores[0]))
        balancing = stack.enter_context(started([program(), "-db", "-f", str(file)], folder, cores[-1]))
        ready(f"http://127.0.0.1:{port}/readyz")
        time.sleep(3)  # the balancer lets a server that has just come up warm up for two seconds
        yield Running(server, port, serving, balancing)


@contextmanager
def started(words: list[str], folder: Path, core: int) -> Iterator[psutil.Process]:
    """A program held to one core, ended with the block."""
    process = subprocess.Popen(
        words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - no threads here
    )  # fmt: skip
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def ready(url: str) -> None:
    """Wait until the balancer has a server that is ready."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("the server did not become ready")


def measured(both: Running, port: int, paths: Path, seconds: int) -> Found:
    """One run of `wrk` against a port; fails where an answer was not 2xx."""
    script = paths.with_suffix(".lua")
    script.write_text(LUA)
    before = seconds_of(both.balancer), seconds_of(both.server)
    done = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}"],
        capture_output=True, text=True, check=False, preexec_fn=to_last_core,
        env=os.environ | {"PATHS": str(paths), "FIRST": "0"},
    )  # fmt: skip
    after = seconds_of(both.balancer), seconds_of(both.server)
    found = re.search(r"(\d+) requests in.*Requests/sec:\s+([\d.]+)", done.stdout, re.DOTALL)
    if done.returncode or found is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(f"wrk failed:\n{done.stdout}{done.stderr}")
    balancer_us, server_us = (1e6 * (end - start) / int(found[1]) for start, end in zip(before, after, strict=True))
    return Found(float(found[2]), balancer_us, server_us)


def seconds_of(process: psutil.Process) -> float:
    """Processor time that a process and those it started have taken."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


if __name__ == "__main__":
    main()
