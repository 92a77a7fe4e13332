"""The generated files: each program reads its own, and the two balancers cannot drift apart."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operation_samples import HAPROXIES

from matinee.core.errors import ConfigurationError, InvalidInput
from matinee.core.home import Home
from matinee.core.settings import (
    MetadataSettings,
    ScheduleSettings,
    ServingSettings,
    Settings,
    SimulationSettings,
    UpSettings,
)
from matinee.operation import haproxy
from matinee.operation.layout import SERVER_CONNECTIONS, Balancer, Pair, Server, address, balancer_of, servers_of
from matinee.operation.pair import files, keepalived, parse_server, shared_balancer
from matinee.operation.running import plan
from matinee.operation.supervisor import configuration
from tests_root import ROOT

PAIR = Pair(("192.0.2.11", "192.0.2.12"), "192.0.2.10/24", "eth0")
SERVERS = tuple(parse_server(text) for text in ("server1=192.0.2.21:8082", "server2=192.0.2.22:8082"))


@pytest.mark.parametrize("program", HAPROXIES)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "*"])
@pytest.mark.parametrize("rate", [0, 1_000])
def test_haproxy_reads_what_is_made(folder, program, host, rate):
    balancer = Balancer(
        host, 8080, (Server("a", "::1", 1), Server("b", "127.0.0.1", 2)), 8404, folder / "s", 500, rate
    )
    file = folder / "haproxy.cfg"
    file.write_text(haproxy.configuration(balancer))
    haproxy.check(file, program)


def test_what_haproxy_refuses_is_told_in_its_words(folder):
    file = folder / "haproxy.cfg"
    file.write_text(haproxy.configuration(Balancer("no.such.host.invalid", 1, SERVERS, 2, folder / "s", 500, 0)))
    with pytest.raises(ConfigurationError, match=r"no\.such\.host\.invalid"):
        haproxy.check(file, HAPROXIES[0])


def test_servers_stand_in_a_row_and_free_ports_differ():
    row = servers_of(UpSettings(replicas=3, server_port=9000))
    assert [(server.name, server.port) for server in row] == [
        ("server1", 9000),
        ("server2", 9001),
        ("server3", 9002),
    ]
    free = servers_of(UpSettings(replicas=5, server_port=0))
    assert len({server.port for server in free}) == 5


def test_statistics_and_administration_are_not_for_others(folder):
    text = haproxy.configuration(balancer_of(UpSettings(host="*"), Home(folder / "home"), SERVERS))
    assert "bind 127.0.0.1:8404\n" in text
    assert 'haproxy.sock" mode 600 ' in text


def test_the_balancer_takes_bodies_as_long_as_its_servers_do(folder):
    settings = Settings(serving=ServingSettings(max_body_bytes=123_456), up=UpSettings(server_port=0))
    text = plan(settings, Home(folder / "home")).files["haproxy.cfg"]
    assert "req.body_size gt 123456\n" in text
    shared = files(PAIR, shared_balancer(UpSettings(), SERVERS, body_bytes=123_456))
    assert "req.body_size gt 123456\n" in shared["haproxy.cfg"]


def test_connections_stay_below_the_limit_of_open_files(folder):
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("open files are not limited")
    balancer = balancer_of(UpSettings(connections=2 * hard), Home(folder / "home"), SERVERS)
    assert balancer.connections + 2 * SERVER_CONNECTIONS < hard


def test_what_cannot_be_is_told_before_anything_starts(folder):
    home = Home(folder / "home")
    with pytest.raises(ConfigurationError, match=r"up\.tls_certificate"):
        plan(Settings(home=home.path, up=UpSettings(tls_certificate=folder / "none.pem")), home)
    with pytest.raises(ConfigurationError, match="too long"):
        plan(Settings(), Home(folder / ("x" * 100)))
    with pytest.raises(ConfigurationError, match="cannot hold"):
        plan(Settings(), Home(folder / "50%"))


def test_supervisor_reads_what_is_made(folder):
    """With a home whose name means something to a shell."""
    home = Home(folder / "it's $HOME")
    settings = Settings(home=home.path, schedule=ScheduleSettings(train="*/7 * * * *"))
    file = folder / "supervisord.conf"
    file.write_text(configuration(settings, home, SERVERS, haproxy=["haproxy", "-db"]))
    code = (
        "import sys\nfrom supervisor.options import ServerOptions\n"
        "options = ServerOptions()\noptions.realize(['-n', '-c', sys.argv[1]])\n"
        "for group in options.process_group_configs:\n"
        "    for process in group.process_configs:\n"
        "        print(group.priority, process.name, process.command, sep='|')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    rows = [line.split("|") for line in done.stdout.splitlines()]
    assert [(int(priority), name) for priority, name, _ in rows] == [
        (100, "ingest"), (150, "schedule"), (200, "server1"), (200, "server2"), (300, "haproxy"),
    ]  # fmt: skip
    words = shlex.split(rows[0][2])
    assert words[-2:] == ["--home", str(home.path)]
    assert "*/7 * * * *" in shlex.split(rows[1][2])


def programs(text):
    """name → words of the command."""
    blocks = text.split("[program:")[1:]
    return {
        block.partition("]")[0]: shlex.split(block.partition("command=")[2].partition("\n")[0]) for block in blocks
    }


def test_a_world_asks_the_balancer_and_is_described_and_metadata_is_asked_for_where_it_is_set(folder):
    home = Home(folder / "home")
    up = UpSettings(port=8099, server_port=0, stats_port=0)
    world = SimulationSettings(viewers=100_000, apis_port=8190)
    made = plan(Settings(home=home.path, up=up, simulation=world), home)
    found = programs(made.files["supervisord.conf"])
    assert list(found) == ["ingest", "schedule", "metadata", "server1", "server2", "haproxy", "world"]
    asks = found["world"][found["world"].index("simulate") + 1 :]
    options = dict(zip(asks[1::2], asks[2::2], strict=True))
    assert asks[0] == "http://127.0.0.1:8099"
    assert options["--lines"] == f"sqlite:///{home.data}/log.sqlite"
    assert (options["--viewers"], options["--items"], options["--apis"]) == ("100000", "2700", "8190")
    assert "MATINEE_METADATA__ITEM_URL=http://127.0.0.1:8190/movie/{id}" in found["metadata"]

    metadata = MetadataSettings(user_url="http://127.0.0.1:1/user/{id}")
    made = plan(Settings(home=home.path, up=up, simulation=world, metadata=metadata), home)
    assert not any(word.startswith("MATINEE_") for word in programs(made.files["supervisord.conf"])["metadata"])
    made = plan(Settings(home=home.path, up=up, schedule=ScheduleSettings(train="")), home)
    assert list(programs(made.files["supervisord.conf"])) == ["ingest", "server1", "server2", "haproxy"]


@pytest.mark.parametrize(("words", "viewers"), [(["--world", 1_234], "1234"), ([], "77")])
def test_up_with_a_world_sets_its_viewers(folder, words, viewers):
    """The option stands above the setting."""
    environment = os.environ | {"MATINEE_HOME": str(folder / "home"), "MATINEE_SIMULATION__VIEWERS": "77"}
    done = subprocess.run(
        [sys.executable, "-m", "matinee", "up", "config", *map(str, words), "--json"],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    living = programs(json.loads(done.stdout)["supervisord.conf"])["world"]
    assert living[living.index("--viewers") + 1] == viewers


def test_the_files_in_deploy_are_what_the_command_makes():
    made = files(PAIR, shared_balancer(UpSettings(), SERVERS))
    assert {name: (ROOT / "deploy" / "pair" / name).read_text() for name in made} == made
    assert (ROOT / "deploy" / "pair" / "check-balancer").stat().st_mode & 0o111


def up_pair(*words, folder):
    words = ["--balancers", *PAIR.balancers, "--address", PAIR.virtual, *words, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "matinee", "up", "pair", *words],
        capture_output=True, text=True, cwd=folder, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)


def test_the_command_writes_the_files_or_says_what_is_wrong(folder):
    servers = [f"--server={server.name}={server.address}" for server in SERVERS]
    status, told = up_pair(*servers, "--into", "there", folder=folder)
    assert status == 0
    assert {Path(path).name for path in told["written"]} == {path.name for path in (ROOT / "deploy/pair").iterdir()}
    for path in told["written"]:
        assert (folder / path).read_text() == (ROOT / "deploy" / "pair" / Path(path).name).read_text()
    status, told = up_pair("--server=192.0.2.21", folder=folder)
    assert (status, told["kind"]) == (1, "InvalidInput")
    assert "name=host:port" in told["remedy"]


def test_two_balancers_differ_in_who_they_are_alone():
    one, other = (keepalived(PAIR, own).splitlines() for own in PAIR.balancers)
    differing = [(a.strip(), b.strip()) for a, b in zip(one, other, strict=True) if a != b]
    assert differing[1:] == [
        ("priority 110", "priority 100"),
        ("unicast_src_ip 192.0.2.11", "unicast_src_ip 192.0.2.12"),
        ("192.0.2.12", "192.0.2.11"),
    ]


def test_keepalived_reads_what_is_made(folder):
    program = shutil.which("keepalived", path="/usr/sbin:/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        pytest.skip("keepalived is not installed")
    check = folder / "check"
    check.write_text("#!/bin/bash\n")
    check.chmod(0o755)
    interfaces = [name for _, name in socket.if_nameindex() if name != "lo"]
    if not interfaces:
        pytest.skip("there is no network interface but loopback")
    pair = Pair(PAIR.balancers, PAIR.virtual, interfaces[0])
    file = folder / "keepalived.conf"
    file.write_text(keepalived(pair, "192.0.2.11", check=check, user="root"))
    done = subprocess.run([program, "-t", "-f", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("balancers", "virtual", "router"),
    [
        (("192.0.2.11", "192.0.2.11"), "192.0.2.10/24", 51),
        (("192.0.2.11", "192.0.2.12"), "192.0.2.12/24", 51),
        (("192.0.2.11", "2001:db8::1"), "192.0.2.10/24", 51),
        (("lb1", "192.0.2.12"), "192.0.2.10/24", 51),
        (("192.0.2.11", "192.0.2.12"), "192.0.2.10/24\nstate MASTER", 51),
        (("192.0.2.11", "192.0.2.12"), "192.0.2.10/24", 256),
    ],
)
def test_a_pair_that_cannot_be_is_refused(balancers, virtual, router):
    with pytest.raises(InvalidInput):
        Pair(balancers, virtual, "eth0", router)


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)
HOSTS = st.ip_addresses().map(str)


@given(NAMES, HOSTS, st.integers(1, 65_535))
def test_a_server_is_read_as_it_is_written(name, host, port):
    server = parse_server(f"{name}={address(host, port)}")
    assert (server.name, server.host, server.port) == (name, host, port)
    assert server.address == address(host, port)


@given(st.text(max_size=30))
def test_whatever_is_given_as_a_server_is_read_or_refused(text):
    try:
        server = parse_server(text)
    except InvalidInput:
        return
    assert 0 < server.port < 65_536
    assert not set(server.name + server.host) & set(" \n\t\"'")


@given(st.lists(st.ip_addresses(v=4) | st.ip_addresses(v=6), min_size=3, max_size=3))
def test_three_addresses_of_one_kind_are_a_pair(addresses: list[IPv4Address | IPv6Address]):
    one, other, shared = addresses
    fits = len(set(addresses)) == 3 and len({host.version for host in addresses}) == 1
    try:
        Pair((str(one), str(other)), f"{shared}/24", "eth0")
    except InvalidInput:
        assert not fits
    else:
        assert fits
