"""Real Granian processes, asked over real sockets."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, suppress

import httpx
import pytest
from serving_samples import PROGRAM, SNAPSHOT_END, act, make_bundle, server, users, wait_for

from matinee.core.clock import SystemClock
from matinee.core.errors import ConfigurationError
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.log.sqlite import SqliteLog
from matinee.release.plan import publish
from matinee.serving.server import require_free

CLOCK = SystemClock()


async def ask(port: int, paths: list[str]) -> list[tuple[int, dict[str, str], str]]:
    """Ask one after another over one kept-alive connection; raises where an answer fails."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return [await _ask_one(reader, writer, path) for path in paths]
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _ask_one(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str
) -> tuple[int, dict[str, str], str]:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, body.decode()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def log_records(home: Home) -> int:
    with SqliteLog(home.data / "log.sqlite", CLOCK) as log:
        return sum(len(batch) for batch in log.reader(lambda partition: 0).poll(max_records=100_000, timeout=0))


def test_bundles_are_exchanged_under_load_without_a_failed_or_mixed_answer(home: Home):
    versions = {make_bundle(home, name): name for name in ("a", "b")}
    first, second = versions
    publish(home.data, first, clock=CLOCK)
    done = threading.Event()
    published = Counter[str]()

    def swap() -> None:
        while not done.wait(0.15):
            version = second if published.total() % 2 == 0 else first
            publish(home.data, version, clock=CLOCK)
            published[version] += 1

    with server(home) as (url, _):
        wait_for(url)
        swapping = threading.Thread(target=swap)
        swapping.start()
        try:
            answers = asyncio.run(ask_until(port_of(url), lambda: published.total() >= 12))
        finally:
            done.set()
            swapping.join()
        metrics = httpx.get(f"{url}/metrics").text
    assert len(answers) >= 3_000
    assert {status for status, _, _ in answers} == {200}
    seen = Counter(headers["x-model-version"] for _, headers, _ in answers)
    assert set(seen) == set(versions)
    assert len({headers["x-request-id"] for _, headers, _ in answers}) == len(answers)
    for _, headers, body in answers:
        items = body.split(",")
        assert len(items) == 20
        assert {item[:2] for item in items} == {f"{versions[headers['x-model-version']]}+"}
    swaps = next(line for line in metrics.splitlines() if line.startswith("matinee_release_swaps_total"))
    assert float(swaps.split()[1]) >= 6


async def ask_until(port: int, enough) -> list[tuple[int, dict[str, str], str]]:
    paths = [f"/recommend/{user}" for user in users().ids] * 5
    answers: list[tuple[int, dict[str, str], str]] = []
    while len(answers) < 3_000 or not enough():
        for part in await asyncio.gather(*(ask(port, paths) for _ in range(4))):
            answers += part
    return answers


def test_a_corrupt_bundle_is_refused_while_the_old_one_answers(home: Home):
    first = make_bundle(home, "a")
    publish(home.data, first, clock=CLOCK)
    with server(home) as (url, _):
        wait_for(url)
        second = make_bundle(home, "b")
        (home.bundles / second / "popular.npy").write_bytes(b"short")
        publish(home.data, second, clock=CLOCK)
        end = time.monotonic() + 20
        while "matinee_release_refused_total 1.0" not in httpx.get(f"{url}/metrics").text:
            assert time.monotonic() < end
            time.sleep(0.02)
        answer = httpx.get(f"{url}/recommend/u001")
        assert (answer.status_code, answer.headers["X-Model-Version"]) == (200, first)
        assert "popular.npy" in httpx.get(f"{url}/readyz").text


def test_a_writer_in_another_process_changes_the_next_answer(home: Home, history: LmdbHistory):
    publish(home.data, make_bundle(home), clock=CLOCK)
    with server(home) as (url, _):
        wait_for(url)
        end = time.monotonic() + 20
        while "matinee_history_open 1.0" not in httpx.get(f"{url}/metrics").text:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert httpx.get(f"{url}/recommend/u000?n=3").text == "a+0,a+1,a+2"
        act(history, "u000", ["a+1"], position=SNAPSHOT_END)
        answer = httpx.get(f"{url}/recommend/u000?n=3")
    assert (answer.text, answer.headers["X-Matinee-Step"]) == ("a+3,a+5,a+7", "folded_in")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_writes_what_is_queued_and_ends_well(home: Home, number: signal.Signals):
    publish(home.data, make_bundle(home), clock=CLOCK)
    # A writer that waits a minute for more: only the end can bring these records to the log.
    with server(home, MATINEE_SERVING__TELEMETRY_SECONDS="60") as (url, process):
        wait_for(url)
        answers = asyncio.run(ask(port_of(url), ["/recommend/u001"] * 300))
        assert {status for status, _, _ in answers} == {200}
        process.send_signal(number)
        assert process.wait(20) == 0
    assert log_records(home) == 300


def test_a_stop_under_load_answers_what_it_has_read_and_records_it(home: Home):
    publish(home.data, make_bundle(home), clock=CLOCK)
    answered: list[int] = []

    async def until_it_ends(port: int) -> None:
        try:
            while True:
                for status, _, _ in await ask(port, ["/recommend/u001"]):
                    answered.append(status)
        except (OSError, asyncio.IncompleteReadError):
            return  # nobody listens any more

    async def load(port: int, process: "subprocess.Popen[bytes]") -> None:
        asking = [asyncio.create_task(until_it_ends(port)) for _ in range(4)]
        while len(answered) < 200:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        await asyncio.gather(*asking)

    with server(home) as (url, process):
        wait_for(url)
        asyncio.run(load(port_of(url), process))
        assert process.wait(20) == 0
    assert set(answered) == {200}
    # An answer that was cut off on its way out is recorded too; at most one of each connection.
    assert len(answered) <= log_records(home) <= len(answered) + 4


def test_told_to_stop_it_first_says_so_and_goes_on_answering(home: Home):
    publish(home.data, make_bundle(home), clock=CLOCK)
    with server(home, MATINEE_SERVING__DRAIN_SECONDS="2") as (url, process), httpx.Client(base_url=url) as kept:
        wait_for(url)
        assert "connection" not in kept.get("/recommend/u001").headers
        process.send_signal(signal.SIGTERM)
        refused = wait_for(url, status=503)
        assert "about to stop" in refused.text
        answers = [kept.get("/recommend/u001"), httpx.get(f"{url}/recommend/u002"), httpx.get(f"{url}/healthz")]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["Connection"] for answer in (refused, *answers)} == {"close"}
        assert process.poll() is None
        assert process.wait(20) == 0
    assert log_records(home) == 3


def test_no_request_is_lost_by_a_stop_when_those_who_ask_heed_it(home: Home):
    publish(home.data, make_bundle(home), clock=CLOCK)
    statuses: list[int] = []

    async def ask_while_ready(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:  # like a balancer: on a kept connection until that is closed or the server is not ready
            status, headers, _ = await _ask_one(reader, writer, "/recommend/u001")
            statuses.append(status)
            if headers.get("connection") == "close":
                assert await reader.read() == b""
                writer.close()
                return

    async def load(port: int, process: "subprocess.Popen[bytes]") -> None:
        asking = [asyncio.create_task(ask_while_ready(port)) for _ in range(8)]
        while len(statuses) < 200:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        await asyncio.gather(*asking)

    with server(home, MATINEE_SERVING__DRAIN_SECONDS="5") as (url, process):
        wait_for(url)
        asyncio.run(asyncio.wait_for(load(port_of(url), process), 60))
        process.send_signal(signal.SIGTERM)  # nobody asks any more: the second signal does not wait
        assert process.wait(20) == 0
    assert set(statuses) == {200}
    assert log_records(home) == len(statuses)


def test_a_server_that_is_behind_sheds_to_what_is_cheapest_and_answers(home: Home, history: LmdbHistory):
    publish(home.data, make_bundle(home), clock=CLOCK)
    act(history, "u000", ["a+1"], position=SNAPSHOT_END)
    # No event loop is in time by a millionth of a second, so this one is always behind.
    with server(home, MATINEE_SERVING__SHED_LATE_MS="0.001") as (url, _):
        wait_for(url)
        end = time.monotonic() + 60
        while "matinee_load_shed 2.0" not in httpx.get(f"{url}/metrics").text:
            assert time.monotonic() < end
            time.sleep(0.02)
        answer = httpx.get(f"{url}/recommend/u000?n=3")
        assert (answer.status_code, answer.headers["X-Matinee-Step"]) == (200, "personal")
        counted = 'matinee_answers_without_total{part="history",reason="overload"} 1.0'
        assert counted in httpx.get(f"{url}/metrics").text


def test_a_request_with_a_body_of_ten_megabytes_is_refused_unread(home: Home):
    with server(home) as (url, _):
        wait_for(url, "/healthz")
        with suppress(httpx.WriteError):  # the answer may come, and the connection go, before all of it is sent
            answer = httpx.request("GET", f"{url}/recommend/u001", content=b"x" * 10_000_000, timeout=20)
            assert answer.status_code == 413
        assert httpx.request("GET", f"{url}/recommend/u001", content=b"x").status_code == 400
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_it_starts_without_a_release_and_without_a_history(home: Home):
    with server(home) as (url, _):
        assert wait_for(url, "/healthz").text == "alive\n"
        assert httpx.get(f"{url}/recommend/u001").status_code == 503


def test_a_taken_port_is_a_clear_error(home: Home):
    import socket

    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port}.*in use"):
            require_free("127.0.0.1", port)


def test_a_second_server_on_the_same_port_is_refused(home: Home):
    with server(home) as (url, _):
        wait_for(url, "/healthz")
        second = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(home.path)], cwd=home.path, capture_output=True, text=True,
            env={"MATINEE_SERVING__PORT": str(port_of(url))}, timeout=60, check=False,
        )  # fmt: skip
        assert second.returncode != 0
        assert "cannot listen on" in second.stderr


def test_more_connections_than_usual_are_all_answered(home: Home):
    publish(home.data, make_bundle(home), clock=CLOCK)

    async def many(port: int) -> list[list[tuple[int, dict[str, str], str]]]:
        return await asyncio.gather(*(ask(port, ["/recommend/u001"] * 3) for _ in range(400)))

    with server(home) as (url, _):
        wait_for(url)
        answers = asyncio.run(many(port_of(url)))
    assert {status for part in answers for status, _, _ in part} == {200}


HEAVY = ("polars", "deltalake", "numba", "scipy", "sqlalchemy", "mlflow", "matinee.training", "matinee.evaluation",
         "matinee.lake", "matinee.ingest", "matinee.dataset")  # fmt: skip


def test_nothing_heavy_is_imported():
    program = (
        "import sys, matinee.serving.server, matinee.serving.app, matinee.serving.local\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(', '.join(found) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
