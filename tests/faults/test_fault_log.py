"""The event log held by somebody, damaged, or on a full disk; and a full disk for the program's own log."""

import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import httpx
from fault_samples import CLOCK, all_answered, measured, metrics, named, seconds_until, total

from matinee.log.sqlite import SqliteLog
from matinee.serving.key_file import Scope, create_key
from operation.operation_samples import until
from serving.serving_samples import server, wait_for

EVENT = {"kind": "rating", "user": "u003", "item": "b+30", "rating": 5}


def fill(disk):
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4_096)):
            pass


def telemetry(url):
    return {
        name.removeprefix("matinee_telemetry_").removesuffix("_total"): value
        for name, value in metrics(url).items()
        if name.startswith("matinee_telemetry_") and "_created" not in name
    }


def post(url, token, key):
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
    return httpx.post(f"{url}/v1/events", json=EVENT, headers=headers, timeout=30)


def adds_up(counts):
    return counts["offered"] == counts["written"] + counts["dropped"] + counts["queued"]


def test_a_log_that_somebody_holds_stalls_no_answer_and_what_is_lost_is_counted(home, released):
    _, token = create_key(home, "test", Scope.WRITE, clock=CLOCK)
    path = home.data / "log.sqlite"
    SqliteLog(path, CLOCK).close()
    with server(home, MATINEE_SERVING__TELEMETRY_QUEUE="50") as (url, _):
        wait_for(url)
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with all_answered(url, at_least=200) as stalled:
                refused = post(url, token, "held")
            found = telemetry(url)
            holder.execute("ROLLBACK")
        until(lambda: telemetry(url)["queued"] == 0, "what waited is written")
        assert post(url, token, "held").status_code == 202
        last = telemetry(url)
    assert refused.status_code == 503  # not acknowledged: not lost either
    assert int(refused.headers["Retry-After"]) > 0
    assert adds_up(found)
    assert adds_up(last)
    assert (found["queued"], found["dropped"], found["offered"]) == (50, stalled["good"] - 50, stalled["good"])
    measured(fault="log held", requests=stalled["good"], records_lost=int(found["dropped"]),
             slowest=stalled["slowest"])  # fmt: skip


def test_a_log_that_is_held_for_long_is_left_alone_by_posts(home, released):
    _, token = create_key(home, "test", Scope.WRITE, clock=CLOCK)
    path = home.data / "log.sqlite"
    SqliteLog(path, CLOCK).close()
    with server(home) as (url, _), ThreadPoolExecutor(8) as pool:
        wait_for(url)
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            posts = [pool.submit(post, url, token, f"held-{number}") for number in range(8)]
            opened = seconds_until(
                lambda: metrics(url)['matinee_breaker_opened_total{store="event_log"}'] > 0, "it is left alone"
            )
            refused = []

            def at_once():
                asked = time.monotonic()
                refused.append(post(url, token, "held-8"))
                return "left alone" in refused[-1].json()["detail"] and time.monotonic() - asked

            took = until(at_once, "a post is refused without asking the log")
            assert metrics(url)['matinee_breaker_state{store="event_log"}'] > 0
            refused += [one.result() for one in posts]
            holder.execute("ROLLBACK")
        back = seconds_until(lambda: post(url, token, "held-8").status_code == 202, "posts are taken again")
        assert metrics(url)['matinee_breaker_state{store="event_log"}'] == 0
        assert metrics(url)["matinee_events_accepted_total"] == 1
    assert {one.status_code for one in refused} == {503}
    assert all(int(one.headers["Retry-After"]) > 0 for one in refused)
    assert "event_log" in {line["store"] for line in named(home, "breaker_opened")}
    measured(fault="log held for long, posts", opened=opened, refused_after=took, back=back)


def test_a_damaged_log_costs_its_records_and_no_answer(home, released):
    path = home.data / "log.sqlite"
    SqliteLog(path, CLOCK).close()
    path.write_bytes(os.urandom(8_192))
    with server(home) as (url, _):
        wait_for(url)
        with all_answered(url, at_least=100) as counted:
            until(lambda: telemetry(url)["dropped"] > 0, "records are given up")
        found = telemetry(url)
        assert adds_up(found)
    told = named(home, "telemetry_not_written")
    assert "not a database" in told[0]["error"]
    measured(fault="log damaged", requests=counted["good"], slowest=counted["slowest"],
             records_lost=int(found["dropped"]))  # fmt: skip


def test_a_full_disk_of_the_log_costs_its_records_and_no_answer(home, released, small_disk):
    path = small_disk / "log.sqlite"
    _, token = create_key(home, "test", Scope.WRITE, clock=CLOCK)
    SqliteLog(path, CLOCK).close()
    fill(small_disk)
    where = {"MATINEE_LOG__URL": f"sqlite:///{path}", "MATINEE_SERVING__TELEMETRY_QUEUE": "50"}
    with server(home, **where) as (url, _):
        wait_for(url)
        with all_answered(url, at_least=300) as counted:
            until(lambda: telemetry(url)["dropped"] > 0, "records are dropped")
            refused = post(url, token, "full")
        found = telemetry(url)
        (small_disk / "filler").unlink()
        back = time.monotonic()
        until(lambda: telemetry(url)["queued"] == 0, "what waited is written")
        back = time.monotonic() - back
        assert post(url, token, "full").status_code == 202
        assert adds_up(telemetry(url))
    assert refused.status_code == 503
    assert adds_up(found)
    assert str(path) in named(home, "telemetry_not_written")[0]["error"]
    assert named(home, "events_not_appended")  # of the post: an opening that failed has another name
    measured(fault="disk of the event log full", requests=counted["good"],
             slowest=counted["slowest"], records_lost=int(found["dropped"]), back=back)  # fmt: skip


def test_a_full_disk_of_the_log_folder_costs_lines_and_no_answer(home, released, small_disk):
    home.logs.rmdir()
    home.logs.symlink_to(small_disk)
    plan = home.data / "release.json"
    with server(home, MATINEE_BUDGET__RESERVE_MEGABYTES="0") as (url, process):  # else it stops before it is full
        wait_for(url)
        fill(small_disk)

        def refuse_one_more():
            """Each is worth a line; the last page of the file still has room for some."""
            before = metrics(url)["matinee_release_refused_total"]
            plan.write_bytes(plan.read_bytes() + b"{")
            until(lambda: metrics(url)["matinee_release_refused_total"] > before, "a release is refused")

        def refused():
            return len(named(home, "release_refused"))

        with all_answered(url, at_least=200) as counted:
            while metrics(url)["matinee_release_refused_total"] < refused() + 2:  # one may be on its way
                refuse_one_more()
        lines = refused()
        (small_disk / "filler").unlink()
        refuse_one_more()
        until(lambda: refused() > lines, "lines are written again")
        assert process.poll() is None
        assert total(metrics(url), 'matinee_responses_total{status="500"') == 0
    measured(fault="disk of logs/ full", requests=counted["good"], slowest=counted["slowest"])
