"""The wall clock set back an hour under load."""

import httpx
from fault_samples import (
    CLOCK,
    all_answered,
    answer,
    faulty_server,
    fill_history,
    measured,
    metrics,
)

from matinee.core.clock import HOUR
from matinee.events.envelope import unwrap
from matinee.log.sqlite import SqliteLog
from matinee.serving.key_file import Scope, create_key
from operation.operation_samples import until


def test_a_clock_set_back_an_hour_changes_nothing_but_the_times(home, released):
    fill_history(home)
    _, token = create_key(home, "test", Scope.WRITE, clock=CLOCK)
    event = {"kind": "rating", "user": "u003", "item": "b+30", "rating": 5}
    headers = {"Authorization": f"Bearer {token}"}
    with faulty_server(home) as (url, _):
        before = until(lambda: (found := answer(url))[2] == "folded_in" and found, "it is folded in")
        with all_answered(url, at_least=200) as counted:
            statuses = [httpx.post(f"{url}/v1/events", json=event, headers=headers).status_code]
            (home.run / "clock-seconds").write_text("-3600")
            statuses += [httpx.post(f"{url}/v1/events", json=event, headers=headers).status_code for _ in range(3)]
        until(lambda: answer(url) == before, "the answer is the same")
        until(lambda: metrics(url)["matinee_load_shed"] == 0, "no clock that was set back is taken for load")
        until(lambda: metrics(url)["matinee_telemetry_queued"] == 0, "all is written")
        assert metrics(url)["matinee_telemetry_dropped_total"] == 0
    assert statuses == [202] * 4
    with SqliteLog(home.data / "log.sqlite", CLOCK) as log:
        batches = log.reader(lambda partition: 0).poll(max_records=100_000, timeout=0)
    received = [unwrap(value).received_us for batch in batches for value in batch.values]
    assert 3_599 * 1_000_000 < max(received) - min(received) < HOUR + 60_000_000
    measured(fault="clock back an hour", requests=counted["good"], slowest=counted["slowest"])
