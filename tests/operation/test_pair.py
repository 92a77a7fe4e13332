"""Two balancers behind one address, two servers behind them, and what each loss costs a client.

Everything is real: HAProxy, keepalived and `matinee serve`, each on a machine of its own (a network namespace),
with the configuration that `matinee up pair` makes. `pytest --log-cli-level=INFO` shows what was measured.
"""

import logging
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from network import BALANCERS, SERVERS, missing, network
from operation_samples import until

from matinee.core.home import Home

LIMIT_SECONDS = 3.0


@pytest.fixture(scope="module")
def built():
    reason = missing()
    if reason:
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="mat") as name,
        network(Home(Path(name) / "home"), Path(name)) as opened,
    ):
        yield opened


@pytest.fixture
def machines(built):
    """The network, whole before and after."""
    built.heal()
    yield built
    built.heal()


@contextmanager
def asked(machines, **options):
    """Load on the shared address around the block, and some of it before and after; yields what was counted."""
    counted = {}
    with machines.load(connections=8, pause=0.005, **options) as result:
        time.sleep(1.0)
        yield counted
        time.sleep(2.0)
        counted |= result()
    logging.getLogger(__name__).info("%s", counted)


def other_than(name):
    return {"lb1": "lb2", "lb2": "lb1"}[name]


def test_a_lost_balancer_process_costs_less_than_three_seconds(machines):
    (active,) = machines.holders()
    with asked(machines, timeout=0.5) as counted:
        machines.kill(f"haproxy-{active}")
        until(lambda: machines.holders() == [other_than(active)], "the other has the address")
    assert counted["worst_gap"] < LIMIT_SECONDS, counted
    assert set(counted["statuses"]) == {"200"}


def test_a_lost_balancer_machine_costs_less_than_three_seconds(machines):
    (active,) = machines.holders()
    with asked(machines, timeout=0.5) as counted:
        machines.cut(active)
        until(lambda: other_than(active) in machines.holders(), "the other has the address")
    assert counted["worst_gap"] < LIMIT_SECONDS, counted
    assert set(counted["statuses"]) == {"200"}


def test_two_balancers_that_could_not_see_each_other_agree_again_at_little_cost(machines):
    (active,) = machines.holders()
    machines.cut(active)
    until(lambda: machines.holders() == list(BALANCERS), "both believe that they are alone")
    with asked(machines, timeout=0.5) as counted:  # from here on the client knows the other one
        machines.plug_in(active)
        until(lambda: len(machines.holders()) == 1, "one of them went back")
    assert counted["worst_gap"] < LIMIT_SECONDS, counted
    assert set(counted["statuses"]) <= {
        "200",
        "503",
    }  # the one that was alone saw no server


def test_a_balancer_that_comes_back_does_not_take_the_address_again(machines):
    (active,) = machines.holders()
    machines.kill(f"haproxy-{active}")
    until(lambda: machines.holders() == [other_than(active)], "the other has the address")
    with asked(machines) as counted:
        machines.heal()
    assert machines.holders() == [other_than(active)]
    assert (counted["errors"], set(counted["statuses"])) == ({}, {"200"})


@pytest.mark.parametrize("lost", ["kill", "cut"])
def test_a_lost_server_costs_no_get(machines, lost):
    (active,) = machines.holders()
    administration = machines.administration(active)
    with asked(machines) as counted:
        getattr(machines, lost)(SERVERS[0])
        until(lambda: administration.entries()[0].status == "DOWN", "the balancer noticed")
    assert (counted["errors"], set(counted["statuses"])) == ({}, {"200"})


def test_without_any_server_the_address_stays_and_says_when_to_come_back(machines):
    (active,) = machines.holders()
    for name in SERVERS:
        machines.kill(name)
    for name in BALANCERS:
        administration = machines.administration(name)
        until(lambda a=administration: {entry.status for entry in a.entries()} == {"DOWN"}, f"{name} sees none")
    with machines.load(connections=8, pause=0.05) as result:
        time.sleep(3.0)  # three of keepalived's looks at the balancer
        assert machines.holders() == [active]
        counted = result()
    assert (counted["errors"], set(counted["statuses"])) == ({}, {"503"}), counted
