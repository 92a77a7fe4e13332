"""Who reads what of one topic: homes that each take in all of it, and processes of one home that share it."""

from contextlib import closing

import pytest
from kafka_stream import (
    PARTITIONS,
    Processes,
    Stream,
    check_exactly_once,
    partitions_of,
    topic_records,
    waited_for,
)

from kafka_brokers import apache_kafka, new_topic, tansu

BROKERS = {"tansu": tansu, "apache-kafka": apache_kafka}
ALL = set(range(PARTITIONS))


@pytest.fixture(scope="module", params=sorted(BROKERS))
def broker(request, tmp_path_factory):
    with BROKERS[request.param](tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def topic():
    return new_topic()


@pytest.fixture
def url(broker, topic):
    return broker.url(topic, session_timeout_ms=3_000, heartbeat_interval_ms=300)


@pytest.fixture
def stream(url):
    with closing(Stream(url)) as stream:
        yield stream


def finish(processes, records, stream, folder):
    """Wait until a home's lake has it all, end its processes, and compare."""
    processes.wait(lambda: processes.read() >= len(records))
    for process in list(processes.running):
        processes.end(process)
    check_exactly_once(processes, records, stream, folder)
    assert processes.alarms() == []


def test_two_homes_each_take_in_all_of_a_topic(broker, topic, url, stream, tmp_path):
    """One has read half of it before the other comes; then both read every partition at the same time."""
    folders = tmp_path / "one", tmp_path / "other"
    for folder in folders:
        folder.mkdir()
    stream.produce(10)
    with Processes(folders[0], url) as one, Processes(folders[1], url) as other:
        ports = one.with_metrics(), other.with_metrics()
        one.start()
        one.wait(lambda: one.read() >= stream.count())
        other.start()
        other.wait(lambda: partitions_of(ports[0]) == partitions_of(ports[1]) == ALL)
        stream.produce(10)
        records = topic_records(broker, topic)
        finish(one, records, stream, folders[0])
        finish(other, records, stream, folders[1])


def test_of_more_processes_than_partitions_one_stands_by_and_takes_over(broker, topic, url, stream, tmp_path):
    """Each partition has one process; who has none runs on, and gets one when another is killed."""
    stream.produce(5)
    with Processes(tmp_path, url) as processes:
        first = processes.with_metrics()
        started = {first: processes.start()}
        processes.wait(lambda: partitions_of(first) == ALL)  # it has made the home's stores
        started |= {processes.with_metrics(): processes.start() for _ in range(PARTITIONS)}

        def shares():
            return sorted(sorted(partitions_of(port)) for port in started)

        each = [[partition] for partition in sorted(ALL)]
        processes.wait(lambda: all(waited_for(port) == set() for port in started) and shares() == [[], *each])
        spare = next(port for port in started if not partitions_of(port))
        before = processes.read()
        stream.produce(10)
        processes.wait(lambda: processes.read() > before)
        killed = next(port for port in started if port != spare)
        processes.kill(started.pop(killed))
        stream.produce(5)
        processes.wait(lambda: shares() == each)
        assert partitions_of(spare)
        stream.produce(5)
        finish(processes, topic_records(broker, topic), stream, tmp_path)
