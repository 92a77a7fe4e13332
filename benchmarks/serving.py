"""Answers per second and latency of the look-up path, against the same server answering a constant.

    python benchmarks/serving.py [--users 100000] [--rounds 5] [--seconds 4] [--rate 2000] [--json]

Makes a home with a synthetic bundle (27,000 items, everyone's top 100 and seen set, fold-in of 64 factors) and a
history of ten items for every user, all from before the bundle's snapshot: everybody is looked up, with the history
read and what was seen left out. Four servers, each a Granian with the same options, held to the first core; the
generators to the second.

    matinee     telemetry on
    quiet       the same, telemetry off
    constant    a bare ASGI function that sends a constant of the same length
    starlette   the same constant from a Starlette route

(a) Peak throughput by `wrk`, where it is installed: interleaved, the ratios of each round, median and spread.
(b) Latency from an open-loop generator at a fixed rate, timed from when each request was due, so that a stall is
    felt by everyone who came during it: interleaved with telemetry on and off.
(c) The answer alone, in one process: microseconds for each look-up and each fold-in.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when NumPy is imported

import httpx
import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from matinee.bundle.contents import BundleContents, UserBlock
from matinee.bundle.manifest import CodeVersion, Gate, Provenance, SourceEnd
from matinee.bundle.write import write_bundle
from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.core.settings import ServingSettings, Settings
from matinee.events.offsets import Source
from matinee.history.base import Actions
from matinee.history.lmdb import LmdbHistory
from matinee.models.fold_in import FoldIn
from matinee.release.plan import publish, read_plan
from matinee.serving.answer import Answer, Budget, Step, answer
from matinee.serving.app import create_app
from matinee.serving.release import ReleaseHolder
from matinee.serving.request import new_request_id
from matinee.serving.server import require_free, run_app

N_ITEMS, N_FACTORS, TOP, SEEN, LATELY = 27_000, 64, 100, 60, 10
SOURCE = Source("benchmark", 0)
CLOCK = SystemClock()
CONNECTIONS = 16
VARIANTS = ("matinee", "quiet", "constant", "starlette")
ITEMS = [f"some+title+of+a+movie+{index}+1999" for index in range(N_ITEMS)]


# --- the home -------------------------------------------------------------------------------------------------


def user_blocks(n_users: int) -> Iterator[UserBlock]:
    """Blocks of users with random seen sets and tops."""
    rng = np.random.default_rng(0)
    for start in range(0, n_users, 8_192):
        rows = min(8_192, n_users - start)
        drawn = (N_ITEMS * rng.random((rows, TOP + SEEN)) ** 3).astype(np.int32)
        yield UserBlock(
            ids=[f"user{start + row:07d}" for row in range(rows)],
            top=np.ascontiguousarray(drawn[:, :TOP]),
            scores=-np.sort(-rng.random((rows, TOP), dtype=np.float32)),
            seen_indptr=np.arange(rows + 1, dtype=np.int64) * SEEN,
            seen_indices=drawn[:, TOP:].reshape(-1),
            segments=rng.integers(-1, 3, rows).astype(np.int16),
        )


def fold_in_arrays() -> dict[str, np.ndarray]:
    """Random item factors, and what `FoldIn` needs beside them."""
    factors = np.random.default_rng(1).normal(0, 0.1, (N_ITEMS, N_FACTORS)).astype(np.float32)
    numbers = dict.fromkeys(FoldIn.__dataclass_fields__, 1.0)
    given = {
        "item_factors": factors,
        "gram": factors.T.astype(np.float64) @ factors + np.eye(N_FACTORS),
        "prior": factors.mean(axis=0),
        "positive_rating": 4.0,
    }
    return FoldIn(**(numbers | given)).to_arrays()


def make_home(path: Path, n_users: int) -> Home:
    """Write bundle, plan and history."""
    home = Home(path)
    order = np.arange(N_ITEMS, dtype=np.int32)
    contents = BundleContents(
        provenance=Provenance(
            model="als", params={}, seed=0, lake_versions={}, time_range=None, row_counts={}, content_hash="",
            offsets=(SourceEnd(generation=SOURCE.generation, partition=0, end=n_users * LATELY),),
            code=CodeVersion(package="0"), libraries={}, metrics={}, gate=Gate(passed=True, evidence={}),
        ),
        items=ITEMS,
        item_minutes=np.full(N_ITEMS, 100, dtype=np.float32),
        popular=order,
        segments=["a", "b", "c"],
        popular_by_segment=np.stack([np.roll(order, shift) for shift in (1, 2, 3)]),
        users=user_blocks(n_users),
        fold_in=fold_in_arrays(),
    )  # fmt: skip
    publish(home.data, write_bundle(home.bundles, contents=contents, clock=CLOCK), clock=CLOCK)
    with LmdbHistory(home.data / "history") as history:
        rng = random.Random(2)
        for start in range(0, n_users, 10_000):
            users = [f"user{row:07d}" for row in range(start, min(start + 10_000, n_users)) for _ in range(LATELY)]
            positions = [start * LATELY + offset for offset in range(len(users))]
            items = [ITEMS[int(N_ITEMS * rng.random() ** 3)] for _ in users]
            times = [1_700_000_000_000_000 + position for position in positions]
            ratings: list[float | None] = [5.0] * len(users)
            actions = Actions(positions, users, items, times, [None] * len(users), ratings)
            history.apply(SOURCE, actions, end=positions[-1] + 1)
    return home


# --- the servers ----------------------------------------------------------------------------------------------


def application(variant: str, home: Home) -> Any:
    """The ASGI application of a variant."""
    if variant in {"matinee", "quiet"}:
        app = create_app(Settings(home=home.path, serving=ServingSettings(telemetry_queue=200_000)), home, CLOCK)
        if variant == "quiet":
            app.service.telemetry.offer = lambda _: None
        return app
    body = ",".join(ITEMS[:20]).encode()
    return constant_route(body) if variant == "starlette" else constant_function(body)


def constant_route(body: bytes) -> Any:
    """A Starlette application with one route that answers a constant."""

    async def endpoint(_: Request) -> Response:
        return PlainTextResponse(body, headers={"x-request-id": "0" * 32, "x-model-version": "constant"})

    return Starlette(routes=[Route("/recommend/{user}", endpoint), Route("/readyz", endpoint)])


def constant_function(body: bytes) -> Any:
    """The least that Granian can be asked to do in ASGI."""
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body)),
        (b"x-request-id", b"0" * 32), (b"x-model-version", b"constant"),
    ]  # fmt: skip

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


@dataclass(frozen=True, slots=True)
class Target:
    """A server that is up."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(variant: str, home: Home) -> Iterator[Target]:
    """A server of that variant in a process on the first core."""
    port = require_free("127.0.0.1", 0)
    command = [sys.executable, __file__, "--serve", variant, "--home", str(home.path), "--port", str(port)]
    process = subprocess.Popen(command)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"the server {variant} did not become ready")
            time.sleep(0.1)
        time.sleep(1)  # until the history is open
        yield Target(port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def run_variant(variant: str, home: Home, port: int) -> None:
    """What a server process does."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sys.setswitchinterval(0.000_5)
    asyncio.run(run_app(application(variant, home), "127.0.0.1", port))


# --- the generators -------------------------------------------------------------------------------------------

LUA = """
local n = tonumber(os.getenv("USERS"))
math.randomseed(7)
request = function()
  return wrk.format("GET", string.format("/recommend/user%07d", math.random(0, n - 1)))
end
"""


def peak(target: Target, script: Path, seconds: float, n_users: int) -> tuple[float, float]:
    """Requests a second that `wrk` gets through, and the server's processor time for each in microseconds.

    The second figure says the same where other programs take turns on the core. Fails where an answer was not 2xx.
    """
    command = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds:g}s",
        "-s",
        str(script),
        f"http://127.0.0.1:{target.port}",
    ]
    env = os.environ | {"USERS": str(n_users)}
    before = target.cpu_seconds()
    ran = subprocess.run(command, capture_output=True, text=True, env=env, check=True, preexec_fn=_last_core)
    used = target.cpu_seconds() - before
    if "Non-2xx" in ran.stdout or "Socket errors" in ran.stdout:
        raise SystemExit(ran.stdout)
    found = re.search(r"(\d+) requests in.*Requests/sec:\s+([\d.]+)", ran.stdout, re.DOTALL)
    if found is None:
        raise SystemExit(ran.stdout)
    return float(found[2]), used / int(found[1]) * 1e6


def _last_core() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@dataclass
class _Connection(asyncio.Protocol):
    """One kept-alive connection; requests in flight on it are answered in order."""

    latencies: list[float]
    failed: int = 0

    def __post_init__(self) -> None:
        self.due: list[float] = []
        self.rest = b""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, due: float, user: int) -> None:
        self.due.append(due)
        self.transport.write(b"GET /recommend/user%07d HTTP/1.1\r\nHost: x\r\n\r\n" % user)

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            head = self.rest[:end]
            at = head.index(b"content-length: ") + 16
            size = int(head[at:].split(b"\r", 1)[0])
            if len(self.rest) < end + 4 + size:
                return
            self.rest = self.rest[end + 4 + size :]
            self.failed += not head.startswith(b"HTTP/1.1 200")
            self.latencies.append(time.perf_counter() - self.due.pop(0))


async def open_loop(port: int, rate: float, seconds: float, n_users: int) -> tuple[list[float], int]:
    """Latencies in seconds of requests sent at a fixed rate, each from when it was due; and failures."""
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    connections = [
        (await loop.create_connection(lambda: _Connection(latencies), "127.0.0.1", port))[1]
        for _ in range(CONNECTIONS * 2)
    ]
    draw = random.Random(3)
    n = int(rate * seconds)
    start = time.perf_counter() + 0.1
    for number in range(n):
        due = start + number / rate
        while (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead if ahead > 0.001 else 0)
        free = min(connections, key=lambda connection: len(connection.due))
        free.ask(due, draw.randrange(n_users))
    end = time.perf_counter() + 10
    while len(latencies) < n and time.perf_counter() < end:
        await asyncio.sleep(0.01)
    failed = sum(connection.failed for connection in connections) + n - len(latencies)
    for connection in connections:
        connection.transport.close()
    return latencies, failed


# --- the measurements -----------------------------------------------------------------------------------------


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def measure_peak(targets: dict[str, Target], scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """(a): requests a second of each server, processor time for each, and the ratios within each round."""
    script = scratch / "users.lua"
    script.write_text(LUA)
    rates: dict[str, list[float]] = {variant: [] for variant in targets}
    costs: dict[str, list[float]] = {variant: [] for variant in targets}
    for number in range(options.rounds + 1):
        for variant, target in targets.items():
            rate, cost = peak(target, script, options.seconds, options.users)
            if number:  # the first round warms up
                rates[variant].append(rate)
                costs[variant].append(cost)
    pairs = [(ours, constant) for ours in ("matinee", "quiet") for constant in ("starlette", "constant")]
    return {
        "requests_per_second": {name: spread(values) for name, values in rates.items()},
        "processor_microseconds": {name: spread(values) for name, values in costs.items()},
        "ratios": {f"{a} / {b}": spread(divided(rates[a], rates[b])) for a, b in pairs},
        "ratios_by_processor_time": {f"{a} / {b}": spread(divided(costs[b], costs[a])) for a, b in pairs},
    }


def divided(a: list[float], b: list[float]) -> list[float]:
    """Element by element."""
    return [x / y for x, y in zip(a, b, strict=True)]


def measure_latency(targets: dict[str, Target], options: argparse.Namespace) -> dict[str, Any]:
    """(b): milliseconds at a fixed rate with telemetry on and off, and the ratio of the p99 within each round."""
    _last_core()
    gc.disable()  # the generator's own pauses would be taken for the server's
    found: dict[str, dict[str, list[float]]] = {}
    failures = 0
    for number in range(options.rounds + 1):
        for variant in ("matinee", "quiet"):
            latencies, failed = asyncio.run(
                open_loop(targets[variant].port, options.rate, options.seconds, options.users)
            )
            failures += failed
            for name, share in (("p50", 50), ("p99", 99), ("p99.9", 99.9)):
                if number:
                    value = float(np.percentile(latencies, share)) * 1e3
                    found.setdefault(variant, {}).setdefault(name, []).append(value)
    return {
        "requests_per_second": options.rate,
        "failed": failures,
        "milliseconds": {v: {name: spread(values) for name, values in of.items()} for v, of in found.items()},
        "p99_on_over_off": spread(divided(found["matinee"]["p99"], found["quiet"]["p99"])),
    }


def measure_answer(home: Home, n_users: int) -> dict[str, float]:
    """(c): microseconds of one answer, without HTTP."""
    holder = ReleaseHolder(home, CLOCK)
    holder.look()
    assert holder.current is not None
    arm, bundle = holder.current.choose("anybody")
    draw = random.Random(4)
    users = [f"user{draw.randrange(n_users):07d}" for _ in range(3_000)]

    def microseconds(step: Step, history: LmdbHistory) -> float:
        def one(user: str) -> Answer:
            budget = Budget(CLOCK, CLOCK.monotonic() + 1)
            return answer(
                user, 20, arm=arm, bundle=bundle, history=history.get, budget=budget, without=lambda *_: None
            )

        assert one(users[0]).step is step
        start = time.perf_counter()
        for user in users:
            one(user)
        return (time.perf_counter() - start) / len(users) * 1e6

    with LmdbHistory(home.data / "history") as history:
        looked_up = microseconds(Step.PERSONAL, history)
        start = time.perf_counter()
        for user in users:
            history.get(user)
        read = (time.perf_counter() - start) / len(users) * 1e6
        bundle.is_newer = lambda _: True  # type: ignore[method-assign]  # as if everybody had acted since
        folded_in = microseconds(Step.FOLDED_IN, history)
    start = time.perf_counter()
    for _ in range(10_000):
        new_request_id(CLOCK.now_us())
    request_id = (time.perf_counter() - start) / 10_000 * 1e6
    holder.close()
    return {"look_up": looked_up, "of_which_history": read, "fold_in": folded_in, "request_id": request_id}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rate", type=float, default=2_000.0, help="requests a second of the open-loop generator")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help="keep the home here, and use one that is there")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        run_variant(options.serve, Home(options.home), options.port)
        return
    with tempfile.TemporaryDirectory(prefix="matinee-benchmark-") as scratch, ExitStack() as servers:
        path = options.home or Path(scratch) / "home"
        kept = path.is_dir() and read_plan(path / "data") is not None
        home = Home(path) if kept else make_home(path, options.users)
        report: dict[str, Any] = {"users": options.users, "microseconds": measure_answer(home, options.users)}
        targets = {variant: servers.enter_context(running(variant, home)) for variant in VARIANTS}
        if shutil.which("wrk"):
            report["peak"] = measure_peak(targets, Path(scratch), options)
        report["open_loop"] = measure_latency(targets, options)
    show(report, as_json=options.json)


def show(report: dict[str, Any], *, as_json: bool) -> None:
    """Print for programs, or for people."""
    print(json.dumps(report) if as_json else json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
