"""Everything at once for as long as one likes, at 20 times the scenario's rate; fails where something grows.

    python benchmarks/soak.py --minutes 10 [--log kafka] [--viewers 20000] [--items 2000] [--picture soak.png]

A world (`soak_world.py`) writes its past, which is taken in and learnt from; then `matinee up` runs ingest, two
servers and the balancer, and the world's viewers ask it, watch and rate, at `--rate` lines a second, dirt among
them. `--viewers 1000000 --items 27000` is the scenario's size. A further client asks at a steady 20 requests a
second, each timed from when it was due. Every `--every` seconds all is sampled: memory (PSS) of every role with all
it started, the parts of the home on disk, lines not in the lake yet, p99 of the answers.

It fails (status 1) where the second half shows one of these (`soak_watch.py`): private memory of a role, the log,
`logs/` or `run/` would grow in an hour by more than half of what it is and 64 MB (the lower end of the 95% interval
of the slope by Theil and Sen); the lake's latest version takes more than 100 bytes of each line; history more than
16 KB of each viewer; more than 30 s of lines are under way to the lake at the end; p99 is above 600 ms. Kafka's
topic is not judged: it keeps what its retention says; nor is the memory of a Tansu, which keeps the topic there.
And it fails where, when all has ended and the rest is taken in, not every line that was written is in the lake, in
quarantine, or counted as a duplicate; where more than 0.1% of requests failed, a role was down or started again, or
an alarm was raised.

Without `--log` the stream goes through Apache Kafka where `deploy/kafka/kafka fetch` has brought it, else Tansu.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import psutil

from matinee.core.alarms import Alarms
from matinee.core.clock import SystemClock
from matinee.core.control import open_control
from matinee.core.errors import StoreUnavailable
from matinee.core.home import Home
from matinee.events.offsets import Source
from matinee.lake.lake import Lake
from matinee.lake.rollup import rolled_up_end
from matinee.lake.schemas import INGEST_TABLES
from matinee.log.base import EventLog
from matinee.log.open import open_log
from matinee.operation.layout import free_ports, socket_in
from matinee.operation.supervisor import Control
from soak_watch import CLASSES, MEGABYTE, Asking, Sample, Watch, complaints, draw, failed, lost, summary
from soak_world import TIMES
from stream_logs import IN_MEMORY, LOGS, a_broker, kind_of_log

CLOCK = SystemClock()
WORLD = Path(__file__).with_name("soak_world.py")
END_SECONDS = 120
REQUESTS_A_SECOND = 20.0
MODELS: dict[str, dict[str, float]] = {"als": {"n_factors": 16, "reg": 0.3}, "popularity": {}}
"""With their parameters. The regularization is that of `make demo`, for the same kind of world: with its default
als did not pass the gate in a soak."""
ROW_TABLES = ("events", "received", "served", "quarantine")
NEVER = "0 0 29 2 *"
"""The schedule's time of training, which is not part of the soak."""


def main() -> int:
    """Run, and say whether all stayed within bounds."""
    arguments = _arguments()
    with ExitStack() as stack:
        folder = arguments.home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak")))
        url = stack.enter_context(a_broker(arguments.log))()
        brokers = [process.pid for process in psutil.Process().children()]
        soak = Soak(Home(folder / "home"), url, arguments)
        samples, said = soak.run(brokers)
    unjudged = [role for role in samples[-1].pids if role.startswith("broker") and arguments.log in IN_MEMORY]
    found = [
        *complaints(samples, arguments.viewers, arguments.rate, unjudged), *failed(said["answers"], said["world"]),
        *(f"alarm: {name}" for name in said["alarms"]), *lost(said["lines"]),
    ]  # fmt: skip
    half = summary(samples)
    report = {
        "log": arguments.log, "viewers": arguments.viewers, "items": arguments.items, "past": arguments.past,
        "times": arguments.times, "rate": arguments.rate, "minutes": arguments.minutes, "grows": found, **said,
        "second_half": half, "samples": [asdict(sample) for sample in samples],
    }  # fmt: skip
    if arguments.report:
        arguments.report.write_text(json.dumps(report))
    if arguments.picture:
        size = f"{arguments.viewers:,} viewers, {arguments.items:,} movies"
        draw(samples, f"{size}, {arguments.rate:,} lines/s, {arguments.log}", arguments.picture)
    for role, of in half["private_megabytes"].items():
        told(f"private memory of {role}: {of['last']:,.0f} MB, {of['an_hour']:+,.0f} MB an hour")
    print(json.dumps({name: value for name, value in report.items() if name != "samples"}, indent=2))
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--log", type=kind_of_log, choices=LOGS, default="broker")
    parser.add_argument("--viewers", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--past", type=float, default=20.0, help="ratings of the average viewer from before")
    parser.add_argument("--times", choices=TIMES, default="world", help="of the lines: the world's, or the clock's")
    parser.add_argument("--rate", type=int, default=10_000, help="lines a second")
    parser.add_argument("--model", choices=MODELS, default="als", help="that is to answer")
    parser.add_argument("--dirt", type=float, default=0.001, help="share of the lines that are dirty")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two samples")
    parser.add_argument("--maintain", type=int, default=20, help="commits between two rounds of maintenance")
    parser.add_argument("--home", type=Path, help="folder to work in, kept; a temporary one without")
    parser.add_argument("--picture", type=Path, help="file for the picture, as soak.png; needs matplotlib")
    parser.add_argument("--report", type=Path, help="file for all figures, with every sample, as JSON")
    return parser.parse_args()


def told(text: str) -> None:
    """Say on standard error how far it is."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr)


class Soak:
    """One soak in one home.

    Args:
        home: an empty one.
        url: of the event log, with the home's placeholders.
        arguments: of the command line.
    """

    def __init__(self, home: Home, url: str, arguments: argparse.Namespace) -> None:
        self._home = home
        self._url = home.resolve(url)
        self._arguments = arguments
        self._port, stats = free_ports(2)
        self._environment = os.environ | {
            "MATINEE_HOME": str(home.path),
            "MATINEE_LOG__URL": self._url,
            "MATINEE_LAKE__COMPACT_AFTER_COMMITS": str(arguments.maintain),
            "MATINEE_SCHEDULE__TRAIN": NEVER,
            "MATINEE_UP__PORT": str(self._port),
            "MATINEE_UP__SERVER_PORT": "0",
            "MATINEE_UP__STATS_PORT": str(stats),
            "MATINEE_UP__CLIENT_REQUESTS_PER_SECOND": "0",
        }

    def run(self, brokers: list[int]) -> tuple[list[Sample], dict[str, Any]]:
        """The samples; and what the world, and the client that asked, have to tell."""
        arguments = self._arguments
        with self._a_world() as world:
            past = _answer(world)["past"]
            told(f"the world's past: {past:,} lines")
            self._verb("ingest", "--until-idle")
            told("taken in")
            model = self._trained()
            with self._up() as (url, up), open_log(self._url, CLOCK) as log:
                told(f"up with {model}: {url}")
                _tell(world, url)
                asking = Asking(url, arguments.viewers, REQUESTS_A_SECOND)
                asking.start()
                watch = Watch(
                    lambda: self._pids(up, world.pid, brokers), self._parts(), _Stores(self._home, log), asking
                )
                samples = list(self._samples(watch))
                asking.end()
                _tell(world, "enough")
                lived = _answer(world)
        self._verb("ingest", "--until-idle")
        lines = self._lines(written=past + lived["lines"])
        return samples, {
            "model": model, "world": lived, "answers": dict(asking.steps), "alarms": self._alarms(), "lines": lines,
        }  # fmt: skip

    def _alarms(self) -> list[str]:
        """What `matinee status` would show: the names of all that were raised."""
        engine = open_control(self._home.resolve("sqlite:///{data}/control.sqlite"))
        try:
            return [alarm.name for alarm in Alarms(engine, CLOCK).latest(1_000)]
        finally:
            engine.dispose()

    def _lines(self, *, written: int) -> dict[str, int]:
        """How many the world wrote, what the lake counts of them and of the servers' own records, and its rows."""
        lake = Lake(self._home.resolve("{data}/lake"), CLOCK)
        counted = lake.read("batches").select(pl.sum("read", *CLASSES)).collect().row(0, named=True)
        rows = {f"{name}_rows": lake.read(name).select(pl.len()).collect().item() for name in ROW_TABLES}
        return {"written": written, **counted, **rows, "rolled_up": rolled_up_end(lake)}

    def _samples(self, watch: Watch) -> Iterator[Sample]:
        arguments = self._arguments
        for number in range(1, round(arguments.minutes * 60 / arguments.every) + 1):
            time.sleep(max(0.0, watch.began + number * arguments.every - time.monotonic()))
            sample = watch.sample()
            told(f"lag {sample.lag:,}, p99 {(sample.p99 or 0) * 1e3:.0f} ms, {sum(sample.memory.values()):,.0f} MB")
            yield sample

    def _parts(self) -> dict[str, Path]:
        data = self._home.data
        of_home = {
            "lake": data / "lake",
            "history": data / "history",
            "logs": self._home.logs,
            "run": self._home.run,
        }
        return {"log": data / "log.sqlite"} | of_home

    def _pids(self, up: int, world: int, brokers: list[int]) -> dict[str, int]:
        try:
            processes = Control(socket_in(self._home, "supervisor")).processes()
        except StoreUnavailable as error:
            raise SystemExit(f"the supervisor is gone: {error}") from error
        others = {f"broker {number}": pid for number, pid in enumerate(brokers, 1)}
        others |= {"world": world, "up": up}
        return {process.name: process.pid for process in processes} | others

    def _trained(self) -> str:
        """The model that answers: popularity where the one asked for does not pass the gate (too small a world)."""
        for model in dict.fromkeys((self._arguments.model, "popularity")):
            words = [word for name, value in MODELS[model].items() for word in ("--param", f"{name}={value}")]
            if self._verb("train", "--model", model, *words, fatal=model == "popularity"):
                return model
        raise AssertionError("the last failure is fatal")

    def _verb(self, *words: str, fatal: bool = True) -> bool:
        """Whether it did what was asked."""
        command = [sys.executable, "-m", "matinee", *words, "--json"]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode and fatal:
            raise SystemExit(f"matinee {' '.join(words)} failed:\n{done.stdout}\n{done.stderr}")
        return not done.returncode

    @contextmanager
    def _a_world(self) -> Iterator["subprocess.Popen[str]"]:
        given = ("viewers", "items", "rate", "past", "times", "dirt")
        words = [word for name in given for word in (f"--{name}", str(getattr(self._arguments, name)))]
        command = [sys.executable, str(WORLD), self._url, *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    @contextmanager
    def _up(self) -> Iterator[tuple[str, int]]:
        """The balancer's URL, and the process that the supervisor belongs to."""
        command = [sys.executable, "-m", "matinee", "up", "--json"]
        process = subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True)
        try:
            url = str(_answer(process)["url"])
            while not _answers(url):
                time.sleep(0.1)
            yield url, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=END_SECONDS)


class _Stores:
    """Lines in the log, those in the lake, and megabytes of the files of the lake's latest version."""

    def __init__(self, home: Home, log: EventLog) -> None:
        self._log = log
        self._lake = Lake(home.resolve("{data}/lake"), CLOCK)

    def __call__(self) -> tuple[int, int, float]:
        held = [self._lake.resume_position(Source(self._log.generation, p)) for p in self._log.ends()]
        tables = [pl.DataFrame(self._lake.table(name).get_add_actions(flatten=True)) for name in INGEST_TABLES]
        size = sum(int(table["size_bytes"].sum()) for table in tables if table.height) / MEGABYTE
        return sum(self._log.ends().values()), sum(held), size


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/recommend/1", trust_env=False).is_success
    except httpx.TransportError:
        return False


def _answer(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{process.args!r} ended")
    return dict(json.loads(line))


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


if __name__ == "__main__":
    sys.exit(main())
