"""Exactly once from topic to lake: `matinee ingest` processes that are killed, stopped, woken, come and go."""

import signal

import pytest
from kafka_stream import PARTITIONS, Processes, Stream, check_exactly_once, topic_records

from kafka_brokers import apache_kafka, new_topic, tansu, until

BROKERS = {"tansu": tansu, "apache-kafka": apache_kafka}


@pytest.fixture(scope="module", params=sorted(BROKERS))
def broker(request, tmp_path_factory):
    with BROKERS[request.param](tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def kafka(tmp_path_factory):
    """A broker of this test's own, to be killed."""
    with apache_kafka(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


class Scene:
    """One topic, its producer, and a home with processes that take it in."""

    def __init__(self, broker, folder, **options):
        self.broker, self.folder, self.topic = broker, folder, new_topic()
        self.url = broker.url(self.topic, session_timeout_ms=3_000, heartbeat_interval_ms=300, **options)
        self.stream = Stream(self.url)
        self.processes = Processes(folder, self.url)

    def finish(self):
        """Produce a last time, wait until the lake has it all, end everybody, and compare."""
        self.stream.produce()
        records = topic_records(self.broker, self.topic)
        self.processes.wait(lambda: self.processes.read() >= len(records))
        for process in list(self.processes.running):
            self.processes.end(process)
        check_exactly_once(self.processes, records, self.stream, self.folder)
        return records

    def alarms(self):
        return self.processes.alarms()


@pytest.fixture
def scene(broker, tmp_path):
    yield from _scene(broker, tmp_path)


@pytest.fixture
def kafka_scene(kafka, tmp_path):
    yield from _scene(kafka, tmp_path, message_timeout_ms=2_000)  # so soon an append is refused


def _scene(broker, folder, **options):
    scene = Scene(broker, folder, **options)
    try:
        yield scene
    finally:
        scene.processes.close()
        scene.stream.close()


def test_processes_that_are_killed_and_come_and_go(scene):
    """Consumers killed, and a second and a third that come and go under load."""
    processes, stream = scene.processes, scene.stream
    stream.produce(10)
    first = processes.start()
    processes.reads(1)
    second = processes.start()
    stream.produce(10)
    processes.reads(1)
    processes.kill(first)
    stream.produce(10)
    processes.start()
    processes.reads(1)
    stream.produce(10)
    processes.end(second)
    stream.produce(10)
    records = scene.finish()
    assert len(records) > 51 * 20 * PARTITIONS
    assert scene.alarms() == []


def test_a_process_that_sleeps_past_its_session_costs_nothing(scene):
    """SIGSTOP past the session's timeout: another takes over; what the sleeper still held is not written twice."""
    processes, stream = scene.processes, scene.stream
    stream.produce(5)
    sleeper = processes.start(commit_seconds=2)
    processes.reads(1)
    stream.produce(20)
    sent = len(topic_records(scene.broker, scene.topic))
    with processes.history() as history:
        processes.wait(lambda: sum(history.applied().values()) == sent)
    sleeper.send_signal(signal.SIGSTOP)
    assert processes.read() < sent  # the sleeper holds the rest
    processes.start()
    processes.wait(lambda: processes.read() == sent)  # the other has taken over
    stream.produce(5)
    sleeper.send_signal(signal.SIGCONT)
    stream.produce(5)
    scene.finish()
    assert scene.alarms() == []


def test_a_broker_that_is_killed_and_comes_back(kafka_scene):
    processes, stream = kafka_scene.processes, kafka_scene.stream
    stream.produce(5)
    processes.start()
    processes.reads(1)
    with stream.flowing():
        kafka_scene.broker.kill()
        until(lambda: any(alarm.name == "ingest_waiting" for alarm in kafka_scene.alarms()))
        until(lambda: stream.refused)
        acknowledged = stream.count()
        kafka_scene.broker.start()
        until(lambda: stream.count() > acknowledged)
    kafka_scene.finish()
    assert [alarm.name for alarm in kafka_scene.alarms()] == ["ingest_waiting"]  # said once


def test_a_topic_made_again_stops_ingestion_with_an_alarm(kafka_scene):
    processes, stream = kafka_scene.processes, kafka_scene.stream
    stream.produce(2)
    process = processes.start()
    processes.reads(1)
    kafka_scene.broker.delete(kafka_scene.topic)
    kafka_scene.broker.make(kafka_scene.topic)
    assert process.wait(timeout=60) != 0
    processes.running.clear()
    alarms = kafka_scene.alarms()
    assert [(alarm.name, alarm.severity) for alarm in alarms] == [("log_generation_changed", "critical")]
    assert "--accept-new-generation" in alarms[0].remedy
    before = processes.read()
    again = processes.start()
    assert again.wait(timeout=60) != 0  # it stays so until somebody has looked
    processes.running.clear()
    stream.close()
    kafka_scene.stream = Stream(kafka_scene.url)
    kafka_scene.stream.produce()
    processes.start("--accept-new-generation")
    processes.wait(lambda: processes.read() == before + kafka_scene.stream.count())
