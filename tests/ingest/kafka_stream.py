"""A stream in a Kafka topic with repeats, `matinee ingest` processes, and what the lake must then hold."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from urllib.error import URLError
from urllib.request import urlopen

import polars as pl
from confluent_kafka import Consumer, TopicPartition
from ingest_world import again_and_again
from prometheus_client.parser import text_string_to_metric_families

from kafka_brokers import free_port, until
from matinee.core.alarms import Alarms
from matinee.core.clock import SystemClock
from matinee.core.control import open_control
from matinee.core.errors import StoreUnavailable
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.history.open import open_history
from matinee.ingest.rebuild import catch_up, differences
from matinee.lake.lake import Lake
from matinee.log.open import open_log

PARTITIONS = 3
BEGIN = datetime(2022, 1, 1, tzinfo=UTC)
POISON = (b"", b"\xff\xfe\x00", "Stra\u00dfe".encode("latin-1"), b"no such form", b"x" * 70_000)
"""Empty, binary, in another encoding, of no known form, and longer than a record may be."""


class Stream:
    """Lines of all forms, some to be repaired and some past repair. What a user does is spread over the partitions.

    All are of ten minutes, and a repeat goes where the line went, so that every repeat is a duplicate.
    """

    def __init__(self, url, seed=1):
        self.log = open_log(url, SystemClock())
        self.chance = random.Random(seed)
        self.n = 0
        self.sent = [[] for _ in range(PARTITIONS)]
        self.refused = 0

    def line(self, n, partition):
        time = BEGIN + timedelta(milliseconds=n)
        user = (7 * n + 53 * partition) % 150  # another one in each partition: no line is in two
        film = f"film+{n % 97}+1999"
        request = {
            17: f"GET /rate/{film}={1 + n // 20 % 5}",
            18: f"recommendation request h:80, status 200, result: {film}, heat+1995, {n % 90} ms",
            19: f"GZET /data/m/{film}/{n % 120}.mpg",
        }.get(n % 20, f"GET /data/m/{film}/{n % 120}.mpg")
        return f"{time:%Y-%m-%dT%H:%M:%S.%f},{user},{request}".encode()

    def produce(self, batches=1):
        for _ in range(batches):
            for partition in range(PARTITIONS):
                new = [self.line(self.n + k, partition) for k in range(20)]
                if self.chance.random() < 0.3:
                    new.append(self.chance.choice(POISON))
                self.chance.shuffle(new)
                again = self.chance.sample(self.sent[partition][-200:], min(3, len(self.sent[partition])))
                self._append([*new, *again], partition)
            self.n += 20

    def flowing(self):
        """Produces all the time until the block is left."""
        return again_and_again(self.produce, 0.02)

    def count(self):
        """Lines that were acknowledged."""
        return sum(map(len, self.sent))

    def _append(self, lines, partition):
        while True:
            try:
                self.log.append(lines, partition=partition)
            except StoreUnavailable:  # some may be in the topic all the same
                self.refused += 1
            else:
                self.sent[partition] += lines
                return

    def close(self):
        self.log.close()


class Processes:
    """`matinee ingest` processes of one home."""

    def __init__(self, folder, url):
        self.home = Home(folder / "home")
        self.environment = {
            **os.environ,
            "MATINEE_HOME": str(self.home.path),
            "MATINEE_LOG__URL": url,
            "MATINEE_LAKE__COMPACT_AFTER_COMMITS": "7",
            "MATINEE_LAKE__KEEP_WATCHES_DAYS": "100000",
            "POLARS_MAX_THREADS": "1",
        }
        self.output = folder / "output"
        self.running = []
        self.started = 0
        self.lake = Lake(self.home.resolve("{data}/lake"), SystemClock())

    def start(self, *options, commit_seconds=0.2):
        environment = {**self.environment, "MATINEE_LAKE__COMMIT_SECONDS": str(commit_seconds)}
        with self.output.open("a") as output:
            command = [sys.executable, "-m", "matinee", "ingest", "--json", *options]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        self.running.append(process)
        self.started += 1
        return process

    def with_metrics(self):
        """What is started next shows its figures at this port."""
        port = free_port()
        self.environment["MATINEE_INGEST__METRICS_PORT"] = str(port)
        return port

    def alarms(self):
        engine = open_control(self.home.resolve("sqlite:///{data}/control.sqlite"))
        try:
            return Alarms(engine, SystemClock()).latest()
        finally:
            engine.dispose()

    def kill(self, process):
        process.kill()
        process.wait()
        self.running.remove(process)

    def end(self, process):
        """As a supervisor does; it must end well."""
        log = self.home.logs / "ingest.jsonl"
        self.wait(lambda: log.read_text().count('"ingest_started"') >= self.started)  # it hears signals by now
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0, self.output.read_text()
        self.running.remove(process)

    def close(self):
        for process in self.running:
            process.kill()
            process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def read(self):
        """Records that the lake counts."""
        return self.lake.read("batches", columns=["read"]).collect()["read"].sum()

    def history(self):
        return open_history(self.home.resolve("lmdb:///{data}/history"), read_only=True)

    def applied(self):
        """Records that the history has passed."""
        with self.history() as history:
            return sum(history.applied().values())

    def reads(self, records):
        """Wait until the lake has got so many more."""
        goal = self.read() + records
        self.wait(lambda: self.read() >= goal)

    def wait(self, condition):
        def ended():
            return [process.returncode for process in self.running if process.poll() is not None]

        until(lambda: condition() or ended(), seconds=120)
        assert not ended(), self.output.read_text()


def shown(port):
    """What ingest shows at its port: (name, label's value) to figure."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def waited_for(port):
    """The stores that ingest says it waits for; nothing where it does not listen yet."""
    try:
        return {key[1] for key, figure in shown(port).items() if key[0] == "matinee_ingest_waiting" and figure}
    except URLError:
        return None


def partitions_of(port):
    """What the process that shows its figures at this port reads; nothing where it does not listen yet."""
    try:
        return {int(key[1]) for key in shown(port) if key[0] == "matinee_ingest_lag_records"}
    except URLError:
        return set()


def topic_records(broker, topic):
    """Everything that a topic holds, as a client of its own reads it: (partition, position) to value."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.address, "group.id": "truth", "enable.auto.commit": False,
            "enable.partition.eof": True, "auto.offset.reset": "earliest",
        }
    )  # fmt: skip
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    found, ended = {}, set()
    while len(ended) < PARTITIONS:
        for message in consumer.consume(1_000, 1):
            if message.error() is not None:
                ended.add(message.partition())
            else:
                found[message.partition(), message.offset()] = message.value()
    consumer.close()
    return found


def check_exactly_once(processes, records, stream, tmp_path):
    """The lake holds what the topic holds, by partition, position and content; history is what the lake implies."""
    kept, poison, seen = {}, {}, set()
    for place, value in sorted(records.items()):
        if value in POISON:
            poison[place] = value
        elif (place[0], value) not in seen:
            seen.add((place[0], value))
            kept[place] = value.decode()
    for partition, lines in enumerate(stream.sent):
        held = Counter(value for place, value in records.items() if place[0] == partition)
        assert not Counter(lines) - held, "an acknowledged record is missing"
    asked = {place for place, line in kept.items() if "recommendation request" in line}
    mended = {place for place, line in kept.items() if "GZET" in line}
    assert asked
    assert mended
    assert poison
    read = {place: line.replace("GZET", "GET") for place, line in kept.items()}
    assert rows_of(processes.lake, "received", as_line) == {place: read.pop(place) for place in asked}
    assert rows_of(processes.lake, "events", as_line) == read
    raw = rows_of(processes.lake, "events", lambda row: row["raw"])
    assert {place: value.decode() for place, value in raw.items() if value is not None} == {
        place: kept[place] for place in mended
    }
    refused = rows_of(processes.lake, "quarantine", lambda row: row["raw"] or b"")
    assert refused.keys() == poison.keys()
    assert all(
        value == poison[place] or (len(value) >= 65_536 and poison[place].startswith(value))
        for place, value in refused.items()
    )
    repeats = len(records) - len(kept) - len(poison)
    check_counts(
        processes.lake, read=len(records), accepted=len(kept) - len(mended), repaired=len(mended),
        duplicate=repeats, quarantined=len(poison),
    )  # fmt: skip
    with processes.history() as live, LmdbHistory(tmp_path / "again") as again:
        assert catch_up(processes.lake, again) == len(kept) - len(asked)
        assert list(differences(live, again)) == []


def rows_of(lake, table, as_what):
    """(partition, position) to what a row says; every place once."""
    frame = lake.read(table).collect()
    found = {(row["partition"], row["position"]): as_what(row) for row in frame.iter_rows(named=True)}
    assert len(found) == frame.height
    return found


def as_line(row):
    """The line that a row of `events` or `received` was read from, but for what was repaired."""
    if "host" in row:
        items = ", ".join(row["items"])
        request = f"recommendation request {row['host']}, status {row['status']}, result: {items}, "
        request += f"{row['latency_ms']:g} ms"
    elif row["kind"] == "rating":
        request = f"GET /rate/{row['item']}={row['rating']:g}"
    else:
        request = f"GET /data/m/{row['item']}/{row['minute']}.mpg"
    return f"{row['time']:%Y-%m-%dT%H:%M:%S.%f},{row['user']},{request}"


def check_counts(lake, **expected):
    batches = lake.read("batches").collect().sort("partition", "start")
    assert {name: batches[name].sum() for name in expected} == expected
    for _, of_one in batches.group_by("partition"):
        ordered = of_one.sort("start")
        assert ordered["start"].to_list() == [0, *ordered["end"].to_list()[:-1]]  # no gap, no overlap
    assert batches.select(pl.col("start") < pl.col("end")).to_series().all()
