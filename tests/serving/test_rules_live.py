"""A running server and the file of rules, changed under it."""

import time

import httpx
from serving_samples import make_bundle, server, wait_for

from matinee.core.clock import SystemClock
from matinee.core.files import write_atomically
from matinee.core.home import Home
from matinee.release.plan import publish
from matinee.serving.rules import RULES, LiveRules


def shown(url: str) -> list[str]:
    """What user u004 gets: items 4 to 13, if no rule says otherwise."""
    response = httpx.get(f"{url}/recommend/u004", params={"n": 5}, timeout=30)
    assert response.status_code == 200
    return response.text.strip().split(",")


def wait_until_shown(url: str, items: list[str], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while (found := shown(url)) != items:
        assert time.monotonic() < end, f"still {found}"
        time.sleep(0.05)


def test_a_running_server_follows_the_rules(home: Home):
    publish(home.data, make_bundle(home), clock=SystemClock())
    rules = home.data / RULES
    write_atomically(rules, b'blocked = ["a+5"]')
    with server(home, MATINEE_SERVING__DEADLINE_MS="60000") as (url, _):
        wait_for(url, seconds=120)
        assert "a+5" not in shown(url)  # from the first answer on
        wait_until_shown(url, ["a+4", "a+6", "a+7", "a+8", "a+9"])
        write_atomically(rules, b'blocked = ["a+4", "a+6"]\n[available."a+8"]\nuntil = 2001-01-01\n')
        wait_until_shown(url, ["a+5", "a+7", "a+9", "a+10", "a+11"])
        write_atomically(rules, b"blocked = [")
        end = time.monotonic() + 60
        while "matinee_rules_refused_total 1.0" not in httpx.get(f"{url}/metrics", timeout=30).text:
            assert time.monotonic() < end, "the broken file was never met"
            time.sleep(0.05)
        assert not {"a+4", "a+6", "a+8"} & set(shown(url))


def test_a_server_that_starts_with_a_broken_file_shows_nothing_that_was_blocked(home: Home):
    publish(home.data, make_bundle(home), clock=SystemClock())
    rules = home.data / RULES
    write_atomically(rules, b'blocked = ["a+4"]')
    LiveRules(rules, SystemClock()).look()  # as the server before it did
    write_atomically(rules, b"blocked = [")
    with server(home, MATINEE_SERVING__DEADLINE_MS="60000") as (url, _):
        wait_for(url, seconds=120)
        assert "a+4" not in shown(url)
        wait_until_shown(url, ["a+5", "a+6", "a+7", "a+8", "a+9"])
