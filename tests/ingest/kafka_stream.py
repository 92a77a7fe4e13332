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


class Stream:
    """Lines of users who each have their partition. All are of ten minutes, so that every repeat is a duplicate."""

    def __init__(self, url, seed=1):
        self.log = open_log(url, SystemClock())
        self.chance = random.Random(seed)
        self.n = 0
        self.sent = [[] for _ in range(PARTITIONS)]
        self.refused = 0

    def line(self, n, partition):
        time = BEGIN + timedelta(milliseconds=n)
        user = PARTITIONS * (n % 50) + partition
        return f"{time:%Y-%m-%dT%H:%M:%S.%f},{user},GET /data/m/film+{n % 97}+1999/{n % 120}.mpg".encode()

    def produce(self, batches=1):
        for _ in range(batches):
            for partition in range(PARTITIONS):
                new = [self.line(self.n + k, partition) for k in range(20)]
                self.chance.shuffle(new)
                again = self.chance.sample(self.sent[partition][-200:], min(3, len(self.sent[partition])))
                self._append([*new, *again], partition)
            self.n += 20

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
    kept, seen, repeats = {}, set(), 0
    for place, value in sorted(records.items()):
        if (place[0], value) in seen:
            repeats += 1
        else:
            seen.add((place[0], value))
            kept[place] = value
    for partition, lines in enumerate(stream.sent):
        held = Counter(value for place, value in records.items() if place[0] == partition)
        assert not Counter(lines) - held, "an acknowledged record is missing"
    events = processes.lake.read("events").collect()
    assert events.height == len(kept)
    for row in events.iter_rows(named=True):
        said = kept[row["partition"], row["position"]].decode()
        time, user, request = said.split(",")
        assert (user, request) == (row["user"], f"GET /data/m/{row['item']}/{row['minute']}.mpg")
        assert f"{row['time']:%Y-%m-%dT%H:%M:%S.%f}" == time
    check_counts(processes.lake, read=len(records), accepted=len(kept), duplicate=repeats)
    with processes.history() as live, LmdbHistory(tmp_path / "again") as again:
        assert catch_up(processes.lake, again) == len(kept)
        assert list(differences(live, again)) == []


def check_counts(lake, **expected):
    batches = lake.read("batches").collect().sort("partition", "start")
    assert {name: batches[name].sum() for name in expected} == expected
    assert batches["quarantined"].sum() == 0
    for _, of_one in batches.group_by("partition"):
        ordered = of_one.sort("start")
        assert ordered["start"].to_list() == [0, *ordered["end"].to_list()[:-1]]  # no gap, no overlap
    assert batches.select(pl.col("start") < pl.col("end")).to_series().all()
