"""Requests over kept-alive connections, every failure counted: run as a program, told to end by closing its input.

    python load.py HOST PORT PATH --connections 8 --at-least 1000 --pause 0 --timeout 3

Prints one JSON object: `good`, `statuses`, `errors`, `late` (answers that took more than the caller's 600 ms),
`seconds`, `worst_gap` (the longest time without a good answer), `slowest` in seconds. A connection that is closed
while no answer is awaited is opened again and is no failure. Before that one line, `begun`, when the first request
has come to an end. `--reached FILE` is made when `--at-least` so many have.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path

LATE_SECONDS = 0.6
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Results:
    def __init__(self):
        self.statuses = Counter()
        self.errors = Counter()
        self.began = self.last_good = time.monotonic()
        self.worst_gap = 0.0
        self.slowest = 0.0
        self.late = 0
        self.ending = False

    @property
    def done(self):
        return sum(self.statuses.values()) + sum(self.errors.values())

    def answered(self, status, began):
        now = time.monotonic()
        self.statuses[status] += 1
        self.slowest = max(self.slowest, now - began)
        self.late += now - began > LATE_SECONDS
        if status == 200:
            self.worst_gap = max(self.worst_gap, now - self.last_good)
            self.last_good = now


class Asking(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, request, results, pause):
        self.request, self.results, self.pause = request, results, pause
        self.closed = asyncio.get_running_loop().create_future()
        self.began = None

    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""
        self.ask()

    def ask(self):
        if self.results.ending:
            self.transport.close()
        elif not self.transport.is_closing():
            self.began = time.monotonic()
            self.transport.write(self.request)

    def data_received(self, data):
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        found = LENGTH.search(head)
        if not separator or found is None or len(body) < int(found[1]):
            return
        began, self.began, self.buffer = self.began, None, b""
        if began is None:  # an answer to nothing: the balancer says that it waited too long
            return
        self.results.answered(int(head[9:12]), began)
        if self.pause:
            asyncio.get_running_loop().call_later(self.pause, self.ask)
        else:
            self.ask()

    def connection_lost(self, error):
        if self.began is not None:
            self.results.errors[f"lost: {type(error).__name__}"] += 1
            self.began = None
        self.closed.set_result(None)


async def keep_asking(host, port, request, results, pause, timeout):
    loop = asyncio.get_running_loop()
    while not results.ending:
        try:
            async with asyncio.timeout(timeout):
                transport, asking = await loop.create_connection(
                    lambda: Asking(request, results, pause), host, port
                )
        except (OSError, TimeoutError) as error:
            results.errors[f"connect: {type(error).__name__}"] += 1
            await asyncio.sleep(0.02)
            continue
        while not asking.closed.done():
            await asyncio.wait([asking.closed], timeout=0.1)
            if asking.began is not None and time.monotonic() - asking.began > timeout:
                results.errors["timeout"] += 1
                asking.began = None
                transport.abort()


async def until_told(results, at_least, reached):
    told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not results.done:
        await asyncio.sleep(0.005)
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    while results.done < at_least:
        await asyncio.sleep(0.05)
    if reached is not None:
        reached.touch()
    await told
    results.ending = True


async def main(options):
    results = Results()
    request = f"GET {options.path} HTTP/1.1\r\nHost: test\r\n\r\n".encode()
    asking = [
        keep_asking(options.host, options.port, request, results, options.pause, options.timeout)
        for _ in range(options.connections)
    ]
    await asyncio.gather(until_told(results, options.at_least, options.reached), *asking)
    results.worst_gap = max(results.worst_gap, time.monotonic() - results.last_good)
    json.dump({
        "good": results.statuses[200], "statuses": results.statuses, "errors": results.errors, "late": results.late,
        "seconds": time.monotonic() - results.began, "worst_gap": results.worst_gap, "slowest": results.slowest,
    }, sys.stdout)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--at-least", type=int, default=0)
    parser.add_argument("--reached", type=Path)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--timeout", type=float, default=3.0)
    asyncio.run(main(parser.parse_args()))
