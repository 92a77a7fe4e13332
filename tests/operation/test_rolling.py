"""A rolling restart that cannot go on stops, and leaves the other servers as they are."""

import threading

import httpx
import pytest
from operation_samples import OK, Toy, balanced, until

from matinee.core.clock import SystemClock
from matinee.core.errors import StoreUnavailable
from matinee.operation.rolling import restart_servers


class Restarting:
    """Stands for the supervisor: does to a toy what a restart is to do."""

    def __init__(self, what=lambda: None):
        self.what = what
        self.restarted = []

    def restart_server(self, name):
        self.restarted.append(name)
        self.what()


def restart(administration, supervisor, told, patience=2.0):
    return restart_servers(
        administration,
        supervisor,
        SystemClock(),
        lambda server, what: told.append((server, what)),
        patience=patience,
    )


def all_up(administration):
    return all(entry.is_up for entry in administration.entries())


def test_each_is_restarted_in_turn_while_it_is_asked_nothing(folder):
    with Toy() as one, Toy() as other, balanced(folder, [one, other]) as (url, administration, _):
        until(lambda: all_up(administration), "both are up")
        asked = {}

        class Looking(Restarting):
            def restart_server(self, name):
                super().restart_server(name)
                before = len(one.asked), len(other.asked)
                for _ in range(4):
                    assert httpx.get(url).status_code == 200
                asked[name] = len(one.asked) - before[0], len(other.asked) - before[1]

        told = []
        assert restart(administration, Looking(), told, patience=120) == ["toy1", "toy2"]
        assert asked == {"toy1": (0, 4), "toy2": (4, 0)}
        assert [server for server, _ in told] == ["toy1"] * 3 + ["toy2"] * 3
        assert all_up(administration)


def test_when_one_does_not_come_back_the_others_are_left_alone(folder):
    with Toy() as one, Toy() as other, balanced(folder, [one, other]) as (url, administration, _):
        until(lambda: all_up(administration), "both are up")

        def never_ready():
            one.ready = False

        supervisor = Restarting(never_ready)
        with pytest.raises(StoreUnavailable, match=r"toy1 at .* did not come back .* it is DOWN"):
            restart(administration, supervisor, [])
        assert supervisor.restarted == ["toy1"]
        assert httpx.get(url).status_code == 200


def test_one_that_does_not_finish_is_not_restarted_and_gets_requests_again(folder):
    with (
        Toy(lambda head: "wait" if "forever" in head else OK) as one,
        balanced(folder, [one]) as (url, administration, _),
    ):
        until(lambda: all_up(administration), "it is up")
        asking = threading.Thread(target=httpx.post, args=(f"{url}/forever",), kwargs={"timeout": 60})
        asking.start()
        until(lambda: administration.entries()[0].requests == 1, "the request is under way")
        supervisor = Restarting()
        with pytest.raises(StoreUnavailable, match=r"finish its requests within 2 s.* 1 requests under way"):
            restart(administration, supervisor, [])
        assert supervisor.restarted == []
        until(lambda: all_up(administration), "it is back")
        assert httpx.get(f"{url}/quick").status_code == 200
        asking.join()


def test_with_one_down_already_nothing_is_done(folder):
    with Toy() as one, Toy() as other, balanced(folder, [one, other]) as (_, administration, _statistics):
        other.ready = False
        until(lambda: administration.entries()[1].status == "DOWN", "it is down")
        supervisor = Restarting()
        with pytest.raises(StoreUnavailable, match=r"toy2 .* before anything is done"):
            restart(administration, supervisor, [])
        assert supervisor.restarted == []
