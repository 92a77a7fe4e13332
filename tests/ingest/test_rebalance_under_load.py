"""Processes that join and leave a topic while lines come all the time: nothing is lost, nothing comes twice."""

from contextlib import closing, contextmanager
from itertools import chain

import pytest
from kafka_stream import PARTITIONS, Processes, Stream, check_exactly_once, partitions_of, topic_records

from kafka_brokers import apache_kafka, new_topic, tansu

BROKERS = {"tansu": tansu, "apache-kafka": apache_kafka}
LINES = 300
"""At least so many come between two changes."""


@pytest.fixture(params=sorted(BROKERS))
def broker(request, tmp_path_factory):
    with BROKERS[request.param](tmp_path_factory.mktemp("broker")) as broker:
        yield broker


class Group:
    """Processes of one home by the ports of their figures, and the stream that never stops."""

    def __init__(self, processes, stream):
        self.processes, self.stream = processes, stream
        self.members = {}

    def join(self):
        with self.under_load():
            port = self.processes.with_metrics()
            self.members[port] = self.processes.start()

    def leave(self, how):
        with self.under_load():
            how(self.members.pop(next(iter(self.members))))

    @contextmanager
    def under_load(self):
        """What the block changes is waited for, until each process has its share; lines come all the while."""
        sent, read = self.stream.count(), self.processes.read()
        yield
        self.processes.wait(self.is_shared)
        assert self.stream.count() > sent
        self.processes.wait(lambda: self.stream.count() > sent + LINES and self.processes.read() > read)

    def is_shared(self):
        shares = [sorted(partitions_of(port)) for port in self.members]
        return all(shares) and sorted(chain(*shares)) == list(range(PARTITIONS))


def test_processes_join_and_leave_while_lines_come(broker, tmp_path):
    topic = new_topic()
    url = broker.url(topic, session_timeout_ms=3_000, heartbeat_interval_ms=300)
    with closing(Stream(url)) as stream, Processes(tmp_path, url) as processes:
        group = Group(processes, stream)
        with stream.flowing():
            for _ in range(PARTITIONS):
                group.join()
            group.leave(processes.end)
            group.join()
            group.leave(processes.kill)
            group.leave(processes.end)
        records = topic_records(broker, topic)
        processes.wait(lambda: processes.read() >= len(records))
        for process in list(processes.running):
            processes.end(process)
        check_exactly_once(processes, records, stream, tmp_path)
        assert processes.alarms() == []
