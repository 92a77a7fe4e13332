"""Time from what a user did to the first answer that reflects it: p50 and p99, at rest and under load.

    python benchmarks/freshness.py [--log sqlite] [--rates 0 10000] [--events 300] [--users 10000]

`matinee ingest` and `matinee serve` run as processes on a home of made-up users with a bundle of 27,000 items
(`serving_home.py`). Again and again a user who did nothing since the bundle's snapshot watches the first item of
the list that `GET /recommend/<user>` gives: told by `POST /v1/events` with an API key, or by a line appended to the
log. Then the list is asked for until the item has left it, which is when the user's history was folded in. The time
runs from before the event is sent until that answer has come, asking included (`--every` milliseconds apart, so up
to that much of it is the measuring's). The target is a p99 below one second. `--rates` are lines a second that
another process appends meanwhile; the rate that it reached is reported. One event of each kind goes before those
that are counted: it waits for ingest's start.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import serving_home
from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.log.base import EventLog
from matinee.log.open import open_log
from matinee.operation.layout import free_ports
from matinee.serving.key_file import Scope, create_key
from stream_logs import LOGS, a_broker, kind_of_log

CLOCK = SystemClock()
PATIENCE_SECONDS = 30.0
START_SECONDS = 120.0
LOAD = Path(__file__).with_name("stream_load.py")
Tell = Callable[[str, str], None]
"""Tells that a user watched an item."""


def user(index: int) -> str:
    """The id of a user: eight digits, as a line of the scenario can carry it."""
    return str(10_000_000 + index)


serving_home.user = user  # ids of that home have letters, which lines cannot carry


def main() -> None:
    """Measure, and print the figures."""
    arguments = _arguments()
    report = [found for kind in arguments.log for found in measured(kind, arguments)]
    if arguments.json:
        print(json.dumps(report))
        return
    for row in report:
        print(
            f"{row['log']:>6}, {row['told_by']}, at {row['lines_per_second']:,} lines/s: p50 {row['p50']:.3f} s, "
            f"p99 {row['p99']:.3f} s, longest {row['longest']:.3f} s, of {row['events']}"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", nargs="+", type=kind_of_log, choices=LOGS, default=["sqlite"])
    parser.add_argument("--rates", nargs="+", type=int, default=[0, 10_000], help="lines a second meanwhile")
    parser.add_argument("--events", type=int, default=300, help="of each way of telling, at each rate")
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--every", type=float, default=5.0, help="milliseconds between two questions")
    parser.add_argument("--settle", type=float, default=5.0, help="seconds of load before measuring")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    arguments = parser.parse_args()
    if 2 * (1 + len(arguments.rates) * arguments.events) > len(serving_home.looked_up(arguments.users)):
        parser.error("there are too few --users for so many --events: each is asked for once")
    return arguments


def measured(kind: str, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The figures of one kind of log, for each rate and way of telling."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = stack.enter_context(a_broker(kind))()
        home = serving_home.open_home(Path(folder) / "home", arguments.users)
        url = home.resolve(url)
        _, token = create_key(home, "a shop", Scope.WRITE, clock=CLOCK)
        log = stack.enter_context(open_log(url, CLOCK, appends=True))
        stack.enter_context(running(home, url, "ingest"))
        client = stack.enter_context(a_server(home, url))
        ways: dict[str, Tell] = {"post": posting(client, token), "line": appending(log)}
        strangers = iter(serving_home.looked_up(arguments.users))
        for tell in ways.values():  # until ingest has started and has its partitions
            until_reflected(client, user(next(strangers)), tell, arguments)
        for rate in arguments.rates:
            with under_load(url, rate, arguments.settle) as reached:
                seconds = {
                    way: [
                        until_reflected(client, user(next(strangers)), tell, arguments)
                        for _ in range(arguments.events)
                    ]
                    for way, tell in ways.items()
                }
            for way, times in seconds.items():
                yield {"log": kind, "told_by": way, "lines_per_second": reached[0], **figures(times)}


def figures(seconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile, and the longest."""
    return {
        "events": len(seconds),
        "p50": float(np.percentile(seconds, 50)),
        "p99": float(np.percentile(seconds, 99)),
        "longest": max(seconds),
    }


def until_reflected(client: httpx.Client, who: str, tell: Tell, arguments: argparse.Namespace) -> float:
    """Seconds until the item that a user watched has left the user's list."""
    item = _recommended(client, who)[0]
    began = time.perf_counter()
    tell(who, item)
    while item in _recommended(client, who):
        if time.perf_counter() - began > PATIENCE_SECONDS:
            raise SystemExit(f"what {who} did was not reflected in {PATIENCE_SECONDS:.0f} s")
        time.sleep(arguments.every / 1e3)
    return time.perf_counter() - began


def _recommended(client: httpx.Client, who: str) -> list[str]:
    answer = client.get(f"/recommend/{who}")
    answer.raise_for_status()
    return answer.text.strip().split(",")


def posting(client: httpx.Client, token: str) -> Tell:
    """Tells over HTTP."""

    def tell(who: str, item: str) -> None:
        event = {"kind": "watch", "user": who, "item": item, "minute": 12}
        client.post("/v1/events", json=event, headers={"X-Api-Key": token}).raise_for_status()

    return tell


def appending(log: EventLog) -> Tell:
    """Tells as the streaming service does: a line in the log."""
    partitions = sorted(log.ends()) or [0]

    def tell(who: str, item: str) -> None:
        now = datetime.now(UTC).replace(tzinfo=None).isoformat()
        log.append(
            [f"{now},{who},GET /data/m/{item}/12.mpg".encode()], partition=partitions[int(who) % len(partitions)]
        )

    return tell


@contextmanager
def under_load(url: str, rate: int, settle: float) -> Iterator[list[int]]:
    """Lines at that rate while the block lasts; then the list given has the rate that was reached."""
    reached = [rate]
    if not rate:
        yield reached
        return
    command = [sys.executable, str(LOAD), url, "--rate", str(rate)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(settle)
        yield reached
    finally:
        output, _ = process.communicate("done\n")
    reached[0] = int(output)


@contextmanager
def running(home: Home, url: str, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A role of matinee on that home and log, ended with the block."""
    command = [sys.executable, "-m", "matinee", *words, "--home", str(home.path)]
    environment = os.environ | {"MATINEE_LOG__URL": url}
    with (home.logs / f"{words[0]}.out").open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def a_server(home: Home, url: str) -> Iterator[httpx.Client]:
    """A client of a server that is ready and has opened the history."""
    port = free_ports(1)[0]
    with (
        running(home, url, "serve", "--port", str(port)) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS, trust_env=False) as client,
    ):
        end = time.monotonic() + START_SECONDS
        while not _is_ready(client):
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"the server did not become ready:\n{(home.logs / 'serve.out').read_text()}")
            time.sleep(0.1)
        yield client


def _is_ready(client: httpx.Client) -> bool:
    try:
        metrics = client.get("/metrics").text
        return client.get("/readyz").is_success and "\nmatinee_history_open 1" in metrics
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
