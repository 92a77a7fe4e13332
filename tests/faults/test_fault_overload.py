"""More than servers can do: answers become cheaper, and none becomes an error."""

from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from fault_samples import all_answered, faulty_server, fill_history, folded_in, measured, metrics, named

from matinee.operation.layout import CROWD
from operation.operation_samples import RETRIES, balanced, in_service, until

UNKEPT = {"MATINEE_SERVING__FOLD_IN_CACHE_MEGABYTES": "0"}


@pytest.fixture
def slow_to_score(home, released):
    """A home whose servers fold everybody in, which takes 20 ms: for 200 who ask at once, four seconds."""
    fill_history(home)
    home.run.mkdir(parents=True, exist_ok=True)
    (home.run / "scoring-seconds").write_text("0.02")


def overload(home, url, servers, fault):
    """Let 200 ask as fast as they are answered. All are, next to none with scoring, and soon everybody is again."""
    for server in servers:
        until(lambda server=server: folded_in(server), "the history is read")
    # How late they are tells of the machine as well: without shedding it would be four seconds on any.
    with all_answered(url, late_share=1, connections=200, pause=0, at_least=2_000) as counted:
        pass
    shown = [metrics(server) for server in servers]
    shed = sum(value for page in shown for name, value in page.items() if name.endswith('reason="overload"}'))
    assert shed > 0.9 * counted["good"]
    assert all(page["matinee_load_raised_total"] > 0 for page in shown)
    assert {"scoring", "history"} & {line["sheds"] for line in named(home, "load_changed")}
    until(lambda: folded_in(url), "answers are whole again")
    measured(fault=fault, requests=counted["good"], per_second=counted["good"] / counted["seconds"], shed=shed,
             slowest=counted["slowest"])  # fmt: skip


def test_a_server_that_is_asked_for_more_than_it_can_do_answers_more_cheaply(home, slow_to_score):
    with faulty_server(home, **UNKEPT) as (url, _):
        overload(home, url, [url], "overload of one server")


def test_so_do_servers_behind_the_balancer_which_does_not_ask_again_for_what_is_late(folder, home, slow_to_score):
    with ExitStack() as stack:
        servers = [stack.enter_context(faulty_server(home, **UNKEPT))[0] for _ in range(2)]
        ports = [SimpleNamespace(port=int(server.rpartition(":")[2])) for server in servers]
        url, administration, statistics = stack.enter_context(balanced(folder, ports, connections=1_000))
        overload(home, url, servers, "overload of two servers behind the balancer")
        assert in_service(administration) == ["toy1", "toy2"]
        again = metrics(statistics)['haproxy_backend_retry_warnings_total{proxy="answers"}']
        assert again <= 2 * CROWD * RETRIES  # of those that came before it was crowded
