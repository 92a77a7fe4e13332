"""A network of namespaces: two balancers that share an address, two servers, one client, on one switch."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from operation_samples import load, until

from matinee.core.clock import SystemClock
from matinee.core.errors import StoreUnavailable
from matinee.core.settings import UpSettings
from matinee.operation import haproxy
from matinee.operation.haproxy import Administration
from matinee.operation.layout import Pair, Server
from matinee.operation.pair import check_script, keepalived, shared_balancer
from matinee.release.plan import publish
from serving.serving_samples import make_bundle

ADDRESSES = {
    "lb1": "10.77.0.11",
    "lb2": "10.77.0.12",
    "s1": "10.77.0.21",
    "s2": "10.77.0.22",
    "client": "10.77.0.31",
}
BALANCERS, SERVERS = ("lb1", "lb2"), ("s1", "s2")
SHARED = "10.77.0.10"
PATHS = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def missing():
    """What this machine lacks to build the network, or nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "keepalived", "bash"):
        if shutil.which(program, path=PATHS) is None:
            return f"{program} is not installed"
    done = subprocess.run(["ip", "netns", "add", f"mat{os.getpid()}x"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"network namespaces cannot be made here: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", f"mat{os.getpid()}x"], check=True)
    return ""


class Network:
    """The machines, by name; what runs on each can be killed, and each can be cut off."""

    def __init__(self, home, folder, stack):
        self.home, self.folder = home, folder
        self.prefix = f"mat{os.getpid()}"
        self.pair = Pair((ADDRESSES["lb1"], ADDRESSES["lb2"]), f"{SHARED}/24", "eth0")
        servers = tuple(Server(name, ADDRESSES[name], 8082) for name in SERVERS)
        self.balancer = shared_balancer(UpSettings(client_requests_per_second=0, connections=1_000), servers)
        self.running = {}
        self._stack = stack
        self._build()
        for name in SERVERS:
            self.start_server(name)
        for name in BALANCERS:
            self.start_haproxy(name)
            self.start_keepalived(name)
        self.heal()

    def _build(self):
        self._namespace("hub")
        self._ip("hub", "link", "add", "switch", "type", "bridge")
        self._ip("hub", "link", "set", "switch", "up")
        for name, address in ADDRESSES.items():
            self._namespace(name)
            peer = ["peer", "name", "eth0", "netns", f"{self.prefix}{name}"]
            self._ip("hub", "link", "add", name, "type", "veth", *peer)
            self._ip("hub", "link", "set", name, "master", "switch", "up")
            self._ip(name, "address", "add", f"{address}/24", "dev", "eth0")
            self._ip(name, "link", "set", "eth0", "up")

    def _namespace(self, name):
        subprocess.run(["ip", "netns", "add", f"{self.prefix}{name}"], check=True)
        self._stack.callback(subprocess.run, ["ip", "netns", "del", f"{self.prefix}{name}"], check=True)
        self._ip(name, "link", "set", "lo", "up")

    def _ip(self, name, *words):
        subprocess.run(["ip", "-n", f"{self.prefix}{name}", *words], check=True)

    def inside(self, name):
        return ["ip", "netns", "exec", f"{self.prefix}{name}"]

    def _start(self, key, name, words):
        with (self.folder / f"{key}.out").open("ab") as output:
            process = subprocess.Popen(
                [*self.inside(name), *words], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=self.folder, env=os.environ | {"PATH": PATHS},
            )  # fmt: skip
        self.running[key] = process
        self._stack.callback(self._end, process)

    def _end(self, process):
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start_server(self, name):
        words = ["--host", ADDRESSES[name], "--port", "8082", "--name", name, "--home", str(self.home.path)]
        self._start(name, name, [sys.executable, "-m", "matinee", "serve", *words])

    def start_haproxy(self, name):
        file = self.folder / f"{name}.cfg"
        balancer = replace(self.balancer, socket=self.folder / f"{name}.sock", user="")
        file.write_text(haproxy.configuration(balancer))
        self._start(f"haproxy-{name}", name, [haproxy.program(), "-db", "-f", str(file)])

    def start_keepalived(self, name):
        check, file = self.folder / "check-balancer", self.folder / f"{name}.conf"
        check.write_text(check_script(self.balancer.stats_port))
        check.chmod(0o755)
        file.write_text(keepalived(self.pair, ADDRESSES[name], check=check))
        pids = [f"--{kind}={self.folder / f'{name}.{kind}'}" for kind in ("pid", "vrrp_pid")]
        words = ["--dont-fork", "--vrrp", "--log-console", "--log-detail", f"--use-file={file}", *pids]
        self._start(f"keepalived-{name}", name, ["keepalived", *words])

    def kill(self, key):
        self.running[key].send_signal(signal.SIGKILL)
        self.running[key].wait()

    def cut(self, name):
        """Pull the plug: what is sent is lost, and nobody is told."""
        self._ip("hub", "link", "set", name, "nomaster")

    def plug_in(self, name):
        self._ip("hub", "link", "set", name, "master", "switch")

    def holders(self):
        """The balancers that have the shared address."""
        shown = {name: self.shown(name) for name in BALANCERS}
        return [name for name, text in shown.items() if f"{SHARED}/" in text]

    def shown(self, name):
        words = ["ip", "-n", f"{self.prefix}{name}", "-o", "address", "show", "eth0"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def heal(self):
        """Start and plug in what a test ended, and wait until one balancer answers and both see both servers."""
        for name in ADDRESSES:
            self.plug_in(name)
        for name in SERVERS:
            if self.running[name].poll() is not None:
                self.start_server(name)
        for name in BALANCERS:
            if self.running[f"haproxy-{name}"].poll() is not None:
                self.start_haproxy(name)
        for name in BALANCERS:
            until(partial(self.sees_both_servers, name), f"{name} sees both servers")
        until(lambda: len(self.holders()) == 1, "one balancer has the shared address")

    def sees_both_servers(self, name):
        try:
            return all(entry.is_up for entry in self.administration(name).entries())
        except StoreUnavailable:
            return False  # it is about to listen

    def administration(self, name):
        return Administration(self.folder / f"{name}.sock")

    def load(self, **options):
        return load(SHARED, self.balancer.port, inside=self.inside("client"), **options)


@contextmanager
def network(home, folder):
    folder.chmod(0o711)  # keepalived's check runs as somebody else
    publish(home.data, make_bundle(home), clock=SystemClock())
    with ExitStack() as stack:
        yield Network(home, folder, stack)
